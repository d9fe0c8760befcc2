"""Rows of the catalog as the values that the rest of the indexer knows.

Every function takes a connection inside of a transaction, so that what it reads belongs together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, select

from indexer.catalog.schema import (
    aliases,
    artifact_types,
    artifacts,
    manifests,
    projects,
    version_tags,
    versions,
)
from indexer.records import Consistency, VersionRecord
from indexer.references import ArtifactName

SELECT_VERSIONS: Final = (
    select(
        versions.c.id,
        projects.c.name.label("project"),
        artifacts.c.name.label("artifact"),
        artifact_types.c.name.label("type"),
        versions.c.number,
        versions.c.manifest_digest,
        manifests.c.wandb_digest,
        manifests.c.wandb_reason,
        manifests.c.objects,
        manifests.c.size_bytes,
        versions.c.listed,
        versions.c.consistency,
        versions.c.notes,
        versions.c.run_id,
        versions.c.created_at,
        versions.c.confirmed_at,
        versions.c.seen_at,
        versions.c.as_of,
        versions.c.checksum,
        versions.c.touched,
        versions.c.notices,
        versions.c.description,
        versions.c.metadata,
        versions.c.expires_at,
        versions.c.deleted_at,
        versions.c.deleted_because,
    )
    .join_from(versions, artifacts, versions.c.artifact_id == artifacts.c.id)
    .join(projects, artifacts.c.project_id == projects.c.id)
    .join(artifact_types, artifacts.c.type_id == artifact_types.c.id)
    .join(manifests, versions.c.manifest_digest == manifests.c.digest)
)
"""All versions; what narrows it down decides which."""


class _Names(NamedTuple):
    aliases: tuple[str, ...]
    protected: tuple[str, ...]
    tags: tuple[str, ...]


def read_versions(
    connection: Connection, selected: Select[*tuple[Any, ...]]
) -> dict[int, VersionRecord]:
    """The records of `SELECT_VERSIONS`, narrowed down, by their rows' ids and in order."""
    rows = connection.execute(selected).mappings().all()
    ids = [row["id"] for row in rows]
    names = _names_of(connection, aliases, ids)
    protected = _names_of(connection, aliases, ids, aliases.c.protected)
    tags = _names_of(connection, version_tags, ids)
    return {
        row["id"]: _version(row, _Names(*(each[row["id"]] for each in (names, protected, tags))))
        for row in rows
    }


def read_version(connection: Connection, version_id: int) -> VersionRecord:
    """The record of one version that is known to be there."""
    return read_versions(connection, SELECT_VERSIONS.where(versions.c.id == version_id))[version_id]


def _names_of(
    connection: Connection, table: Table, version_ids: Iterable[int], *which: ColumnElement[bool]
) -> dict[int, tuple[str, ...]]:
    """The aliases or tags of versions, in order."""
    found = connection.execute(
        select(table.c.version_id, table.c.name)
        .where(table.c.version_id.in_(list(version_ids)), *which)
        .order_by(table.c.name)
    )
    names: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for version_id, name in found:
        names[version_id] += (name,)
    return names


def _version(row: RowMapping, names: _Names) -> VersionRecord:
    return VersionRecord(
        name=ArtifactName(row["project"], row["artifact"]),
        type=row["type"],
        number=row["number"],
        digest=row["manifest_digest"],
        wandb_digest=row["wandb_digest"],
        wandb_reason=row["wandb_reason"],
        objects=row["objects"],
        size_bytes=row["size_bytes"],
        listed=row["listed"],
        consistency=Consistency(row["consistency"]),
        aliases=names.aliases,
        notes=row["notes"],
        run_id=row["run_id"],
        created_at=row["created_at"],
        confirmed_at=row["confirmed_at"],
        seen_at=row["seen_at"],
        as_of=row["as_of"],
        checksum=row["checksum"],
        touched=row["touched"],
        notices=tuple(row["notices"]),
        protected=names.protected,
        expires_at=row["expires_at"],
        deleted_at=row["deleted_at"],
        deleted_because=row["deleted_because"],
        description=row["description"],
        metadata=row["metadata"],
        tags=names.tags,
    )
