"""The trackers that need no service keep the contract of `Tracker`, and agree with one another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from indexer.catalog.catalog import Catalog
from indexer.errors import IndexerError
from indexer.protocols import CommitRequest, Tracker
from indexer.records import CommitResult, Consistency, RunRequest
from indexer.references import ArtifactName
from indexer.remote import Remote
from indexer.testing.commits import (
    FIRST,
    PARTIAL,
    SECOND,
    THIRD,
    make_request,
    make_scan,
    manifest_of,
)
from indexer.testing.tracker_suite import OpenTracker, TrackerSuite
from indexer.trackers.memory import MemoryTracker
from indexer.trackers.remote import RemoteTracker
from tests.daemon.daemons import running_daemon
from workers.clock import SystemClock


class TestMemoryTracker(TrackerSuite):
    @pytest.fixture
    def trackers(self) -> OpenTracker:
        tracker = MemoryTracker(SystemClock())

        @asynccontextmanager
        async def open_tracker() -> AsyncIterator[Tracker]:
            yield tracker

        return open_tracker


class TestCatalogTracker(TrackerSuite):
    @pytest.fixture
    def trackers(self, tmp_path: Path) -> OpenTracker:
        @asynccontextmanager
        async def open_tracker() -> AsyncIterator[Tracker]:
            async with Catalog.open(tmp_path / "data", SystemClock()) as catalog:
                yield catalog.tracker

        return open_tracker


class TestRemoteTracker(TrackerSuite):
    @pytest_asyncio.fixture
    async def daemon_url(self, tmp_path: Path) -> AsyncIterator[str]:
        async with running_daemon(tmp_path / "data") as (url, _):
            yield url

    @pytest.fixture
    def trackers(self, daemon_url: str) -> OpenTracker:
        @asynccontextmanager
        async def open_tracker() -> AsyncIterator[Tracker]:
            async with Remote.open(daemon_url) as remote:
                yield RemoteTracker(remote)

        return open_tracker


RUN = "train"


@pytest.mark.parametrize("seed", range(4))
async def test_the_catalog_answers_as_the_one_in_memory(tmp_path: Path, seed: int) -> None:
    memory = MemoryTracker(SystemClock())
    async with Catalog.open(tmp_path / "data", SystemClock()) as catalog:
        for tracker in (memory, catalog.tracker):
            await tracker.start_run(RunRequest("project", RUN))
            for shard in (FIRST, SECOND, THIRD):
                await tracker.put_shard(shard.ref.digest, shard.data)
        made = 0
        for draft in requests_of(Random(seed)):
            request = replace(draft, expect=draft.expect and await newest(memory, draft))
            answers = [await answer(tracker, request) for tracker in (memory, catalog.tracker)]
            assert answers[0] == answers[1]
            made += not isinstance(answers[0], type)
        assert made > 10


def requests_of(random: Random) -> list[CommitRequest]:
    """Commits as they may come: some repeated, some in conflict, some impossible."""
    made: list[CommitRequest] = []
    for _ in range(60):
        if made and random.random() < 0.1:
            made.append(random.choice(made))
            continue
        shards = random.choice([(), (FIRST,), (SECOND,), (THIRD,), (FIRST, THIRD)])
        made.append(
            make_request(
                manifest_of(*shards),
                name=ArtifactName("project", random.choice("ab")),
                type=random.choice([None, None, None, "dataset", "model"]),
                scan=random.choice([make_scan(), make_scan(Consistency.INSTANT), PARTIAL]),
                aliases=random.sample(["x", "y", "z"], random.randrange(3)),
                notes=random.choice([None, "", "seen"]),
                metadata=random.choice([None, {}, {"seen": [1, None]}]),
                tags=random.sample(["x", "y", "z"], random.randrange(3)),
                run=random.choice([None, None, RUN, "nobody"]),
                expect=random.choice(["newest", "newest", "newest", None]),
            )
        )
    return made


async def newest(tracker: Tracker, request: CommitRequest) -> str | None:
    is_partial = request.scan.consistency is Consistency.PARTIAL
    version = await tracker.parent(request.name, partial=is_partial)
    return version.digest if version else None


async def answer(tracker: Tracker, request: CommitRequest) -> CommitResult | type[IndexerError]:
    """What a commit came to, without what no two trackers have in common."""
    try:
        result = await tracker.commit(request)
    except IndexerError as error:
        return type(error)
    moment = make_scan().started_at
    run_id = result.version.run_id if result.version.run_id == RUN else ""
    version = replace(result.version, run_id=run_id, created_at=moment, confirmed_at=moment)
    return replace(result, version=version)
