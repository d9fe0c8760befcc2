"""Columns: a version's entries as SQL and data frames show them.

Invariants
  * SQL and Arrow give the same columns with the same values.
  * `path` is text; where a path is no UTF-8 it is null, and `path_base64` stands in its place, as
    in JSON. `raw_path` is always there.
  * What is made of a row's own columns is made by DuckDB, and only of those that a query asks for.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.entries import uri_of
from indexer.manifest import SourceRef
from indexer.page import SCHEMA, empty_page, etag_texts, with_all_columns
from indexer.sources import BUCKET_SCHEMES, PATH_SAFE
from indexer.texts import printable

if TYPE_CHECKING:
    import pandas as pd

TEXT: Final = "path_text"

RAW_SCHEMA: Final = pa.schema([pa.field(TEXT, pa.string()), *SCHEMA])
"""What DuckDB is given of shards: their columns, and paths as text."""

COLUMNS: Final = (
    "path", "size", "uri", "etag", "version_id", "checksum", "checksum_algorithm", "checksum_type",
    "last_modified", "storage_class", "mtime_ns", "folder", "name", "extension", "version",
    "reference", "path_base64", "raw_path",
)  # fmt: skip
"""The columns of `entries`, in order."""

_PASSED_ON: Final = (
    "size", "version_id", "checksum_algorithm", "checksum_type", "last_modified", "storage_class",
    "mtime_ns",
)  # fmt: skip

EXTENSION: Final = r"[^/]\.([A-Za-z0-9]+)$"
"""What follows the last dot of a name, which may not begin with it."""

REFERENCE_SCHEME: Final = "indexer://"


def raw_rows(table: pa.Table, sources: Sequence[SourceRef]) -> pa.Table:
    """The rows of a shard as DuckDB is given them.

    Rows whose paths are no UTF-8 get their URI here, as SQL has no text to make it of.
    """
    paths = table.column("path")
    full = with_all_columns(table)
    try:
        texts = pc.cast(paths, pa.string())
    except pa.ArrowInvalid:
        known = paths.to_pylist()
        decoded = [_text(path) for path in known]
        uris = [
            uri if uri or text is not None else _shown(uri_of(sources, path))
            for path, text, uri in zip(known, decoded, full.column("uri").to_pylist(), strict=True)
        ]
        texts = pa.chunked_array([pa.array(decoded, pa.string())])
        place = full.schema.get_field_index("uri")
        full = full.set_column(place, SCHEMA.field("uri"), pa.array(uris, pa.string()))
    return pa.Table.from_arrays([texts, *full.columns], schema=RAW_SCHEMA)


def entries_sql(raw: str, sources: Sequence[SourceRef], ref: str) -> str:
    """The SELECT that makes `COLUMNS` of the rows of `raw`, the name of a relation."""
    texts = {
        "path": TEXT,
        "uri": f"coalesce(uri, {_uri_sql(sources)})",
        "etag": (
            "CASE WHEN etag_md5 IS NULL THEN etag_raw WHEN etag_parts IS NULL "
            "THEN lower(hex(etag_md5)) ELSE lower(hex(etag_md5)) || '-' || etag_parts END"
        ),
        "checksum": "lower(hex(checksum))",
        "folder": f"regexp_replace({TEXT}, '[^/]*$', '')",
        "name": f"regexp_extract({TEXT}, '[^/]*$', 0)",
        "extension": f"lower(regexp_extract({TEXT}, '{EXTENSION}', 1))",
        "version": quoted_text(ref),
        "reference": f"{quoted_text(f'{REFERENCE_SCHEME}{ref}/')} || {TEXT}",
        "path_base64": f"CASE WHEN {TEXT} IS NULL THEN to_base64(path) END",
        "raw_path": "path",
    }
    columns = ", ".join(f"{texts.get(name, name)} AS {name}" for name in COLUMNS)
    return f"SELECT {columns} FROM {raw}"  # noqa: S608 - made of nothing but what is quoted


def quoted_text(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _uri_sql(sources: Sequence[SourceRef]) -> str:
    """The URI that follows from a path: that of the first source below whose mount it lies."""
    cases, rest = [], "NULL"
    for source in sources:
        if not source.mount:
            rest = _one_uri_sql(source)
            break
        below = f"starts_with({TEXT}, {quoted_text(source.mount + '/')})"
        cases.append(f"WHEN {below} THEN {_one_uri_sql(source)}")
    return f"CASE {' '.join(cases)} ELSE {rest} END" if cases else rest


def _one_uri_sql(source: SourceRef) -> str:
    if not source.uri.endswith("/"):
        return quoted_text(source.uri)
    start = len(source.mount) + 2 if source.mount else 1
    key = f"substring({TEXT}, {start})" if source.mount else TEXT
    if not _is_bucket(source.uri):
        key = f"url_encode({key})"
        for character in PATH_SAFE.replace("~", ""):
            key = f"replace({key}, '%{ord(character):02X}', {quoted_text(character)})"
    return f"{quoted_text(source.uri)} || {key}"


def _is_bucket(uri: str) -> bool:
    return uri.startswith(tuple(f"{scheme}://" for scheme in BUCKET_SCHEMES))


def entries_table(table: pa.Table, sources: Sequence[SourceRef], ref: str) -> pa.Table:
    """`COLUMNS` of the rows of a shard, by Arrow."""
    raw = raw_rows(table, sources)
    texts = raw.column(TEXT)
    nothing = pa.nulls(table.num_rows, pa.string())
    made: dict[str, pa.Array | pa.ChunkedArray] = {
        "path": texts,
        "uri": _uris(raw, sources),
        "etag": etag_texts(table),
        "checksum": _each(raw.column("checksum"), bytes.hex),
        "folder": pc.replace_substring_regex(texts, "[^/]*$", ""),
        "name": pc.replace_substring_regex(texts, "^(?s:.*)/", ""),
        "extension": _extensions(texts),
        "version": pa.array([ref] * table.num_rows, pa.string()),
        "reference": pc.binary_join_element_wise(f"{REFERENCE_SCHEME}{ref}/", texts, ""),
        "path_base64": nothing,
        "raw_path": raw.column("path"),
    }
    if texts.null_count:
        odd = pc.if_else(pc.is_valid(texts), None, raw.column("path"))
        made["path_base64"] = _each(odd, lambda path: base64.b64encode(path).decode())
    return pa.table({name: made[name] if name in made else raw.column(name) for name in COLUMNS})


def _uris(raw: pa.Table, sources: Sequence[SourceRef]) -> pa.Array | pa.ChunkedArray:
    """The URIs of rows; those of one whole bucket's folder without a look at each."""
    known = raw.column("uri")
    (first, *others) = sources
    if not (others or first.mount) and _is_bucket(first.uri) and first.uri.endswith("/"):
        return pc.coalesce(known, pc.binary_join_element_wise(first.uri, raw.column(TEXT), ""))
    pairs = zip(known.to_pylist(), raw.column("path").to_pylist(), strict=True)
    return pa.array([uri or _shown(uri_of(sources, path)) for uri, path in pairs], pa.string())


def _each(column: pa.ChunkedArray, text_of: Callable[[bytes], str]) -> pa.Array:
    """Values as texts, one by one where there are any."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    texts = [None if value is None else text_of(value) for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def entries_frame(
    tables: Iterable[pa.Table], sources: Sequence[SourceRef], ref: str
) -> pd.DataFrame:
    """`COLUMNS` of all tables as one data frame. Raises `UsageError` where pandas is missing."""
    from indexer.artifact.query.results import frame_of

    empty = pa.Table.from_batches([empty_page()])
    return frame_of(pa.concat_tables(entries_table(one, sources, ref) for one in (empty, *tables)))


def _extensions(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    found = pc.extract_regex(texts, EXTENSION.replace("(", "(?P<extension>"))
    named = pc.struct_field(found, "extension")
    return pc.if_else(pc.is_valid(texts), pc.fill_null(pc.utf8_lower(named), ""), None)


def _text(path: bytes) -> str | None:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None


def _shown(uri: str) -> str:
    return printable(uri)
