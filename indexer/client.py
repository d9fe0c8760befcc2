"""The client of a daemon: the verbs of a data folder over HTTP, asynchronous and typed.

    async with indexer.connect("http://127.0.0.1:8765") as client:
        snapshot = await client.snapshot(SnapshotOrder(uri="s3://bucket/", name="project/artifact"))
        version = await client.open("project/artifact:latest")

Invariants
  * What is read of a version is verified here: a manifest and a shard have the digest that was
    asked for, whatever the daemon says.
  * A snapshot goes on at the daemon while its connection is cut, and is found again; when whoever
    waits for it is cancelled, it is cancelled too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pyarrow as pa

from indexer.artifact.handle import Handle
from indexer.changes import ChangedFolderPage, ChangeKind, DiffPage
from indexer.commit_rules import check_labels
from indexer.content import decode_shard
from indexer.errors import CorruptContent, IndexerError
from indexer.label_rules import (
    check_change,
    check_description,
    check_run_change,
    check_use_as,
)
from indexer.limits import (
    CATALOG_ROWS_MAX,
    JOB_CANCEL_TIMEOUT_S,
    LINEAGE_DEPTH_DEFAULT,
    PAGE_RESULTS_DEFAULT,
    PAGE_RESULTS_MAX,
)
from indexer.manifest import Manifest, read_manifest
from indexer.protocols import ANYWHERE, Servers, SourceOptions
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
    StructureReport,
    VersionRecord,
)
from indexer.references import ArtifactName, VersionRef, parse_name, parse_server
from indexer.remote import Remote
from indexer.telemetry import Counters, new_logger
from indexer.texts import path_text
from indexer.trackers.remote import RemoteTracker
from indexer.wire.artifacts import (
    AliasList,
    AliasOrder,
    AliasPatch,
    ArtifactDocument,
    ArtifactPage,
    ArtifactPatch,
    EntryPage,
    ProjectPage,
    ScanPage,
    VersionDocument,
    VersionPage,
    VersionPatch,
)
from indexer.wire.base import cursor_after, read_cursor
from indexer.wire.diff import DiffDocument, DiffFoldersDocument
from indexer.wire.jobs import (
    DoctorDocument,
    DoctorOrder,
    JobDocument,
    JobPage,
    PreviewDocument,
    SnapshotOrder,
)
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.wire.retention import GarbageDocument, GarbageOrder
from indexer.wire.runs import LineageDocument, LinkPage, RunDocument, RunPage, RunPatch, UseOrder
from indexer.wire.verification import StructureDocument
from workers.clock import SystemClock
from workers.threads import Threads

DECODING_THREADS: Final = 2


class Client:
    """A daemon as a `Workspace`, and its jobs."""

    def __init__(
        self, remote: Remote, threads: Threads, *, options: SourceOptions, log: Any
    ) -> None:
        self._remote = remote
        self._threads = threads
        self._tracker = RemoteTracker(remote)
        self._options = options
        self._log = log

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._remote.url

    async def open(self, ref: VersionRef | str) -> Handle:
        """The version that `ref` names, to be used by verbs like those of `indexer.Version`.

        Raises `InvalidReference` and `NoSuchVersion`.
        """
        return await Handle.open(self, ref)

    # --- jobs

    async def snapshot(self, order: SnapshotOrder, counters: Counters | None = None) -> Snapshot:
        job = await self.submit(order)
        try:
            async for changed in self.follow(job.id):
                job = changed
                job.progress.copy_to(counters or Counters())
        except asyncio.CancelledError:
            await self._give_up(job)
            raise
        if job.result is None:
            assert job.problem is not None
            raise job.problem.error()
        reference = VersionRef(parse_name(job.name), job.result.version)
        return job.result.record(await self.version(reference))

    async def preview(self, order: SnapshotOrder, counters: Counters | None = None) -> Preview:
        del counters
        return (await self._remote.send("POST", "/previews", PreviewDocument, order)).record()

    async def submit(self, order: SnapshotOrder, *, key: str | None = None) -> JobDocument:
        """Asks for a snapshot, and returns the job that makes it.

        Asked again with the same `key` within a day, the daemon answers with the same job.
        """
        headers = {"Idempotency-Key": key or uuid4().hex}
        return await self._remote.repeated(
            lambda: self._remote.send("POST", "/snapshots", JobDocument, order, headers)
        )

    async def jobs(self, *, after: str | None = None, limit: int = PAGE_RESULTS_DEFAULT) -> JobPage:
        """Jobs, newest first; `next` of a page, given as `after`, continues."""
        return await self._remote.get("/jobs", JobPage, {"after": after, "limit": limit})

    async def job(self, job_id: str) -> JobDocument:
        """A job as it is now. Raises `NoSuchJob`."""
        return await self._remote.get(f"/jobs/{_segment(job_id)}", JobDocument)

    async def cancel(self, job_id: str) -> JobDocument:
        """Tells a job to end. Raises `NoSuchJob`."""
        path = f"/jobs/{_segment(job_id)}"
        return await self._remote.repeated(lambda: self._remote.send("DELETE", path, JobDocument))

    def follow(self, job_id: str) -> AsyncIterator[JobDocument]:
        """A job at each of its events, until it has ended. Raises `NoSuchJob`."""
        return self._remote.follow(_segment(job_id))

    async def _give_up(self, job: JobDocument) -> None:
        """Cancels a job that nobody waits for any more, if the daemon can be told soon."""
        try:
            async with asyncio.timeout(JOB_CANCEL_TIMEOUT_S):
                await self.cancel(job.id)
        except (IndexerError, TimeoutError):
            return

    # --- what was recorded

    async def projects(
        self, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ProjectRecord]:
        query = _page(after, limit)
        page = await self._remote.get("/projects", ProjectPage, query)
        return [one.record() for one in page.results]

    async def artifacts(
        self, project: str, *, after: str | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ArtifactRecord]:
        path = f"/projects/{_segment(project)}/artifacts"
        page = await self._remote.get(path, ArtifactPage, _page(after, limit))
        return [one.record() for one in page.results]

    async def versions(
        self,
        name: ArtifactName,
        *,
        after: int | None = None,
        limit: int = CATALOG_ROWS_MAX,
        tag: str | None = None,
        deleted: bool = False,
    ) -> list[VersionRecord]:
        query = {**_page(_text(after), limit), "tag": tag, "deleted": "true" if deleted else None}
        page = await self._remote.get(f"{_path(name)}/versions", VersionPage, query)
        return [one.record() for one in page.results]

    async def version(self, ref: VersionRef) -> VersionRecord:
        return (await self._remote.get(_version_path(ref), VersionDocument)).record()

    async def artifact(self, name: ArtifactName) -> ArtifactRecord:
        return (await self._remote.get(_path(name), ArtifactDocument)).record()

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        found = await self._remote.get(f"{_path(name)}/aliases", AliasList)
        return {one.alias: int(one.ref.rpartition(":v")[2]) for one in found.results}

    async def protected_aliases(self, name: ArtifactName) -> frozenset[str]:
        found = await self._remote.get(f"{_path(name)}/aliases", AliasList)
        return frozenset(one.alias for one in found.results if one.protected)

    async def scans(
        self, ref: VersionRef, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ScanSummary]:
        query = _page(None if after is None else str(after), limit)
        page = await self._remote.get(f"{_version_path(ref)}/scans", ScanPage, query)
        return [one.record() for one in page.results]

    async def tiling(self, ref: VersionRef, scan_id: int) -> bytes:
        return await self._remote.get_bytes(f"{_version_path(ref)}/scans/{scan_id}/tiling")

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Servers]:
        from indexer.servers import ResilientServers
        from indexer.stores.memory import MemoryFacts

        async with ResilientServers.open(
            self._options, facts=MemoryFacts(), clock=SystemClock(), log=self._log
        ) as servers:
            yield servers

    async def root(self, digest: str) -> bytes:
        return await self._remote.get_bytes(f"/manifests/{_segment(digest)}")

    async def manifest(self, digest: str) -> Manifest:
        root = await self.root(digest)
        manifest = read_manifest(root)
        if manifest.digest != digest:
            raise CorruptContent(f"{self.url} gave another manifest than {digest}.")
        return manifest

    async def prove(self, ref: VersionRef) -> StructureReport:
        """What the daemon proves of a version. `Handle.verify_structure` does it here instead."""
        path = f"{_version_path(ref)}/verify"
        return (await self._remote.get(path, StructureDocument)).record()

    async def shard(self, digest: str) -> pa.Table:
        data = await self._remote.get_bytes(f"/shards/{_segment(digest)}")
        return await self._threads.run(decode_shard, data, digest)

    async def children(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        return await self._entry_page(version, prefix, after, limit, delimiter="/")

    async def entries(
        self,
        version: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> FolderPage:
        return await self._entry_page(version, prefix, after, limit, delimiter=None)

    async def _entry_page(
        self,
        version: VersionRecord,
        prefix: bytes,
        after: bytes | None,
        limit: int,
        *,
        delimiter: str | None,
    ) -> FolderPage:
        page = await self._remote.get(
            f"{_path(version.name)}/versions/{_segment(version.digest)}/entries",
            EntryPage,
            {
                "prefix": path_text(prefix) or None,
                "delimiter": delimiter,
                "after": None if after is None else cursor_after(after),
                "limit": min(limit, PAGE_RESULTS_MAX),
            },
        )
        return FolderPage(tuple(one.record() for one in page.results), read_cursor(page.next))

    async def query(self, version: VersionRecord, order: QueryOrder) -> bytes:
        return await self._remote.send_for_bytes(
            "POST", f"{_digest_path(version)}/query/arrow", order
        )

    async def compare_table(self, version: VersionRecord, order: CompareOrder) -> bytes:
        return await self._remote.send_for_bytes(
            "POST", f"{_digest_path(version)}/table-changes/arrow", order
        )

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
        query = _diff_query(new, prefix, after, limit) | {"kind": kind and str(kind)}
        return (await self._remote.get(_diff_path(old), DiffDocument, query)).record()

    async def diff_folders(
        self,
        old: VersionRecord,
        new: VersionRecord,
        prefix: bytes = b"",
        *,
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> ChangedFolderPage:
        path, query = f"{_diff_path(old)}/folders", _diff_query(new, prefix, after, limit)
        return (await self._remote.get(path, DiffFoldersDocument, query)).record()

    # --- what may change

    async def set_alias(
        self, name: ArtifactName, alias: str, number: int, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        return await self._change(
            "PUT",
            f"{_path(name)}/aliases/{_segment(alias)}",
            AliasOrder(version=f"v{number}"),
            _alias_headers(expect),
        )

    async def remove_alias(
        self, name: ArtifactName, alias: str, *, expect: int | None = ANYWHERE
    ) -> VersionRecord:
        path = f"{_path(name)}/aliases/{_segment(alias)}"
        return await self._change("DELETE", path, None, _alias_headers(expect))

    async def change_version(
        self,
        name: ArtifactName,
        number: int,
        change: LabelChange,
        *,
        expect: VersionRecord | None = None,
    ) -> VersionRecord:
        path = f"{_path(name)}/versions/v{number}"
        check_change(change)
        headers = {}
        if expect is not None:
            seen, tag = await self._remote.get_tagged(path, VersionDocument)
            check_labels(seen.record(), expect)
            headers = {"If-Match": tag}
        return await self._change("PATCH", path, VersionPatch.of(change), headers)

    async def describe_artifact(self, name: ArtifactName, description: str) -> ArtifactRecord:
        check_description(description)
        order = ArtifactPatch(description=description)
        return (await self._remote.send("PATCH", _path(name), ArtifactDocument, order)).record()

    # --- runs

    async def start_run(self, request: RunRequest) -> RunRecord:
        return await self._tracker.start_run(request)

    async def run(self, run_id: str) -> RunRecord:
        return await self._tracker.run(run_id)

    async def runs(
        self,
        project: str,
        *,
        job_type: str | None = None,
        after: str | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> list[RunRecord]:
        query = {**_page(after, limit), "job_type": job_type}
        page = await self._remote.get(f"/projects/{_segment(project)}/runs", RunPage, query)
        return [one.record() for one in page.results]

    async def change_run(self, run_id: str, change: RunChange) -> RunRecord:
        # What JSON cannot hold must not be sent as something else.
        check_run_change(change)
        order = RunPatch(name=change.name, config=change.config, notes=change.notes)
        path = f"/runs/{_segment(run_id)}"
        return (await self._remote.send("PATCH", path, RunDocument, order)).record()

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        return await self._tracker.finish_run(run_id, state)

    async def use(self, ref: VersionRef, run_id: str, use_as: str | None = None) -> VersionRecord:
        if use_as is not None:
            check_use_as(use_as)
        # Asked twice, an alias might mean another version the second time.
        version = await self.version(ref)
        order = UseOrder(ref=version.ref, use_as=use_as)
        path = f"/runs/{_segment(run_id)}/inputs"
        return await self._remote.repeated(lambda: self._change("POST", path, order, {}))

    async def inputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        path, query = f"/runs/{_segment(run_id)}/inputs", _page(_text(after), limit)
        return [one.record() for one in (await self._remote.get(path, LinkPage, query)).results]

    async def outputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        path, query = f"/runs/{_segment(run_id)}/outputs", _page(_text(after), limit)
        return [one.record() for one in (await self._remote.get(path, LinkPage, query)).results]

    async def lineage(
        self,
        ref: VersionRef,
        *,
        direction: Direction = "both",
        depth: int = LINEAGE_DEPTH_DEFAULT,
    ) -> Lineage:
        path = f"{_path(ref.name)}/versions/{_segment(ref.selector)}/lineage"
        query = {"direction": direction, "depth": depth}
        return (await self._remote.get(path, LineageDocument, query)).record()

    async def set_expiry(
        self, name: ArtifactName, number: int, expires_at: datetime | None
    ) -> VersionRecord:
        path = f"{_path(name)}/versions/v{number}"
        return await self._change("PATCH", path, VersionPatch(expires_at=expires_at), {})

    async def protect_alias(
        self, name: ArtifactName, alias: str, *, protected: bool
    ) -> VersionRecord:
        path = f"{_path(name)}/aliases/{_segment(alias)}"
        return await self._change("PATCH", path, AliasPatch(protected=protected), {})

    async def remove_version(self, name: ArtifactName, number: int) -> VersionRecord:
        return await self._change("DELETE", f"{_path(name)}/versions/v{number}", None, {})

    async def collect_garbage(self, order: GarbageOrder) -> GarbageReport:
        return (await self._remote.send("POST", "/gc", GarbageDocument, order)).record()

    async def _change(
        self, method: str, path: str, order: msgspec.Struct | None, headers: dict[str, str]
    ) -> VersionRecord:
        document = await self._remote.send(method, path, VersionDocument, order, headers)
        return document.record()

    async def examine(self, order: DoctorOrder) -> dict[str, Any]:
        found = await self._remote.send("POST", "/doctor", DoctorDocument, order)
        return msgspec.structs.asdict(found)


@asynccontextmanager
async def connect(
    url: str, *, options: SourceOptions | None = None, log: Any = None
) -> AsyncIterator[Client]:
    """The daemon at `url`, asked nothing yet. Raises `InvalidReference` for what is no URL.

    `options` say how objects that versions reference are reached when they are read, which is done
    from here. `log` is a structured logger; without one, warnings are written to standard error.
    """
    async with Threads(DECODING_THREADS) as threads, Remote.open(parse_server(url)) as remote:
        yield Client(remote, threads, options=options or SourceOptions(), log=log or new_logger())


def _page(after: str | None, limit: int) -> dict[str, str | int | None]:
    return {"after": None if after is None else cursor_after(after), "limit": limit}


def _diff_path(old: VersionRecord) -> str:
    """By digest: such answers never change."""
    return f"{_version_path(VersionRef(old.name, old.digest))}/diff"


def _diff_query(
    new: VersionRecord, prefix: bytes, after: bytes | None, limit: int
) -> dict[str, str | int | None]:
    return {
        "to": str(VersionRef(new.name, new.digest)),
        "prefix": path_text(prefix) or None,
        "after": None if after is None else cursor_after(after),
        "limit": min(limit, PAGE_RESULTS_MAX),
    }


def _text(after: int | None) -> str | None:
    return None if after is None else str(after)


def _path(name: ArtifactName) -> str:
    return f"/artifacts/{_segment(name.project)}/{_segment(name.artifact)}"


def _digest_path(version: VersionRecord) -> str:
    return f"{_path(version.name)}/versions/{_segment(version.digest)}"


def _version_path(ref: VersionRef) -> str:
    return f"{_path(ref.name)}/versions/{_segment(ref.selector)}"


def _segment(text: str) -> str:
    """The text as one segment of a path, whatever is in it."""
    return quote(text, safe="", errors="surrogateescape")


def _alias_headers(expect: int | None) -> dict[str, str]:
    if expect == ANYWHERE:
        return {}
    return {"If-None-Match": "*"} if expect is None else {"If-Match": f'"v{expect}"'}
