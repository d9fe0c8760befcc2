"""Requests to one server, at most as many at a time as it takes well.

    async with limiter.slot() as slot:
        answer = await request()
        if answer.status == 503:
            slot.throttled()

Invariants
  * slots are given in the order in which they were asked for;
  * whatever ends the block, an error or a cancel too, gives the slot back at once: a request that
    backs off does so outside of it;
  * only answers and throttles move the limit, other errors and cancels do not.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from workers.clock import Clock, SystemClock
from workers.control import Control, Limits, Outcome
from workers.slots import Slots


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """A moment of a limiter. `waited_s` sums the seconds that all who asked have waited."""

    limit: int
    limit_peak: int
    in_flight: int
    in_flight_peak: int
    waiting: int
    requests_total: int
    throttled_total: int
    waited_s: float


@dataclass(slots=True)
class Slot:
    """The permission for one request, and what the request tells about the server."""

    is_throttled: bool = False
    is_typical: bool = True

    def throttled(self) -> None:
        """Tell that the server asked for less, before the block is left in whatever way."""
        self.is_throttled = True

    def untypical(self) -> None:
        """Tell that the latency of this answer is not to be compared with that of the others."""
        self.is_typical = False


class Limiter:
    """A limit that `control` moves. One for requests of one kind to one server."""

    def __init__(self, limits: Limits | None = None, *, clock: Clock | None = None) -> None:
        limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._control = Control(limits)
        self._slots = Slots(limits.start)
        self._limit_peak = limits.start
        self._throttled_total = 0

    @classmethod
    def fixed(cls, limit: int, *, clock: Clock | None = None) -> Limiter:
        """Return a limiter whose limit stays as it is."""
        return cls(Limits(start=limit, lowest=limit, highest=limit), clock=clock)

    def slot(self) -> AbstractAsyncContextManager[Slot]:
        """Wait in line for a slot and hold it for the block; on cancel of the wait hold none."""
        return _Held(self)

    async def _take(self) -> float:
        """Wait for a slot, and return when it came."""
        await self._slots.acquire()
        self._control.started()
        return self._clock.monotonic()

    def _give(self, slot: Slot, started_s: float, *, answered: bool) -> None:
        outcome = Outcome.ANSWERED if answered else Outcome.UNKNOWN
        if slot.is_throttled:
            outcome = Outcome.THROTTLED
            self._throttled_total += 1
        limit = self._control.finished(
            outcome, started_s, self._clock.monotonic(), typical=slot.is_typical
        )
        self._limit_peak = max(self._limit_peak, limit)
        self._slots.resize(limit)
        self._slots.release()

    @property
    def limit(self) -> int:
        return self._slots.limit

    @property
    def in_flight(self) -> int:
        return self._slots.in_flight

    @property
    def free(self) -> int:
        """How many requests could start now without anybody having to wait."""
        return self._slots.free

    def statistics(self) -> LimiterStatistics:
        slots = self._slots.statistics()
        return LimiterStatistics(
            limit=slots.limit,
            limit_peak=self._limit_peak,
            in_flight=slots.in_flight,
            in_flight_peak=slots.in_flight_peak,
            waiting=slots.waiting,
            requests_total=slots.taken_total,
            throttled_total=self._throttled_total,
            waited_s=slots.waited_s,
        )


class _Held:
    """A slot while it is held. As a class, as a generator takes three times as long to enter."""

    __slots__ = ("_limiter", "_slot", "_started_s")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._slot = Slot()

    async def __aenter__(self) -> Slot:
        self._started_s = await self._limiter._take()  # noqa: SLF001 - a part of the limiter
        return self._slot

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limiter._give(self._slot, self._started_s, answered=error is None)  # noqa: SLF001
