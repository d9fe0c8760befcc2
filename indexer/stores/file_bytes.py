"""The bytes of files, read and hashed in slices of work on threads.

Invariants
  * A file is read while it is what its pin says, by size and modification time of the descriptor
    that it is read by: before the first byte and after the last one. Bytes that nobody may have are
    never taken for its.
  * Never is more in memory than a chunk.
  * A slice of work is short, so that who is cancelled waits for no more than that.
  * A descriptor is closed by whoever lets go of it last, the caller or a slice that outlasted it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby
from threading import Lock

from indexer.checksums import BYTES_PER_S, new_hash
from indexer.errors import IndexerError, ObjectChanged, StoreUnavailable
from indexer.file_copy import WriteFailed, copy_some
from indexer.keyspace import Key
from indexer.limits import (
    HANDED_ON_BYTES_MAX,
    HASH_BATCH_BYTES_MAX,
    HASH_BATCH_FILES_MAX,
    HASH_CHUNK_BYTES,
    HASH_LONG_S_MIN,
    HASH_SLICE_BYTES_MAX,
)
from indexer.objects import Pin
from indexer.sources import uri_below
from indexer.stores.file_errors import translation
from indexer.stores.file_root import Folder, Root

_INT64 = 1 << 63


def mtime_ns_of(said: os.stat_result) -> int:
    """When a file was modified. Times beyond the year 2262, which rows cannot hold, are that."""
    return max(-_INT64, min(said.st_mtime_ns, _INT64 - 1))


class Sliced(ABC):
    """Work that goes on in slices, one at a time, each on some thread, and holds a descriptor."""

    def __init__(self) -> None:
        self.is_done = False
        self._fd: int | None = None
        self._busy = Lock()
        self._is_let_go = False

    def go_on(self) -> bytes:
        """Does a slice, and gives what was read for the caller."""
        try:
            with self._busy:
                return b"" if self._is_let_go else self._slice()
        finally:
            # `let_go` may have come while the slice held the lock; then this is the last to leave.
            if self._is_let_go:
                self.let_go()

    def let_go(self) -> None:
        """Closes what is open, now or when the slice under way is done. Never waits."""
        self._is_let_go = True
        if self._busy.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._busy.release()

    @abstractmethod
    def _slice(self) -> bytes:
        """Does some of the work; sets `is_done` when that was all."""

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class FileReading(Sliced):
    """Reads bytes `start` up to (not with) `end` of a file, a chunk a slice.

    Raises `OSError`, `ObjectChanged`, and `StoreUnavailable` for a file that ends early.
    """

    def __init__(
        self, root: Root, key: Key, pin: Pin, uri: str, *, start: int, end: int | None
    ) -> None:
        super().__init__()
        self._root = root
        self._key = key
        self._pin = pin
        self._uri = uri
        self._place = start
        self._end = pin.size if end is None else min(end, pin.size)

    def _slice(self) -> bytes:
        if self._fd is None:
            folder, name = split_key(self._key)
            with self._root.open_folder(folder) as here:
                self._fd, said = self._root.open_file(here, name)
            if not _is_as(self._pin, said):
                raise _changed(self._uri)
        size_bytes = min(HANDED_ON_BYTES_MAX, self._end - self._place)
        data = os.pread(self._fd, size_bytes, self._place) if size_bytes > 0 else b""
        self._place += len(data)
        if self._place >= self._end or not data:
            if not _is_as(self._pin, os.fstat(self._fd)):
                raise _changed(self._uri)
            if self._place < self._end:
                raise _ended_early(self._uri)
            self.is_done = True
        return data


class FileCopying(Sliced):
    """Copies a file into an open one, a good piece a slice; as a clone where both can share blocks.

    Raises as `FileReading` does. Where the open one cannot be written, `failure` says why.
    """

    def __init__(self, root: Root, key: Key, pin: Pin, uri: str, target: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self._root = root
        self._key = key
        self._pin = pin
        self._uri = uri
        self._target = target
        self._place = 0

    def _slice(self) -> bytes:
        if self._fd is None:
            folder, name = split_key(self._key)
            with self._root.open_folder(folder) as here:
                self._fd, said = self._root.open_file(here, name)
            if not _is_as(self._pin, said):
                raise _changed(self._uri)
        room = HASH_SLICE_BYTES_MAX
        while self._place < self._pin.size and room > 0:
            left = min(room, self._pin.size - self._place)
            try:
                copied = copy_some(self._fd, self._target, self._place, left)
            except WriteFailed as error:
                self.failure = error
                return b""
            if not copied:
                break
            self._place += copied
            room -= copied
        if room > 0:
            if not _is_as(self._pin, os.fstat(self._fd)):
                raise _changed(self._uri)
            if self._place < self._pin.size:
                raise _ended_early(self._uri)
            self.is_done = True
        return b""


class FileHashing(Sliced):
    """Digests files one after the other; `found` has a digest, or an error, of each so far."""

    def __init__(
        self, root: Root, folder: str, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> None:
        super().__init__()
        self.found: list[bytes | IndexerError] = []
        self._root = root
        self._uri = folder
        self._objects = objects
        self._algorithm = algorithm
        self._hash = new_hash(algorithm)
        self._place = 0
        self._room = 0
        self._buffer = memoryview(b"")

        self._size_bytes = sum(pin.size for _, pin in objects)

    @property
    def is_full(self) -> bool:
        """Whether this is as much to do as most batches are."""
        is_long = 2 * self._size_bytes >= HASH_BATCH_BYTES_MAX
        return is_long or len(self._objects) == HASH_BATCH_FILES_MAX

    @property
    def is_of_long_files(self) -> bool:
        """Whether hashing takes longer than what is done around it, file by file."""
        takes_s = self._size_bytes / BYTES_PER_S[self._algorithm]
        return takes_s >= HASH_LONG_S_MIN * len(self._objects)

    def _slice(self) -> bytes:
        self._room = HASH_SLICE_BYTES_MAX
        self._buffer = memoryview(bytearray(HASH_CHUNK_BYTES))
        if self._fd is not None:
            self._hash_on()
        for folder, some in groupby(self._objects[len(self.found) :], _folder_of):
            if self._room <= 0:
                return b""
            self._hash_in(folder, [key for key, _ in some])
        self.is_done = len(self.found) == len(self._objects)
        return b""

    def _hash_in(self, folder: bytes, keys: Sequence[Key]) -> None:
        before = len(self.found)
        try:
            with self._root.open_folder(folder) as here:
                for key in keys:
                    if self._room <= 0:
                        return
                    self._begin(here, key)
        except OSError as error:
            # The folder's: those of files are told of each of them.
            rest = keys[len(self.found) - before :]
            self.found += [translation(error, uri_below(self._uri, key)) for key in rest]

    def _begin(self, here: Folder, key: Key) -> None:
        _, pin = self._objects[len(self.found)]
        try:
            self._fd, said = self._root.open_file(here, split_key(key)[1])
            if not _is_as(pin, said):
                raise _changed(uri_below(self._uri, key))
        except (OSError, IndexerError) as error:
            self._end(error)
        else:
            self._hash = new_hash(self._algorithm)
            self._place = 0
            self._hash_on()

    def _hash_on(self) -> None:
        """Hashes the open file to its end, or as far as this slice may go."""
        key, pin = self._objects[len(self.found)]
        assert self._fd is not None
        try:
            while self._place < pin.size:
                if self._room <= 0:
                    return
                count = os.readv(self._fd, [self._buffer])
                if not count:
                    break
                self._hash.update(self._buffer[:count])
                self._place += count
                self._room -= count
            if not _is_as(pin, os.fstat(self._fd)):
                raise _changed(uri_below(self._uri, key))
            if self._place != pin.size:
                raise _ended_early(uri_below(self._uri, key))
        except (OSError, IndexerError) as error:
            self._end(error)
        else:
            self._end(self._hash.digest())

    def _end(self, found: bytes | OSError | IndexerError) -> None:
        if isinstance(found, OSError):
            found = translation(found, uri_below(self._uri, self._objects[len(self.found)][0]))
        self.found.append(found)
        self._close()


def hash_batches(objects: Sequence[tuple[Key, Pin]]) -> Iterator[Sequence[tuple[Key, Pin]]]:
    """The objects, in order, in batches that are each worth a thread's while."""
    start, size_bytes = 0, 0
    for place, (_, pin) in enumerate(objects):
        is_full = place - start >= HASH_BATCH_FILES_MAX
        if place > start and (is_full or size_bytes + pin.size > HASH_BATCH_BYTES_MAX):
            yield objects[start:place]
            start, size_bytes = place, 0
        size_bytes += pin.size
    if start < len(objects):
        yield objects[start:]


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """The folder of a key, with its slash, and the name in there."""
    folder, slash, name = key.rpartition(b"/")
    return folder + slash, name


def _folder_of(each: tuple[Key, Pin]) -> bytes:
    return split_key(each[0])[0]


def _is_as(pin: Pin, said: os.stat_result) -> bool:
    return said.st_size == pin.size and pin.mtime_ns in {None, mtime_ns_of(said)}


def _changed(uri: str) -> ObjectChanged:
    return ObjectChanged(f"{uri} was written since it was listed.")


def _ended_early(uri: str) -> StoreUnavailable:
    return StoreUnavailable(f"{uri}: the file ended before its last byte was read. Try again.")
