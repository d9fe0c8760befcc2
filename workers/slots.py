"""A counted permission to run: so many holders at a time, in the order in which they asked.

Invariants
  * `in_flight` exceeds `limit` only after the limit was lowered, and then only shrinks;
  * slots are given in the order of asking, and nobody passes one who waits;
  * a slot given to a task that is cancelled before it runs again goes to the next in line;
  * once closed, nobody gets a slot: who waits and who asks raises `Closed`.

The wait for a slot has no time limit of its own: it lasts as long as the work ahead does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from workers.errors import Closed


@dataclass(frozen=True, slots=True)
class SlotsStatistics:
    """A moment of some slots. `waited_s` sums the seconds that all who asked have waited."""

    limit: int
    in_flight: int
    in_flight_peak: int
    waiting: int
    taken_total: int
    waited_s: float


class Slots:
    """At most `limit` holders. Belongs to one event loop; not to be shared between threads."""

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self._limit = limit
        self._in_flight = 0
        self._in_flight_peak = 0
        self._taken_total = 0
        self._waited_s = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()  # empty while a slot is free
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def free(self) -> int:
        """How many could start now without anybody having to wait."""
        return max(0, self._limit - self._in_flight)

    async def acquire(self) -> None:
        """Take a slot, waiting in line for it; to be given back by `release`.

        Raises `Closed`. On cancel nothing is held.
        """
        if self._closed:
            raise Closed
        if self._in_flight >= self._limit:
            await self._wait_in_line()
        else:
            self._take()

    def release(self) -> None:
        """Give one slot back, whichever task took it."""
        assert self._in_flight > 0
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
        self._give()

    def resize(self, limit: int) -> None:
        """Set the limit; a lower one takes no slot away from who holds it."""
        assert limit > 0
        self._limit = limit
        self._give()

    def close(self) -> None:
        """Give out no more slots. Harmless when repeated."""
        self._closed = True
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(Closed())

    async def idle(self) -> None:
        """Return when nobody holds a slot."""
        await self._idle.wait()

    def statistics(self) -> SlotsStatistics:
        return SlotsStatistics(
            limit=self._limit,
            in_flight=self._in_flight,
            in_flight_peak=self._in_flight_peak,
            waiting=len(self._waiting),
            taken_total=self._taken_total,
            waited_s=self._waited_s,
        )

    async def _wait_in_line(self) -> None:
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        started_s = loop.time()
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release()  # the slot came and the cancel after it, before this task ran
            else:
                with suppress(ValueError):
                    self._waiting.remove(place)
            raise
        finally:
            self._waited_s += loop.time() - started_s

    def _give(self) -> None:
        while self._waiting and self._in_flight < self._limit:
            place = self._waiting.popleft()
            if not place.done():
                self._take()
                place.set_result(None)

    def _take(self) -> None:
        self._in_flight += 1
        self._taken_total += 1
        self._in_flight_peak = max(self._in_flight_peak, self._in_flight)
        self._idle.clear()
