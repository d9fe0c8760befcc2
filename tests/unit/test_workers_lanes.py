"""Lanes: calls that work go one by one, calls that wait go side by side."""

from __future__ import annotations

import asyncio
import time
from threading import Lock

import pytest

from workers.lanes import Lanes
from workers.threads import Threads


class Calls:
    """Calls that work or wait for some time, and how many of them there were at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = 0
        self.peak = 0

    def __call__(self, work_s: float, wait_s: float) -> float:
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
        end_s = time.thread_time() + work_s
        while time.thread_time() < end_s:
            pass
        time.sleep(wait_s)
        with self._lock:
            self._now -= 1
        return wait_s


async def run(lanes: Lanes, calls: Calls, count: int, work_s: float, wait_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(lanes.run(calls, work_s, wait_s))


async def test_calls_that_wait_go_side_by_side() -> None:
    async with Threads(8) as threads:
        lanes, calls = Lanes(threads, 6), Calls()
        assert await lanes.run(calls, 0.0, 0.02) == 0.02
        assert calls.peak == 1
        for _ in range(8):
            await run(lanes, calls, 20, 0.0, 0.02)
        assert 2 < calls.peak <= 6
        assert lanes.limit <= 6


async def test_calls_that_work_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine that is busy with other things makes every call wait; here none does.
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    async with Threads(8) as threads:
        lanes, calls = Lanes(threads, 6), Calls()
        await run(lanes, calls, 50, 0.002, 0.0)
        assert calls.peak == lanes.limit == 1


async def test_a_call_that_fails_takes_no_lane() -> None:
    async with Threads(2) as threads:
        lanes = Lanes(threads, 1)
        for _ in range(3):
            with pytest.raises(ValueError, match="seven"):
                await lanes.run(int, "seven")
        assert await lanes.run(int, "7") == 7
