"""What people ask of the catalog: which projects, artifacts, versions and scans there are.

Invariants
  * Every answer is of one moment, and of at most `limit` rows; the next page begins after the
    last row of this one, so nothing is skipped or repeated while others write.
  * A name that is not there raises `NoSuchVersion`, which names what there is; an artifact without
    rows does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, func, select

from indexer.catalog.database import Database
from indexer.catalog.lineage import read_lineage
from indexer.catalog.lookup import IS_THERE, require_artifact, require_project, require_version
from indexer.catalog.records import SELECT_VERSIONS, read_version, read_versions
from indexer.catalog.schema import (
    Moment,
    alias_moves,
    aliases,
    artifact_types,
    artifacts,
    projects,
    scans,
    version_tags,
    versions,
)
from indexer.commit_rules import LATEST
from indexer.errors import NoSuchVersion
from indexer.limits import CATALOG_ROWS_MAX, LINEAGE_DEPTH_DEFAULT
from indexer.records import (
    AliasMove,
    ArtifactRecord,
    Consistency,
    Direction,
    Lineage,
    ProjectRecord,
    ScanSummary,
    VersionRecord,
)
from indexer.references import ArtifactName


class Reader:
    """Answers questions; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        """Returns if the catalog can be read."""
        await self._database.read(_ping)

    async def projects(
        self, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ProjectRecord]:
        """All projects by name, those after the name `after`."""
        return await self._database.read(_projects, after, limit)

    async def artifacts(
        self, project: str, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ArtifactRecord]:
        """A project's artifacts by name, those after the name `after`."""
        return await self._database.read(_artifacts, project, after, limit)

    async def versions(
        self,
        name: ArtifactName,
        *,
        after: int | None = None,
        limit: int = CATALOG_ROWS_MAX,
        tag: str | None = None,
        deleted: bool = False,
    ) -> list[VersionRecord]:
        """An artifact's versions, newest first, those older than the number `after`.

        With `tag`, those that have it; with `deleted`, what is kept of deleted ones is among them.
        """
        wanted = _VersionsWanted(after, limit, tag, deleted)
        return await self._database.read(_versions, name, wanted)

    async def artifact(self, name: ArtifactName) -> ArtifactRecord:
        """What is known of an artifact."""
        return await self._database.read(_artifact, name)

    async def lineage(
        self,
        name: ArtifactName,
        selector: str,
        direction: Direction = "both",
        depth: int = LINEAGE_DEPTH_DEFAULT,
    ) -> Lineage:
        """What a version came from, and what came from it."""
        return await self._database.read(read_lineage, name, selector, direction, depth)

    async def version(self, name: ArtifactName, selector: str) -> VersionRecord:
        """The version that `v3`, an alias or `sha256:…` (the newest that has it) selects."""
        return await self._database.read(_version, name, selector)

    async def scans(
        self,
        name: ArtifactName,
        selector: str,
        *,
        after: int | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> list[ScanSummary]:
        """The scans of a version, first the one that created it, those after the id `after`."""
        return await self._database.read(_scans, name, selector, after, limit)

    async def tiling(self, name: ArtifactName, selector: str, scan_id: int) -> str:
        """The name of the blob that says what one of a version's scans listed."""
        return await self._database.read(_tiling, name, selector, scan_id)

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        """An artifact's aliases by name, each with the number of the version it means."""
        return await self._database.read(_aliases, name)

    async def protected_aliases(self, name: ArtifactName) -> frozenset[str]:
        """Those of an artifact's aliases that are protected."""
        return await self._database.read(_protected_aliases, name)

    async def alias_moves(
        self, name: ArtifactName, alias: str, *, limit: int = CATALOG_ROWS_MAX
    ) -> list[AliasMove]:
        """Where an alias has been, its last move first."""
        return await self._database.read(_alias_moves, name, alias, limit)


def _ping(connection: Connection) -> None:
    connection.execute(select(1))


def _projects(connection: Connection, after: str | None, limit: int) -> list[ProjectRecord]:
    artifacts_of = select(func.count()).where(artifacts.c.project_id == projects.c.id)
    versions_of = (
        select(func.count())
        .join_from(versions, artifacts, versions.c.artifact_id == artifacts.c.id)
        .where(artifacts.c.project_id == projects.c.id, IS_THERE)
    )
    updated = select(func.max(artifacts.c.updated_at)).where(
        artifacts.c.project_id == projects.c.id
    )
    # A project in which runs were started has no artifact yet.
    updated_at = func.coalesce(updated.scalar_subquery(), projects.c.created_at, type_=Moment)
    selected = select(
        projects.c.name,
        artifacts_of.scalar_subquery().label("artifacts"),
        versions_of.scalar_subquery().label("versions"),
        updated_at.label("updated_at"),
    )
    if after is not None:
        selected = selected.where(projects.c.name > after)
    rows = connection.execute(selected.order_by(projects.c.name).limit(limit))
    return [ProjectRecord(**row) for row in rows.mappings()]


def _artifacts(
    connection: Connection, project: str, after: str | None, limit: int
) -> list[ArtifactRecord]:
    project_id = require_project(connection, project)
    selected = _SELECT_ARTIFACTS.where(artifacts.c.project_id == project_id)
    if after is not None:
        selected = selected.where(artifacts.c.name > after)
    return _read_artifacts(connection, project, selected.order_by(artifacts.c.name).limit(limit))


def _artifact(connection: Connection, name: ArtifactName) -> ArtifactRecord:
    selected = _SELECT_ARTIFACTS.where(artifacts.c.id == require_artifact(connection, name))
    return _read_artifacts(connection, name.project, selected)[0]


def _select_artifacts() -> Select[*tuple[Any, ...]]:
    versions_of = select(func.count()).where(versions.c.artifact_id == artifacts.c.id, IS_THERE)
    latest_of = select(aliases.c.version_id).where(
        aliases.c.artifact_id == artifacts.c.id, aliases.c.name == LATEST
    )
    return select(
        artifacts.c.name,
        artifact_types.c.name.label("type"),
        versions_of.scalar_subquery().label("versions"),
        latest_of.scalar_subquery().label("latest_id"),
        artifacts.c.updated_at,
        artifacts.c.description,
    ).join(artifact_types, artifacts.c.type_id == artifact_types.c.id)


_SELECT_ARTIFACTS: Final = _select_artifacts()


def _read_artifacts(
    connection: Connection, project: str, selected: Select[*tuple[Any, ...]]
) -> list[ArtifactRecord]:
    rows = connection.execute(selected).all()
    latest = read_versions(
        connection, SELECT_VERSIONS.where(versions.c.id.in_([row.latest_id for row in rows]))
    )
    return [
        ArtifactRecord(
            name=ArtifactName(project, row.name),
            type=row.type,
            versions=row.versions,
            latest=latest.get(row.latest_id),
            updated_at=row.updated_at,
            description=row.description,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _VersionsWanted:
    after: int | None
    limit: int
    tag: str | None
    deleted: bool


def _versions(
    connection: Connection, name: ArtifactName, wanted: _VersionsWanted
) -> list[VersionRecord]:
    artifact_id = require_artifact(connection, name)
    selected = SELECT_VERSIONS.where(versions.c.artifact_id == artifact_id)
    if wanted.tag is not None:
        tagged = select(version_tags.c.version_id).where(version_tags.c.name == wanted.tag)
        selected = selected.where(versions.c.id.in_(tagged))
    if not wanted.deleted:
        selected = selected.where(IS_THERE)
    if wanted.after is not None:
        selected = selected.where(versions.c.number < wanted.after)
    selected = selected.order_by(versions.c.number.desc()).limit(wanted.limit)
    return list(read_versions(connection, selected).values())


def _version(connection: Connection, name: ArtifactName, selector: str) -> VersionRecord:
    _, version_id = require_version(connection, name, selector)
    return read_version(connection, version_id)


def _scans(
    connection: Connection, name: ArtifactName, selector: str, after: int | None, limit: int
) -> list[ScanSummary]:
    _, version_id = require_version(connection, name, selector)
    selected = select(scans).where(scans.c.version_id == version_id)
    if after is not None:
        selected = selected.where(scans.c.id > after)
    rows = connection.execute(selected.order_by(scans.c.id).limit(limit))
    return [
        ScanSummary(
            id=row["id"],
            run_id=row["run_id"],
            created=row["created"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            listed=row["listed"],
            consistency=Consistency(row["consistency"]),
            tiling=row["tiling"],
            statistics=row["statistics"],
            sources=row["sources"],
        )
        for row in rows.mappings()
    ]


def _tiling(connection: Connection, name: ArtifactName, selector: str, scan_id: int) -> str:
    _, version_id = require_version(connection, name, selector)
    found = connection.execute(
        select(scans.c.tiling).where(scans.c.version_id == version_id, scans.c.id == scan_id)
    ).scalar()
    if found is None:
        raise NoSuchVersion(f"{name} {selector} has no scan {scan_id}; its scans are listed first.")
    return str(found)


def _aliases(connection: Connection, name: ArtifactName) -> dict[str, int]:
    artifact_id = require_artifact(connection, name)
    rows = connection.execute(
        select(aliases.c.name, versions.c.number)
        .join_from(aliases, versions, aliases.c.version_id == versions.c.id)
        .where(aliases.c.artifact_id == artifact_id)
        .order_by(aliases.c.name)
    )
    return {row.name: row.number for row in rows}


def _protected_aliases(connection: Connection, name: ArtifactName) -> frozenset[str]:
    artifact_id = require_artifact(connection, name)
    is_protected = and_(aliases.c.artifact_id == artifact_id, aliases.c.protected)
    return frozenset(connection.execute(select(aliases.c.name).where(is_protected)).scalars())


def _alias_moves(
    connection: Connection, name: ArtifactName, alias: str, limit: int
) -> list[AliasMove]:
    artifact_id = require_artifact(connection, name)
    rows = connection.execute(
        select(versions.c.number, alias_moves.c.moved_at)
        .join_from(alias_moves, versions, alias_moves.c.version_id == versions.c.id, isouter=True)
        .where(alias_moves.c.artifact_id == artifact_id, alias_moves.c.name == alias)
        .order_by(alias_moves.c.id.desc())
        .limit(limit)
    )
    return [AliasMove(**row) for row in rows.mappings()]
