"""Threads: real ones, held in place by events instead of sleeps."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from workers.errors import Closed
from workers.threads import Threads

PATIENCE_S = 10.0


class Gate:
    """A call that says when it has begun and ends when it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.inside = 0

    def __call__(self, answer: int) -> int:
        self.inside += 1
        self.begun.release()
        assert self.open.wait(PATIENCE_S)
        self.inside -= 1
        return answer

    async def entered(self, times: int = 1) -> None:
        for _ in range(times):
            assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_S)


@contextmanager
def gate() -> Iterator[Gate]:
    opened = Gate()
    try:
        yield opened
    finally:
        opened.open.set()


async def test_a_call_gets_its_arguments_and_context_and_gives_its_answer() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("of the task")
    async with Threads(1) as threads:
        assert await threads.run(divmod, 17, 5) == (3, 2)
        assert await threads.run(variable.get) == "of the task"
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 1, 0)
        assert threads.statistics().in_flight == 0


async def test_no_more_calls_run_than_there_are_slots() -> None:
    with gate() as call:
        async with Threads(2) as threads, asyncio.TaskGroup() as group:
            tasks = [group.create_task(threads.run(call, number)) for number in range(5)]
            await call.entered(2)
            assert call.inside == 2
            statistics = threads.statistics()
            assert (statistics.in_flight, statistics.waiting) == (2, 3)
            call.open.set()
        assert [task.result() for task in tasks] == list(range(5))
        assert threads.statistics().in_flight_peak == 2


async def test_a_cancelled_run_returns_after_its_call_has_ended() -> None:
    with gate() as call:
        async with Threads(1) as threads:
            async with asyncio.TaskGroup() as group:
                cancelled = group.create_task(threads.run(call, 1))
                await call.entered()
                for _ in range(3):  # a second and a third cancel don't shorten the wait
                    cancelled.cancel()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                assert not cancelled.done()
                assert threads.statistics().in_flight == 1
                call.open.set()
            assert cancelled.cancelled()
            assert call.inside == 0
            assert threads.statistics().in_flight == 0


async def test_a_run_cancelled_in_line_calls_nothing() -> None:
    with gate() as call:
        calls: list[int] = []
        async with Threads(1) as threads, asyncio.TaskGroup() as group:
            group.create_task(threads.run(call, 1))
            await call.entered()
            waiting = group.create_task(threads.run(calls.append, 2))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert waiting.cancelled()
            call.open.set()
        assert calls == []


async def test_a_call_that_outlasts_the_bound_is_left_behind_with_its_slot() -> None:
    with gate() as call:
        async with Threads(1, cancel_wait_s_max=0.01) as threads:
            async with asyncio.TaskGroup() as group:
                cancelled = group.create_task(threads.run(call, 1))
                await call.entered()
                cancelled.cancel()
            assert cancelled.cancelled()
            assert call.inside == 1
            assert threads.statistics().in_flight == 1
        assert threads.statistics().in_flight == 1, "the exit is bounded too"


async def test_the_exit_waits_for_running_calls_and_takes_no_more() -> None:
    others = set(threading.enumerate())
    with gate() as call:
        async with asyncio.TaskGroup() as group:
            async with Threads(1) as threads:
                running = group.create_task(threads.run(call, 1))
                await call.entered()
                asyncio.get_running_loop().call_soon(call.open.set)
            assert threads.statistics().in_flight == 0
            with pytest.raises(Closed):
                await threads.run(divmod, 1, 1)
        assert running.result() == 1
        left = set(threading.enumerate()) - others
        assert not [thread for thread in left if thread.name.startswith("workers")]


async def test_an_error_of_an_abandoned_call_is_dropped_silently() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail() -> None:
        call(0)
        raise ValueError("nobody asks any more")

    with gate() as call:
        async with Threads(1) as threads:
            async with asyncio.TaskGroup() as group:
                cancelled = group.create_task(threads.run(fail))
                await call.entered()
                cancelled.cancel()
                await asyncio.sleep(0)
                call.open.set()
            assert cancelled.cancelled()
    del cancelled, group  # what they hold has to be gone for a complaint to come
    gc.collect()
    assert complaints == []
