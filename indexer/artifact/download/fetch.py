"""fetch: one object becomes one file, whole, verified and under its name.

    small      held in memory, written together with others
    copied     by the store itself, from file to file
    ranged     several ranges at once, gone on with where they were (see `part`)
    streamed   as it comes, from the first byte

Invariants
  * What becomes a file was read under the entry's pin, has its size and, where a checksum of its
    bytes was recorded, has that: computed of what was written.
  * Of all objects together, not more is in memory than the budget.
  * What is wrong with an object is an outcome; what is wrong with the target raises.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, cast

from indexer.artifact.download.cache import Cache
from indexer.artifact.download.part import Part
from indexer.artifact.download.sameness import is_lasting, provable, verifiable
from indexer.artifact.download.target import Target, Wanted
from indexer.artifact.found import Finding, recorded_identity
from indexer.artifact.originals import Originals
from indexer.artifact.recorded import InMemory
from indexer.checksums import Hash, new_hash
from indexer.errors import ObjectChanged
from indexer.file_copy import write_all
from indexer.keyspace import Key
from indexer.limits import (
    DOWNLOAD_BYTES_MAX,
    DOWNLOAD_RANGE_BYTES,
    DOWNLOAD_RANGES_MAX,
    DOWNLOAD_SMALL_BYTES_MAX,
    DOWNLOAD_WRITE_BYTES,
    HASH_CHUNK_BYTES,
    HASH_SLICE_BYTES_MAX,
)
from indexer.objects import Checksum
from indexer.protocols import Copying, Store
from indexer.telemetry import Counters
from workers.budget import Budget
from workers.pool import Pool
from workers.threads import Threads

Outcome = Finding | None
"""What is wrong with an object; None if its file is there."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What fetching takes: where to, from where, and on what."""

    target: Target
    originals: Originals
    threads: Threads
    counters: Counters
    cache: Cache | None = None


