"""A bounded, closable way for items from one stage to the next.

    async with channel.sending():               async with channel.receiving():
        await channel.send(item)                    async for item in channel: ...

Invariants
  * at most `items_max` items of `bytes_max` bytes in all are buffered, but an item larger than
    `bytes_max` passes while it is alone, so that no item can stop the pipeline;
  * items leave in the order in which they came, and senders enter in the order in which they asked;
  * an end means "complete": the iteration ends only after `sending` was left without an error. A
    sending stage that fails or is cancelled breaks the channel, and the receiver raises;
  * when the receiving stage has left, `send` raises instead of waiting for ever;
  * a cancelled `send` has sent nothing, a cancelled receive has taken nothing.

No call has a time limit of its own: each wait ends with what the other stage does, its leaving
included. It is measured by the event loop's time. Where there is room, or an item, nothing waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workers.errors import ChannelBroken


class Measured(Protocol):
    """What a channel carries: something that knows its size, asked once an item."""

    @property
    def nbytes(self) -> int: ...


Item = TypeVar("Item", bound=Measured)


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A moment of a channel. The waits sum over all tasks of a side; who waits is not slow."""

    items: int
    bytes: int
    items_peak: int
    bytes_peak: int
    items_total: int
    bytes_total: int
    send_waited_s: float
    receive_waited_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a task stands in line, with the bytes that it wants room for."""

    woken: asyncio.Future[None]
    size_bytes: int

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Channel(Generic[Item]):
    """Between one sending and one receiving stage, each of which may be several tasks of one loop.

    A stage enters its side once, around all of its tasks.
    """

    def __init__(self, *, items_max: int, bytes_max: int) -> None:
        assert items_max > 0
        assert bytes_max > 0
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        # Who waits stays in line until it runs, and only the first is woken: what it was woken for
        # is then still there, whoever comes in between.
        self._senders: deque[_Place] = deque()
        self._receivers: deque[_Place] = deque()
        self._sending = self._receiving = False
        self._sender_left = self._receiver_left = False
        self._failure: BaseException | None = None
        self._items_peak = self._bytes_peak = self._items_total = self._bytes_total = 0
        self._send_waited_s = self._receive_waited_s = 0.0

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Be the sending stage: leaving normally ends the channel, an error or cancel breaks it."""
        assert not self._sending, "a channel has one sending stage, which enters once"
        self._sending = True
        try:
            yield
        except BaseException as error:
            self._failure = error
            self._forget_items()
            raise
        finally:
            self._sender_left = True
            for place in self._receivers:
                place.wake()

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Be the receiving stage: leaving, for whatever reason, lets no more be sent."""
        assert not self._receiving, "a channel has one receiving stage, which enters once"
        self._receiving = True
        try:
            yield
        finally:
            self._receiver_left = True
            self._forget_items()
            for place in self._senders:
                place.wake()

    async def send(self, item: Item) -> None:
        """Put the item into the channel as soon as there is room for it.

        Raises `ChannelBroken` when the receiving stage has left.
        """
        assert self._sending, "send belongs inside `sending`"
        assert not self._sender_left, "the sending stage has left"
        size_bytes = item.nbytes
        if not self._receiver_left and (self._senders or not self._has_room(size_bytes)):
            waited_s = await self._wait(self._senders, size_bytes)
            self._send_waited_s += waited_s
        if self._receiver_left:
            raise ChannelBroken("the receiving stage left before it had everything")
        self._items.append((item, size_bytes))
        self._bytes += size_bytes
        self._items_total += 1
        self._bytes_total += size_bytes
        self._items_peak = max(self._items_peak, len(self._items))
        self._bytes_peak = max(self._bytes_peak, self._bytes)
        self._wake_first()

    def __aiter__(self) -> Channel[Item]:
        return self

    async def __anext__(self) -> Item:
        """Take the next item. Raises `ChannelBroken` as soon as the sending stage has failed."""
        assert self._receiving, "iterate inside `receiving`"
        assert not self._receiver_left, "the receiving stage has left"
        if not self._sender_left and (self._receivers or not self._items):
            waited_s = await self._wait(self._receivers, 0)
            self._receive_waited_s += waited_s
        if self._failure is not None:
            raise ChannelBroken("the sending stage failed or was cancelled") from self._failure
        if not self._items:
            raise StopAsyncIteration
        item, size_bytes = self._items.popleft()
        self._bytes -= size_bytes
        self._wake_first()
        return item

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            items=len(self._items),
            bytes=self._bytes,
            items_peak=self._items_peak,
            bytes_peak=self._bytes_peak,
            items_total=self._items_total,
            bytes_total=self._bytes_total,
            send_waited_s=self._send_waited_s,
            receive_waited_s=self._receive_waited_s,
        )

    def _has_room(self, size_bytes: int) -> bool:
        if not self._items:
            return True
        return len(self._items) < self._items_max and self._bytes + size_bytes <= self._bytes_max

    async def _wait(self, line: deque[_Place], size_bytes: int) -> float:
        """Wait to be woken as the first in line, and return after how many seconds that was."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        place = _Place(loop.create_future(), size_bytes)
        line.append(place)
        try:
            await place.woken
        except BaseException:
            line.remove(place)
            self._wake_first()  # who stood behind may be free to go
            raise
        line.remove(place)
        return loop.time() - started_s

    def _wake_first(self) -> None:
        if self._receivers and self._items:
            self._receivers[0].wake()
        if self._senders and self._has_room(self._senders[0].size_bytes):
            self._senders[0].wake()

    def _forget_items(self) -> None:
        self._items.clear()
        self._bytes = 0
