"""An executor that runs its work on this event loop.

Invariants
  * at most `slots` calls run, started in the order in which they were submitted;
  * the work runs in the task that submits it: a cancel reaches it, an error leaves as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from workers.slots import Slots, SlotsStatistics


class LocalExecutor:
    """An `Executor` around one function of this process."""

    def __init__(self, run: Callable[[bytes], Awaitable[bytes]], slots: int) -> None:
        self._run = run
        self._slots = Slots(slots)

    @property
    def slots(self) -> int:
        return self._slots.limit

    async def submit(self, work: bytes) -> bytes:
        await self._slots.acquire()
        try:
            return await self._run(work)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        self._slots.close()
        await self._slots.idle()

    def statistics(self) -> SlotsStatistics:
        return self._slots.statistics()
