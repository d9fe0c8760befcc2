"""The pool: never more at a time than it has slots, and nothing left when it is left."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from workers.errors import Closed
from workers.pool import Pool
from workers.simulated import VirtualClock, run_simulated


def test_submit_waits_for_a_slot_and_the_exit_for_all_tasks() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        done: list[int] = []

        async def work(number: int, seconds: float) -> None:
            await clock.sleep(seconds)
            done.append(number)

        async with Pool(2) as pool:
            for number in range(5):
                await pool.submit(work, number, 1.0)
            assert clock.monotonic() == 2
        assert clock.monotonic() == 3
        assert sorted(done) == list(range(5))
        statistics = pool.statistics()
        assert (statistics.in_flight, statistics.in_flight_peak) == (0, 2)
        assert statistics.taken_total == 5

    run_simulated(program)


def test_the_first_failure_cancels_the_rest_and_is_raised_as_itself() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        cancelled = 0
        cause = KeyError("cause")
        failure = ValueError("first")

        async def fail() -> None:
            await clock.sleep(1)
            raise failure from cause

        async def hang() -> None:
            nonlocal cancelled
            try:
                await clock.sleep(60)
            except asyncio.CancelledError:
                cancelled += 1
                raise

        pool = Pool(3)

        async def own() -> None:
            async with pool:
                await pool.submit(hang)
                await pool.submit(fail)
                await pool.submit(hang)
                await pool.submit(hang)  # waits for a slot when the failure comes

        with pytest.raises(ValueError, match="first") as raised:
            await own()
        assert raised.value is failure
        assert raised.value.__cause__ is cause
        assert raised.value.__context__ is None
        assert cancelled == 2
        assert clock.monotonic() == 1
        assert pool.statistics().in_flight == 0

    run_simulated(program)


def test_an_error_of_the_block_cancels_the_tasks() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        pool = Pool(1)

        async def own() -> None:
            async with pool:
                await pool.submit(clock.sleep, 60.0)
                await clock.sleep(1)
                raise ValueError("block")

        with pytest.raises(ValueError, match="block"):
            await own()
        assert clock.monotonic() == 1
        assert pool.statistics().in_flight == 0

    run_simulated(program)


@pytest.mark.parametrize("cancel_at_s", [0.0, 0.5, 1.5, 2.5])
def test_a_cancel_at_any_moment_leaves_nothing_running(cancel_at_s: float) -> None:
    """While it submits, waits for a slot, and waits for the last tasks."""

    async def program(clock: VirtualClock, random: Random) -> None:
        running = 0
        pool = Pool(1)

        async def work() -> None:
            nonlocal running
            running += 1
            try:
                await clock.sleep(1)
            finally:
                running -= 1

        async def own() -> None:
            async with pool:
                for _ in range(3):
                    await pool.submit(work)

        async with asyncio.TaskGroup() as group:
            owner = group.create_task(own())
            await clock.sleep(cancel_at_s)
            owner.cancel()
        assert owner.cancelled()
        assert running == 0
        assert pool.statistics().in_flight == 0
        assert pool.statistics().waiting == 0

    run_simulated(program)


def test_a_task_cancelled_before_its_first_step_frees_its_slot() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        pool = Pool(4)

        async def own() -> None:
            async with pool:
                await pool.submit(clock.sleep, 60.0)
                raise ValueError("at once")

        with pytest.raises(ValueError, match="at once"):
            await own()
        assert pool.statistics().in_flight == 0

    run_simulated(program)


def test_tasks_may_submit_and_a_pool_that_ended_takes_nothing() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        async def more(depth: int) -> None:
            if depth:
                await pool.submit(more, depth - 1)
            await clock.sleep(1)

        async with Pool(4) as pool:
            await pool.submit(more, 3)
        assert pool.statistics().taken_total == 4
        with pytest.raises(Closed):
            await pool.submit(more, 0)
        assert pool.statistics().in_flight == 0

    run_simulated(program)


def test_a_pool_that_is_ending_by_a_failure_takes_nothing() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        refused = 0
        pool = Pool(2)

        async def submits_too_late() -> None:
            nonlocal refused
            try:
                await clock.sleep(60)
            finally:
                try:
                    await pool.submit(clock.sleep, 1.0)
                except Closed:
                    refused += 1

        async def own() -> None:
            async with pool:
                await pool.submit(submits_too_late)
                await clock.sleep(1)
                raise ValueError("block")

        with pytest.raises(ValueError, match="block"):
            await own()
        assert refused == 1
        assert pool.statistics().in_flight == 0

    run_simulated(program)
