"""Handle: a version, and what whoever uses it may ask of it; asynchronous.

Invariants
  * It works on a data folder and on a daemon alike: all that it is told it asks of a `Workspace`.
  * What it says of the version was true when it was opened; what the version holds never changes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from indexer.artifact.diff.diff import Diff, find_diff
from indexer.artifact.download.download import (
    DownloadOptions,
    DownloadResult,
    DownloadTally,
    download,
)
from indexer.artifact.entries import read_entries
from indexer.artifact.links import EntryLink, links_of
from indexer.artifact.originals import Originals
from indexer.artifact.query.columns import quoted_name
from indexer.artifact.query.results import Comparison, Result
from indexer.artifact.selection import Selection
from indexer.artifact.verify.references import ReferenceReport, Tell, verify_references
from indexer.artifact.verify.structure import verify_structure
from indexer.artifact.verify.tiling import read_tiling
from indexer.errors import CorruptContent
from indexer.limits import LINEAGE_DEPTH_DEFAULT, LINK_EXPIRES_S_DEFAULT
from indexer.manifest import Manifest
from indexer.protocols import ANYWHERE
from indexer.records import Direction, LabelChange, Lineage, StructureReport, VersionRecord
from indexer.references import VersionRef, parse_beside, parse_reference
from indexer.telemetry import Counters
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.workspace import Workspace
from workers.threads import Threads

TABLES_SQL: Final = "SELECT path, format, size, uri FROM tables ORDER BY path"


@dataclass(frozen=True, slots=True)
class Handle:
    """A version that was opened."""

    workspace: Workspace
    record: VersionRecord

    @classmethod
    async def open(cls, workspace: Workspace, ref: VersionRef | str) -> Handle:
        """The version that `ref` names. Raises `InvalidReference` and `NoSuchVersion`."""
        wanted = parse_reference(ref) if isinstance(ref, str) else ref
        return cls(workspace, await workspace.version(wanted))

    @property
    def ref(self) -> VersionRef:
        """The version by its number, which never means another one."""
        return VersionRef(self.record.name, f"v{self.record.number}")

    async def manifest(self) -> Manifest:
        """What it holds: its sources and shards."""
        return await self.workspace.manifest(self.record.digest)

    async def entries(self, prefix: bytes = b"") -> AsyncIterator[pa.Table]:
        """The entries whose paths start with `prefix`, in key order, a table a shard.

        Raises `CorruptContent`.
        """
        async for table in read_entries(self.workspace, await self.manifest(), prefix):
            yield table

    async def beside(self, other: VersionRef | str) -> Handle:
        """Another version, which of the same artifact may be named as `v3`, an alias or digest.

        Raises `InvalidReference` and `NoSuchVersion`.
        """
        wanted = parse_beside(other, self.record.name) if isinstance(other, str) else other
        return await Handle.open(self.workspace, wanted)

    async def diff(self, other: Handle, prefix: bytes = b"", *, threads: Threads) -> Diff:
        """What changed below a prefix since another version: what is added is in this one.

        The diff works on `threads`, and is of no use without them. Raises `CorruptContent`.
        """
        old, new = await other.manifest(), await self.manifest()
        return await find_diff(self.workspace, old, new, threads=threads, prefix=prefix)

    async def lineage(
        self, *, direction: Direction = "both", depth: int = LINEAGE_DEPTH_DEFAULT
    ) -> Lineage:
        """What it came from, and what came from it. See `Workspace.lineage`."""
        return await self.workspace.lineage(self.ref, direction=direction, depth=depth)

    async def change(self, change: LabelChange) -> VersionRecord:
        """Changes what is said of it. See `Workspace.change_version`."""
        return await self.workspace.change_version(self.record.name, self.record.number, change)

    async def set_alias(self, alias: str, *, expect: int | None = ANYWHERE) -> VersionRecord:
        """Lets an alias mean it. See `Workspace.set_alias`."""
        name, number = self.record.name, self.record.number
        return await self.workspace.set_alias(name, alias, number, expect=expect)

    async def expire_at(self, expires_at: datetime | None) -> VersionRecord:
        """Lets it expire at a moment, or never. See `Workspace.set_expiry`."""
        return await self.workspace.set_expiry(self.record.name, self.record.number, expires_at)

    async def remove(self) -> VersionRecord:
        """Deletes it. See `Workspace.remove_version`."""
        return await self.workspace.remove_version(self.record.name, self.record.number)

    async def verify_structure(self, counters: Counters | None = None) -> StructureReport:
        """Proves, without asking a store, that what is kept of the version is whole."""
        return await verify_structure(self.workspace, self.record, counters)

    async def verify(
        self,
        selection: Selection | None = None,
        *,
        tell: Tell | None = None,
        counters: Counters | None = None,
    ) -> ReferenceReport:
        """Looks whether its objects can still be fetched, without reading them.

        `tell` is called for each that cannot, in the order of their paths.
        """
        manifest = await self.manifest()
        created, *_ = await self.workspace.scans(self.ref, limit=1)
        async with self.originals(counters) as originals:
            return await verify_references(
                self.workspace,
                manifest,
                originals,
                ref=str(self.ref),
                selection=selection or Selection(),
                as_of=self.record.as_of,
                scanned_at=created.finished_at,
                spreads=await self._spreads(created.id, len(manifest.sources)),
                tell=tell,
                counters=counters,
            )

    async def links(
        self, selection: Selection | None = None, *, expires_s: int = LINK_EXPIRES_S_DEFAULT
    ) -> AsyncGenerator[EntryLink]:
        """Where the bytes of its entries are fetched from, in the order of their paths.

        What has to be signed holds for `expires_s`. To be closed by who does not read to the end.
        """
        async with self.originals() as originals:
            async for link in links_of(
                self.workspace,
                await self.manifest(),
                originals,
                selection=selection or Selection(),
                of_moment=self.is_of_moment,
                expires_s=expires_s,
            ):
                yield link

    async def _spreads(self, scan_id: int, sources: int) -> list[float]:
        """By source, how many objects were listed for each entry; nothing where it is not known."""
        try:
            return read_tiling(await self.workspace.tiling(self.ref, scan_id)).spreads(sources)
        except CorruptContent:
            return []

    @property
    def is_of_moment(self) -> bool:
        """Whether it is as of a moment that was past when it was made."""
        return self.record.as_of is not None

    async def download(
        self,
        root: Path,
        options: DownloadOptions | None = None,
        *,
        counters: Counters | None = None,
        tally: DownloadTally | None = None,
    ) -> DownloadResult:
        """Makes files of its objects below a folder. See `artifact.download.download`."""
        return await download(self, root, options, counters=counters, tally=tally)

    @asynccontextmanager
    async def originals(self, counters: Counters | None = None) -> AsyncIterator[Originals]:
        """The objects that it references, to be read where they are."""
        manifest = await self.manifest()
        created, *_ = await self.workspace.scans(self.ref, limit=1)
        async with (
            self.workspace.servers() as servers,
            Originals.open(
                manifest, servers, records=created.sources, counters=counters
            ) as originals,
        ):
            yield originals

    # --- SQL and tables

    async def query(
        self,
        sql: str,
        *,
        versions: Mapping[str, str] | None = None,
        prefix: str = "",
        rows_max: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """The rows of one SELECT over `entries` and the tables in the version.

        `versions` are others by the names that SQL has them under. `prefix` narrows `entries` down.
        Raises what `Workspace.query` does.
        """
        order = QueryOrder(
            sql=sql,
            versions=dict(versions or {}),
            prefix=prefix,
            rows_max=rows_max,
            timeout_s=timeout_s,
        )
        return Result.read(await self.workspace.query(self.record, order))

    async def tables(self) -> Result:
        """The entries that are tables: path, format, size, URI."""
        return await self.query(TABLES_SQL)

    async def table(self, path: str, *, media: str | None = None, of: str | None = None) -> Result:
        """The rows of the table at a path. Raises what `query` does.

        With `media`, the name of a column of paths or URIs, each with the entry that it names, of
        this version or of `of`.
        """
        address = path if media is None else f"{path}#{media}{'@media' if of else ''}"
        versions = {"media": of} if of else {}
        return await self.query(f"SELECT * FROM {quoted_name(address)}", versions=versions)  # noqa: S608

    async def compare_table(self, path: str, other: Handle, *, key: Sequence[str]) -> Comparison:
        """What changed of the table at a path since another version, by the columns `key`.

        What is added is in this one. Raises what `query` does.
        """
        order = CompareOrder(path=path, to=self.record.ref, key=list(key))
        return Comparison.read(await self.workspace.compare_table(other.record, order))
