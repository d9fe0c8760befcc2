"""Entries for people: the rows of a table as values, each with its URI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from indexer.manifest import SourceRef
from indexer.page import etag_texts
from indexer.records import Entry


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
