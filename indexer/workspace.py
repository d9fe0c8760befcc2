"""Workspace: what can be done with artifacts, on a data folder or on a daemon, by the same verbs.

Invariants
  * Both kinds take and give the same values and raise the same errors.
  * Lists are pages of at most `limit` rows; the next one begins after the last row of this one.
  * Whatever names a version by number or digest reads the same each time, but for what may change
    of it: aliases, notes, and when it was last confirmed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from indexer.limits import CATALOG_ROWS_MAX, PAGE_RESULTS_DEFAULT
from indexer.manifest import Manifest
from indexer.protocols import ANYWHERE, Servers
from indexer.records import (
    ArtifactRecord,
    FolderPage,
    Preview,
    ProjectRecord,
    ScanSummary,
    Snapshot,
    VersionRecord,
)
from indexer.references import ArtifactName, VersionRef
from indexer.telemetry import Counters
from indexer.wire.jobs import DoctorOrder, SnapshotOrder
from indexer.wire.query import CompareOrder, QueryOrder

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
        self, name: ArtifactName, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[VersionRecord]:
        """An artifact's versions, newest first, those older than the number `after`."""
        ...

    async def version(self, ref: VersionRef) -> VersionRecord:
        """The version that a reference names."""
        ...

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        """An artifact's aliases by name, each with the number of the version it means."""
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
        """What changed of a table between a version and another one, as Arrow's stream.

        Raises what `query` does.
        """
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

    async def set_notes(
        self, name: ArtifactName, number: int, notes: str, *, expect: str | None = None
    ) -> VersionRecord:
        """Replaces a version's notes. If they are not `expect` any more, `CommitConflict`."""
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
