"""Snapshots as documents: the order, the job, what came of it; and a look at a source."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from indexer.limits import IN_FLIGHT_MAX
from indexer.records import CommitResult, Consistency, Snapshot, VersionRecord
from indexer.telemetry import Counters
from indexer.wire.base import Answer, Digest, Order, VersionName
from indexer.wire.problems import Problem

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]


class SnapshotOrder(Order, frozen=True, kw_only=True):
    """A snapshot to make. What is left out has the default of where it is made.

    `uri` is the source, `name` the artifact as project/artifact.
    """

    uri: Annotated[str, Meta(examples=["s3://bucket/prefix/"])]
    name: Annotated[str, Meta(examples=["vision/images"])]
    type: str | None = None
    aliases: list[str] = msgspec.field(default_factory=list)
    notes: str | None = None
    max_objects: int | None = None
    on_limit: Literal["error", "partial"] | None = None
    allow_empty: bool = False
    in_flight: Annotated[int, Meta(ge=1, le=IN_FLIGHT_MAX)] | None = None
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    no_sign_request: bool | None = None
    request_payer: Literal["requester"] | None = None


class SnapshotDocument(Answer, frozen=True, kw_only=True):
    """What a snapshot came to."""

    ref: str
    version: VersionName
    created: bool
    digest: Digest
    wandb_digest: str | None
    wandb_reason: str | None
    objects: int
    listed: int
    bytes: int
    shards_new: int
    shards_reused: int
    requests: int
    elapsed_s: float
    consistency: Consistency
    warnings: list[str]

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotDocument:
        """The document of a snapshot."""
        version = snapshot.result.version
        return cls(
            ref=version.ref,
            version=f"v{version.number}",
            created=snapshot.result.created,
            digest=version.digest,
            wandb_digest=version.wandb_digest,
            wandb_reason=version.wandb_reason,
            objects=version.objects,
            listed=snapshot.listed,
            bytes=version.size_bytes,
            shards_new=snapshot.shards_new,
            shards_reused=snapshot.shards_reused,
            requests=snapshot.requests,
            elapsed_s=round(snapshot.elapsed_s, 3),
            consistency=version.consistency,
            warnings=list(snapshot.warnings),
        )

    def record(self, version: VersionRecord) -> Snapshot:
        """The snapshot of the document, which made or confirmed `version`."""
        return Snapshot(
            result=CommitResult(version, self.created),
            listed=self.listed,
            shards_new=self.shards_new,
            shards_reused=self.shards_reused,
            requests=self.requests,
            elapsed_s=self.elapsed_s,
            warnings=tuple(self.warnings),
        )


class Progress(Answer, frozen=True, kw_only=True):
    """The figures of a job until now; `open_segments` are being listed just now."""

    objects_listed: int
    requests: int
    retries: int
    throttles: int
    segments: int
    open_segments: int
    shards_new: int
    shards_reused: int

    @classmethod
    def of(cls, counters: Counters) -> Progress:
        """The figures of counters."""
        return cls(**{name: getattr(counters, name) for name in cls.__struct_fields__})

    def copy_to(self, counters: Counters) -> None:
        """Lets counters show these figures."""
        for name in self.__struct_fields__:
            setattr(counters, name, getattr(self, name))


class JobDocument(Answer, frozen=True, kw_only=True):
    """A job. `result` is there once it succeeded, `problem` when it ended in another way."""

    id: str
    state: JobState
    uri: str
    name: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    result: SnapshotDocument | None
    problem: Problem | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state not in ("queued", "running")


class JobPage(Answer, frozen=True, kw_only=True):
    """Jobs, newest first; `next` continues after them."""

    results: list[JobDocument]
    next: str | None


class DoctorOrder(Order, frozen=True, kw_only=True):
    """A source to look at, and how it is reached."""

    uri: str
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    no_sign_request: bool | None = None
    request_payer: Literal["requester"] | None = None


class DoctorDocument(Answer, frozen=True, kw_only=True):
    """How a source is reached: what would be asked, with what, and what it can do."""

    indexer: str
    data_folder: str
    source: str
    endpoint: str
    endpoint_from: str
    region: str
    credentials: str
    server: str
    versioning: str
    listed_by: str
    parallel_listing: bool
    objects_on_first_page: int
