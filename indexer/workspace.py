"""Workspace: what can be done with artifacts, on a data folder or on a daemon, by the same verbs.

Invariants
  * Both kinds take and give the same values and raise the same errors.
  * Lists are pages of at most `limit` rows; the next one begins after the last row of this one.
  * Whatever names a version by number or digest reads the same each time, but for what may change
    of it: its labels, when it was last confirmed, and when it expires; until it is deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from indexer.changes import ChangedFolderPage, ChangeKind, DiffPage
from indexer.limits import CATALOG_ROWS_MAX, LINEAGE_DEPTH_DEFAULT, PAGE_RESULTS_DEFAULT
from indexer.manifest import Manifest
from indexer.protocols import ANYWHERE, Servers
from indexer.records import (
    ArtifactRecord,
    Direction,
    FolderPage,
    GarbageReport,
    LabelChange,
    Lineage,
    Preview,
    ProjectRecord,
    RunChange,
    RunLink,
    RunRecord,
    RunRequest,
    RunState,
    ScanSummary,
    Snapshot,
    VersionRecord,
)
from indexer.references import ArtifactName, VersionRef
from indexer.telemetry import Counters
from indexer.wire.jobs import DoctorOrder, SnapshotOrder
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.wire.retention import GarbageOrder

Row = TypeVar("Row")


class Workspace(Protocol):
    """What there is, and what may be asked of it. Every method raises what `errors` draws."""

    async def snapshot(self, order: SnapshotOrder, counters: Counters | None = None) -> Snapshot:
        """Lists what the order names and commits it; `counters` show how far it has come.

        Cancelled, it has made a version or it has not; a version is never half made.
        """
        ...

    async def preview(self, order: SnapshotOrder, counters: Counters | None = None) -> Preview:
        """Lists what the order names, and says what a snapshot would keep; records nothing."""
        ...

    async def projects(
        self, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ProjectRecord]:
        """All projects by name, those after the name `after`."""
        ...

    async def artifacts(
        self, project: str, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ArtifactRecord]:
        """A project's artifacts by name, those after the name `after`."""
        ...

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
        ...

    async def artifact(self, name: ArtifactName) -> ArtifactRecord:
        """What is known of an artifact."""
        ...

    async def version(self, ref: VersionRef) -> VersionRecord:
        """The version that a reference names."""
        ...

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        """An artifact's aliases by name, each with the number of the version it means."""
        ...

    async def protected_aliases(self, name: ArtifactName) -> frozenset[str]:
        """Those of an artifact's aliases that are protected."""
        ...

    async def scans(
        self, ref: VersionRef, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ScanSummary]:
        """The scans of a version, first the one that created it, those after the id `after`."""
        ...

    async def tiling(self, ref: VersionRef, scan_id: int) -> bytes:
        """What was listed by one of a version's scans, as JSON: see `ScanRecord`."""
        ...

    def servers(self) -> AbstractAsyncContextManager[Servers]:
        """What reaches, from this process, the servers that sources are on."""
        ...

    async def manifest(self, digest: str) -> Manifest:
        """The manifest of a version, by its digest."""
        ...

    async def root(self, digest: str) -> bytes:
        """The canonical bytes of a version's manifest as they are kept, to be looked at anew.

        Raises `CorruptContent`.
        """
        ...

    async def shard(self, digest: str) -> pa.Table:
        """The rows of a shard, verified."""
        ...

    async def children(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        """What lies directly in the folder `prefix` of a version, by path.

        Folders come with what they hold in all. A page may be shorter than `limit`; `next` of it,
        given as `after`, continues, until it is None. A prefix that does not end in `/` narrows its
        folder down to names that begin so.
        """
        ...

    async def entries(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        """A version's entries whose paths start with `prefix`, by path."""
        ...

    async def query(self, version: VersionRecord, order: QueryOrder) -> bytes:
        """The rows of one SELECT over a version, as Arrow's stream.

        Raises `QueryRefused` and `QueryLimitExceeded`, `Busy` where as many run as may at once, and
        what reading the tables does that it names.
        """
        ...

    async def compare_table(self, version: VersionRecord, order: CompareOrder) -> bytes:
        """What changed of a table from one version to another, as Arrow's stream.

        Raises what `query` does.
        """
        ...

    async def diff(
        self,
        old: VersionRecord,
        new: VersionRecord,
        prefix: bytes = b"",
        *,
        kind: ChangeKind | None = None,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> DiffPage:
        """What changed from one version to another below a prefix, by path, of a kind or of all.

        A page may be shorter than `limit`; `next` of it, given as `after`, continues.
        """
        ...

    async def diff_folders(
        self,
        old: VersionRecord,
        new: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> ChangedFolderPage:
        """How much changed in each folder directly below a prefix, and of each entry there."""
        ...

    async def set_alias(
        self, name: ArtifactName, alias: str, number: int, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        """Lets an alias mean this version.

        `expect` is the number of the version that the caller saw the alias at, None when it saw no
        such alias; where that is not so any more, `CommitConflict` is raised.
        """
        ...

    async def remove_alias(
        self, name: ArtifactName, alias: str, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        """Takes an alias away, and returns the version that had it."""
        ...

    async def change_version(
        self,
        name: ArtifactName,
        number: int,
        change: LabelChange,
        *,
        expect: VersionRecord | None = None,
    ) -> VersionRecord:
        """Changes a version's labels, all at once or none.

        With `expect`, the version as the caller saw it, only if they are still like that; else
        `CommitConflict` is raised.
        """
        ...

    async def describe_artifact(self, name: ArtifactName, description: str) -> ArtifactRecord:
        """Replaces an artifact's description."""
        ...

    async def start_run(self, request: RunRequest) -> RunRecord:
        """Starts a run, or goes on with the one of that id: then it runs again.

        Raises `InvalidSetting` for the id of a run of another project.
        """
        ...

    async def run(self, run_id: str) -> RunRecord:
        """A run by its id. Raises `NoSuchRun`."""
        ...

    async def runs(
        self,
        project: str,
        *,
        job_type: str | None = None,
        after: str | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> list[RunRecord]:
        """A project's runs, newest first, those older than the run `after`.

        With `job_type`, those of that kind.
        """
        ...

    async def change_run(self, run_id: str, change: RunChange) -> RunRecord:
        """Changes what is said of a run, also after it has ended. Raises `NoSuchRun`."""
        ...

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        """Ends a run, which then takes nothing more; one that ended like that stays as it is.

        Raises `NoSuchRun`, and `RunEnded` for a run that ended otherwise.
        """
        ...

    async def use(self, ref: VersionRef, run_id: str, use_as: str | None = None) -> VersionRecord:
        """Records that a run uses a version, and returns that. Once is enough.

        `use_as` says as what it is used. Raises `NoSuchRun` and `RunEnded`.
        """
        ...

    async def inputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        """What a run used, in the order of first use, what comes after the link's id `after`."""
        ...

    async def outputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        """What a run made or found unchanged, each version once, in the order of commits."""
        ...

    async def lineage(
        self,
        ref: VersionRef,
        *,
        direction: Direction = "both",
        depth: int = LINEAGE_DEPTH_DEFAULT,
    ) -> Lineage:
        """What a version came from, and what came from it, at most `depth` runs away."""
        ...

    async def set_expiry(
        self, name: ArtifactName, number: int, expires_at: datetime | None
    ) -> VersionRecord:
        """Lets a version expire at a moment, or never."""
        ...

    async def protect_alias(
        self, name: ArtifactName, alias: str, *, protected: bool
    ) -> VersionRecord:
        """Protects an alias, or does so no more, and returns the version that it means.

        While it is protected it stays where it is, and its version neither expires nor is removed.
        """
        ...

    async def remove_version(self, name: ArtifactName, number: int) -> VersionRecord:
        """Lets a version go now, and returns what is kept of it.

        Raises `Protected` where an alias keeps it. Its files go with the next collection.
        """
        ...

    async def collect_garbage(self, order: GarbageOrder) -> GarbageReport:
        """Lets expired versions go, and deletes the files that no version needs."""
        ...

    async def examine(self, order: DoctorOrder) -> dict[str, Any]:
        """How a source would be reached, by name of what is found."""
        ...


async def collect(
    read: Callable[..., Awaitable[list[Row]]], cursor: Callable[[Row], str | int]
) -> list[Row]:
    """All rows of one of a workspace's lists; `cursor` is what of a row the list goes on after."""
    rows: list[Row] = []
    while True:
        after = cursor(rows[-1]) if rows else None
        page = await read(after=after, limit=CATALOG_ROWS_MAX)
        rows += page
        if len(page) < CATALOG_ROWS_MAX:
            return rows
