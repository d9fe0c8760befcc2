"""The tracker of a daemon when its connection is cut at every step, before, within and after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from indexer.app import App
from indexer.errors import CommitUnknown, DaemonUnavailable
from indexer.pipeline.commit import commit
from indexer.protocols import CommitRequest, Tracker
from indexer.remote import Remote
from indexer.testing.commits import FIRST, NAME, SECOND, make_request, manifest_of
from indexer.testing.cutting_proxy import CuttingProxy
from indexer.trackers.remote import RemoteTracker
from tests.daemon.daemons import running_daemon

CUTS: list[dict[str, int]] = [
    {"after_sent": 0},
    {"after_sent": 1},
    {"after_sent": 60},
    {"after_sent": 400},
    {"after_received": 0},
    {"after_received": 1},
    {"after_received": 80},
    {"after_received": 400},
]


@dataclass(frozen=True)
class Setup:
    """A daemon behind a proxy."""

    app: App
    proxy: CuttingProxy

    @asynccontextmanager
    async def tracker(self, **cut: int) -> AsyncIterator[Tracker]:
        """A tracker whose first connection is cut."""
        if cut:
            self.proxy.cut(**cut)
        async with Remote.open(f"http://127.0.0.1:{self.proxy.port}") as remote:
            yield RemoteTracker(remote)


@pytest_asyncio.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with running_daemon(tmp_path / "data") as (url, app):
        port = int(url.rpartition(":")[2])
        async with CuttingProxy.open("127.0.0.1", port) as proxy:
            yield Setup(app, proxy)


async def committed(tracker: Tracker) -> CommitRequest:
    """A version of one shard, which the daemon has; the request that made it."""
    await tracker.put_shard(FIRST.ref.digest, FIRST.data)
    request = make_request(manifest_of(FIRST))
    await tracker.commit(request)
    return request


Ask = Callable[[Tracker, CommitRequest], Awaitable[Any]]

QUESTIONS: dict[str, Ask] = {
    "parent": lambda tracker, _: tracker.parent(NAME),
    "missing": lambda tracker, _: tracker.missing([FIRST.ref.digest, SECOND.ref.digest]),
    "put_shard": lambda tracker, _: tracker.put_shard(SECOND.ref.digest, SECOND.data),
    "manifest": lambda tracker, request: tracker.manifest(request.manifest.digest),
    "outcome": lambda tracker, request: tracker.outcome(request.request_id),
}


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_question_is_asked_again(setup: Setup, question: str, cut: dict[str, int]) -> None:
    request = await committed(setup.app.tracker)
    async with setup.tracker(**cut) as tracker:
        answer = await QUESTIONS[question](tracker, request)
    assert answer == await QUESTIONS[question](setup.app.tracker, request)
    assert setup.proxy.connections >= 2 or not setup.proxy.cuts_made


@pytest.mark.parametrize("cut", CUTS, ids=str)
async def test_a_commit_is_made_once(setup: Setup, cut: dict[str, int]) -> None:
    await setup.app.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    request = make_request(manifest_of(FIRST))
    async with setup.tracker(**cut) as tracker:
        result = await commit(tracker, request)
    assert (result.created, result.version.number) == (True, 0)
    assert await setup.app.tracker.outcome(request.request_id) == result
    assert [v.number for v in await setup.app.versions(NAME)] == [0]


@pytest.mark.parametrize("cut", CUTS, ids=str)
async def test_a_lost_answer_to_a_commit_is_said(setup: Setup, cut: dict[str, int]) -> None:
    await setup.app.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    request = make_request(manifest_of(FIRST))
    async with setup.tracker(**cut) as tracker:
        try:
            result = await tracker.commit(request)
        except CommitUnknown:
            result = await tracker.commit(request)
            assert setup.proxy.cuts_made == 1
    assert await setup.app.tracker.outcome(request.request_id) == result
    assert [v.number for v in await setup.app.versions(NAME)] == [0]


async def test_a_daemon_that_is_gone_is_said(setup: Setup) -> None:
    async with setup.tracker() as tracker:
        await tracker.parent(NAME)
        setup.proxy.cut_all()
        for _ in range(20):
            setup.proxy.cut(after_sent=0)
        with pytest.raises(DaemonUnavailable, match=r"cannot be reached.*indexer serve"):
            await tracker.parent(NAME)
