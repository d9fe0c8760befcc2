"""Handle: a version, and what whoever uses it may ask of it; asynchronous.

Invariants
  * It works on a data folder and on a daemon alike: all that it is told it asks of a `Workspace`.
  * What it says of the version was true when it was opened; what the version holds never changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from indexer.artifact.columns import quoted_name
from indexer.artifact.entries import read_entries
from indexer.artifact.originals import Originals
from indexer.artifact.results import Comparison, Result
from indexer.manifest import Manifest
from indexer.records import VersionRecord
from indexer.references import VersionRef, parse_reference
from indexer.telemetry import Counters
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.workspace import Workspace

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

    @property
    def is_of_moment(self) -> bool:
        """Whether it is as of a moment that was past when it was made."""
        return self.record.as_of is not None

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

    async def compare_table(self, path: str, other: str, *, key: Sequence[str]) -> Comparison:
        """What changed of the table at a path from this version to `other`, by these columns."""
        order = CompareOrder(path=path, other=other, key=list(key))
        return Comparison.read(await self.workspace.compare_table(self.record, order))
