"""Files: a version's entries looked up by path one at a time, and the bytes of their originals.

Invariants
  * What is said of an entry is of the version, whatever is at its place now; bytes are those that
    were recorded, or an error says what is there instead.
  * So many shards are kept as were last looked into, each verified when it was read.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyarrow as pa

from indexer.artifact.entries import read_entries
from indexer.artifact.originals import Originals, originals_of
from indexer.artifact.recorded import read_as_recorded
from indexer.entries import entries_of
from indexer.errors import NoSuchObject
from indexer.limits import FILE_SHARDS_KEPT_MAX
from indexer.manifest import Manifest
from indexer.page import paths_of
from indexer.protocols import Sink
from indexer.records import Entry, Folder, VersionRecord
from indexer.workspace import Workspace


@dataclass(frozen=True, slots=True)
class _Rows:
    table: pa.Table
    paths: list[bytes]


class VersionFiles:
    """The entries of one version, for as long as `originals` are open."""

    def __init__(
        self,
        workspace: Workspace,
        record: VersionRecord,
        manifest: Manifest,
        originals: Originals,
    ) -> None:
        self.record = record
        self._workspace = workspace
        self._manifest = manifest
        self._originals = originals
        self._ends = [shard.max_path for shard in manifest.shards]
        self._kept: dict[str, _Rows] = {}
        self._reading = asyncio.Lock()

    async def entry(self, path: bytes) -> Entry | None:
        """What is recorded at a path."""
        row = await self._row(path)
        return None if row is None else next(entries_of(row, self._manifest.sources))

    async def has_below(self, prefix: bytes) -> bool:
        """Whether a path of the version starts with `prefix`."""
        at = bisect_left(self._ends, prefix)
        if at == len(self._ends):
            return False
        rows = await self._rows(self._manifest.shards[at].digest)
        found = bisect_left(rows.paths, prefix)
        return found < len(rows.paths) and rows.paths[found].startswith(prefix)

    async def children(self, folder: bytes) -> AsyncIterator[Entry | Folder]:
        """What lies directly in a folder, whose path ends in a slash unless it is the root's."""
        after: bytes | None = None
        while True:
            page = await self._workspace.children(self.record, folder, after=after)
            for child in page.children:
                yield child
            if page.next is None:
                return
            after = page.next

    async def entries(self, prefix: bytes) -> AsyncIterator[Entry]:
        """All entries whose paths start with `prefix`, in order."""
        async for table in read_entries(self._workspace, self._manifest, prefix):
            for entry in entries_of(table, self._manifest.sources):
                yield entry

    async def read(
        self, path: bytes, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """Writes bytes of an entry's original into `sink`. See `protocols.Store.read`.

        Raises `NoSuchObject` and `ObjectChanged` with what was recorded and what is there instead.
        """
        row = await self._row(path)
        if row is None:
            raise NoSuchObject(f"there is no {path!r} in {self.record.ref}.")
        (original,) = originals_of(row, of_moment=self.record.as_of is not None)
        await read_as_recorded(self._originals, original, sink, start=start, end=end)

    async def _row(self, path: bytes) -> pa.Table | None:
        at = bisect_left(self._ends, path)
        if at == len(self._ends):
            return None
        rows = await self._rows(self._manifest.shards[at].digest)
        found = bisect_left(rows.paths, path)
        if found == len(rows.paths) or rows.paths[found] != path:
            return None
        return rows.table.slice(found, 1)

    async def _rows(self, digest: str) -> _Rows:
        async with self._reading:
            rows = self._kept.pop(digest, None)
            if rows is None:
                table = await self._workspace.shard(digest)
                rows = _Rows(table, paths_of(table))
            # The least recently used are forgotten first.
            self._kept[digest] = rows
            while len(self._kept) > FILE_SHARDS_KEPT_MAX:
                del self._kept[next(iter(self._kept))]
        return rows
