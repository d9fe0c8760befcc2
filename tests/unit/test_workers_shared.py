"""Things that are shared: opened once, by the next one if that fails, and closed in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from workers.shared import Shared
from workers.simulated import VirtualClock, run_simulated

AGE_S = 10.0


class Things:
    """Things by name, and what happened to them: `+` opened, `-` closed."""

    def __init__(self, clock: VirtualClock, *, kept_max: int = 2, open_s: float = 1.0) -> None:
        self.events: list[str] = []
        self.failures = 0
        self.shared = Shared(self.open_one, clock=clock, age_s_max=AGE_S, kept_max=kept_max)
        self._clock = clock
        self._open_s = open_s

    @asynccontextmanager
    async def open_one(self, name: str) -> AsyncIterator[int]:
        await self._clock.sleep(self._open_s)
        if self.failures:
            self.failures -= 1
            raise ConnectionError(name)
        self.events.append(f"+{name}")
        try:
            yield len(self.events)
        finally:
            self.events.append(f"-{name}")
            if name == "bad":
                raise OSError(name)

    async def use(self, name: str) -> int:
        async with self.shared.lease(name) as thing:
            return thing


def test_it_is_opened_once_for_all_who_ask_meanwhile() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        things = Things(clock)
        async with things.shared:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(things.use(name)) for name in "aaba"]
            assert tasks[0].result() == tasks[1].result() == tasks[3].result()
            assert sorted(things.events) == ["+a", "+b"]
        assert sorted(things.events) == ["+a", "+b", "-a", "-b"]

    run_simulated(program)


@pytest.mark.parametrize("ends_by", ["error", "cancel"])
def test_what_was_not_opened_is_opened_by_the_next(ends_by: str) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        things = Things(clock)
        things.failures = ends_by == "error"
        async with things.shared, asyncio.TaskGroup() as group:
            first = asyncio.ensure_future(things.use("a"))
            await clock.sleep(0.5)
            second = group.create_task(things.use("a"))
            await clock.sleep(0)
            if ends_by == "cancel":
                first.cancel()
            with pytest.raises((ConnectionError, asyncio.CancelledError)):
                await first
            assert await second == 1
            assert things.events == ["+a"]

    run_simulated(program)


def test_nobody_gets_one_that_is_too_old() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        things = Things(clock, open_s=0.0)
        async with things.shared:
            async with things.shared.lease("a") as old:
                await clock.sleep(AGE_S + 1)
                async with things.shared.lease("a") as new:
                    assert new != old
                assert await things.use("a") == new
                assert things.events == ["+a", "+a"]
            assert things.events == ["+a", "+a", "-a"], "the old one goes with its last user"
            await clock.sleep(AGE_S + 1)
            await things.use("a")
            assert things.events[3:] == ["-a", "+a"], "an old one that nobody uses goes first"

    run_simulated(program)


def test_so_many_are_kept_and_all_are_closed() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        things = Things(clock, open_s=0.0)
        with pytest.raises(OSError, match="bad"):
            async with things.shared, AsyncExitStack() as in_use:
                await in_use.enter_async_context(things.shared.lease("bad"))
                for name in "abcd":
                    await things.use(name)
                assert things.events == ["+bad", "+a", "+b", "-a", "+c", "-b", "+d", "-c"]
        assert sorted(things.events[8:]) == ["-bad", "-d"], "though closing one of them failed"

    run_simulated(program)
