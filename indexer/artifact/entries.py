"""Entries of a version, in key order, a shard at a time.

Invariants
  * Only shards that can hold the prefix are read, and each is verified.
  * One shard is in memory at a time, whatever the version's size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.content import ContentStore
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import etag_texts


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry for people and JSON; `path` is the object's key below the source."""

    path: bytes
    size: int
    uri: str
    etag: str | None
    version_id: str | None
    last_modified: datetime | None
    storage_class: str | None


def shards_below(manifest: Manifest, prefix: bytes) -> Iterator[ShardRef]:
    """The shards that can hold paths which start with `prefix`."""
    before = None
    for shard in manifest.shards:
        if shard.max_path >= prefix:
            if before is not None and before > prefix and not before.startswith(prefix):
                return
            yield shard
        before = shard.max_path


async def read_entries(
    content: ContentStore, manifest: Manifest, prefix: bytes = b""
) -> AsyncIterator[pa.Table]:
    """The rows whose paths start with `prefix`, a table a shard. Raises `CorruptContent`."""
    for shard in shards_below(manifest, prefix):
        table = within(await content.shard(shard.digest), prefix)
        if table.num_rows:
            yield table


def within(table: pa.Table, prefix: bytes) -> pa.Table:
    """The rows whose paths start with `prefix`."""
    return table.filter(pc.starts_with(table.column("path"), prefix)) if prefix else table


def entries_of(table: pa.Table, source: SourceRef) -> Iterator[Entry]:
    """The rows of a table one by one, for output."""
    columns: dict[str, list[Any]] = {
        name: table.column(name).to_pylist() for name in table.schema.names
    }
    etags = etag_texts(table).to_pylist()
    nothing = [None] * table.num_rows
    for row, path in enumerate(columns["path"]):
        given = columns.get("uri", nothing)[row]
        yield Entry(
            path=path,
            size=columns["size"][row],
            uri=given or uri_of(source, path),
            etag=etags[row],
            version_id=columns.get("version_id", nothing)[row],
            last_modified=columns.get("last_modified", nothing)[row],
            storage_class=columns.get("storage_class", nothing)[row],
        )


def uri_of(source: SourceRef, path: bytes) -> str:
    """The URI of the object at `path`: a folder's entries lie below it, an object is itself."""
    is_folder = source.uri.endswith("/")
    return source.uri + path.decode("utf-8", "surrogateescape") if is_folder else source.uri
