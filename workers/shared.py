"""What takes long to open, opened once for all who want the same, and closed when nobody does.

    async with Shared(open_client, clock=clock, age_s_max=900.0, kept_max=16) as clients:
        async with clients.lease(options) as client:
            ...

Invariants
  * who asks for the same thing at about the same time gets the same one; while it is being opened
    they wait, and if that fails, or who opens it is cancelled, the next one opens it;
  * nobody who comes gets one that is too old; it is closed when its last user leaves it;
  * of those that nobody uses so many are kept, the oldest go first; all are closed in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

from workers.clock import Clock

Wanted = TypeVar("Wanted", bound=Hashable)
Opened = TypeVar("Opened")


class _Held(Generic[Opened]):
    """A thing that is open, or about to be."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.users = 0
        self.stack = AsyncExitStack()
        self.opening = asyncio.Lock()
        self.opened: list[Opened] = []


class Shared(Generic[Wanted, Opened]):
    """Opens by `open_one`. Belongs to one event loop."""

    def __init__(
        self,
        open_one: Callable[[Wanted], AbstractAsyncContextManager[Opened]],
        *,
        clock: Clock,
        age_s_max: float,
        kept_max: int,
    ) -> None:
        assert age_s_max >= 0
        assert kept_max >= 0
        self._open_one = open_one
        self._clock = clock
        self._age_s_max = age_s_max
        self._kept_max = kept_max
        self._held: dict[Wanted, _Held[Opened]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all, whatever closing one of them raises."""
        async with AsyncExitStack() as stack:
            for held in self._held.values():
                stack.push_async_callback(held.stack.aclose)

    @asynccontextmanager
    async def lease(self, wanted: Wanted) -> AsyncIterator[Opened]:
        """The thing for as long as the context is open. Raises what opening it raises."""
        held, old = self._held.get(wanted), None
        if held is None or self._clock.monotonic() - held.since_s > self._age_s_max:
            old, held = held, _Held(self._clock.monotonic())
            self._held[wanted] = held
        held.users += 1
        try:
            if old is not None:
                await self._close_if_unused(old)
            async with held.opening:
                if not held.opened:
                    opened = await held.stack.enter_async_context(self._open_one(wanted))
                    held.opened.append(opened)
            yield held.opened[0]
        finally:
            held.users -= 1
            if self._held.get(wanted) is not held:
                await self._close_if_unused(held)
            elif not held.opened and not held.users:
                del self._held[wanted]
            await self._close_surplus()

    async def _close_surplus(self) -> None:
        unused = [wanted for wanted, held in self._held.items() if not held.users]
        for wanted in unused[: max(0, len(self._held) - self._kept_max)]:
            await self._close_if_unused(self._held.pop(wanted))

    async def _close_if_unused(self, held: _Held[Opened]) -> None:
        if not held.users:
            await held.stack.aclose()
