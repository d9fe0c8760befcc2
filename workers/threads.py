"""Blocking calls on a few threads, awaited from the event loop.

Invariants
  * at most `slots` calls run, and none is queued behind a thread: who waits, waits for a slot;
  * a slot is free again when its call has ended, not when its caller lost interest;
  * a cancelled `run` returns after its call has ended, as a thread can't be stopped and may still
    use what the caller is about to let go of. Only a call that outlasts `cancel_wait_s_max` is left
    behind, with its slot taken.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple

from workers.slots import Slots, SlotsStatistics

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

CANCEL_WAIT_S_MAX = 30.0  # longer than a slow disk takes for one call, shorter than patience


class Threads:
    """`async with Threads(slots) as threads: await threads.run(function, argument)`."""

    def __init__(self, slots: int, *, cancel_wait_s_max: float = CANCEL_WAIT_S_MAX) -> None:
        assert cancel_wait_s_max >= 0
        self._slots = Slots(slots)
        self._cancel_wait_s_max = cancel_wait_s_max
        self._executor = ThreadPoolExecutor(slots, thread_name_prefix="workers")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more calls, and wait for those that run, `cancel_wait_s_max` at the most."""
        self._slots.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._cancel_wait_s_max):
                    await self._slots.idle()
        finally:
            self._executor.shutdown(wait=self._slots.in_flight == 0)

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Return `function(*arguments)`, called on a thread in a copy of this task's context.

        Raises what the function raises, and `Closed`. Cancelled while it waits for a slot, it calls
        nothing; cancelled later, it waits for the call's end and drops the answer.
        """
        await self._slots.acquire()
        try:
            loop = asyncio.get_running_loop()
            context = contextvars.copy_context()
            call = loop.run_in_executor(self._executor, context.run, function, *arguments)
        except BaseException:
            self._slots.release()
            raise
        call.add_done_callback(self._ended)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await self._outlast(call)
            raise

    def statistics(self) -> SlotsStatistics:
        return self._slots.statistics()

    def _ended(self, call: asyncio.Future[Any]) -> None:
        self._slots.release()
        if not call.cancelled():
            call.exception()  # an error that nobody waits for any more is dropped, not logged

    async def _outlast(self, call: asyncio.Future[Any]) -> None:
        """Wait for the call's end, through further cancels, `cancel_wait_s_max` at the most."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._cancel_wait_s_max
        while not call.done() and loop.time() < end_s:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({call}, timeout=end_s - loop.time())
