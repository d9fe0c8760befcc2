"""target_state: what a folder that was downloaded into remembers of its files.

Invariants
  * A file is taken for an entry's without being read only while it is the file that was written:
    the same inode, size and modification time.
  * It may be lost or damaged at any time: then files are read, or fetched again, and nothing else.
  * One process has it at a time; who has it holds the folder's lock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORMAT: Final = 1
_NAMES: Final = ("state.sqlite", "state.sqlite-wal", "state.sqlite-journal", "state.sqlite-shm")
_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS files (
        path BLOB PRIMARY KEY, content BLOB, size INTEGER, mtime_ns INTEGER, inode INTEGER
    ) WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS places (folded TEXT PRIMARY KEY, path BLOB) WITHOUT ROWID",
    f"PRAGMA user_version = {FORMAT}",
)


@dataclass(frozen=True, slots=True)
class Known:
    """What a file was when it was found to be right. `content` is the key of what it holds."""

    content: bytes
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, content: bytes, said: os.stat_result) -> Known:
        """What is known of a file of which the system says this."""
        return cls(content, said.st_size, said.st_mtime_ns, said.st_ino)


class TargetState:
    """The state in a folder of ours. Blocking; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = self._open()

    def close(self) -> None:
        """Closes the file."""
        with suppress(sqlite3.Error):
            self._database.close()

    def known(self, paths: Sequence[bytes]) -> Mapping[bytes, Known]:
        """What is known of the files of entries, of which the paths ascend."""
        found: dict[bytes, Known] = {}
        with self._guarded():
            rows = self._database.execute(
                "SELECT * FROM files WHERE path BETWEEN ? AND ?", (paths[0], paths[-1])
            )
            wanted = set(paths)
            found |= {path: Known(*rest) for path, *rest in rows if path in wanted}
        return found

    def learn(self, files: Iterable[tuple[bytes, Known]]) -> None:
        """Remembers files that are right."""
        rows = [
            (path, one.content, one.size, _signed(one.mtime_ns), _signed(one.inode))
            for path, one in files
        ]
        if not rows:
            return
        with self._guarded(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    # --- where a file system takes two names for one

    def owner(self, folded: str) -> tuple[bool, bytes | None]:
        """Whether something lies there, and if that is an entry's file, the entry's path."""
        row = None
        with self._guarded():
            row = self._database.execute(
                "SELECT path FROM places WHERE folded = ?", (folded,)
            ).fetchone()
        return row is not None, None if row is None else row[0]

    def take(self, places: Iterable[tuple[str, bytes | None]]) -> None:
        """Remembers what lies where: the path of an entry for its file, None for a folder."""
        with self._guarded(), self._database:
            self._database.executemany("INSERT OR IGNORE INTO places VALUES (?, ?)", places)

    # --- the file

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Begins anew where what is there cannot be read."""
        try:
            yield
        except sqlite3.DatabaseError:
            self.close()
            self._remove()
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                return self._opened()
            except (sqlite3.Error, OSError):
                self._remove()
        # On a full disk, say: then nothing is remembered beyond this download.
        return _prepared(sqlite3.connect(":memory:", check_same_thread=False))

    def _opened(self) -> sqlite3.Connection:
        for name in _NAMES:
            # SQLite would follow it, out of the folder.
            if (self._folder / name).is_symlink():
                (self._folder / name).unlink()
        database = sqlite3.connect(self._folder / _NAMES[0], check_same_thread=False)
        try:
            # Alone, it needs no memory that is shared through a file, which not every file system
            # can do; and a commit need not reach the disk, only come before those after it.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise sqlite3.DatabaseError
            return _prepared(database)
        except BaseException:
            database.close()
            raise

    def _remove(self) -> None:
        for name in _NAMES:
            with suppress(OSError):
                (self._folder / name).unlink()


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    for statement in _TABLES:
        database.execute(statement)
    database.commit()
    return database


def _signed(number: int) -> int:
    """A number of 64 bits as SQLite holds it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
