"""Records: what is known of projects, artifacts, versions, scans, runs and entries, as values.

Invariants
  * A record says what was true at one moment, and never changes.
  * Keys and paths are bytes; times have a zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from indexer.references import ArtifactName


class Consistency(StrEnum):
    """Of what moment a version is."""

    INSTANT = "instant"
    WINDOW = "window"
    PARTIAL = "partial"


Deletion = Literal["expired", "removed"]
"""Why a version was deleted: its time had come, or somebody did it."""

GarbageKind = Literal["folders", "leftovers", "manifests", "shards", "tilings"]
"""What a file of the data folder is; leftovers are of jobs that made no version."""


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """What is kept of one scan beside the manifest, outside of its digest.

    `tiling` is the JSON of the tiles that were listed. `statistics` are figures for people
    (requests, seconds), `sources` what each source was opened with (endpoint, region; no secret).

    `as_of` is the moment whose state was asked for, None for the present one. `checksum` is what
    was asked for, `default` where nothing was. `touched` objects were written while they were
    listed; None where there was no while, or it cannot be known. `notices` are sentences for
    whoever uses the version.
    """

    started_at: datetime
    finished_at: datetime
    listed: int
    consistency: Consistency
    tiling: bytes
    statistics: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    as_of: datetime | None = None
    checksum: str | None = None
    touched: int | None = None
    notices: tuple[str, ...] = ()

    @property
    def seen_at(self) -> datetime:
        """The moment from which on it knows nothing."""
        return self.as_of or self.started_at


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """A scan that created a version or confirmed it; `tiling` is the name of a blob.

    `id` ascends with time and is a cursor, nothing else.
    """

    id: int
    run_id: str
    created: bool
    started_at: datetime
    finished_at: datetime
    listed: int
    consistency: Consistency
    tiling: str
    statistics: dict[str, Any]
    sources: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version as the tracker knows it.

    `wandb_digest` is null where a W&B manifest cannot hold the version, and `wandb_reason` says
    why. `confirmed_at` is when a scan last found it unchanged, `seen_at` the latest moment that one
    of these scans began at or was of. `as_of`, `checksum`, `touched` and `notices` are those of the
    scan that made it; see `ScanRecord`. `run_id` is the run that made it. `metadata` is what its
    users say of it, as JSON holds it; `tags` are in order. `protected` are those of its aliases
    that are. It may go from `expires_at` on, and went at `deleted_at`.
    """

    name: ArtifactName
    type: str
    number: int
    digest: str
    wandb_digest: str | None
    wandb_reason: str | None
    objects: int
    size_bytes: int
    listed: int
    consistency: Consistency
    aliases: tuple[str, ...]
    notes: str
    run_id: str
    created_at: datetime
    confirmed_at: datetime
    seen_at: datetime
    as_of: datetime | None = None
    checksum: str | None = None
    touched: int | None = None
    notices: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    expires_at: datetime | None = None
    deleted_at: datetime | None = None
    deleted_because: Deletion | None = None
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The version's full reference, as a user writes it."""
        return f"{self.name}:v{self.number}"


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What is to change of a version's labels; what is None stays as it is.

    `tags` take the place of those that there are, before some are added and some removed.
    """

    notes: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()

    def tags_of(self, before: tuple[str, ...]) -> tuple[str, ...]:
        """The tags after the change, of those `before` it."""
        kept = before if self.tags is None else self.tags
        return tuple(sorted({*kept, *self.add_tags} - {*self.remove_tags}))


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit came to: the version, and whether it is a new one."""

    version: VersionRecord
    created: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a job came to; `elapsed_s` is without the start of the process."""

    result: CommitResult
    listed: int
    shards_new: int
    shards_reused: int
    requests: int
    elapsed_s: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourcePreview:
    """What one source holds, and how much of it would be kept."""

    source: str
    listed: int
    kept: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a snapshot would record: counts by source, and the first paths, in order."""

    sources: tuple[SourcePreview, ...]
    kept: tuple[bytes, ...]
    left_out: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project, how much there is in it, and when something was last committed to it."""

    name: str
    artifacts: int
    versions: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """An artifact and its newest complete version, None where all are partial.

    `updated_at` is the time of its last commit, also of one that changed nothing.
    """

    name: ArtifactName
    type: str
    versions: int
    latest: VersionRecord | None
    updated_at: datetime
    description: str = ""


class RunState(StrEnum):
    """How a run is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to start, or to go on with when its `id` is known; what is None stays as it was.

    Without an id, it gets one of its own. `config` is what it is run with, as JSON holds it.
    """

    project: str
    id: str | None = None
    name: str | None = None
    job_type: str | None = None
    config: dict[str, Any] | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: something that used versions and made others.

    `name` is its id where it was given none. `started_at` is when it last began: one that is gone
    on with keeps its `created_at`. `finished_at` is None while it runs.
    """

    id: str
    project: str
    name: str
    job_type: str
    state: RunState
    config: dict[str, Any]
    notes: str
    created_at: datetime
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunChange:
    """What is to change of a run; what is None stays as it is."""

    name: str | None = None
    config: dict[str, Any] | None = None
    notes: str | None = None