class Fetcher:
    """Fetches objects of one version into one target."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._budget = Budget(DOWNLOAD_BYTES_MAX)
        self._writer = _Writer(desk)

    async def fetch(self, wanted: Wanted) -> Outcome:
        """Makes the file of an entry. Raises what the store and the target raise."""
        store, key = await self._desk.originals.place(wanted.original)
        if wanted.size <= DOWNLOAD_SMALL_BYTES_MAX:
            return await self._fetch_small(wanted, store, key)
        try:
            if store.properties.copies:
                return await self._copy(wanted, store, key)
            has_ranges = store.properties.ranges and wanted.original.pin.tells_state
            if has_ranges and wanted.content is not None and wanted.size > DOWNLOAD_RANGE_BYTES:
                return await self._fetch_ranges(wanted, store, key)
            return await self._stream(wanted, store, key)
        except OSError as error:
            raise self._desk.target.failed(error) from error

    async def hand_out(self, wanted: Wanted) -> bool:
        """Makes the file of an entry from the cache; False if it is not there any more."""
        return await self._desk.threads.run(self._hand_out, wanted)

    async def check(self, wanted: Wanted) -> bool:
        """Whether the file that is there has the entry's bytes. It is read for that."""
        checksum = provable(wanted.original)
        assert checksum is not None
        try:
            fd = await self._desk.threads.run(self._desk.target.open_file, wanted)
        except OSError:
            return False
        try:
            hashing = FileHash(self._desk.threads, fd, checksum)
            await hashing.go_on(wanted.size)
            is_right = hashing.digest() == checksum.value
            if is_right:
                said = os.fstat(fd)
                await self._desk.threads.run(self._desk.target.learn, [(wanted, said)])
            return is_right
        except OSError:
            return False
        finally:
            os.close(fd)

    # --- ways to fetch

    async def _fetch_small(self, wanted: Wanted, store: Store, key: Key) -> Outcome:
        async with self._budget.hold(max(1, wanted.size)):
            body = InMemory(wanted.size)
            await store.read(key, wanted.original.pin, body)
            if body.size_bytes != wanted.size:
                raise _other_size(wanted, body.size_bytes)
            self._desk.counters.bytes_read += wanted.size
            return await self._writer.write(wanted, body.pieces)

    async def _copy(self, wanted: Wanted, store: Store, key: Key) -> Outcome:
        async with _NewPart(self._desk) as part:
            await cast("Copying", store).copy(key, wanted.original.pin, part.fd)
            self._desk.counters.bytes_read += wanted.size
            return await self._finish(wanted, part.name, part.fd, None)

    async def _stream(self, wanted: Wanted, store: Store, key: Key) -> Outcome:
        async with self._budget.hold(2 * DOWNLOAD_WRITE_BYTES), _NewPart(self._desk) as part:
            sink = _FileSink(self._desk, part.fd, 0, wanted.size)
            await store.read(key, wanted.original.pin, sink)
            await sink.flush()
            if sink.size_bytes != wanted.size:
                raise _other_size(wanted, sink.size_bytes)
            return await self._finish(wanted, part.name, part.fd, None)

    async def _fetch_ranges(self, wanted: Wanted, store: Store, key: Key) -> Outcome:
        part = await self._desk.threads.run(Part, self._desk.target, wanted)
        try:
            outcome = await self._go_on(wanted, part, store, key)
            if outcome is not None and outcome.kind == "changed" and part.was_begun:
                # What was there is not what it was taken for.
                await self._desk.threads.run(part.begin_anew)
                outcome = await self._go_on(wanted, part, store, key)
            if outcome is not None:
                part.remove()
            return outcome
        except ObjectChanged:
            part.remove()
            raise
        finally:
            part.close()

    async def _go_on(self, wanted: Wanted, part: Part, store: Store, key: Key) -> Outcome:
        """Fetches the ranges that are not done, and hashes behind them, in order."""
        checksum = verifiable(wanted.original)
        hashing = None if checksum is None else FileHash(self._desk.threads, part.fd, checksum)
        turn = asyncio.Lock()

        async def fetch(start: int) -> None:
            end = part.end_of(start)
            async with self._budget.hold(2 * DOWNLOAD_WRITE_BYTES):
                sink = _FileSink(self._desk, part.fd, start, end - start)
                await store.read(key, wanted.original.pin, sink, start=start, end=end)
                await sink.flush()
            if sink.size_bytes != end - start:
                raise _other_size(wanted, start + sink.size_bytes)
            await self._desk.threads.run(part.mark, start)
            if hashing is not None:
                async with turn:
                    await hashing.go_on(_frontier(part, hashing.place))

        async with Pool(DOWNLOAD_RANGES_MAX) as pool:
            for start in [start for start in part.ranges if start not in part.done]:
                await pool.submit(fetch, start)
        return await self._finish(wanted, part.name, part.fd, hashing, part=part)

    async def _finish(
        self,
        wanted: Wanted,
        name: bytes,
        fd: int,
        hashing: FileHash | None,
        *,
        part: Part | None = None,
    ) -> Outcome:
        """Verifies what was written, and moves it to where it belongs."""
        checksum = verifiable(wanted.original)
        if checksum is not None:
            hashing = hashing or FileHash(self._desk.threads, fd, checksum)
            await hashing.go_on(wanted.size)
            if (digest := hashing.digest()) != checksum.value:
                return _mismatch(wanted, checksum, digest)
        return await self._desk.threads.run(self._move, wanted, name, fd, part)

    def _move(self, wanted: Wanted, name: bytes, fd: int, part: Part | None) -> Outcome:
        keep(self._desk.cache, self._desk.target, wanted, name)
        (why,) = self._desk.target.finish([(wanted, name, os.fstat(fd))])
        if part is not None:
            part.forget_record()
        return None if why is None else blocked(wanted, why)

    def _hand_out(self, wanted: Wanted) -> bool:
        target, cache = self._desk.target, self._desk.cache
        assert cache is not None
        assert wanted.content is not None
        name = target.new_name()
        said = cache.hand_out(wanted.content, wanted.size, name, target.parts)
        if said is None:
            return False
        (why,) = target.finish([(wanted, name, said)])
        return why is None


def keep(cache: Cache | None, target: Target, wanted: Wanted, name: bytes) -> None:
    """Keeps the bytes of a part that is whole, if they are worth it."""
    if cache is not None and wanted.content is not None and is_lasting(wanted.original):
        cache.put(wanted.content, wanted.size, name, target.parts)


def blocked(wanted: Wanted, why: str) -> Finding:
    """An object whose file cannot lie where it should."""
    recorded = recorded_identity(wanted.original)
    return Finding("failed", wanted.uri, recorded, None, f"{wanted.uri}: {why}.")


def _mismatch(wanted: Wanted, checksum: Checksum, digest: bytes) -> Finding:
    found = f"{checksum.algorithm} {digest.hex()}"
    recorded = recorded_identity(wanted.original)
    return Finding(
        "changed",
        wanted.uri,
        recorded,
        found,
        f"{wanted.uri}: the object has other bytes: {recorded} was recorded, and what was sent has "
        f"the {found}.",
    )


def _other_size(wanted: Wanted, size: int) -> ObjectChanged:
    return ObjectChanged(
        f"{wanted.uri}: the object has {size:,} bytes, and had {wanted.size:,} when it was "
        f"recorded."
    )


