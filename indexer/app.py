"""The composition root: names concrete classes, wires them, and closes them again.

Invariants
  * Nothing else chooses an implementation; everything below receives protocols.
  * What is opened here is closed here, in the opposite order, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from indexer.artifact.diff.kept import Diffs
from indexer.artifact.entries import entries_page
from indexer.artifact.query.queries import Queries
from indexer.catalog.catalog import Catalog
from indexer.changes import ChangedFolderPage, ChangeKind, DiffPage
from indexer.defaults import Defaults
from indexer.doctor import examine
from indexer.errors import NoSuchVersion
from indexer.globs import Filters
from indexer.job import run_job
from indexer.limits import (
    CATALOG_ROWS_MAX,
    LINEAGE_DEPTH_DEFAULT,
    PAGE_RESULTS_DEFAULT,
    READ_BYTES_MAX,
    THREADS_MAX,
)
from indexer.manifest import Manifest
from indexer.pipeline.trigger import SnapshotRequest
from indexer.preview import run_preview
from indexer.protocols import ANYWHERE, Servers, SourceOptions, Tracker
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
from indexer.references import ArtifactName, VersionRef, parse_name
from indexer.servers import ResilientServers
from indexer.service import Service
from indexer.slice import SliceTools
from indexer.sources import parse_source
from indexer.telemetry import Counters, new_logger
from indexer.wire.jobs import DoctorOrder, SnapshotOrder
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.wire.retention import GarbageOrder
from workers.budget import Budget
from workers.clock import Clock, SystemClock
from workers.errors import single_error
from workers.threads import Threads

if TYPE_CHECKING:
    from indexer.daemon.server import Daemon


class App:
    """An open data folder as a `Workspace`. Versions are told to `tracker`."""

    def __init__(
        self,
        catalog: Catalog,
        tracker: Tracker,
        *,
        servers: ResilientServers,
        threads: Threads,
        clock: Clock,
        defaults: Defaults,
        log: Any,
    ) -> None:
        self.catalog = catalog
        self.tracker = tracker
        self.defaults = defaults
        self._log = log
        self._threads = threads
        self._clock = clock
        self._servers = servers
        self._budget = Budget(READ_BYTES_MAX)
        self.queries = Queries(self, catalog.content.shard_bytes, threads, defaults.query)
        self._diffs = Diffs(self, threads)

    # --- snapshots

    async def snapshot(self, order: SnapshotOrder, counters: Counters | None = None) -> Snapshot:
        return await self.make_snapshot(*self.read_order(order), counters)

    def read_order(self, order: SnapshotOrder) -> tuple[SnapshotRequest, SourceOptions]:
        """What an order asks for, with what holds here where it leaves something open.

        Raises `InvalidReference` and `InvalidSetting`.
        """
        defaults = self.defaults
        request = SnapshotRequest(
            sources=order.read_sources(),
            name=parse_name(order.name),
            type=order.type,
            aliases=tuple(order.aliases),
            notes=order.notes,
            objects_max=_or(order.max_objects, defaults.objects_max),
            on_limit=order.on_limit or defaults.on_limit,
            allow_empty=order.allow_empty,
            filters=Filters(tuple(order.include), tuple(order.exclude)),
            checksum=order.checksum or defaults.checksum,
            heads=order.heads,
            as_of=order.as_of,
            ttl=order.ttl,
            description=order.description,
            metadata=order.metadata,
            tags=tuple(order.tags),
            run=order.run,
        )
        return request, order.options(defaults.options)

    async def make_snapshot(
        self,
        request: SnapshotRequest,
        options: SourceOptions,
        counters: Counters | None = None,
        request_id: str | None = None,
    ) -> Snapshot:
        """Lists what the request names and commits it. See `job.run_job`."""
        counters = counters or Counters()
        log = self._log.bind(job=str(request.name), source=request.title)
        with self.catalog.leases.hold():
            snapshot = await run_job(
                request,
                self._servers.reach(options, counters, log=log),
                self._tools(counters),
                request_id or uuid4().hex,
            )
        log.info("committed", ref=snapshot.result.version.ref, created=snapshot.result.created)
        return snapshot

    async def preview(self, order: SnapshotOrder, counters: Counters | None = None) -> Preview:
        counters = counters or Counters()
        request, options = self.read_order(order)
        reach = self._servers.reach(options, counters)
        return await run_preview(request, reach, self._tools(counters))

    async def examine(self, order: DoctorOrder) -> dict[str, Any]:
        options, source = order.options(self.defaults.options), parse_source(order.uri)
        async with self._servers.backends.connect(source, options, Counters()) as connection:
            return await examine(connection, source, self.catalog.folder.path)

    async def warm_up(self) -> None:
        """Reads what the first snapshot would have to read, before anybody waits."""
        await self._servers.backends.load()

    def _tools(self, counters: Counters) -> SliceTools:
        return SliceTools(
            content=self.catalog.content,
            tracker=self.tracker,
            threads=self._threads,
            budget=self._budget,
            counters=counters,
            clock=self._clock,
        )

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Servers]:
        yield self._servers

    # --- what was recorded

    async def projects(
        self, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ProjectRecord]:
        return await self.catalog.reader.projects(after=after, limit=limit)

    async def artifacts(
        self, project: str, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ArtifactRecord]:
        return await self.catalog.reader.artifacts(project, after=after, limit=limit)

    async def versions(
        self,
        name: ArtifactName,
        *,
        after: int | None = None,
        limit: int = CATALOG_ROWS_MAX,
        tag: str | None = None,
        deleted: bool = False,
    ) -> list[VersionRecord]:
        return await self.catalog.reader.versions(
            name, after=after, limit=limit, tag=tag, deleted=deleted
        )

    async def artifact(self, name: ArtifactName) -> ArtifactRecord:
        return await self.catalog.reader.artifact(name)

    async def version(self, ref: VersionRef) -> VersionRecord:
        return await self.catalog.reader.version(ref.name, ref.selector)

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        return await self.catalog.reader.aliases(name)

    async def scans(
        self, ref: VersionRef, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ScanSummary]:
        return await self.catalog.reader.scans(ref.name, ref.selector, after=after, limit=limit)

    async def tiling(self, ref: VersionRef, scan_id: int) -> bytes:
        name = await self.catalog.reader.tiling(ref.name, ref.selector, scan_id)
        return await self.catalog.content.get(name)

    async def manifest(self, digest: str) -> Manifest:
        return await self.catalog.tracker.manifest(digest)

    async def root(self, digest: str) -> bytes:
        return await self.catalog.tracker.root(digest)

    async def shard(self, digest: str) -> pa.Table:
        return await self.catalog.tracker.shard(digest)

    async def children(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        return await self.catalog.folders.page(version.digest, prefix, after, limit)

    async def entries(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        return await entries_page(self, await self.manifest(version.digest), prefix, after, limit)

    async def query(self, version: VersionRecord, order: QueryOrder) -> bytes:
        return await self.queries.query(version, order)

    async def compare_table(self, version: VersionRecord, order: CompareOrder) -> bytes:
        return await self.queries.compare(version, order)

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
        found = await self._diffs.of(old.digest, new.digest, prefix)
        return await found.page(() if kind is None else (kind,), after, limit)

    async def diff_folders(
        self,
        old: VersionRecord,
        new: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> ChangedFolderPage:
        found = await self._diffs.of(old.digest, new.digest, prefix)
        return await found.folders(after, limit)

    async def set_alias(
        self, name: ArtifactName, alias: str, number: int, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        return await self.catalog.labels.set_alias(name, alias, number, expect=expect)

    async def remove_alias(
        self, name: ArtifactName, alias: str, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        return await self.catalog.labels.remove_alias(name, alias, expect=expect)

    async def change_version(
        self,
        name: ArtifactName,
        number: int,
        change: LabelChange,
        *,
        expect: VersionRecord | None = None,
    ) -> VersionRecord:
        return await self.catalog.labels.change_version(name, number, change, expect=expect)

    async def describe_artifact(self, name: ArtifactName, description: str) -> ArtifactRecord:
        await self.catalog.labels.describe_artifact(name, description)
        return await self.artifact(name)

    # --- runs

    async def start_run(self, request: RunRequest) -> RunRecord:
        return await self.tracker.start_run(request)

    async def run(self, run_id: str) -> RunRecord:
        return await self.tracker.run(run_id)

    async def runs(
        self,
        project: str,
        *,
        job_type: str | None = None,
        after: str | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> list[RunRecord]:
        return await self.catalog.runs.runs(project, job_type=job_type, after=after, limit=limit)

    async def change_run(self, run_id: str, change: RunChange) -> RunRecord:
        return await self.catalog.runs.change(run_id, change)

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        return await self.tracker.finish_run(run_id, state)

    async def use(self, ref: VersionRef, run_id: str, use_as: str | None = None) -> VersionRecord:
        return await self.catalog.runs.use(ref, run_id, use_as)

    async def inputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        return await self.catalog.runs.inputs(run_id, after=after, limit=limit)

    async def outputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        return await self.catalog.runs.outputs(run_id, after=after, limit=limit)

    async def lineage(
        self,
        ref: VersionRef,
        *,
        direction: Direction = "both",
        depth: int = LINEAGE_DEPTH_DEFAULT,
    ) -> Lineage:
        return await self.catalog.reader.lineage(ref.name, ref.selector, direction, depth)

    # --- what goes

    async def protected_aliases(self, name: ArtifactName) -> frozenset[str]:
        return await self.catalog.reader.protected_aliases(name)

    async def set_expiry(
        self, name: ArtifactName, number: int, expires_at: datetime | None
    ) -> VersionRecord:
        return await self.catalog.retention.set_expiry(name, number, expires_at)

    async def protect_alias(
        self, name: ArtifactName, alias: str, *, protected: bool
    ) -> VersionRecord:
        return await self.catalog.retention.protect_alias(name, alias, protected=protected)

    async def remove_version(self, name: ArtifactName, number: int) -> VersionRecord:
        return await self.catalog.retention.remove(name, number)

    async def collect_garbage(self, order: GarbageOrder) -> GarbageReport:
        report = await self.catalog.garbage.collect(order.grace_s, is_dry_run=order.dry_run)
        if not report.is_dry_run:
            total = report.total
            self._log.info(
                "garbage", expired=len(report.expired), files=total.files, bytes=total.size_bytes
            )
        return report


@asynccontextmanager
async def open_app(
    data: Path,
    *,
    defaults: Defaults | None = None,
    to: str | None = None,
    log: Any = None,
    clock: Clock | None = None,
    creates: bool = True,
) -> AsyncIterator[App]:
    """The app on a data folder, which is made if it is not there, unless `creates` is false.

    With `to`, the URL of a daemon, versions are told there, and the folder keeps only what listing
    needs. `log` is a structured logger; without one, warnings are written to standard error.

    Raises `UnusableDataFolder`, and `NoSuchVersion` where there is nothing and nothing is made.
    """
    if not creates and not data.exists():  # noqa: ASYNC240 - one look, before anything runs
        raise NoSuchVersion(f"There is no data folder at {data}; snapshot something first.")
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        threads = await stack.enter_async_context(Threads(THREADS_MAX))
        catalog = await stack.enter_async_context(Catalog.open(data, clock))
        defaults, log = defaults or Defaults(), log or new_logger()
        servers = await stack.enter_async_context(
            ResilientServers.open(defaults.options, facts=catalog.facts, clock=clock, log=log)
        )
        tracker: Tracker = catalog.tracker
        if to is not None:
            from indexer.remote import Remote
            from indexer.trackers.remote import RemoteTracker

            tracker = RemoteTracker(await stack.enter_async_context(Remote.open(to, clock=clock)))
        yield App(
            catalog,
            tracker,
            servers=servers,
            threads=threads,
            clock=clock,
            defaults=defaults,
            log=log,
        )


@asynccontextmanager
async def open_daemon(
    app: App,
    *,
    host: str,
    port: int,
    running_max: int,
    log: Any,
    clock: Clock | None = None,
    on_idle: Callable[[], None] = lambda: None,
) -> AsyncIterator[Daemon]:
    """A daemon of the app that listens, until its block is left. See `daemon.server.Daemon`.

    `on_idle` is called whenever no job is left to do.

    Raises `InvalidSetting` for an address that it may not, or cannot, listen on.
    """
    from indexer.daemon.health import Health
    from indexer.daemon.server import Daemon

    clock = clock or SystemClock()
    await app.warm_up()
    with single_error():
        async with (
            Service.open(
                run=app.make_snapshot,
                outcome=app.tracker.outcome,
                clock=clock,
                log=log,
                running_max=running_max,
                on_idle=on_idle,
            ) as service,
            Daemon.open(
                workspace=app,
                read_order=app.read_order,
                tracker=app.tracker,
                content=app.catalog.content,
                queries=app.queries,
                service=service,
                health=Health(app.catalog.folder.path, app.catalog.reader.ping),
                clock=clock,
                log=log,
                host=host,
                port=port,
            ) as daemon,
        ):
            yield daemon


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
