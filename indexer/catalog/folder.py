"""The data folder: files that are written once, and the mark of what wrote the folder.

Invariants
  * A file that has its name is whole and on the disk: it is written under another name, flushed,
    renamed, and the folder flushed. Its content never changes.
  * A file that somebody was told is there has a new modification time by then, or is gone: whoever
    collects garbage tells by it what may still be wanted.
  * A folder of a newer format is left as it is.
  * Nobody else can read a folder that was made here (mode 0700).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from indexer.errors import Temporary, UnusableDataFolder
from indexer.limits import DATA_FOLDER_LOCK_POLL_S, DATABASE_BUSY_TIMEOUT_S, TEMPORARY_FILE_AGE_S
from workers.clock import Clock
from workers.threads import Threads

FORMAT: Final = 1
"""The layout of the folder's files; the catalog's own schema has revisions of its own."""

TEMPORARY: Final = ".tmp-"
"""What the name of a file begins with that is being written."""

_MARK: Final = re.compile(r"bucket-indexer data folder, format ([0-9]{1,9})\n")
_SUFFIXES: Final = {"shards": ".parquet", "folders": ".db"}
_NAME: Final = re.compile(r"(?:[a-z0-9][a-z0-9.-]*/)?[a-z0-9][a-z0-9.-]*")


class DataFolder:
    """A folder that is there, can be written, and is of this format."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def database(self) -> Path:
        """Where the catalog's database is, or will be."""
        return self.path / "catalog.db"

    @classmethod
    def prepare(cls, path: Path, now: datetime) -> DataFolder:
        """The folder at `path`, made if need be. Blocks.

        Raises `UnusableDataFolder` when it cannot be made or written, is no folder, or was written
        by a newer version.
        """
        with usable(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_mark(path)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            _sweep(path, now)
        return cls(path)

    @asynccontextmanager
    async def lock(self, clock: Clock) -> AsyncIterator[None]:
        """Holds the folder against every other process that asks for this lock.

        Raises `Temporary` when another one keeps it for `DATABASE_BUSY_TIMEOUT_S`. A process that
        dies lets go of it.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            end_s = clock.monotonic() + DATABASE_BUSY_TIMEOUT_S
            while not _try_lock(descriptor):
                if clock.monotonic() >= end_s:
                    raise Temporary(
                        f"another process has been preparing the data folder {self.path} for more "
                        f"than {DATABASE_BUSY_TIMEOUT_S:.0f} s; try again."
                    )
                await clock.sleep(DATA_FOLDER_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)


class FolderBlobStore:
    """A `BlobStore` of files below `root`, `shards/abcd…` as `shards/ab/abcd….parquet`.

    Raises `UnusableDataFolder` when the disk is full or the folder cannot be written.
    """

    def __init__(self, root: Path, threads: Threads) -> None:
        self._root = root
        self._threads = threads

    async def put(self, name: str, data: bytes) -> None:
        await self._threads.run(self._put, self.path_of(name), data)

    async def get(self, name: str) -> bytes:
        return await self._threads.run(self.path_of(name).read_bytes)

    async def has(self, name: str) -> bool:
        return await self._threads.run(self.path_of(name).exists)

    async def delete(self, name: str) -> None:
        await self._threads.run(self._delete, self.path_of(name))

    async def keep(self, names: Sequence[str]) -> set[str]:
        """Those of the names that are not there; the others are as new as files put just now."""
        return await self._threads.run(self.keep_now, names)

    def keep_now(self, names: Iterable[str]) -> set[str]:
        """What `keep` does, within a call that blocks anyway."""
        with usable(self._root):
            return {name for name in names if not _keep(self.path_of(name))}

    async def settle(self, names: Sequence[str]) -> None:
        """Returns when names that are there will be there after a loss of power, too.

        `put` promises this of what it wrote; what another process is just putting has its name for
        a moment before that.
        """
        folders = {self.path_of(name).parent for name in names}
        above = {folder.parent for folder in folders}
        await self._threads.run(self._flush_folders, sorted(folders | above | {self._root}))

    def path_of(self, name: str) -> Path:
        """The file of a name."""
        assert _NAME.fullmatch(name), name
        kind, _, stem = name.rpartition("/")
        return self._root / kind / stem[:2] / (stem + _SUFFIXES.get(kind, ""))

    def _put(self, path: Path, data: bytes) -> None:
        with usable(self._root):
            if _keep(path):
                return
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._flush_folders([path.parent.parent, self._root])
            write_whole(path, data, temporary=path.parent.parent)

    def _delete(self, path: Path) -> None:
        with usable(self._root):
            path.unlink(missing_ok=True)

    def _flush_folders(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            _flush_folder(folder)


def write_whole(path: Path, data: bytes, *, temporary: Path) -> None:
    """Writes a file that appears under its name whole and for good. Blocks.

    `temporary` is a folder on the same disk, for the file until then.
    """
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=temporary)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    _flush_folder(path.parent)


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turns what the operating system says against a folder into `UnusableDataFolder`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "its disk is full. Free some space, or choose another folder with --data."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = "it cannot be written. Change its permissions, or choose another with --data."
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            why = "it, or what should be a folder above it, is a file. Choose another with --data."
        else:
            why = f"{error.strerror or error}. Choose another one with --data."
        raise UnusableDataFolder(f"the data folder {path} cannot be used: {why}") from error


def _check_mark(folder: Path) -> None:
    mark = folder / "format"
    try:
        text = mark.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        line = f"bucket-indexer data folder, format {FORMAT}\n"
        write_whole(mark, line.encode(), temporary=folder)
        return
    match = _MARK.fullmatch(text)
    if match is None:
        raise UnusableDataFolder(
            f"{folder} is no data folder of the indexer: its file 'format' says something else. "
            f"Choose another one with --data."
        )
    if int(match.group(1)) > FORMAT:
        raise UnusableDataFolder(
            f"the data folder {folder} was written by a newer version of the indexer (its format "
            f"is {match.group(1)}, this version knows {FORMAT}). Upgrade the indexer, or choose "
            f"another folder with --data."
        )


def _sweep(folder: Path, now: datetime) -> None:
    """Removes what processes that were killed have left half written."""
    oldest_s = now.timestamp() - TEMPORARY_FILE_AGE_S
    for place in (folder, *(folder / kind for kind in ("shards", "blobs", "folders", "leases"))):
        with suppress(FileNotFoundError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(TEMPORARY) and entry.stat().st_mtime < oldest_s:
                    Path(entry).unlink(missing_ok=True)


def _keep(path: Path) -> bool:
    """Whether a file is there, which is new from now on. Blocks."""
    try:
        os.utime(path)
        # Who takes files away may have had it in hand: see `garbage.take_away`.
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
