"""What one user allows: so many requests at once, so many in a second, whatever they are for.

    await caps.take()
    try:
        await request()
    finally:
        caps.give()

Invariants
  * slots are given in the order of asking, and a cancelled wait holds none;
  * the rate is kept over any length of time, after a first second's worth at once.

The wait has no time limit of its own: it lasts as long as the work ahead does.
"""

from __future__ import annotations

from aiolimiter import AsyncLimiter

from workers.slots import Slots


class Caps:
    """Fixed bounds, for one event loop; without `per_s` the rate is not bounded."""

    def __init__(self, in_flight: int, per_s: float | None = None) -> None:
        assert per_s is None or per_s > 0
        self.in_flight = in_flight
        self._slots = Slots(in_flight)
        # A leaky bucket that holds less than one would never let anything pass.
        burst = None if per_s is None else max(1.0, per_s)
        self._rate = None if burst is None or per_s is None else AsyncLimiter(burst, burst / per_s)

    async def take(self) -> None:
        """Wait in line for a slot, and for the rate; to be given back by `give`.

        On cancel nothing is held.
        """
        await self._slots.acquire()
        if self._rate is None:
            return
        try:
            await self._rate.acquire()
        except BaseException:
            self._slots.release()
            raise

    def give(self) -> None:
        """Give one slot back."""
        self._slots.release()
