"""Work that blocks the loop is spread over its turns."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from workers.turns import Turns


async def count_turns(turn: list[int], done: asyncio.Event) -> None:
    while not done.is_set():
        turn[0] += 1
        await asyncio.sleep(0)


@pytest.mark.parametrize(("per_turn", "takers"), [(1, 20), (4, 100), (7, 7), (3, 0)])
async def test_a_turn_has_so_many_and_no_more(per_turn: int, takers: int) -> None:
    turns = Turns(per_turn)
    turn, done = [0], asyncio.Event()
    taken: list[tuple[int, int]] = []

    async def take(number: int) -> None:
        await turns.take()
        taken.append((turn[0], number))

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count_turns(turn, done))
        async with asyncio.TaskGroup() as takers_group:
            for number in range(takers):
                takers_group.create_task(take(number))
        done.set()
        await counting
    assert [number for _, number in taken] == list(range(takers))
    assert max(Counter(at for at, _ in taken).values(), default=0) <= per_turn
    assert turns.statistics().taken_total == takers
    assert turns.statistics().waiting == 0


async def test_nobody_waits_where_nobody_asks() -> None:
    turns = Turns(2)
    for _ in range(10):
        await turns.take()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert turns.statistics().waiting_peak == 0


async def test_one_task_gives_way_too() -> None:
    turns, done, turn = Turns(2), asyncio.Event(), [0]
    async with asyncio.TaskGroup() as group:
        group.create_task(count_turns(turn, done))
        for _ in range(20):
            await turns.take()
        done.set()
    assert turn[0] >= 9


async def test_who_is_cancelled_takes_nothing() -> None:
    turns = Turns(1)
    taken: list[str] = []

    async def take(name: str) -> None:
        await turns.take()
        taken.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(take("first"))
        given_up = group.create_task(take("given up"))
        group.create_task(take("patient"))
        await asyncio.sleep(0)
        given_up.cancel()
    assert taken == ["first", "patient"]
    assert turns.statistics().taken_total == 2
