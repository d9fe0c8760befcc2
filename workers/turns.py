"""Pieces of work that block the event loop, a few in each of its turns.

    await turns.take()
    parse(page)  # two milliseconds, in which nothing else happens

Invariants
  * at most `per_turn` takers go on within one turn of the loop; between two turns it sees to its
    connections and timers, so that nobody waits for a whole queue of such work;
  * takers go on in the order in which they asked, and nobody passes one who waits;
  * a taker that is cancelled while it waits takes nothing.

The wait has no time limit of its own: it lasts as long as the work ahead does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TurnsStatistics:
    """A moment of some turns."""

    waiting: int
    waiting_peak: int
    taken_total: int


class Turns:
    """At most `per_turn` takers a turn. Belongs to one event loop; not to be shared by threads."""

    def __init__(self, per_turn: int) -> None:
        assert per_turn > 0
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False
        self._waiting_peak = 0
        self._taken_total = 0

    async def take(self) -> None:
        """Return when this turn of the loop has room for one more piece of work.

        The caller then does its piece before it awaits anything.
        """
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._next_turn, loop)
        if self._left and not self._waiting:
            self._left -= 1
            self._taken_total += 1
            return
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        self._waiting_peak = max(self._waiting_peak, len(self._waiting))
        try:
            await place
        except BaseException:
            if place in self._waiting:
                self._waiting.remove(place)
            raise

    def statistics(self) -> TurnsStatistics:
        return TurnsStatistics(len(self._waiting), self._waiting_peak, self._taken_total)

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the first in line go on, and count again in the turn in which they do."""
        self._left = self._per_turn
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._left -= 1
                self._taken_total += 1
        self._is_counting = self._left < self._per_turn
        if self._is_counting:
            loop.call_soon(self._next_turn, loop)
