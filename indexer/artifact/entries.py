"""Entries of a version, in key order, a shard at a time.

Invariants
  * Only shards that can hold the prefix are read, and each is verified.
  * One shard is in memory at a time, whatever the version's size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from indexer.entries import entries_of
from indexer.manifest import Manifest, ShardRef
from indexer.records import Entry, FolderPage


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
