"""Projects, artifacts, versions, aliases and entries as documents."""

from __future__ import annotations

import base64
import dataclasses
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from indexer.records import (
    ArtifactRecord,
    Consistency,
    Deletion,
    Entry,
    Folder,
    LabelChange,
    ProjectRecord,
    ScanSummary,
    VersionRecord,
)
from indexer.references import ArtifactName
from indexer.texts import printable
from indexer.wire.base import Answer, Digest, Order, VersionName

Value = TypeVar("Value")


class VersionDocument(Answer, frozen=True, kw_only=True):
    """A version of an artifact."""

    ref: str
    project: str
    artifact: str
    version: VersionName
    type: str
    digest: Digest
    wandb_digest: str | None
    wandb_reason: str | None
    objects: int
    bytes: int
    listed: int
    consistency: Consistency
    aliases: list[str]
    notes: str
    run: str
    created_at: datetime
    confirmed_at: datetime
    seen_at: datetime
    as_of: datetime | None
    checksum: str | None
    touched: int | None
    notices: list[str]
    description: str
    metadata: dict[str, Any]
    tags: list[str]
    protected: list[str]
    expires_at: datetime | None
    deleted_at: datetime | None
    deleted_because: Deletion | None

    @classmethod
    def of(cls, version: VersionRecord) -> VersionDocument:
        """The document of a record."""
        return cls(
            ref=version.ref,
            project=version.name.project,
            artifact=version.name.artifact,
            version=f"v{version.number}",
            type=version.type,
            digest=version.digest,
            wandb_digest=version.wandb_digest,
            wandb_reason=version.wandb_reason,
            objects=version.objects,
            bytes=version.size_bytes,
            listed=version.listed,
            consistency=version.consistency,
            aliases=list(version.aliases),
            notes=version.notes,
            run=version.run_id,
            created_at=version.created_at,
            confirmed_at=version.confirmed_at,
            seen_at=version.seen_at,
            as_of=version.as_of,
            checksum=version.checksum,
            touched=version.touched,
            notices=list(version.notices),
            protected=list(version.protected),
            expires_at=version.expires_at,
            deleted_at=version.deleted_at,
            deleted_because=version.deleted_because,
            description=version.description,
            metadata=version.metadata,
            tags=list(version.tags),
        )

    def record(self) -> VersionRecord:
        """The record of the document."""
        return VersionRecord(
            name=ArtifactName(self.project, self.artifact),
            type=self.type,
            number=int(self.version.removeprefix("v")),
            digest=self.digest,
            wandb_digest=self.wandb_digest,
            wandb_reason=self.wandb_reason,
            objects=self.objects,
            size_bytes=self.bytes,
            listed=self.listed,
            consistency=self.consistency,
            aliases=tuple(self.aliases),
            notes=self.notes,
            run_id=self.run,
            created_at=self.created_at,
            confirmed_at=self.confirmed_at,
            seen_at=self.seen_at,
            as_of=self.as_of,
            checksum=self.checksum,
            touched=self.touched,
            notices=tuple(self.notices),
            protected=tuple(self.protected),
            expires_at=self.expires_at,
            deleted_at=self.deleted_at,
            deleted_because=self.deleted_because,
            description=self.description,
            metadata=self.metadata,
            tags=tuple(self.tags),
        )


class ProjectDocument(Answer, frozen=True, kw_only=True):
    """A project."""

    project: str
    artifacts: int
    versions: int
    updated_at: datetime

    @classmethod
    def of(cls, project: ProjectRecord) -> ProjectDocument:
        """The document of a record."""
        return cls(
            project=project.name,
            artifacts=project.artifacts,
            versions=project.versions,
            updated_at=project.updated_at,
        )

    def record(self) -> ProjectRecord:
        """The record of the document."""
        return ProjectRecord(self.project, self.artifacts, self.versions, self.updated_at)


class ArtifactDocument(Answer, frozen=True, kw_only=True):
    """An artifact; `latest` is its newest complete version."""

    artifact: str
    type: str
    versions: int
    latest: VersionDocument | None
    updated_at: datetime
    description: str

    @classmethod
    def of(cls, artifact: ArtifactRecord) -> ArtifactDocument:
        """The document of a record."""
        return cls(
            artifact=str(artifact.name),
            type=artifact.type,
            versions=artifact.versions,
            latest=VersionDocument.of(artifact.latest) if artifact.latest else None,
            updated_at=artifact.updated_at,
            description=artifact.description,
        )

    def record(self) -> ArtifactRecord:
        """The record of the document."""
        project, _, artifact = self.artifact.partition("/")
        return ArtifactRecord(
            name=ArtifactName(project, artifact),
            type=self.type,
            versions=self.versions,
            latest=self.latest.record() if self.latest else None,
            updated_at=self.updated_at,
            description=self.description,
        )


class ScanSummaryDocument(Answer, frozen=True, kw_only=True):
    """A scan that created a version, or confirmed it.

    `sources` are what each source was opened with, `statistics` figures for people.
    """

    id: int
    run: str
    created: bool
    started_at: datetime
    finished_at: datetime
    listed: int
    consistency: Consistency
    tiling: str
    statistics: dict[str, Any]
    sources: list[dict[str, Any]]

    @classmethod
    def of(cls, scan: ScanSummary) -> ScanSummaryDocument:
        """The document of a record."""
        fields = dataclasses.asdict(scan)
        return cls(run=fields.pop("run_id"), **fields)

    def record(self) -> ScanSummary:
        """The record of the document."""
        fields = msgspec.structs.asdict(self)
        return ScanSummary(run_id=fields.pop("run"), **fields)


class ScanPage(Answer, frozen=True, kw_only=True):
    """Scans in the order of time; `next` continues after them."""

    results: list[ScanSummaryDocument]
    next: str | None


