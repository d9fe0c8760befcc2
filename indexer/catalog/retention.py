"""Retention: which versions go, and when; protected aliases keep theirs.

Invariants
  * A version that a protected alias or `latest` means does not expire; one that a protected alias
    means is not removed either. A protected alias is not moved or taken away.
  * A version that goes loses its aliases, and keeps its row and number. `latest` moves on to the
    version that knows the latest moment of those that are complete, or is gone with the last one.
  * A version that a job takes for its parent may go: the job's shards stay (`leases`), and its
    commit is told that another version is the newest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, and_, delete, exists, insert, or_, select, update

from indexer.catalog.database import Database
from indexer.catalog.labels import is_alias, move_alias
from indexer.catalog.lookup import IS_THERE, protected_of, require_version
from indexer.catalog.records import read_version
from indexer.catalog.schema import alias_moves, aliases, artifacts, projects, versions
from indexer.commit_rules import LATEST
from indexer.errors import Protected
from indexer.limits import EXPIRED_BATCH_VERSIONS
from indexer.records import Consistency, Deletion, VersionRecord
from indexer.references import ArtifactName, parse_alias
from workers.clock import Clock


@dataclass(frozen=True, slots=True)
class Gone:
    """A version whose time has come."""

    version_id: int
    artifact_id: int
    ref: str


class Retention:
    """Sets when versions expire, and lets them go."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def set_expiry(
        self, name: ArtifactName, number: int, expires_at: datetime | None
    ) -> VersionRecord:
        """Lets a version expire at a moment, or never. Raises `NoSuchVersion`."""
        return await self._database.write(_set_expiry, name, number, expires_at)

    async def protect_alias(
        self, name: ArtifactName, alias: str, *, protected: bool
    ) -> VersionRecord:
        """Protects an alias, or does so no more, and returns the version that it means.

        Raises `NoSuchVersion`, and `InvalidReference` for `latest`, which moves by itself.
        """
        parse_alias(alias)
        return await self._database.write(_protect, name, alias, protected)

    async def remove(self, name: ArtifactName, number: int) -> VersionRecord:
        """Lets a version go now, and returns what is kept of it.

        Raises `NoSuchVersion`, and `Protected` where an alias keeps it.
        """
        return await self._database.write(_remove, name, number, self._clock.now())

    async def expired(self) -> list[Gone]:
        """The versions whose time has come and that nothing keeps."""
        return await self._database.read(_find_expired, self._clock.now(), None)

    async def expire(self) -> list[Gone]:
        """Lets them go, so many in a transaction, and tells which."""
        now, gone = self._clock.now(), list[Gone]()
        while some := await self._database.write(_expire, now, EXPIRED_BATCH_VERSIONS):
            gone += some
        return gone


def _set_expiry(
    connection: Connection, name: ArtifactName, number: int, expires_at: datetime | None
) -> VersionRecord:
    _, version_id = require_version(connection, name, f"v{number}")
    connection.execute(
        update(versions).where(versions.c.id == version_id).values(expires_at=expires_at)
    )
    return read_version(connection, version_id)


def _protect(
    connection: Connection,
    name: ArtifactName,
    alias: str,
    protected: bool,  # noqa: FBT001 - what runs in a transaction takes positions only
) -> VersionRecord:
    artifact_id, version_id = require_version(connection, name, alias)
    connection.execute(
        update(aliases).where(is_alias(artifact_id, alias)).values(protected=protected)
    )
    return read_version(connection, version_id)


def _remove(
    connection: Connection, name: ArtifactName, number: int, now: datetime
) -> VersionRecord:
    artifact_id, version_id = require_version(connection, name, f"v{number}")
    kept_by = protected_of(connection, version_id)
    if kept_by:
        raise Protected(
            f"{name}:v{number} is kept by the protected alias {kept_by[0]!r}. Take the protection "
            f"away with 'indexer alias unprotect {name} {kept_by[0]}', or leave it."
        )
    _let_go(connection, artifact_id, version_id, "removed", now)
    return read_version(connection, version_id)


def _expire(connection: Connection, now: datetime, limit: int) -> list[Gone]:
    found = _find_expired(connection, now, limit)
    for gone in found:
        _let_go(connection, gone.artifact_id, gone.version_id, "expired", now)
    return found


def _find_expired(connection: Connection, now: datetime, limit: int | None) -> list[Gone]:
    keeps = exists().where(
        aliases.c.version_id == versions.c.id,
        or_(aliases.c.protected, aliases.c.name == LATEST),
    )
    selected: Select[int, int, int, str, str] = (
        select(
            versions.c.id,
            versions.c.artifact_id,
            versions.c.number,
            artifacts.c.name.label("artifact"),
            projects.c.name.label("project"),
        )
        .join_from(versions, artifacts, versions.c.artifact_id == artifacts.c.id)
        .join(projects, artifacts.c.project_id == projects.c.id)
        .where(versions.c.expires_at <= now, IS_THERE, ~keeps)
        .order_by(versions.c.id)
        .limit(limit)
    )
    return [
        Gone(row.id, row.artifact_id, f"{row.project}/{row.artifact}:v{row.number}")
        for row in connection.execute(selected)
    ]


def _let_go(
    connection: Connection, artifact_id: int, version_id: int, because: Deletion, now: datetime
) -> None:
    """Deletes a version that nothing keeps; its files are garbage from now on."""
    is_its = and_(aliases.c.artifact_id == artifact_id, aliases.c.version_id == version_id)
    names = connection.execute(select(aliases.c.name).where(is_its)).scalars().all()
    connection.execute(
        update(versions)
        .where(versions.c.id == version_id)
        .values(deleted_at=now, deleted_because=because)
    )
    successor = _find_successor(connection, artifact_id) if LATEST in names else None
    for name in names:
        if name == LATEST and successor is not None:
            move_alias(connection, artifact_id, LATEST, successor, now)
            continue
        connection.execute(delete(aliases).where(is_alias(artifact_id, name)))
        connection.execute(
            insert(alias_moves).values(
                artifact_id=artifact_id, name=name, version_id=None, moved_at=now
            )
        )


def _find_successor(connection: Connection, artifact_id: int) -> int | None:
    return connection.execute(
        select(versions.c.id)
        .where(
            versions.c.artifact_id == artifact_id,
            versions.c.consistency != Consistency.PARTIAL.value,
            IS_THERE,
        )
        .order_by(versions.c.seen_at.desc(), versions.c.number.desc())
        .limit(1)
    ).scalar()
