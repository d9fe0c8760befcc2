"""Entries for people: the rows of a table as values, each with its URI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from indexer.manifest import SourceRef
from indexer.page import etag_texts
from indexer.records import Entry
from indexer.sources import uri_below


def entries_of(table: pa.Table, sources: Sequence[SourceRef]) -> Iterator[Entry]:
    """The rows of a table one by one, for output."""
    columns: dict[str, list[Any]] = {
        name: table.column(name).to_pylist() for name in table.schema.names
    }
    etags = etag_texts(table).to_pylist()
    nothing = [None] * table.num_rows
    checksums = columns.get("checksum", nothing)
    for row, path in enumerate(columns["path"]):
        yield Entry(
            path=path,
            size=columns["size"][row],
            uri=columns.get("uri", nothing)[row] or uri_of(sources, path),
            etag=etags[row],
            checksum=None if checksums[row] is None else checksums[row].hex(),
            **{
                name: columns.get(name, nothing)[row]
                for name in (
                    "version_id", "last_modified", "storage_class", "checksum_algorithm",
                    "checksum_type", "mtime_ns",
                )
            },
        )  # fmt: skip


def uri_of(sources: Sequence[SourceRef], path: bytes) -> str:
    """The URI of the object at `path`: a folder's entries lie below it, an object is itself."""
    source = source_of(sources, path)
    if not source.uri.endswith("/"):
        return source.uri
    return uri_below(source.uri, path.removeprefix(source.path_prefix))


def source_of(sources: Sequence[SourceRef], path: bytes) -> SourceRef:
    """The source below whose mount a path lies."""
    for source in sources:
        if path.startswith(source.path_prefix):
            return source
    raise AssertionError(f"no source of the manifest has the path {path!r}")
