"""What an indexer elsewhere commits, as documents; and how a daemon is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from indexer.manifest import Manifest, read_manifest
from indexer.protocols import CommitRequest
from indexer.records import CommitResult, Consistency, ScanRecord
from indexer.references import ArtifactName
from indexer.wire.artifacts import VersionDocument
from indexer.wire.base import Answer, Count, Duration, Order, RequestId

CHECKSUM_CHARACTERS_MAX: Final = 16
"""Of the name of a checksum that was asked for, as the catalog keeps it."""


class ScanDocument(Order, frozen=True, kw_only=True):
    """What is kept of a scan; `tiling` is a JSON document of its own, as text."""

    started_at: Annotated[datetime, Meta(tz=True)]
    finished_at: Annotated[datetime, Meta(tz=True)]
    listed: Count
    consistency: Consistency
    tiling: str
    statistics: dict[str, Any] = msgspec.field(default_factory=dict)
    sources: list[dict[str, Any]] = msgspec.field(default_factory=list)
    as_of: Annotated[datetime, Meta(tz=True)] | None = None
    checksum: Annotated[str, Meta(max_length=CHECKSUM_CHARACTERS_MAX)] | None = None
    touched: Count | None = None
    notices: list[str] = msgspec.field(default_factory=list)


class CommitOrder(Order, frozen=True, kw_only=True):
    """A version to commit. `manifest` is the canonical root, as text, of shards that were put.

    `request_id` is the same for all tries of one commit, `expect` the digest of the version that
    this one would follow, null where there is none. It expires `ttl_s` seconds after it is made.
    """

    request_id: RequestId
    type: str | None = None
    manifest: str
    scan: ScanDocument
    aliases: list[str] = msgspec.field(default_factory=list)
    notes: str | None = None
    expect: str | None = None
    ttl_s: Duration | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    run: str | None = None

    @classmethod
    def of(cls, request: CommitRequest) -> CommitOrder:
        """The document of a request, whose artifact is named apart."""
        scan = request.scan
        return cls(
            request_id=request.request_id,
            type=request.type,
            manifest=request.manifest.root.decode(),
            scan=ScanDocument(
                started_at=scan.started_at,
                finished_at=scan.finished_at,
                listed=scan.listed,
                consistency=scan.consistency,
                tiling=scan.tiling.decode(),
                statistics=scan.statistics,
                sources=scan.sources,
                as_of=scan.as_of,
                checksum=scan.checksum,
                touched=scan.touched,
                notices=list(scan.notices),
            ),
            aliases=list(request.aliases),
            notes=request.notes,
            expect=request.expect,
            ttl_s=None if request.ttl is None else round(request.ttl.total_seconds()),
            description=request.description,
            metadata=request.metadata,
            tags=list(request.tags),
            run=request.run,
        )

    def request(self, name: ArtifactName) -> CommitRequest:
        """The request for the artifact `name`. Raises `CorruptContent` for no manifest."""
        return CommitRequest(
            request_id=self.request_id,
            name=name,
            type=self.type,
            manifest=self.read_manifest(),
            scan=ScanRecord(
                started_at=self.scan.started_at,
                finished_at=self.scan.finished_at,
                listed=self.scan.listed,
                consistency=self.scan.consistency,
                tiling=self.scan.tiling.encode(),
                statistics=self.scan.statistics,
                sources=self.scan.sources,
                as_of=self.scan.as_of,
                checksum=self.scan.checksum,
                touched=self.scan.touched,
                notices=tuple(self.scan.notices),
            ),
            aliases=tuple(self.aliases),
            notes=self.notes,
            expect=self.expect,
            ttl=None if self.ttl_s is None else timedelta(seconds=self.ttl_s),
            description=self.description,
            metadata=self.metadata,
            tags=tuple(self.tags),
            run=self.run,
        )

    def read_manifest(self) -> Manifest:
        """The manifest that is to be committed. Raises `CorruptContent`."""
        return read_manifest(self.manifest.encode())


class CommitDocument(Answer, frozen=True, kw_only=True):
    """What a commit came to."""

    created: bool
    version: VersionDocument

    @classmethod
    def of(cls, result: CommitResult) -> CommitDocument:
        """The document of a result."""
        return cls(created=result.created, version=VersionDocument.of(result.version))

    def record(self) -> CommitResult:
        """The result of the document."""
        return CommitResult(self.version.record(), self.created)


class ParentDocument(Answer, frozen=True, kw_only=True):
    """The version that a commit would follow, null when there is none."""

    version: VersionDocument | None


class Health(Answer, frozen=True, kw_only=True):
    """Whether the daemon does what it is for; `checks` has a word for each part."""

    status: Literal["ok", "unavailable"]
    version: str
    checks: dict[str, str] = msgspec.field(default_factory=dict)
