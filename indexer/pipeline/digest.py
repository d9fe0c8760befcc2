"""digest: the bytes of an object become its checksum, as they come.

Invariants
  * Never more of an object is in memory than `READ_AHEAD_MAX` ranges, and of all objects together
    not more than the budget.
  * Bytes are hashed in order; what is hashed is what the pin says, or nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from indexer.checksums import new_hash
from indexer.errors import IndexerError, ObjectChanged, StoreUnavailable
from indexer.keyspace import Key
from indexer.limits import (
    HASH_INLINE_BYTES_MAX,
    READ_AHEAD_MAX,
    READ_CHUNK_BYTES,
    READ_RANGE_BYTES,
)
from indexer.objects import Pin
from indexer.protocols import Store
from indexer.telemetry import Counters
from workers.budget import Budget
from workers.errors import single_error
from workers.threads import Threads


class Digester:
    """Reads objects of one store into checksums by one algorithm."""

    def __init__(
        self, store: Store, algorithm: str, *, threads: Threads, budget: Budget, counters: Counters
    ) -> None:
        self._store = store
        self._algorithm = algorithm
        self._threads = threads
        self._budget = budget
        self._counters = counters

    async def digest(self, key: Key, pin: Pin) -> bytes:
        """The checksum of an object. Raises what the store's `read` raises."""
        hashing = Hashing(self._algorithm, self._threads, pin.size)
        if not pin.size:
            return hashing.finish()
        has_ranges = self._store.properties.ranges and pin.tells_state
        if pin.size > READ_RANGE_BYTES and has_ranges:
            await self._read_ranges(key, pin, hashing)
        else:
            async with self._budget.hold(min(pin.size, 2 * READ_CHUNK_BYTES)):
                await self._store.read(key, pin, hashing)
                await hashing.flush()
        if hashing.size_bytes != pin.size:
            raise ObjectChanged(
                f"the object had {pin.size:,} bytes when it was listed, and has "
                f"{hashing.size_bytes:,} now"
            )
        self._counters.bytes_read += hashing.size_bytes
        return hashing.finish()

    async def _read_ranges(self, key: Key, pin: Pin, hashing: Hashing) -> None:
        """Reads a few ranges ahead of the one that is being hashed."""
        ahead: deque[asyncio.Task[_Range]] = deque()
        held: set[int] = set()
        try:
            with single_error():
                async with asyncio.TaskGroup() as group:
                    for start in range(0, pin.size, READ_RANGE_BYTES):
                        if len(ahead) == READ_AHEAD_MAX:
                            await self._hash_first(ahead, held, hashing)
                        ahead.append(group.create_task(self._read_range(key, pin, start, held)))
                    while ahead:
                        await self._hash_first(ahead, held, hashing)
        finally:
            for start in held:
                self._budget.give(_range_size(pin, start))

    async def _read_range(self, key: Key, pin: Pin, start: int, held: set[int]) -> _Range:
        size_bytes = _range_size(pin, start)
        await self._budget.take(size_bytes)
        held.add(start)
        part = _Range(start, size_bytes)
        await self._store.read(key, pin, part, start=start, end=start + size_bytes)
        if part.size_bytes != size_bytes:
            raise StoreUnavailable(
                f"the server sent {part.size_bytes:,} bytes where {size_bytes:,} were asked for"
            )
        return part

    async def _hash_first(
        self, ahead: deque[asyncio.Task[_Range]], held: set[int], hashing: Hashing
    ) -> None:
        part = await ahead.popleft()
        for piece in part.pieces:
            await hashing.write(piece)
        await hashing.flush()
        held.discard(part.start)
        self._budget.give(part.size_bytes)


def _range_size(pin: Pin, start: int) -> int:
    return min(READ_RANGE_BYTES, pin.size - start)


class Hashing:
    """A sink that hashes what it gets, in a thread where there is enough of it.

    It takes at most `size_bytes_max`; then it raises `ObjectChanged`.
    """

    def __init__(self, algorithm: str, threads: Threads, size_bytes_max: int) -> None:
        self._algorithm = algorithm
        self._threads = threads
        self._size_bytes_max = size_bytes_max
        self.restart()

    def restart(self) -> None:
        """See `protocols.Sink`."""
        self._hash: Any = new_hash(self._algorithm)
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        """See `protocols.Sink`."""
        self.size_bytes += len(data)
        if self.size_bytes > self._size_bytes_max:
            raise ObjectChanged(
                f"the object has more bytes than the {self._size_bytes_max:,} that it had when it "
                f"was listed"
            )
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= READ_CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hashes what has come until now."""
        pieces, size_bytes = self._pieces, self._waiting_bytes
        self._pieces, self._waiting_bytes = [], 0
        if size_bytes <= HASH_INLINE_BYTES_MAX:
            _update(self._hash, pieces)
        else:
            await self._threads.run(_update, self._hash, pieces)

    def finish(self) -> bytes:
        """The digest of all that was flushed."""
        assert not self._pieces
        return self._hash.digest()  # type: ignore[no-any-return]


class _Range:
    """A sink that keeps one range of an object, and not more of it than was asked for."""

    def __init__(self, start: int, size_bytes_max: int) -> None:
        self.start = start
        self._size_bytes_max = size_bytes_max
        self.restart()

    def restart(self) -> None:
        self.pieces: list[bytes] = []
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > self._size_bytes_max:
            raise IndexerError(
                f"the server sent more than the {self._size_bytes_max:,} bytes that were asked "
                f"for; it does not honour ranges"
            )
        self.pieces.append(data)


def _update(hashing: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        hashing.update(piece)
