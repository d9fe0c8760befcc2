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

import asyncio

from workers.slots import Slots


class Caps:
    """Fixed bounds, for one event loop; without `per_s` the rate is not bounded."""

    def __init__(self, in_flight: int, per_s: float | None = None) -> None:
        self.in_flight = in_flight
        self._slots = Slots(in_flight)
        self._rate = None if per_s is None else _Rate(per_s)

    async def take(self) -> None:
        """Wait in line for a slot, and for the rate; to be given back by `give`.

        On cancel nothing is held.
        """
        await self._slots.acquire()
        if self._rate is None:
            return
        try:
            await self._rate.wait()
        except BaseException:
            self._slots.release()
            raise

    def give(self) -> None:
        """Give one slot back."""
        self._slots.release()


class _Rate:
    """The generic cell rate algorithm (ITU-T I.371), which keeps one number: when the next one
    would be due if all came evenly. So much earlier as the first ones may come, it is let through.
    """

    def __init__(self, per_s: float) -> None:
        assert per_s > 0
        self._interval_s = 1 / per_s
        # One has to be let through at once, however low the rate.
        self._earlier_s = max(1.0, per_s) * self._interval_s - self._interval_s
        self._due_s = float("-inf")
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait in line until one more is due. On cancel none was let through."""
        time_s = asyncio.get_running_loop().time
        async with self._turn:
            await asyncio.sleep(max(0.0, self._due_s - self._earlier_s - time_s()))
            self._due_s = max(self._due_s, time_s()) + self._interval_s
