"""The catalog's database: one SQLite file, one writer a process, any number of processes.

Invariants
  * Everything special to SQLite stands in this module.
  * A write is one `BEGIN IMMEDIATE` transaction: what it reads cannot change before it commits. A
    read sees one moment and waits for nobody (WAL).
  * A commit is on the disk when it returns, also if the power fails then: `synchronous=FULL`
    flushes the log at every commit, where NORMAL would lose the last ones. A snapshot commits once,
    so the one flush (some milliseconds) is not felt.
  * A database of a newer version is not written to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from indexer.catalog.folder import DataFolder
from indexer.catalog.schema import REVISION
from indexer.errors import IndexerError, Temporary, UnusableDataFolder
from indexer.limits import DATABASE_BUSY_TIMEOUT_S, DATABASE_READERS_MAX
from workers.clock import Clock
from workers.threads import Threads

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"
_BEGIN_OPTION: Final = "indexer_begin"
_MIGRATIONS: Final = Path(__file__).with_name("migrations")


class Database:
    """Transactions on the catalog, each a function of a `Connection` that runs on a thread.

    Such a function may not await, and may be run again only by its caller. Raises `Temporary` when
    another process holds the database too long, `UnusableDataFolder` when the disk is full, the
    file is damaged or cannot be written.
    """

    def __init__(self, path: Path, engine: Engine, writer: Threads, readers: Threads) -> None:
        self._path = path
        self._engine = engine
        self._writer = writer
        self._readers = readers

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: DataFolder, clock: Clock) -> AsyncIterator[Database]:
        """The folder's database, made or brought up to date if need be."""
        engine = _engine(folder.database)
        async with Threads(1) as writer, Threads(DATABASE_READERS_MAX) as readers:
            database = cls(folder.database, engine, writer, readers)
            try:
                if await writer.run(database._revision) != REVISION:
                    async with folder.lock(clock):
                        await writer.run(database._upgrade)
                yield database
            finally:
                await writer.run(engine.dispose)

    async def read(
        self, function: Callable[[Connection, *Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """The function's answer, of one moment of the database."""
        return await self._readers.run(self._transact, _READ, function, *arguments)

    async def write(
        self, function: Callable[[Connection, *Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """The function's answer after its transaction was committed.

        If the function raises, nothing was written. If the caller is cancelled, all was or nothing.
        """
        return await self._writer.run(self._transact, _WRITE, function, *arguments)

    def _transact(
        self,
        begin: str,
        function: Callable[[Connection, *Arguments], Result],
        *arguments: *Arguments,
    ) -> Result:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**{_BEGIN_OPTION: begin})
                with connection.begin():
                    return function(connection, *arguments)
        except DBAPIError as error:
            _raise_translated(error, self._path)
            raise

    def _revision(self) -> str | None:
        """The revision of the schema that is there; None when there is no catalog yet."""
        if not self._path.exists() or not self._path.stat().st_size:
            return None
        try:
            return self._transact(_READ, _read_revision)
        except OperationalError as error:
            if "no such table" in str(error.orig):
                return None
            raise

    def _upgrade(self) -> None:
        """Makes the tables, or changes them to this version's. The caller holds the folder."""
        # Alembic takes as long to import as all else together; only a new catalog needs it.
        from alembic.util import CommandError

        revision = self._revision()
        if revision == REVISION:
            return
        try:
            if revision is None:
                _use_wal(self._path)
            self._transact(_WRITE, _migrate)
        except sqlite3.Error as error:
            _raise_translated_sqlite(error, self._path)
            raise
        except CommandError as error:
            raise UnusableDataFolder(
                f"the catalog {self._path} was written by a newer version of the indexer (its "
                f"revision is {revision}, this version knows {REVISION}). Upgrade the indexer, or "
                f"choose another folder with --data."
            ) from error


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # Without an isolation level the driver opens no transactions of its own.
        connect_args={"timeout": DATABASE_BUSY_TIMEOUT_S, "isolation_level": None},
        pool_size=DATABASE_READERS_MAX + 1,
        max_overflow=0,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()[_BEGIN_OPTION])


def _use_wal(path: Path) -> None:
    """Turns an empty file into a database with a write-ahead log, which it keeps from then on."""
    with closing(sqlite3.connect(path, timeout=DATABASE_BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _read_revision(connection: Connection) -> str | None:
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _raise_translated(error: DBAPIError, path: Path) -> None:
    if isinstance(error.orig, sqlite3.Error):
        _raise_translated_sqlite(error.orig, path)


def _raise_translated_sqlite(error: sqlite3.Error, path: Path) -> None:
    """Raises what the user should be told of a failure of SQLite; others it leaves alone."""
    name: str = getattr(error, "sqlite_errorname", "")
    for start, kind, words in _FAILURES:
        if name.startswith(start):
            raise kind(f"the catalog {path} {words}") from error


_FAILURES: Final[tuple[tuple[str, type[IndexerError], str], ...]] = (
    (
        "SQLITE_BUSY",
        Temporary,
        f"has been held by another process for {DATABASE_BUSY_TIMEOUT_S:.0f} s; try again.",
    ),
    (
        "SQLITE_FULL",
        UnusableDataFolder,
        "cannot grow: its disk is full. Free some space, or choose another folder with --data.",
    ),
    (
        "SQLITE_READONLY",
        UnusableDataFolder,
        "cannot be written. Change its permissions, or choose another folder with --data.",
    ),
    (
        "SQLITE_CANTOPEN",
        UnusableDataFolder,
        "cannot be opened. Change its permissions, or choose another folder with --data.",
    ),
    (
        "SQLITE_NOTADB",
        UnusableDataFolder,
        "is no database. Restore it, or choose another folder with --data.",
    ),
    (
        "SQLITE_CORRUPT",
        UnusableDataFolder,
        "is damaged. Restore it, or choose another folder with --data.",
    ),
    (
        "SQLITE_IOERR",
        UnusableDataFolder,
        "cannot be read or written: the disk failed. Choose another folder with --data.",
    ),
)