class AliasDocument(Answer, frozen=True, kw_only=True):
    """An alias and the version that it means."""

    alias: str
    ref: str
    protected: bool


class TagDocument(Answer, frozen=True, kw_only=True):
    """A tag and a version that has it."""

    tag: str
    ref: str


class ProjectPage(Answer, frozen=True, kw_only=True):
    """Projects by name; `next` continues after them."""

    results: list[ProjectDocument]
    next: str | None


class ArtifactPage(Answer, frozen=True, kw_only=True):
    """Artifacts by name; `next` continues after them."""

    results: list[ArtifactDocument]
    next: str | None


class VersionPage(Answer, frozen=True, kw_only=True):
    """Versions, newest first; `next` continues after them."""

    results: list[VersionDocument]
    next: str | None


class AliasList(Answer, frozen=True, kw_only=True):
    """All aliases of an artifact by name."""

    results: list[AliasDocument]


class AliasOrder(Order, frozen=True, kw_only=True):
    """The version that an alias is to mean."""

    version: VersionName


class AliasPatch(Order, frozen=True, kw_only=True):
    """What is to change of an alias: a protected one stays at its version, and keeps it."""

    protected: bool


class ArtifactPatch(Order, frozen=True, kw_only=True):
    """What is to change of an artifact."""

    description: str


class VersionPatch(Order, frozen=True, kw_only=True):
    """What is to change of a version; what is left out stays as it is.

    `tags` take the place of those that it has, before `add_tags` are added and `remove_tags`
    removed. One whose `expires_at` is null never expires.
    """

    notes: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    add_tags: list[str] = msgspec.field(default_factory=list)
    remove_tags: list[str] = msgspec.field(default_factory=list)
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = UNSET

    @classmethod
    def of(cls, change: LabelChange) -> VersionPatch:
        """The document of a change."""
        return cls(
            notes=_set(change.notes),
            description=_set(change.description),
            metadata=_set(change.metadata),
            tags=UNSET if change.tags is None else list(change.tags),
            add_tags=list(change.add_tags),
            remove_tags=list(change.remove_tags),
        )

    def change(self) -> LabelChange:
        """The change of the document."""
        return LabelChange(
            notes=_given(self.notes),
            description=_given(self.description),
            metadata=_given(self.metadata),
            tags=None if self.tags is UNSET else tuple(self.tags),
            add_tags=tuple(self.add_tags),
            remove_tags=tuple(self.remove_tags),
        )


def _set(value: Value | None) -> Value | UnsetType:
    return UNSET if value is None else value


def _given(value: Value | UnsetType) -> Value | None:
    return None if value is UNSET else value


# --- entries


class EntryDocument(Answer, frozen=True, kw_only=True, tag_field="kind", tag="object"):
    """An entry; `path_base64` stands in place of a `path` that is no UTF-8.

    `checksum` is in hexadecimal; its type is `full_object`, or `composite` for one of the
    checksums of an upload's parts. `mtime_ns` is there for files, and for web pages without an
    ETag.
    """

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    size: int
    uri: str
    etag: str | None
    version_id: str | None
    last_modified: datetime | None
    storage_class: str | None
    checksum: str | None
    checksum_algorithm: str | None
    checksum_type: str | None
    mtime_ns: int | None

    @classmethod
    def of(cls, entry: Entry) -> EntryDocument:
        """The document of an entry."""
        return cls(
            **path_fields(entry.path),
            size=entry.size,
            uri=printable(entry.uri),
            etag=entry.etag,
            version_id=entry.version_id,
            last_modified=entry.last_modified,
            storage_class=entry.storage_class,
            checksum=entry.checksum,
            checksum_algorithm=entry.checksum_algorithm,
            checksum_type=entry.checksum_type,
            mtime_ns=entry.mtime_ns,
        )

    def record(self) -> Entry:
        """The entry of the document."""
        return Entry(
            path=path_of(self),
            size=self.size,
            uri=self.uri,
            etag=self.etag,
            version_id=self.version_id,
            last_modified=self.last_modified,
            storage_class=self.storage_class,
            checksum=self.checksum,
            checksum_algorithm=self.checksum_algorithm,
            checksum_type=self.checksum_type,
            mtime_ns=self.mtime_ns,
        )


class FolderDocument(Answer, frozen=True, kw_only=True, tag_field="kind", tag="folder"):
    """All that lies below a path which ends in a slash."""

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    objects: int
    bytes: int

    @classmethod
    def of(cls, folder: Folder) -> FolderDocument:
        """The document of a folder."""
        return cls(**path_fields(folder.path), objects=folder.objects, bytes=folder.size_bytes)

    def record(self) -> Folder:
        """The folder of the document."""
        return Folder(path_of(self), self.objects, self.bytes)


class EntryPage(Answer, frozen=True, kw_only=True):
    """Entries, and with a delimiter folders, by path; `next` continues after them.

    A page may be shorter than was asked for; only a `next` of null is the end.
    """

    results: list[EntryDocument | FolderDocument]
    next: str | None


def path_fields(path: bytes, name: str = "path") -> dict[str, str]:
    """A path as a document's `path`, or its `path_base64` where it is no UTF-8."""
    try:
        return {name: path.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(path).decode()}


class HasPath(Protocol):
    """A document with the fields of a path."""

    @property
    def path(self) -> str | UnsetType: ...

    @property
    def path_base64(self) -> str | UnsetType: ...


def path_of(document: HasPath) -> bytes:
    """The path that a document's fields hold."""
    if isinstance(document.path_base64, str):
        return base64.b64decode(document.path_base64)
    assert isinstance(document.path, str)
    return document.path.encode()
