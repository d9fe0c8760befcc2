"""Running from code that is not asynchronous, to its end or until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from indexer.runner import Portal, loop_factory, run_command

LONG_S = 30.0
SOON_S = 0.05


@contextmanager
def told_to_stop(number: signal.Signals) -> Iterator[None]:
    """This process gets a signal soon."""
    timer = threading.Timer(SOON_S, os.kill, (os.getpid(), number))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


# --- commands ------------------------------------------------------------------------------------


def test_a_command_runs_to_its_end() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__

    assert run_command(work()) == type(loop_factory()()).__module__ == "uvloop"


def test_a_commands_error_leaves_as_it_is() -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_command(fail())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_told_to_stop_cleans_up(number: signal.Signals) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    with told_to_stop(number), pytest.raises(KeyboardInterrupt):
        run_command(work())
    assert steps == ["cleaned up"]


def test_a_command_leaves_no_signal_handler() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_command(asyncio.sleep(0))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- portals -------------------------------------------------------------------------------------


@dataclass
class Resource:
    """Something that is opened and closed, and says what happened to it."""

    steps: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Resource]:
        self.said("opened")
        try:
            yield self
        except ValueError:
            self.said("saw the error")
            raise
        finally:
            await asyncio.sleep(0.01)
            self.said("closed")

    def said(self, step: str) -> None:
        self.steps.append(step)
        self.threads.add(threading.get_ident())

    async def work(self, seconds: float = 0.0) -> int:
        try:
            await asyncio.sleep(seconds)
            self.said("worked")
        finally:
            await asyncio.sleep(0.01)
            self.said("put down")
        return len(self.steps)


def use(resource: Resource) -> int:
    with Portal(resource.opened()) as portal:
        portal.run(Resource.work)
        return portal.run(Resource.work)


def test_a_portal_opens_works_and_closes_on_one_thread_of_its_own() -> None:
    resource = Resource()
    assert use(resource) == 5
    assert resource.steps == ["opened", *["worked", "put down"] * 2, "closed"]
    assert len(resource.threads) == 1
    assert threading.get_ident() not in resource.threads
    assert not {thread.ident for thread in threading.enumerate()} & resource.threads


def test_a_portal_works_where_a_loop_runs() -> None:
    async def notebook() -> int:
        return use(Resource())

    assert asyncio.run(notebook()) == 5
    assert run_command(notebook()) == 5


def test_portals_stand_inside_of_one_another() -> None:
    outer, inner = Resource(), Resource()
    with Portal(outer.opened()) as portal, Portal(inner.opened()) as other:
        assert portal.run(Resource.work) == other.run(Resource.work) == 3
    assert outer.threads.isdisjoint(inner.threads)


def test_an_error_of_the_work_leaves_as_it_is_and_the_portal_goes_on() -> None:
    async def fail(_: Resource) -> None:
        raise KeyError("mine")

    resource = Resource()
    with Portal(resource.opened()) as portal:
        with pytest.raises(KeyError, match="mine"):
            portal.run(fail)
        assert portal.run(Resource.work) == 3
    assert resource.steps[-1] == "closed"


def test_an_error_of_the_block_reaches_the_resource() -> None:
    resource = Resource()
    with pytest.raises(ValueError, match="of the block"), Portal(resource.opened()):
        raise ValueError("of the block")
    assert resource.steps == ["opened", "saw the error", "closed"]


@asynccontextmanager
async def broken(*, when_opened: bool) -> AsyncIterator[None]:
    if when_opened:
        raise OSError("no such folder")
    yield
    raise OSError("the disk is full")


@pytest.mark.parametrize("when_opened", [True, False])
def test_a_resource_that_breaks_leaves_no_thread(when_opened: bool) -> None:  # noqa: FBT001
    before = threading.active_count()
    with pytest.raises(OSError), Portal(broken(when_opened=when_opened)):
        pass
    assert threading.active_count() == before


def test_an_interrupted_caller_stops_the_work_and_waits_for_it() -> None:
    resource = Resource()
    with (
        told_to_stop(signal.SIGINT),
        pytest.raises(KeyboardInterrupt),
        Portal(resource.opened()) as portal,
    ):
        portal.run(lambda opened: opened.work(LONG_S))
    assert resource.steps == ["opened", "put down", "closed"]


def test_an_interrupted_caller_does_not_wait_for_a_resource_to_open() -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        await asyncio.sleep(LONG_S)
        yield

    with told_to_stop(signal.SIGINT), pytest.raises(KeyboardInterrupt), Portal(slow()):
        pass
