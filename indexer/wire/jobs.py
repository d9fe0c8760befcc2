"""Snapshots as documents: the order, the job, what came of it; and a look at a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from indexer.errors import InvalidReference
from indexer.limits import IN_FLIGHT_MAX, REQUESTS_PER_S_MAX, SOURCES_MAX
from indexer.protocols import S3Options, SourceOptions, Symlinks
from indexer.records import (
    CommitResult,
    Consistency,
    Preview,
    Snapshot,
    SourcePreview,
    VersionRecord,
)
from indexer.sources import Source, check_mount, parse_mounted, parse_source
from indexer.telemetry import Counters
from indexer.wire.base import Answer, Digest, Duration, Order, VersionName
from indexer.wire.problems import Problem

Options = TypeVar("Options")

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]


class ReachOrder(Order, frozen=True, kw_only=True):
    """How sources are reached. What is left out has the default of where they are reached from.

    `profile`, `region`, `endpoint_url` and `request_payer` are S3's, `user_project` is GCS's,
    `no_sign_request` is for both. `symlinks` says what becomes of symbolic links below a folder.
    """

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    no_sign_request: bool | None = None
    request_payer: Literal["requester"] | None = None
    user_project: str | None = None
    symlinks: Symlinks | None = None

    def options(self, defaults: SourceOptions) -> SourceOptions:
        """The options of this order, and `defaults` where it leaves one open."""
        s3 = {name: getattr(self, name) for name in S3Options.__slots__}
        return replace(
            defaults,
            s3=_overlaid(defaults.s3, s3),
            gcs=_overlaid(
                defaults.gcs,
                {"anonymous": self.no_sign_request, "user_project": self.user_project},
            ),
            file=_overlaid(defaults.file, {"symlinks": self.symlinks}),
        )


def _overlaid(defaults: Options, given: Mapping[str, Any]) -> Options:
    return replace(  # type: ignore[type-var]  # every kind of options is a dataclass
        defaults, **{name: value for name, value in given.items() if value is not None}
    )


class SourceOrder(Order, frozen=True, kw_only=True):
    """A source of several: its URI, and the name below which its entries stand."""

    uri: Annotated[str, Meta(examples=["s3://bucket/prefix/"])]
    mount: Annotated[str, Meta(examples=["train"])]


class SnapshotOrder(ReachOrder, frozen=True, kw_only=True):
    """A snapshot to make. What is left out has the default of where it is made.

    The source is `uri`; several have mounts and stand in `sources`. `name` is the artifact as
    project/artifact. `include` and `exclude` are globs on paths of entries. `checksum` is what is
    recorded of objects' bytes; with `heads`, a version id is asked for by object where the listing
    tells none. `as_of` asks for the state at that moment, where versions are kept. `run` is the id
    of the run that the version is to be of; without one, it gets one of its own. It expires `ttl_s`
    seconds after it is made.
    """

    uri: Annotated[str, Meta(examples=["s3://bucket/prefix/"])] | None = None
    sources: Annotated[list[SourceOrder], Meta(max_length=SOURCES_MAX)] = msgspec.field(
        default_factory=list
    )
    name: Annotated[str, Meta(examples=["vision/images"])]
    type: str | None = None
    aliases: list[str] = msgspec.field(default_factory=list)
    notes: str | None = None
    max_objects: int | None = None
    on_limit: Literal["error", "partial"] | None = None
    allow_empty: bool = False
    include: list[str] = msgspec.field(default_factory=list)
    exclude: list[str] = msgspec.field(default_factory=list)
    checksum: str | None = None
    heads: bool = False
    as_of: Annotated[datetime, Meta(tz=True)] | None = None
    ttl_s: Duration | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    run: str | None = None
    in_flight: Annotated[int, Meta(ge=1, le=IN_FLIGHT_MAX)] | None = None
    requests_per_s: Annotated[int, Meta(ge=1, le=REQUESTS_PER_S_MAX)] | None = None

    def options(self, defaults: SourceOptions) -> SourceOptions:
        """See `ReachOrder.options`."""
        caps = {"in_flight": self.in_flight, "requests_per_s": self.requests_per_s}
        return _overlaid(super().options(defaults), caps)

    @property
    def ttl(self) -> timedelta | None:
        """The time to live of the version."""
        return None if self.ttl_s is None else timedelta(seconds=self.ttl_s)

    def read_sources(self) -> tuple[Source, ...]:
        """The sources. Raises `InvalidReference`."""
        if (self.uri is not None) == bool(self.sources):
            raise InvalidReference(
                "name either one source as uri, or several with mounts as sources."
            )
        if self.uri is not None:
            return (parse_mounted(self.uri),)
        return tuple(Source(parse_source(one.uri), check_mount(one.mount)) for one in self.sources)


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
    objects_enriched: int
    checksums_read: int
    checksums_carried: int
    bytes_read: int
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
    """A job. `sources` are URIs, with their mounts as in `train=s3://bucket/`.

    `result` is there once it succeeded, `problem` when it ended in another way.
    """

    id: str
    state: JobState
    sources: list[str]
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


class DoctorOrder(ReachOrder, frozen=True, kw_only=True):
    """A source to look at, and how it is reached."""

    uri: str


class DoctorDocument(Answer, frozen=True, kw_only=True):
    """How a source is reached: what would be asked, with what, and what it can do.

    What a kind of store does not have, as a region, is null. `abilities` are what the server was
    found to honour, in words.
    """

    indexer: str
    data_folder: str
    source: str
    endpoint: str | None
    endpoint_from: str | None
    region: str | None
    credentials: str
    server: str | None
    versioning: str | None
    listed_by: str | None
    parallel_listing: bool
    abilities: dict[str, str]
    warnings: list[str]
    objects_on_first_page: int


class PreviewSource(Answer, frozen=True, kw_only=True):
    """What one source holds, and how much of it the filters keep."""

    source: str
    listed: int
    kept: int
    bytes: int


class PreviewDocument(Answer, frozen=True, kw_only=True):
    """What a snapshot would record: counts by source, and the first paths that would be kept and
    left out. What cannot be read in a path as UTF-8 is escaped.
    """

    sources: list[PreviewSource]
    kept: list[str]
    left_out: list[str]

    @classmethod
    def of(cls, preview: Preview) -> PreviewDocument:
        """The document of a preview."""
        return cls(
            sources=[
                PreviewSource(
                    source=one.source, listed=one.listed, kept=one.kept, bytes=one.size_bytes
                )
                for one in preview.sources
            ],
            kept=[path.decode("utf-8", "backslashreplace") for path in preview.kept],
            left_out=[path.decode("utf-8", "backslashreplace") for path in preview.left_out],
        )

    def record(self) -> Preview:
        """The preview of the document."""
        return Preview(
            sources=tuple(
                SourcePreview(one.source, one.listed, one.kept, one.bytes) for one in self.sources
            ),
            kept=tuple(path.encode() for path in self.kept),
            left_out=tuple(path.encode() for path in self.left_out),
        )
