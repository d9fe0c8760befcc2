"""Snapshots over HTTP: triggered, watched, repeated, cancelled, interrupted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indexer.client import Client, connect
from indexer.errors import (
    JobCancelled,
    JobInterrupted,
    LimitExceeded,
    NoSuchJob,
    NoSuchSource,
)
from indexer.references import parse_name, parse_reference
from indexer.telemetry import Counters
from indexer.testing.keysets import keys
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.wire.jobs import JobDocument, SnapshotOrder
from tests.daemon.daemons import http, running_daemon

OBJECTS = 3_000
API = "/api/v1"


@pytest.fixture(scope="module")
def s3() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("bucket", keys("tree", OBJECTS))
        yield server


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, s3: SyntheticS3) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)


@pytest.fixture
def slow(s3: SyntheticS3) -> Iterator[None]:
    """A page takes long enough for something to happen meanwhile."""
    s3.latency(300.0)
    yield
    s3.latency(0.0)


@pytest_asyncio.fixture
async def url(tmp_path: Path, s3: SyntheticS3) -> AsyncIterator[str]:
    async with running_daemon(tmp_path / "data", s3, jobs=2) as (found, _):
        yield found


def order(bucket: str = "bucket", **fields: Any) -> dict[str, Any]:
    return {"uri": f"s3://{bucket}/", "name": "vision/images", "max_objects": 10_000, **fields}


async def events(session: aiohttp.ClientSession, path: str, after: int = 0) -> list[dict[str, Any]]:
    """All events of a stream, each with its number and name."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    async with session.get(path, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        text = await response.text()
    return [
        {"event": name, "number": int(number), **json.loads(data)}
        for number, name, data in re.findall(r"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", text)
    ]


async def ended(client: Client, job: JobDocument) -> JobDocument:
    """The job when it has ended."""
    async for changed in client.follow(job.id):
        job = changed
    return job


async def test_a_snapshot_is_triggered_and_followed(url: str) -> None:
    async with http(url) as session:
        async with session.post(f"{API}/snapshots", json=order(aliases=["best"])) as response:
            assert response.status == 202
            job = await response.json()
            place = response.headers["Location"]
        assert job["state"] in ("queued", "running")
        assert place == f"{API}/jobs/{job['id']}"
        seen = await events(session, f"{place}/events")
        numbers = [one["number"] for one in seen]
        assert numbers == sorted(set(numbers))
        assert seen[-1]["event"] == "end"
        assert {one["event"] for one in seen[:-1]} <= {"progress"}
        last = seen[-1]
        assert last["state"] == "succeeded"
        assert last["progress"]["objects_listed"] == OBJECTS
        assert last["result"]["ref"] == "vision/images:v0"
        assert last["result"]["objects"] == OBJECTS
        async with session.get(place) as response:
            now = await response.json()
        assert {**now, "number": numbers[-1], "event": "end"} == last
        # Who has seen the end hears nothing more; who has seen all but that hears it again.
        (again,) = await events(session, f"{place}/events", numbers[-1] - 1)
        assert again == last
        headers = {"Last-Event-ID": str(numbers[-1])}
        async with session.get(f"{place}/events", headers=headers) as response:
            assert response.status == 204
        version_path = f"{API}/artifacts/vision/images/versions/best"
        async with session.get(version_path) as response:
            assert (await response.json())["digest"] == last["result"]["digest"]


async def test_unchanged_content_makes_no_version(url: str) -> None:
    async with connect(url) as client:
        first = await client.snapshot(SnapshotOrder(**order()))
        again = await client.snapshot(SnapshotOrder(**order()))
    assert (first.result.created, again.result.created) == (True, False)
    assert again.result.version.number == 0
    assert again.shards_reused > 0


async def test_a_repeated_request_begins_one_job(url: str) -> None:
    async with http(url) as session:
        ids = set()
        for _ in range(3):
            headers = {"Idempotency-Key": "once"}
            async with session.post(f"{API}/snapshots", json=order(), headers=headers) as response:
                assert response.status == 202
                ids.add((await response.json())["id"])
        assert len(ids) == 1
        async with session.post(
            f"{API}/snapshots", json=order(notes="other"), headers={"Idempotency-Key": "once"}
        ) as response:
            assert response.status == 422
            assert (await response.json())["code"] == "idempotency-key-reused"
        async with session.get(f"{API}/jobs") as response:
            assert len((await response.json())["results"]) == 1


