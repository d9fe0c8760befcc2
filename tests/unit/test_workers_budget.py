"""Budgets: never more held than there is, in line, and nothing held by who was cancelled."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from workers.budget import Budget, BudgetStatistics
from workers.simulated import VirtualClock, run_simulated


def test_what_fits_is_given_at_once_and_given_back() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(10)
        async with budget.hold(4), budget.hold(6), budget.hold(0):
            assert budget.statistics() == BudgetStatistics(held=10, held_peak=10, waiting=0)
        assert budget.statistics() == BudgetStatistics(held=0, held_peak=10, waiting=0)
        assert clock.monotonic() == 0

    run_simulated(program)


def test_amounts_come_in_the_order_of_asking_and_nobody_passes() -> None:
    async def program(clock: VirtualClock, random: Random) -> list[str]:
        budget = Budget(10)
        came: list[str] = []

        async def worker(name: str, amount: int) -> None:
            async with budget.hold(amount):
                came.append(f"{name}@{clock.monotonic():g}")
                await clock.sleep(1)

        async with asyncio.TaskGroup() as group:
            # The small one would fit beside the first, but the large one asked before it.
            for name, amount in (("first", 6), ("large", 9), ("small", 1), ("last", 1)):
                group.create_task(worker(name, amount))
            await clock.sleep(0.5)
            assert budget.statistics().waiting == 3
        assert budget.statistics().held == 0
        return came

    assert run_simulated(program) == ["first@0", "large@1", "small@1", "last@2"]


def test_what_is_too_large_waits_until_it_is_alone() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(10)

        async def worker(amount: int, starts_at_s: float) -> None:
            async with budget.hold(amount):
                assert clock.monotonic() == starts_at_s
                await clock.sleep(1)

        async with asyncio.TaskGroup() as group:
            for amount, starts_at_s in ((1, 0), (25, 1), (25, 2), (10, 3)):
                group.create_task(worker(amount, starts_at_s))
        assert budget.statistics() == BudgetStatistics(held=0, held_peak=25, waiting=0)

    run_simulated(program)


def test_an_error_in_the_block_gives_back() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(10)
        with pytest.raises(KeyError):
            async with budget.hold(10):
                raise KeyError
        assert budget.statistics().held == 0

    run_simulated(program)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_who_is_cancelled_while_waiting_holds_nothing(turns: int) -> None:
    """The amount comes, and the cancel so many turns of the loop after it or before it."""

    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(10)
        await budget.take(10)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(budget.take(10))
            following = group.create_task(budget.take(7))
            await clock.sleep(1)
            assert budget.statistics().waiting == 2
            if turns:
                budget.give(10)
            for _ in range(turns - 1):
                await asyncio.sleep(0)
            cancelled = waiting.cancel()
            if not turns:
                budget.give(10)
            await clock.sleep(1)
            if not cancelled:
                budget.give(10)  # it had come and gone before
        assert following.done()
        assert budget.statistics() == BudgetStatistics(held=7, held_peak=10, waiting=0)

    run_simulated(program)


def test_a_large_one_that_gives_up_lets_the_others_through() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(10)
        await budget.take(5)
        async with asyncio.TaskGroup() as group:
            large = group.create_task(budget.take(6))
            small = group.create_task(budget.take(5))
            await clock.sleep(1)
            assert not small.done()
            large.cancel()
            await clock.sleep(0)
            await clock.sleep(0)
            assert small.done()
        assert budget.statistics() == BudgetStatistics(held=10, held_peak=10, waiting=0)

    run_simulated(program)


@pytest.mark.parametrize("seed", range(20))
def test_never_more_is_held_and_all_of_it_comes_back(seed: int) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = Budget(100)
        held: list[int] = []

        async def worker() -> None:
            for _ in range(20):
                amount = random.choice([0, 1, 10, 60, 100, 130])
                async with budget.hold(amount):
                    held.append(amount)
                    # What was given to a task that has not run since is held too.
                    assert sum(held) <= budget.statistics().held
                    assert sum(held) <= 100 or sum(held) == max(held)
                    try:
                        await clock.sleep(random.choice([0, 0.5, 1]))
                    finally:
                        held.remove(amount)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker()) for _ in range(20)]
            for task in random.sample(tasks, 8):
                await clock.sleep(random.random() * 3)
                task.cancel()
        assert not held
        assert budget.statistics().held == 0
        assert budget.statistics().waiting == 0
        assert budget.statistics().held_peak >= 100

    run_simulated(program, seed=seed)
