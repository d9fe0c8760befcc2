"""Runs, labels and lineage over HTTP, and by the asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import indexer
from indexer.app import App
from indexer.errors import CommitConflict
from indexer.records import LabelChange, Relation, RunChange, RunRequest, RunState
from indexer.references import parse_name, parse_reference
from indexer.testing.commits import FIRST, SECOND, make_request, manifest_of, put_and_commit
from indexer.wire.jobs import SnapshotOrder
from tests.daemon.daemons import http, running_daemon
from tests.daemon.test_requests import problem

API = "/api/v1"
ARTIFACT = f"{API}/artifacts/project/artifact"
VERSION = f"{ARTIFACT}/versions/v0"
RUNS, RUN = f"{API}/projects/project/runs", f"{API}/runs/train-1"


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[str, App]]:
    async with running_daemon(tmp_path / "data") as (url, app):
        await put_and_commit(app.tracker, FIRST)
        yield url, app


@pytest_asyncio.fixture
async def session(daemon: tuple[str, App]) -> AsyncIterator[aiohttp.ClientSession]:
    async with http(daemon[0]) as found:
        yield found


async def answer(
    session: aiohttp.ClientSession, method: str, path: str, body: Any = None, status: int = 200
) -> dict[str, Any]:
    """The document that a request is answered with."""
    async with session.request(method, path, json=body) as response:
        assert response.status == status, await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def test_a_run_is_started_used_and_ended(
    daemon: tuple[str, App], session: aiohttp.ClientSession
) -> None:
    order = {"id": "train-1", "job_type": "train", "config": {"epochs": 3}}
    async with session.post(RUNS, json=order) as response:
        assert (response.status, response.headers["Location"]) == (201, RUN)
        started = await response.json()
    assert await answer(session, "POST", RUNS, order, 201) == started
    assert await answer(session, "GET", RUN) == started
    ref = {"ref": "project/artifact:latest", "use_as": "input"}
    used = await answer(session, "POST", f"{RUN}/inputs", ref)
    assert used["ref"] == "project/artifact:v0"
    assert await answer(session, "POST", f"{RUN}/inputs", ref) == used
    request = make_request(
        manifest_of(SECOND), name=parse_name("project/model"), run="train-1", type="model"
    )
    await daemon[1].tracker.put_shard(SECOND.ref.digest, SECOND.data)
    await daemon[1].tracker.commit(request)
    ended = await answer(session, "PATCH", RUN, {"state": "finished", "notes": "good"})
    assert (ended["state"], ended["notes"]) == ("finished", "good")
    assert await answer(session, "PATCH", RUN, {"state": "finished"}) == ended
    inputs = await answer(session, "GET", f"{RUN}/inputs")
    assert [(one["use_as"], one["version"]) for one in inputs["results"]] == [("input", used)]
    outputs = await answer(session, "GET", f"{RUN}/outputs")
    assert [one["relation"] for one in outputs["results"]] == ["produces"]
    found = await answer(session, "GET", f"{VERSION}/lineage?direction=down&depth=1")
    assert [version["ref"] for version in found["versions"]] == [
        "project/artifact:v0",
        "project/model:v0",
    ]
    listed = await answer(session, "GET", f"{RUNS}?job_type=train&limit=1")
    assert listed["results"] == [ended]
    assert (await answer(session, "GET", f"{RUNS}?job_type=train&after={listed['next']}")) == {
        "results": [],
        "next": None,
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        (
            "PATCH",
            RUN,
            {"state": "finished", "config": {"x": "x" * 65_536}},
            400,
            "invalid-setting",
        ),
        ("PATCH", RUN, {"state": "running"}, 400, "malformed-request"),
        ("PATCH", RUN, {"id": "other"}, 400, "malformed-request"),
        ("PATCH", f"{API}/runs/nobody", {"state": "finished"}, 404, "no-such-run"),
        ("GET", f"{API}/runs/a%20b", None, 400, "invalid-reference"),
        ("GET", f"{API}/runs/nobody/inputs", None, 404, "no-such-run"),
        ("GET", f"{RUN}/outputs?after=zz", None, 400, "invalid-setting"),
        ("POST", f"{RUN}/inputs", {"ref": "artifact"}, 400, "invalid-reference"),
        ("POST", f"{RUN}/inputs", {"ref": "project/artifact:v7"}, 404, "no-such-version"),
        ("POST", RUNS, {"id": ".."}, 400, "invalid-reference"),
        ("POST", f"{API}/projects/other/runs", {"id": "train-1"}, 400, "invalid-setting"),
        ("GET", f"{RUNS}?after=6162", None, 404, "no-such-run"),
        ("GET", f"{VERSION}/lineage?depth=101", None, 400, "malformed-request"),
        ("GET", f"{VERSION}/lineage?direction=left", None, 400, "malformed-request"),
        ("GET", f"{ARTIFACT}/versions/v7/lineage", None, 404, "no-such-version"),
        ("PATCH", ARTIFACT, {"description": "x" * 10_001}, 400, "invalid-setting"),
        ("PATCH", ARTIFACT, {}, 400, "malformed-request"),
        ("PATCH", VERSION, {"notes": "x", "metadata": []}, 400, "malformed-request"),
        ("PATCH", VERSION, {"notes": "x", "add_tags": ["a,b"]}, 400, "invalid-reference"),
        ("PATCH", VERSION, {"metadata": {"x": 2**64}}, 400, "invalid-setting"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_cannot_be_done_changes_nothing(
    session: aiohttp.ClientSession, method: str, path: str, body: Any, status: int, code: str
) -> None:
    run = await answer(session, "POST", RUNS, {"id": "train-1"}, 201)
    version = await answer(session, "GET", VERSION)
    async with session.request(method, path, json=body) as response:
        found = await problem(response)
        assert (response.status, found["code"]) == (status, code)
    assert await answer(session, "GET", RUN) == run
    assert await answer(session, "GET", VERSION) == version


async def test_a_run_that_ended_takes_nothing_more(session: aiohttp.ClientSession) -> None:
    await answer(session, "POST", RUNS, {"id": "train-1"}, 201)
    ended = await answer(session, "PATCH", RUN, {"state": "failed"})
    for method, path, body in (
        ("PATCH", RUN, {"state": "finished", "notes": "not taken"}),
        ("POST", f"{RUN}/inputs", {"ref": "project/artifact:v0"}),
    ):
        async with session.request(method, path, json=body) as response:
            found = await problem(response)
            assert (response.status, found["code"], found["retryable"]) == (409, "run-ended", False)
    assert await answer(session, "GET", RUN) == ended


async def test_labels_change_at_once(session: aiohttp.ClientSession) -> None:
    said = {"description": "d", "metadata": {"x": None}, "tags": ["b", "c"], "add_tags": ["a"]}
    changed = await answer(session, "PATCH", VERSION, {**said, "remove_tags": ["b"]})
    assert (changed["description"], changed["metadata"]) == ("d", {"x": None})
    assert (changed["tags"], changed["notes"]) == (["a", "c"], "")
    async with session.get(VERSION) as response:
        headers = {"If-Match": response.headers["ETag"]}
    async with session.patch(VERSION, json={"add_tags": ["z"]}, headers=headers) as response:
        assert response.status == 200
    async with session.patch(VERSION, json={"add_tags": ["y"]}, headers=headers) as response:
        assert response.status == 412
    tagged = await answer(session, "GET", f"{ARTIFACT}/versions?tag=z")
    assert [version["tags"] for version in tagged["results"]] == [["a", "c", "z"]]
    assert (await answer(session, "GET", f"{ARTIFACT}/versions?tag=y"))["results"] == []
    described = await answer(session, "PATCH", ARTIFACT, {"description": "all"})
    assert described == await answer(session, "GET", ARTIFACT)
    assert (described["description"], described["latest"]["description"]) == ("all", "d")


async def test_the_client_has_the_same_verbs(daemon: tuple[str, App], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    images = parse_reference("project/artifact")
    async with indexer.connect(daemon[0]) as client:
        run = await client.start_run(RunRequest("project", job_type="train"))
        used = await client.use(images, run.id, "input")
        order = SnapshotOrder(
            uri=f"file://{tmp_path}/model/",
            name="project/model",
            run=run.id,
            tags=["best"],
            metadata={"accuracy": 0.93},
        )
        made = (await client.snapshot(order)).result.version
        changed = await client.change_run(run.id, RunChange(config={"epochs": 3}))
        assert changed.config == {"epochs": 3}
        ended = await client.finish_run(run.id, RunState.FAILED)
        assert [ended] == await client.runs("project", job_type="train")
        assert (made.run_id, made.tags, made.metadata) == (run.id, ("best",), {"accuracy": 0.93})
        (link,) = await client.inputs(run.id)
        assert (link.version, link.use_as) == (used, "input")
        (link,) = await client.outputs(run.id)
        assert (link.version, link.relation) == (made, Relation.PRODUCES)
        here = await daemon[1].lineage(images)
        assert await client.lineage(images) == here
        assert [version.ref for version in here.versions] == [used.ref, made.ref]
        later = await client.change_version(
            made.name, 0, LabelChange(notes="n", remove_tags=("best",)), expect=made
        )
        assert (later.notes, later.tags) == ("n", ())
        with pytest.raises(CommitConflict):
            await client.change_version(made.name, 0, LabelChange(notes="m"), expect=made)
        assert await client.describe_artifact(made.name, "models") == await client.artifact(
            made.name
        )
