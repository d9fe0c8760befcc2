"""cache: the bytes of objects that were downloaded, kept by content for the next download.

Invariants
  * A file is in there whole and under the key of its bytes, or not at all.
  * It is the file that was put there if its size is right and its modification time has a mark made
    of the key below the second: whoever writes into it, as through a hard link, takes the mark off.
  * It is kept below its bound when a download ends; what was used longest ago goes first.
  * Everything here blocks, and belongs on a thread. What fails is a miss: a cache is never needed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Literal

from indexer.file_copy import copy_some
from indexer.limits import CACHE_BYTES_MAX_DEFAULT, CACHE_OBJECT_SHARE

CacheMode = Literal["copy", "link", "off"]

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Where the cache is, and how files are had of it.

    `copy` clones them where the file system can, and copies them elsewhere; `link` gives the very
    file a second name, and takes the right to write to it away.
    """

    folder: Path
    mode: CacheMode = "copy"
    bytes_max: int = CACHE_BYTES_MAX_DEFAULT

    def opened(self) -> Cache | None:
        """The cache; None if there is to be none, or it cannot be."""
        if self.mode == "off" or not self.bytes_max:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            return None
        return Cache(self)


class Cache:
    """An open cache. Several processes may use it at once."""

    def __init__(self, options: CacheOptions) -> None:
        self._folder = options.folder
        self._is_linked = options.mode == "link"
        self._bytes_max = options.bytes_max
        self._put_bytes = 0
        self._names = count()

    def has(self, key: bytes, size: int) -> bool:
        """Whether the bytes of that key are there."""
        try:
            return _is_whole(self._place(key).lstat(), key, size)
        except OSError:
            return False

    def hand_out(self, key: bytes, size: int, name: bytes, folder: int) -> os.stat_result | None:
        """Makes a new file of these bytes, of that name in an open folder; None if it cannot."""
        try:
            with _opened(self._place(key), os.O_RDONLY) as fd:
                if not _is_whole(said := os.fstat(fd), key, size):
                    return None
                # Used just now; the mark stays.
                os.utime(fd, ns=(time.time_ns(), said.st_mtime_ns))
                if self._is_linked and _link(self._place(key), name, folder):
                    return os.fstat(fd)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with _opened(name, flags, folder) as target:
                    _copy(fd, target, size)
                    return os.fstat(target)
        except OSError:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            return None

    def put(self, key: bytes, size: int, name: bytes, folder: int) -> None:
        """Keeps the bytes of the file of that name in an open folder, if there is room."""
        if size > self._bytes_max // CACHE_OBJECT_SHARE or self._put_bytes + size > self._bytes_max:
            return
        place = self._place(key)
        new = place.with_name(f"{place.name}.{os.getpid()}-{next(self._names)}")
        try:
            if self.has(key, size):
                return
            place.parent.mkdir(exist_ok=True)
            with _opened(name, os.O_RDONLY | os.O_NOFOLLOW, folder) as fd:
                if not (self._is_linked and _link(name, new, folder, is_from=True)):
                    with _opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as target:
                        _copy(fd, target, size)
            # Of a linked file this is the file's own time and right, in its folder too.
            now_ns = time.time_ns()
            new.chmod(0o444)
            os.utime(new, ns=(now_ns, now_ns - now_ns % _NS + _mark(key)))
            new.replace(place)
            self._put_bytes += size
        except OSError:
            with suppress(OSError):
                new.unlink()

    def close(self) -> None:
        """Removes what is too much."""
        if not self._put_bytes:
            return
        with suppress(OSError):
            files = sorted(self._files())
            room = self._bytes_max - sum(size for _, size, _ in files)
            for _, size, path in files:
                if room >= 0:
                    break
                with suppress(OSError):
                    Path(path).unlink()
                    room += size

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """When each was used last, its size and path."""
        with os.scandir(self._folder) as folders:
            for folder in folders:
                if not folder.is_dir(follow_symlinks=False):
                    continue
                with os.scandir(folder.path) as files:
                    for file in files:
                        with suppress(OSError):
                            said = file.stat(follow_symlinks=False)
                            yield said.st_atime_ns, said.st_size, file.path

    def _place(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[:2] / name


def _copy(source: int, target: int, size: int) -> None:
    """Copies so many bytes of one open file to another. Raises `OSError`."""
    done = 0
    while done < size:
        copied = copy_some(source, target, done, size - done)
        if not copied:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        done += copied


def _link(source: bytes | Path, name: bytes | Path, folder: int, *, is_from: bool = False) -> bool:
    """Gives a file a second name; False where it can have none, as on another file system."""
    try:
        if is_from:
            os.link(source, name, src_dir_fd=folder, follow_symlinks=False)
        else:
            os.link(source, name, dst_dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


@contextmanager
def _opened(path: bytes | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_whole(said: os.stat_result, key: bytes, size: int) -> bool:
    is_ours = stat.S_ISREG(said.st_mode) and said.st_mtime_ns % _NS == _mark(key)
    return is_ours and said.st_size == size


def _mark(key: bytes) -> int:
    """The part of a second that a file's time has while it holds what was put there."""
    return 1 + int.from_bytes(key[:8], "big") % (_NS - 1)
