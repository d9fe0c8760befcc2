"""Slots: counted, fair, and never lost, however their takers end."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import Closed
from workers.simulated import VirtualClock, run_simulated
from workers.slots import Slots


def test_slots_are_given_in_the_order_of_asking() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        slots = Slots(2)
        order: list[int] = []

        async def hold(number: int) -> None:
            await slots.acquire()
            order.append(number)
            assert slots.in_flight <= 2
            await clock.sleep(random.random())
            slots.release()

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(hold(number))
        assert order == list(range(20))
        statistics = slots.statistics()
        assert (statistics.in_flight_peak, statistics.taken_total) == (2, 20)
        assert statistics.waited_s > 0

    run_simulated(program)


def test_free_is_what_could_start_without_a_wait() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        slots = Slots(3)
        assert slots.free == 3
        await slots.acquire()
        assert slots.free == 2
        slots.resize(1)
        assert slots.free == 0
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(slots.acquire())
            await clock.sleep(1)
            assert not waiting.done()
            slots.resize(2)
            await clock.sleep(1)
            assert waiting.done()
        assert (slots.in_flight, slots.free) == (2, 0)

    run_simulated(program)


@pytest.mark.parametrize("given_first", [True, False])
def test_a_cancelled_wait_holds_nothing(*, given_first: bool) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        slots = Slots(1)
        await slots.acquire()
        async with asyncio.TaskGroup() as group:
            cancelled = group.create_task(slots.acquire())
            behind = group.create_task(slots.acquire())
            await clock.sleep(1)
            if given_first:
                slots.release()
                cancelled.cancel()
            else:
                cancelled.cancel()
                slots.release()
            await clock.sleep(1)
            assert cancelled.cancelled()
            assert behind.done()
        assert slots.in_flight == 1
        slots.release()
        assert slots.free == 1

    run_simulated(program)


def test_closing_turns_away_who_waits_and_who_asks() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        slots = Slots(1)
        await slots.acquire()

        async def turned_away() -> None:
            with pytest.raises(Closed):
                await slots.acquire()

        async def idle_at() -> float:
            await slots.idle()
            return clock.monotonic()

        async with asyncio.TaskGroup() as group:
            group.create_task(turned_away())
            idle = group.create_task(idle_at())
            await clock.sleep(1)
            slots.close()
            slots.close()
            await turned_away()
            await clock.sleep(1)
            slots.release()
        assert idle.result() == 2

    run_simulated(program)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 4))
def test_no_slot_is_lost_in_any_mix_of_holds_cancels_and_resizes(seed: int, limit: int) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        slots = Slots(limit)
        highest = limit
        holding = 0

        async def hold() -> None:
            nonlocal holding
            await slots.acquire()
            holding += 1
            assert holding == slots.in_flight or holding < slots.in_flight  # given, not yet run
            assert slots.in_flight <= highest
            try:
                await clock.sleep(random.choice((0.0, 0.001, 0.01)))
            finally:
                holding -= 1
                slots.release()

        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            for _ in range(60):
                tasks.append(group.create_task(hold()))
                if random.random() < 0.3:
                    random.choice(tasks).cancel()
                if random.random() < 0.1:
                    size = random.randint(1, 5)
                    highest = max(highest, size)
                    slots.resize(size)
                await clock.sleep(random.choice((0.0, 0.0, 0.002)))
        assert slots.in_flight == holding == 0
        assert slots.free == slots.limit
        assert slots.statistics().waiting == 0

    run_simulated(program, seed=seed)