def _frontier(part: Part, place: int) -> int:
    """Up to where all ranges are done, from a place on that begins one or ends the last."""
    while place in part.done:
        place = part.end_of(place)
    return place


class FileHash:
    """The checksum of the first bytes of a file, hashed on threads as far as they are there."""

    def __init__(self, threads: Threads, fd: int, checksum: Checksum) -> None:
        self.place = 0
        self._threads = threads
        self._fd = fd
        self._hash: Hash = new_hash(checksum.algorithm)

    async def go_on(self, end: int) -> None:
        """Hashes up to `end`. Raises `OSError`."""
        while self.place < end:
            stop = min(end, self.place + HASH_SLICE_BYTES_MAX)
            await self._threads.run(self._hash_up_to, stop)

    def digest(self) -> bytes:
        """Of what was hashed."""
        return self._hash.digest()

    def _hash_up_to(self, end: int) -> None:
        buffer = memoryview(bytearray(min(HASH_CHUNK_BYTES, end - self.place)))
        while self.place < end:
            count = os.preadv(self._fd, [buffer[: end - self.place]], self.place)
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._hash.update(buffer[:count])
            self.place += count


class _Writer:
    """Writes small objects, all that have come while others were written in one go of a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: list[tuple[Wanted, Sequence[bytes], asyncio.Future[Outcome]]] = []
        self._turn = asyncio.Lock()

    async def write(self, wanted: Wanted, pieces: Sequence[bytes]) -> Outcome:
        """Returns when the object is a file."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, pieces, done))
        async with self._turn:
            if not done.done():
                await self._write_waiting()
        return done.result()

    async def _write_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        bodies = [(wanted, pieces) for wanted, pieces, _ in batch]
        try:
            outcomes = await self._desk.threads.run(_write_bodies, self._desk, bodies)
        except BaseException:
            for _, _, done in batch:
                done.cancel()
            raise
        for (_, _, done), outcome in zip(batch, outcomes, strict=True):
            done.set_result(outcome)


def _write_bodies(desk: Desk, bodies: Sequence[tuple[Wanted, Sequence[bytes]]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    parts: list[tuple[Wanted, bytes, os.stat_result]] = []
    try:
        for wanted, pieces in bodies:
            outcome = _verified(wanted, pieces)
            outcomes.append(outcome)
            if outcome is None:
                parts.append(_written(desk, wanted, pieces))
    except OSError as error:
        raise desk.target.failed(error) from error
    moved = iter(desk.target.finish(parts))
    for place, (wanted, _) in enumerate(bodies):
        if outcomes[place] is None and (why := next(moved)) is not None:
            outcomes[place] = blocked(wanted, why)
    return outcomes


def _verified(wanted: Wanted, pieces: Sequence[bytes]) -> Outcome:
    checksum = verifiable(wanted.original)
    if checksum is None:
        return None
    hashing = new_hash(checksum.algorithm)
    for piece in pieces:
        hashing.update(piece)
    digest = hashing.digest()
    return None if digest == checksum.value else _mismatch(wanted, checksum, digest)


def _written(
    desk: Desk, wanted: Wanted, pieces: Sequence[bytes]
) -> tuple[Wanted, bytes, os.stat_result]:
    name, fd = desk.target.new_part()
    try:
        place = 0
        for piece in pieces:
            write_all(fd, piece, place)
            place += len(piece)
        keep(desk.cache, desk.target, wanted, name)
        return wanted, name, os.fstat(fd)
    finally:
        os.close(fd)


class _NewPart:
    """A new file among the parts, which is removed unless it was moved away."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __aenter__(self) -> Self:
        self.name, self.fd = await self._desk.threads.run(self._desk.target.new_part)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self.fd)
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self._desk.target.parts)


class _FileSink:
    """A sink that writes into a part of a file, not beyond it. See `protocols.Sink`."""

    def __init__(self, desk: Desk, fd: int, start: int, size_bytes_max: int) -> None:
        self._desk = desk
        self._fd = fd
        self._start = start
        self._size_bytes_max = size_bytes_max
        self.restart()

    def restart(self) -> None:
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > self._size_bytes_max:
            raise ObjectChanged("the object has more bytes than it had when it was recorded")
        self._desk.counters.bytes_read += len(data)
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= DOWNLOAD_WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Writes what has come until now."""
        pieces, size_bytes = self._pieces, self._waiting_bytes
        self._pieces, self._waiting_bytes = [], 0
        if size_bytes:
            place = self._start + self.size_bytes - size_bytes
            await self._desk.threads.run(_write_pieces, self._fd, pieces, place)


def _write_pieces(fd: int, pieces: Sequence[bytes], place: int) -> None:
    for piece in pieces:
        write_all(fd, piece, place)
        place += len(piece)
