"""The catalog's tables.

Invariants
  * Migrations make what stands here, and a test compares the two; `REVISION` is the newest of them.
  * Rows of versions, scans and manifests are written once, but for a version's labels (notes,
    description, metadata, tags) and the times at which it was last confirmed and seen, expires, and
    was deleted. What moves are aliases, and every move is kept; what begins and ends are runs.
  * A version's row stays when the version is deleted, so that its number is never given again and
    what was made of it can still be told.
  * Nothing here is special to SQLite.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

from indexer.limits import RUN_NAME_CHARACTERS_MAX, TAG_CHARACTERS_MAX

REVISION: Final = "0004"
"""The revision of this schema, as `migrations/versions` ends in it."""

NAME_CHARACTERS_MAX: Final = 128
DIGEST_CHARACTERS: Final = len("sha256:") + 64

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """A time with its zone, kept as microseconds since 1970: the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None:
            return None
        assert value.tzinfo is not None
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(NAME_CHARACTERS_MAX), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

artifact_types = Table(
    "artifact_types",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(NAME_CHARACTERS_MAX), nullable=False),
    UniqueConstraint("project_id", "name"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("type_id", ForeignKey("artifact_types.id"), nullable=False),
    Column("name", String(NAME_CHARACTERS_MAX), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("description", Text, nullable=False),
    UniqueConstraint("project_id", "name"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(NAME_CHARACTERS_MAX), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("name", String(RUN_NAME_CHARACTERS_MAX), nullable=False),
    Column("job_type", String(RUN_NAME_CHARACTERS_MAX), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("config", JSON, nullable=False),
    Column("notes", Text, nullable=False),
    Index(None, "project_id", "created_at", "id"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("digest", String(DIGEST_CHARACTERS), primary_key=True),
    Column("objects", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("wandb_digest", String(32)),
    Column("wandb_reason", Text),
)
"""Facts that follow from a manifest alone; its root is a blob whose name is in the digest."""

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("manifest_digest", ForeignKey("manifests.digest"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("listed", BigInteger, nullable=False),
    Column("consistency", String(16), nullable=False),
    Column("notes", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("confirmed_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("as_of", Moment),
    Column("checksum", String(16)),
    Column("touched", BigInteger),
    Column("notices", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("expires_at", Moment, index=True),
    Column("deleted_at", Moment),
    Column("deleted_because", String(16)),
    UniqueConstraint("artifact_id", "number"),
    Index(None, "artifact_id", "manifest_digest"),
    Index(None, "manifest_digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("artifact_id", ForeignKey("artifacts.id"), primary_key=True),
    Column("name", String(NAME_CHARACTERS_MAX), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("moved_at", Moment, nullable=False),
    Column("protected", Boolean, nullable=False, server_default=false()),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), nullable=False),
    Column("name", String(NAME_CHARACTERS_MAX), nullable=False),
    Column("version_id", ForeignKey("versions.id")),
    Column("moved_at", Moment, nullable=False),
    Index(None, "artifact_id", "name"),
)
"""Where an alias went, each time; without a version it was removed."""

scans = Table(
    "scans",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", String(NAME_CHARACTERS_MAX), nullable=False, unique=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False, index=True),
    Column("created", Boolean, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment, nullable=False),
    Column("listed", BigInteger, nullable=False),
    Column("consistency", String(16), nullable=False),
    Column("tiling", String(64), nullable=False),
    Column("statistics", JSON, nullable=False),
    Column("sources", JSON, nullable=False),
)
"""One row for every commit: the scan that created a version, or confirmed it. A commit is found
again by its request; `tiling` names a blob."""

version_tags = Table(
    "version_tags",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("name", String(TAG_CHARACTERS_MAX), primary_key=True, index=True),
)

uses = Table(
    "uses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("used_at", Moment, nullable=False),
    Column("use_as", String(RUN_NAME_CHARACTERS_MAX)),
    UniqueConstraint("run_id", "version_id"),
)
"""Which run used which version; what a run made or confirmed is in `scans`."""

endpoint_facts = Table(
    "endpoint_facts",
    metadata,
    Column("endpoint", String(2048), primary_key=True),
    Column("facts", JSON, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
"""What a server was found to honour."""
