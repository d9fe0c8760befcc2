"""A counted amount of something, bytes mostly, that all who work together may hold at once.

    async with budget.hold(size_bytes):
        ...

Invariants
  * what is held never exceeds `most`, but for one holder whose wish alone does: it waits until it
    is the only one, so that nothing is too large to go on;
  * amounts are given in the order of asking, and nobody passes one who waits;
  * who is cancelled while waiting holds nothing.

The wait has no time limit of its own: it lasts as long as the work ahead does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    """A moment of a budget."""

    held: int
    held_peak: int
    waiting: int


class Budget:
    """At most `most` held at once. Belongs to one event loop; not to be shared between threads."""

    def __init__(self, most: int) -> None:
        assert most > 0
        self._most = most
        self._held = 0
        self._held_peak = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Wait in line for an amount and hold it for the block."""
        await self.take(amount)
        try:
            yield
        finally:
            self.give(amount)

    async def take(self, amount: int) -> None:
        """Wait in line for an amount, to be given back by `give`. On cancel nothing is held."""
        assert amount >= 0
        if not self._waiting and self._has_room(amount):
            self._hold(amount)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, amount))
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.give(amount)
            elif (place, amount) in self._waiting:
                self._waiting.remove((place, amount))
                self._serve()
            raise

    def give(self, amount: int) -> None:
        """Give an amount back, whoever took it."""
        assert 0 <= amount <= self._held
        self._held -= amount
        self._serve()

    def statistics(self) -> BudgetStatistics:
        return BudgetStatistics(self._held, self._held_peak, len(self._waiting))

    def _has_room(self, amount: int) -> bool:
        return not self._held or self._held + amount <= self._most

    def _hold(self, amount: int) -> None:
        self._held += amount
        self._held_peak = max(self._held_peak, self._held)

    def _serve(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1]):
            place, amount = self._waiting.popleft()
            if not place.done():  # else its task was cancelled, and has not run since
                self._hold(amount)
                place.set_result(None)
