"""Virtual time, and the executors, the failing one included."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, timedelta
from random import Random

import pytest

from workers.clock import Clock, SystemClock
from workers.errors import Closed, SimulationStalled, WorkerLost
from workers.executor import Executor
from workers.local import LocalExecutor
from workers.retry import Retry
from workers.simulated import EPOCH, Faults, SimulatedExecutor, VirtualClock, run_simulated
from workers.threads import Threads


def test_sleeping_takes_virtual_time_only() -> None:
    async def program(clock: VirtualClock, random: Random) -> float:
        async with asyncio.TaskGroup() as group:
            for seconds in (3600.0, 10.0, 7200.0):
                group.create_task(clock.sleep(seconds))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await clock.sleep(200)
        assert clock.now() == EPOCH + timedelta(seconds=7300)
        return clock.monotonic()

    started_s = time.monotonic()
    assert run_simulated(program) == pytest.approx(7300)
    assert time.monotonic() - started_s < 5


def test_equal_seeds_give_equal_runs() -> None:
    async def program(clock: VirtualClock, random: Random) -> list[tuple[int, float]]:
        events: list[tuple[int, float]] = []

        async def walk(number: int) -> None:
            for _ in range(5):
                await clock.sleep(random.random())
                events.append((number, clock.monotonic()))

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(walk(number))
        return events

    assert run_simulated(program, seed=3) == run_simulated(program, seed=3)
    assert run_simulated(program, seed=3) != run_simulated(program, seed=4)


def test_a_program_that_waits_for_ever_is_told_of_instead_of_hanging() -> None:
    async def waits(clock: VirtualClock, random: Random) -> None:
        await asyncio.Event().wait()

    async def polls(clock: VirtualClock, random: Random) -> None:
        while True:
            await clock.sleep(1)

    with pytest.raises(SimulationStalled, match="Every simulated task waits"):
        run_simulated(waits)
    with pytest.raises(SimulationStalled, match="still running after 100 virtual s"):
        run_simulated(polls, virtual_s_max=100)


def test_errors_of_a_program_come_out() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        raise KeyError("out")

    with pytest.raises(KeyError):
        run_simulated(program)


def test_threads_answer_at_once_and_in_no_time() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        async with Threads(1) as threads, asyncio.timeout(1):
            assert await threads.run(divmod, 17, 5) == (3, 2)
            with pytest.raises(ZeroDivisionError):
                await threads.run(divmod, 1, 0)
            assert await asyncio.to_thread(divmod, 17, 5) == (3, 2)
        assert clock.monotonic() == 0

    run_simulated(program)


async def test_the_system_clock_is_the_machine_s() -> None:
    clock: Clock = SystemClock()
    before_s = clock.monotonic()
    await clock.sleep(0)
    assert before_s <= clock.monotonic() <= before_s + 60
    assert clock.now().tzinfo is UTC
    assert VirtualClock().now().tzinfo is UTC


async def double(work: bytes) -> bytes:
    return work * 2


def test_the_local_executor_runs_so_much_at_a_time() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        async def run(work: bytes) -> bytes:
            assert local.statistics().in_flight <= 2
            await clock.sleep(1)
            if work == b"bad":
                raise ValueError("bad work")
            return work * 2

        local = LocalExecutor(run, 2)
        executor: Executor = local
        assert executor.slots == 2
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(executor.submit(bytes([number]))) for number in range(6)]
        assert [answer.result() for answer in answers] == [bytes([n, n]) for n in range(6)]
        assert clock.monotonic() == 3
        with pytest.raises(ValueError, match="bad work"):
            await executor.submit(b"bad")
        assert local.statistics().in_flight == 0

    run_simulated(program)


@pytest.mark.parametrize("cancel_at_s", [0.5, 1.5])
def test_a_cancelled_submit_stops_its_work(cancel_at_s: float) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        running = 0

        async def run(work: bytes) -> bytes:
            nonlocal running
            running += 1
            try:
                await clock.sleep(1)
            finally:
                running -= 1
            return work

        executor = LocalExecutor(run, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(executor.submit(b"first"))
            second = group.create_task(executor.submit(b"second"))
            await clock.sleep(cancel_at_s)
            second.cancel()
            await clock.sleep(0)
            assert second.cancelled()
            assert running == (1 if cancel_at_s < 1 else 0)
        assert executor.statistics().in_flight == 0

    run_simulated(program)


def test_closing_waits_for_what_runs_and_refuses_the_rest() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        async def run(work: bytes) -> bytes:
            await clock.sleep(1)
            return work

        async def refused() -> None:
            with pytest.raises(Closed):
                await executor.submit(b"late")

        executor = LocalExecutor(run, 1)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(executor.submit(b"work"))
            group.create_task(refused())
            await clock.sleep(0)
            await executor.aclose()
            assert running.done()
            await refused()
            await executor.aclose()
        assert clock.monotonic() == 1

    run_simulated(program)


def lossy(
    clock: VirtualClock, random: Random, done: list[bytes], faults: Faults
) -> SimulatedExecutor:
    async def run(work: bytes) -> bytes:
        done.append(work)
        return await double(work)

    return SimulatedExecutor(run, 4, clock=clock, random=random, faults=faults)


@pytest.mark.parametrize(
    ("faults", "is_done", "took_s_min"),
    [
        (Faults(crashes_before=1.0), False, 0.0),
        (Faults(crashes_after=1.0), True, 0.0),
        (Faults(answers_lost=1.0, answer_s_max=30.0), True, 30.0),
    ],
)
def test_each_way_of_getting_lost(*, faults: Faults, is_done: bool, took_s_min: float) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        done: list[bytes] = []
        executor = lossy(clock, random, done, faults)
        with pytest.raises(WorkerLost):
            await executor.submit(b"work")
        assert bool(done) is is_done
        assert (executor.done_total, executor.lost_total) == (int(is_done), 1)
        assert took_s_min <= clock.monotonic() <= took_s_min + 0.1
        assert executor.statistics().in_flight == 0

    run_simulated(program)


def test_work_that_is_submitted_until_answered_is_done_at_least_once() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        done: list[bytes] = []
        faults = Faults(crashes_before=0.2, crashes_after=0.2, answers_lost=0.2)
        executor: Executor = lossy(clock, random, done, faults)
        retry = Retry(attempts_max=50, deadline_s=10_000, clock=clock, random=random)

        async def submit(work: bytes) -> None:
            answer = await retry.call(
                lambda: executor.submit(work),
                is_retryable=lambda error: isinstance(error, WorkerLost),
            )
            assert answer == work * 2

        works = [bytes([number]) for number in range(100)]
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(submit(work))
        await executor.aclose()
        assert set(done) == set(works)
        assert len(done) > len(works), "some of it twice"

    run_simulated(program)
