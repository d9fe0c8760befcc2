"""Entries of a version, in key order, a shard at a time.

Invariants
  * Only shards that can hold the prefix are read, and each is verified.
  * One shard is in memory at a time, whatever the version's size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from indexer.entries import entries_of
from indexer.globs import Filters
from indexer.label_rules import words
from indexer.manifest import Manifest, ShardRef
from indexer.records import Entry, FolderPage
from indexer.texts import path_bytes


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries of a version are meant: those that start with `prefix` and `filters` keep."""

    prefix: bytes = b""
    filters: Filters = field(default_factory=Filters)

    @classmethod
    def made(cls, prefix: str | bytes, include: Sequence[str], exclude: Sequence[str]) -> Selection:
        """The entries whose paths start with `prefix` and that the globs keep; exclude wins.

        Raises `InvalidSetting` for what is no glob.
        """
        return cls(path_bytes(prefix), Filters(words(include), words(exclude)))

    def __bool__(self) -> bool:
        return bool(self.prefix or self.filters)

    def of(self, table: pa.Table) -> list[int]:
        """The rows of a shard that are meant, by number."""
        kept = pc.starts_with(table.column("path"), self.prefix) if self.prefix else None
        if self.filters:
            selector = self.filters.selector()
            batches = [selector.keeps(batch) for batch in table.to_batches()]
            matched = pa.chunked_array(batches, pa.bool_())
            kept = matched if kept is None else pc.and_(kept, matched)
        if kept is None:
            return list(range(table.num_rows))
        return pc.indices_nonzero(kept).to_pylist()  # type: ignore[no-any-return]


def shards_below(manifest: Manifest, prefix: bytes) -> Iterator[ShardRef]:
    """The shards that can hold paths which start with `prefix`."""
    before = None
    for shard in manifest.shards:
        if shard.max_path >= prefix:
            if before is not None and before > prefix and not before.startswith(prefix):
                return
            yield shard
        before = shard.max_path


class Shards(Protocol):
    """Where shards are read from."""

    async def shard(self, digest: str) -> pa.Table:
        """A shard's rows. Raises `CorruptContent`."""
        ...


async def read_entries(
    shards: Shards, manifest: Manifest, prefix: bytes = b""
) -> AsyncIterator[pa.Table]:
    """The rows whose paths start with `prefix`, a table a shard. Raises `CorruptContent`."""
    for shard in shards_below(manifest, prefix):
        table = within(await shards.shard(shard.digest), prefix)
        if table.num_rows:
            yield table


def within(table: pa.Table, prefix: bytes) -> pa.Table:
    """The rows whose paths start with `prefix`."""
    return table.filter(pc.starts_with(table.column("path"), prefix)) if prefix else table


async def entries_page(
    shards: Shards, manifest: Manifest, prefix: bytes, after: bytes | None, limit: int
) -> FolderPage:
    """At most `limit` entries after the path `after` whose paths start with `prefix`.

    `next` is the last one's path where more may follow; then there is at least one.
    """
    found: list[Entry] = []
    for shard in shards_below(manifest, prefix):
        if after is not None and shard.max_path <= after:
            continue
        table = within(await shards.shard(shard.digest), prefix)
        if after is not None:
            table = table.filter(pc.greater(table.column("path"), after))
        found += entries_of(table.slice(0, limit + 1 - len(found)), manifest.sources)
        if len(found) > limit:
            kept = tuple(found[:limit])
            return FolderPage(kept, kept[-1].path)
    return FolderPage(tuple(found), None)
