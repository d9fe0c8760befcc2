"""Aliases and notes: what people may change of a version after it was committed.

Invariants
  * `latest` and `v<number>` are not set by hand.
  * A move by compare-and-swap happens only if the alias is still where its mover saw it.
  * A protected alias stays where it is; setting it there again is no move.
  * Every move is kept, with its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, update

from indexer.catalog.database import Database
from indexer.catalog.lookup import find_alias, protected_of, require_version
from indexer.catalog.records import read_version
from indexer.catalog.schema import alias_moves, aliases, versions
from indexer.commit_rules import check_notes
from indexer.errors import CommitConflict, Protected
from indexer.protocols import ANYWHERE
from indexer.records import VersionRecord
from indexer.references import ArtifactName, parse_alias
from workers.clock import Clock


class Labels:
    """Moves aliases and writes notes.

    `expect` is the number of the version that the caller saw the alias at, None when it saw no such
    alias; where that is not so any more, `CommitConflict` is raised and nothing is changed.
    `NoSuchVersion` is raised for names that are not there.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def set_alias(
        self, name: ArtifactName, alias: str, number: int, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        """Lets an alias name this version, and returns that. Raises `InvalidReference`."""
        parse_alias(alias)
        return await self._database.write(_set, _Alias(name, alias, expect, self._now()), number)

    async def remove_alias(
        self, name: ArtifactName, alias: str, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        """Takes an alias away, and returns the version that had it. Raises `InvalidReference`."""
        parse_alias(alias)
        return await self._database.write(_remove, _Alias(name, alias, expect, self._now()))

    async def set_notes(
        self, name: ArtifactName, number: int, notes: str, *, expect: str | None = None
    ) -> VersionRecord:
        """Replaces a version's notes. Raises `InvalidSetting` when they are too long.

        If they are not `expect` any more, where that is given, raises `CommitConflict`.
        """
        check_notes(notes)
        return await self._database.write(_set_notes, name, number, notes, expect)

    def _now(self) -> datetime:
        return self._clock.now()


def move_alias(
    connection: Connection, artifact_id: int, alias: str, version_id: int, now: datetime
) -> None:
    """Lets an alias name a version, within the caller's transaction. Raises `Protected`."""
    found = find_alias(connection, artifact_id, alias)
    if found == version_id:
        return
    if found is not None:
        _check_unprotected(connection, found, alias)
    row = {"version_id": version_id, "moved_at": now}
    key = {"artifact_id": artifact_id, "name": alias}
    if found is None:
        connection.execute(insert(aliases).values(**key, **row))
    else:
        connection.execute(update(aliases).where(is_alias(artifact_id, alias)).values(**row))
    connection.execute(insert(alias_moves).values(**key, **row))


def is_alias(artifact_id: int, alias: str) -> ColumnElement[bool]:
    """The row of an alias."""
    return and_(aliases.c.artifact_id == artifact_id, aliases.c.name == alias)


@dataclass(frozen=True, slots=True)
class _Alias:
    name: ArtifactName
    alias: str
    expect: int | None
    now: datetime


def _set(connection: Connection, change: _Alias, number: int) -> VersionRecord:
    artifact_id, version_id = require_version(connection, change.name, f"v{number}")
    _check_expected(connection, artifact_id, change)
    move_alias(connection, artifact_id, change.alias, version_id, change.now)
    return read_version(connection, version_id)


def _remove(connection: Connection, change: _Alias) -> VersionRecord:
    artifact_id, version_id = require_version(connection, change.name, change.alias)
    _check_expected(connection, artifact_id, change)
    _check_unprotected(connection, version_id, change.alias)
    key = {"artifact_id": artifact_id, "name": change.alias}
    connection.execute(delete(aliases).where(is_alias(artifact_id, change.alias)))
    connection.execute(insert(alias_moves).values(**key, version_id=None, moved_at=change.now))
    return read_version(connection, version_id)


def _set_notes(
    connection: Connection, name: ArtifactName, number: int, notes: str, expect: str | None
) -> VersionRecord:
    _, version_id = require_version(connection, name, f"v{number}")
    if expect is not None and read_version(connection, version_id).notes != expect:
        raise CommitConflict(
            f"the notes on {name}:v{number} were changed meanwhile. Look again, and repeat."
        )
    connection.execute(update(versions).where(versions.c.id == version_id).values(notes=notes))
    return read_version(connection, version_id)


def _check_unprotected(connection: Connection, version_id: int, alias: str) -> None:
    if alias in protected_of(connection, version_id):
        version = read_version(connection, version_id)
        raise Protected(
            f"the alias {alias!r} of {version.name} is protected, and stays at v{version.number}. "
            f"Take the protection away with 'indexer alias unprotect {version.name} {alias}', or "
            f"choose another alias."
        )


def _check_expected(connection: Connection, artifact_id: int, change: _Alias) -> None:
    if change.expect == ANYWHERE:
        return
    version_id = find_alias(connection, artifact_id, change.alias)
    number = None if version_id is None else read_version(connection, version_id).number
    if number != change.expect:
        raise CommitConflict(
            f"the alias {change.alias!r} of {change.name} was moved meanwhile: it is at "
            f"{_words(number)} and not at {_words(change.expect)}. Look again, and repeat."
        )


def _words(number: int | None) -> str:
    return "no version" if number is None else f"v{number}"