async def test_errors_are_the_jobs_own(url: str) -> None:
    async with connect(url) as client:
        with pytest.raises(LimitExceeded, match=r"more than 10 objects.*--max-objects"):
            await client.snapshot(SnapshotOrder(**order(max_objects=10)))
        with pytest.raises(NoSuchSource, match="no such bucket"):
            await client.snapshot(SnapshotOrder(**order("nowhere")))
        page = await client.jobs()
        assert [job.state for job in page.results] == ["failed", "failed"]
        assert page.results[0].problem
        assert page.results[0].problem.code == "no-such-source"
        assert await client.projects() == []
        with pytest.raises(NoSuchJob):
            await client.job("nobody")


@pytest.mark.usefixtures("slow")
async def test_a_job_is_cancelled(url: str) -> None:
    async with connect(url) as client:
        running = await client.submit(SnapshotOrder(**order()))
        while (await client.job(running.id)).state == "queued":
            await asyncio.sleep(0.01)
        await client.cancel(running.id)
        assert (await ended(client, running)).state == "cancelled"
        again = await client.cancel(running.id)
        assert again.problem
        assert isinstance(again.problem.error(), JobCancelled)
        assert await client.projects() == []


@pytest.mark.usefixtures("slow")
async def test_who_is_cancelled_cancels_its_job(url: str) -> None:
    async with connect(url) as client:
        counters = Counters()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.snapshot(SnapshotOrder(**order()), counters))
            while not (await client.jobs()).results:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            waiting.cancel()
        (job,) = (await client.jobs()).results
        assert (await ended(client, job)).state == "cancelled"


@pytest.mark.usefixtures("slow")
async def test_jobs_wait_for_their_turn_and_are_paged(url: str) -> None:
    async with connect(url) as client:
        asked = [
            await client.submit(SnapshotOrder(**order(name=f"p/a{number}"))) for number in range(5)
        ]
        states = [(await client.job(job.id)).state for job in asked]
        assert states.count("queued") == 3
        assert states[:2] == ["running", "running"]
        await client.cancel(asked[-1].id)
        assert (await client.job(asked[-1].id)).state == "cancelled"
        first = await client.jobs(limit=3)
        rest = await client.jobs(limit=3, after=first.next)
        listed = [job.id for job in (*first.results, *rest.results)]
        assert listed == [job.id for job in reversed(asked)]
        assert rest.next is None
        for job in asked[:-1]:
            assert (await ended(client, job)).state == "succeeded"


@pytest.mark.usefixtures("slow")
async def test_a_stopping_daemon_interrupts_its_jobs(tmp_path: Path, s3: SyntheticS3) -> None:
    followed: list[JobDocument] = []

    async def follow(url: str, job: JobDocument) -> None:
        async with connect(url) as client:
            async for changed in client.follow(job.id):
                followed.append(changed)  # noqa: PERF401 - it is looked at meanwhile

    async with asyncio.TaskGroup() as group, running_daemon(tmp_path / "data", s3) as (url, _):
        async with connect(url) as client:
            job = await client.submit(SnapshotOrder(**order()))
        group.create_task(follow(url, job))
        while not followed:
            await asyncio.sleep(0.01)
    assert followed[-1].state == "interrupted"
    assert followed[-1].problem
    assert isinstance(followed[-1].problem.error(), JobInterrupted)


async def test_what_was_committed_before_a_cancel_stays(url: str) -> None:
    """Whenever the cancel comes, the job says what is true of the catalog."""
    async with connect(url) as client:
        for number in range(12):
            name = f"race/a{number}"
            job = await client.submit(SnapshotOrder(**order(name=name)))
            await asyncio.sleep(0.03 * number)
            await client.cancel(job.id)
            last = await ended(client, job)
            made = {p.name for p in await client.projects()}
            artifacts = await client.artifacts("race") if "race" in made else []
            is_made = parse_name(name) in [one.name for one in artifacts]
            assert (last.state == "succeeded") == is_made
            if last.result:
                version = await client.version(parse_reference(last.result.ref))
                assert version.digest == last.result.digest