class Relation(StrEnum):
    """What a run has to do with a version: it made it, found it unchanged, or used it."""

    PRODUCES = "produces"
    CONFIRMS = "confirms"
    USES = "uses"


Direction = Literal["up", "down", "both"]
"""Where a lineage leads: up to what a version was made of, down to what was made of it."""


@dataclass(frozen=True, slots=True)
class RunLink:
    """A version that a run used or made, when it last did, and as what it used it.

    `id` ascends with time and is a cursor, nothing else.
    """

    id: int
    relation: Relation
    version: VersionRecord
    at: datetime
    use_as: str | None = None


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """What a run has to do with a version, which is named by its reference."""

    run_id: str
    relation: Relation
    ref: str


@dataclass(frozen=True, slots=True, repr=False)
class Lineage:
    """The versions and runs that a version came from, and those that came from it.

    `versions` and `runs` stand in the order in which they were reached, nearest first, `root`
    before all. Where `is_cut`, there is more than was followed.
    """

    root: VersionRecord
    versions: tuple[VersionRecord, ...]
    runs: tuple[RunRecord, ...]
    edges: tuple[LineageEdge, ...]
    is_cut: bool

    def __repr__(self) -> str:
        return (
            f"<Lineage of {self.root.ref}: {len(self.versions):,} versions, {len(self.runs):,} "
            f"runs{', cut' if self.is_cut else ''}>"
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """Files and their bytes."""

    files: int = 0
    size_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.files + other.files, self.size_bytes + other.size_bytes)


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What a collection of garbage came to, or would have.

    `expired` are the references of versions whose time had come, `deleted` files that nobody
    refers to, by kind. `kept` nobody refers to either, but they are newer than the grace, or than
    the oldest job that runs.
    """

    is_dry_run: bool
    grace_s: float
    expired: tuple[str, ...]
    deleted: Mapping[GarbageKind, Amount]
    kept: Amount = field(default_factory=Amount)

    @property
    def total(self) -> Amount:
        """All that was deleted."""
        return sum(self.deleted.values(), Amount())


@dataclass(frozen=True, slots=True)
class AliasMove:
    """Where an alias went: a version's number, or None when it was removed."""

    number: int | None
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry for people and JSON. `path` is the object's key below the source, with its mount;
    `checksum` is in hexadecimal.
    """

    path: bytes
    size: int
    uri: str
    etag: str | None
    version_id: str | None
    last_modified: datetime | None
    storage_class: str | None
    checksum: str | None = None
    checksum_algorithm: str | None = None
    checksum_type: str | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """Everything whose path starts with `path`, which ends in a slash."""

    path: bytes
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FolderPage:
    """Children of a folder in path order; `next` is the path to go on after, None at the end."""

    children: tuple[Entry | Folder, ...]
    next: bytes | None


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a version's structure, and what `said` proves.

    `looked_at` is how many things it has looked at, None where it could not be made. `wrong` is how
    many of them are wrong; `faults` says of the first ones why.
    """

    name: str
    said: str
    looked_at: int | None
    wrong: int = 0
    faults: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether it was made, and found nothing wrong."""
        return self.looked_at is not None and not self.wrong


@dataclass(frozen=True, slots=True, repr=False)
class StructureReport:
    """What was proven of a version without asking a store; `notices` say what that is worth."""

    ref: str
    checks: tuple[Check, ...]
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        wrong = [check.name for check in self.checks if not check.is_right]
        return f"<StructureReport of {self.ref}: {', '.join(wrong) or 'nothing'} wrong>"

    @property
    def is_right(self) -> bool:
        """Whether every check was made, and nothing is wrong."""
        return all(check.is_right for check in self.checks)
