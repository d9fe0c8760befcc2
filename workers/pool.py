"""Tasks of one owner, at most so many at a time.

Invariants
  * every task that was started has finished when the pool's block is left;
  * the first failure, of a task or of the block, cancels the rest and is raised as itself;
  * `submit` returns when its task has a slot, so that who submits feels how fast the work goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVarTuple

from workers.errors import Closed, single_error
from workers.slots import Slots, SlotsStatistics

Arguments = TypeVarTuple("Arguments")


class Pool:
    """`async with Pool(slots) as pool: await pool.submit(work, item)`, on one event loop."""

    def __init__(self, slots: int) -> None:
        self._slots = Slots(slots)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with single_error():
            await self._group.__aexit__(kind, error, traceback)

    async def submit(
        self,
        function: Callable[[*Arguments], Coroutine[Any, Any, object]],
        *arguments: *Arguments,
    ) -> None:
        """Start `function(*arguments)` as a task of this pool, waiting in line for a slot.

        May be called by the block and by tasks of the pool; tasks that submit while they and their
        like hold all the slots wait for ever. Raises `Closed` outside of the block and when a
        failure is ending it. On cancel nothing was started.
        """
        await self._slots.acquire()
        work = function(*arguments)
        try:
            task = self._group.create_task(work)
        except RuntimeError as error:
            work.close()
            self._slots.release()
            raise Closed from error
        # By callback, as a task that is cancelled before its first step never gets to a `finally`.
        task.add_done_callback(lambda _: self._slots.release())

    def statistics(self) -> SlotsStatistics:
        return self._slots.statistics()
