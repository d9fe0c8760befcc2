"""Caps: so many at once, so many in a second, in line, and nothing held by who was cancelled."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from workers.caps import Caps
from workers.simulated import VirtualClock, run_simulated


def started_at_s(caps: Caps, count: int, work_s: float) -> list[float]:
    """When each of so many requests began, that all asked at once, in the order of asking."""

    async def program(clock: VirtualClock, random: Random) -> list[float]:
        began: list[float] = [-1.0] * count

        async def request(number: int) -> None:
            await caps.take()
            try:
                began[number] = clock.monotonic()
                await clock.sleep(work_s)
            finally:
                caps.give()

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(request(number))
        return began

    return run_simulated(program)


def test_without_a_rate_only_those_under_way_count() -> None:
    assert started_at_s(Caps(2), 5, 1.0) == [0, 0, 1, 1, 2]
    assert Caps(2).in_flight == 2


def test_the_rate_is_kept_after_a_first_second_of_requests() -> None:
    began = started_at_s(Caps(64, 10), 35, 0.0)
    assert began == sorted(began)
    assert began[:10] == [0.0] * 10
    for number, moment in enumerate(began[10:], 1):
        assert moment == pytest.approx(number / 10)


def test_a_rate_below_one_a_second_lets_requests_through() -> None:
    assert started_at_s(Caps(64, 0.5), 3, 0.0) == pytest.approx([0, 2, 4])


def test_both_bounds_hold() -> None:
    began = started_at_s(Caps(1, 2), 4, 0.75)
    assert began == pytest.approx([0, 0.75, 1.5, 2.25])


def test_the_rate_holds_over_any_time_after_a_pause() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        caps = Caps(1_000, 5)
        began: list[float] = []

        async def request() -> None:
            await caps.take()
            began.append(clock.monotonic())
            caps.give()

        async with asyncio.TaskGroup() as group:
            for pause_s in (0, 100, 0.1, 3):
                await clock.sleep(pause_s)
                for _ in range(20):
                    group.create_task(request())
        for start in range(len(began)):
            for end in range(start + 1, len(began)):
                window_s = began[end] - began[start]
                assert end - start + 1 <= 5 * window_s + 5 + 1e-6

    run_simulated(program)


@pytest.mark.parametrize("waits_for", ["slot", "rate"])
def test_who_is_cancelled_while_waiting_holds_nothing(waits_for: str) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        caps = Caps(1 if waits_for == "slot" else 2, 1)
        await caps.take()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(caps.take())
            await clock.sleep(0.1)
            assert not waiting.done()
            waiting.cancel()
        caps.give()
        for _ in range(caps.in_flight):
            await caps.take()
        assert clock.monotonic() <= 1 + caps.in_flight

    run_simulated(program)


def test_who_waits_is_served_in_order_though_others_give_up() -> None:
    async def program(clock: VirtualClock, random: Random) -> list[int]:
        caps = Caps(3, 10)
        came: list[int] = []

        async def request(number: int) -> None:
            await caps.take()
            came.append(number)
            try:
                await clock.sleep(0.05)
            finally:
                caps.give()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(request(number)) for number in range(60)]
            for task in random.sample(tasks[20:], 20):
                await clock.sleep(random.random() / 100)
                task.cancel()
        for _ in range(caps.in_flight):
            await caps.take()
        return came

    for seed in range(10):
        came = run_simulated(program, seed=seed)
        assert came == sorted(came)
        assert len(came) == 40
