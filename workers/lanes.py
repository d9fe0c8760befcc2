"""Blocking calls of one kind on threads, side by side only if that gets more done.

    await lanes.run(function, argument)

Threads that run Python take turns, and each turn costs: calls that hardly wait for anything are
done sooner one after the other (files at hand are listed and hashed half as fast by four threads as
by one). Calls that wait for an answer are done sooner the more of them wait at once.

Invariants
  * calls begin one at a time, or `start` where they are known to run side by side; when they were
    found to wait for longer than they work, a limiter says how many there may be from there on;
  * what counts as waiting is a call's time less the processor's time of its thread;
  * only calls that return are judged, as one that raises may have done anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from workers.control import Limits
from workers.limiter import Limiter
from workers.threads import Threads

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

JUDGED_S_MIN = 0.01  # some hundreds of answers of a disk's cache, a few of a file server
REMEMBERED_S = 0.5  # what was longer ago counts half


class Lanes:
    """At most `lanes_max` calls at once; see above for how many of them."""

    def __init__(self, threads: Threads, lanes_max: int, *, start: int = 1) -> None:
        assert lanes_max > 0
        self._threads = threads
        self._lanes_max = lanes_max
        self._start = min(start, lanes_max)
        self._limiter = Limiter.fixed(self._start)
        self._are_judged = False
        self._waited_s = 0.0
        self._worked_s = 0.0

    @property
    def limit(self) -> int:
        """How many calls there may be at once just now."""
        return self._limiter.limit

    async def run(
        self,
        function: Callable[[*Arguments], Result],
        *arguments: *Arguments,
        is_typical: bool = True,
    ) -> Result:
        """Return `function(*arguments)`, called on a thread when a lane is free.

        `is_typical` says that this is as much to do as most calls are. Raises as `Threads.run`.
        """
        async with self._limiter.slot() as slot:
            if not is_typical:
                slot.untypical()
            result, waited_s, worked_s = await self._threads.run(_timed, function, arguments)
        if not self._are_judged:
            self._judge(waited_s, worked_s)
        return result

    def _judge(self, waited_s: float, worked_s: float) -> None:
        self._waited_s += waited_s
        self._worked_s += worked_s
        total_s = self._waited_s + self._worked_s
        if total_s >= JUDGED_S_MIN and self._waited_s > self._worked_s:
            # Who waits for a lane already goes on one by one; whoever comes now need not.
            self._are_judged = True
            self._limiter = Limiter(
                Limits(
                    start=min(self._start + 1, self._lanes_max),
                    lowest=self._start,
                    highest=self._lanes_max,
                )
            )
        elif total_s > REMEMBERED_S:
            self._waited_s /= 2
            self._worked_s /= 2


def _timed(
    function: Callable[[*Arguments], Result], arguments: tuple[*Arguments]
) -> tuple[Result, float, float]:
    """What a call returned, how long it waited and how long it worked."""
    started_s, worked_before_s = time.perf_counter(), time.thread_time()
    result = function(*arguments)
    worked_s = time.thread_time() - worked_before_s
    return result, max(0.0, time.perf_counter() - started_s - worked_s), worked_s
