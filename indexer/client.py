"""The client of a daemon: the verbs of a data folder over HTTP, asynchronous and typed.

    async with indexer.connect("http://127.0.0.1:8765") as client:
        snapshot = await client.snapshot(SnapshotOrder(uri="s3://bucket/", name="project/artifact"))

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
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pyarrow as pa

from indexer.content import decode_shard
from indexer.errors import CommitConflict, CorruptContent, IndexerError
from indexer.limits import (
    CATALOG_ROWS_MAX,
    JOB_CANCEL_TIMEOUT_S,
    PAGE_RESULTS_DEFAULT,
    PAGE_RESULTS_MAX,
)
from indexer.manifest import Manifest, read_manifest
from indexer.protocols import ANYWHERE, Servers, SourceOptions
from indexer.records import (
    ArtifactRecord,
    FolderPage,
    Preview,
    ProjectRecord,
    ScanSummary,
    Snapshot,
    VersionRecord,
)
from indexer.references import ArtifactName, VersionRef, parse_name, parse_server
from indexer.remote import Remote
from indexer.telemetry import Counters, new_logger
from indexer.wire.artifacts import (
    AliasList,
    AliasOrder,
    ArtifactPage,
    EntryPage,
    ProjectPage,
    ScanPage,
    VersionDocument,
    VersionPage,
    VersionPatch,
)
from indexer.wire.base import cursor_after, read_cursor
from indexer.wire.jobs import (
    DoctorDocument,
    DoctorOrder,
    JobDocument,
    JobPage,
    PreviewDocument,
    SnapshotOrder,
)
from indexer.wire.query import CompareOrder, QueryOrder
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
        self._options = options
        self._log = log

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._remote.url

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
        self, name: ArtifactName, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[VersionRecord]:
        query = _page(None if after is None else str(after), limit)
        page = await self._remote.get(f"{_path(name)}/versions", VersionPage, query)
        return [one.record() for one in page.results]

    async def version(self, ref: VersionRef) -> VersionRecord:
        return (await self._remote.get(_version_path(ref), VersionDocument)).record()

    async def aliases(self, name: ArtifactName) -> dict[str, int]:
        found = await self._remote.get(f"{_path(name)}/aliases", AliasList)
        return {one.alias: int(one.ref.rpartition(":v")[2]) for one in found.results}

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

    async def manifest(self, digest: str) -> Manifest:
        root = await self._remote.get_bytes(f"/manifests/{_segment(digest)}")
        manifest = read_manifest(root)
        if manifest.digest != digest:
            raise CorruptContent(f"{self.url} gave another manifest than {digest}.")
        return manifest

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
                "prefix": prefix.decode("utf-8", "surrogateescape") or None,
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

    async def set_notes(
        self, name: ArtifactName, number: int, notes: str, *, expect: str | None = None
    ) -> VersionRecord:
        path = f"{_path(name)}/versions/v{number}"
        headers = {}
        if expect is not None:
            seen, tag = await self._remote.get_tagged(path, VersionDocument)
            if seen.notes != expect:
                raise CommitConflict(
                    f"the notes on {name}:v{number} were changed meanwhile. Look again, and repeat."
                )
            headers = {"If-Match": tag}
        return await self._change("PATCH", path, VersionPatch(notes=notes), headers)

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
