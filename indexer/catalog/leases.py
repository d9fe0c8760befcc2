"""Leases: which jobs are writing to a data folder just now, in whatever processes.

    DIR/leases/6f…     one a job; its modification time is when the job began

Invariants
  * A lease that can be seen is locked by its process, or the process is dead: it is locked before
    it gets its name, and an operating system lets go of the locks of the dead.
  * Whatever a job puts, or is told is there, is newer than its lease.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from indexer.catalog.folder import TEMPORARY, usable

_NAME: Final = re.compile(r"[0-9a-f]{32}")


class Leases:
    """The leases on a data folder. Everything here blocks, for some 100 µs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "leases"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps what the block puts, or is told is there, until it is left.

        Raises `UnusableDataFolder`.
        """
        path = self._folder / uuid4().hex
        with usable(self._root):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=self._folder)
        try:
            with usable(self._root):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                Path(name).rename(path)
            yield
        finally:
            for each in (Path(name), path):
                each.unlink(missing_ok=True)
            os.close(descriptor)

    def oldest_ns(self) -> int | None:
        """When the oldest lease that is held was taken, by the file system's clock.

        None where none is held.
        """
        found = [_taken_ns(path) for path in self._paths()]
        return min((taken_ns for taken_ns in found if taken_ns is not None), default=None)

    def remove_dead(self) -> None:
        """Removes the leases of processes that were killed."""
        for path in self._paths():
            if _taken_ns(path) is None:
                path.unlink(missing_ok=True)

    def now_ns(self) -> int:
        """The time by the clock that files are given their times by."""
        with usable(self._root), tempfile.TemporaryFile(dir=self._root) as file:
            return os.fstat(file.fileno()).st_mtime_ns

    def _paths(self) -> list[Path]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            return [Path(entry) for entry in entries if _NAME.fullmatch(entry.name)]
        return []


def _taken_ns(path: Path) -> int | None:
    """When a lease was taken; None for one that nobody holds."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        # A shared lock, so that two who look do not take each other for a job.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
    return None
