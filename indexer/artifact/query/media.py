"""Media: columns of a table that hold paths or URIs, joined to entries.

    "labels.csv#file"          rows of labels.csv, each with the entry that its `file` names
    "labels.csv#file@other"    … an entry of the version `other`

Invariants
  * A value is tried as a path from the table's folder, then from the version's root, then as a URI;
    the first that is an entry is it. A row without one stays, with nulls.
  * Nothing is guessed beyond that: names are compared whole, and byte by byte.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.query.columns import REFERENCE_SCHEME, quoted_name
from indexer.errors import QueryRefused
from indexer.manifest import SourceRef
from indexer.sources import BUCKET_SCHEMES

ROW: Final = "__row"
"""The number of a row, by which what it names is found."""

ENTRY_COLUMNS: Final = (
    "path", "size", "uri", "etag", "version_id", "checksum", "checksum_algorithm", "last_modified",
    "version", "reference",
)  # fmt: skip
"""The columns of entries that a row gets, each as `entry_` and its name."""

_WANDB_SCHEMES: Final = ("wandb-artifact://", "wandb-client-artifact://")


def split_address(address: str) -> tuple[str, str, str] | None:
    """A table's path, a column and the name of a version; None where an address has no column."""
    path, mark, rest = address.rpartition("#")
    if not mark or not path:
        return None
    column, _, view = rest.partition("@")
    return path, column, view


def candidates(value: str, folder: str, sources: Sequence[SourceRef]) -> Iterator[tuple[bool, str]]:
    """What an entry may be called that `value` names, the best first: whether as URI, and how."""
    if value.startswith(_WANDB_SCHEMES):
        yield False, value.partition("://")[2].partition("/")[2]
        return
    if value.startswith(REFERENCE_SCHEME):
        yield False, value.removeprefix(REFERENCE_SCHEME).partition("/")[2].partition("/")[2]
        return
    if "://" not in value:
        tried = dict.fromkeys(path for start in (folder, "") for path in _below(start, value))
        yield from ((False, path) for path in tried)
        return
    for source in sources:
        mount = f"{source.mount}/" if source.mount else ""
        if source.uri.endswith("/") and value.startswith(source.uri):
            rest = value.removeprefix(source.uri)
            is_bucket = source.uri.startswith(tuple(f"{one}://" for one in BUCKET_SCHEMES))
            yield False, mount + (rest if is_bucket else unquote(rest, errors="surrogateescape"))
    yield True, value


def _below(folder: str, value: str) -> Iterator[str]:
    """A path from a folder as it is written, and as it is meant, if that stays in the version."""
    whole = posixpath.join(folder, value) if folder else value.lstrip("/")
    for path in (whole, posixpath.normpath(whole)):
        if not path.startswith(("../", "/")) and path not in {".", ".."}:
            yield path


def names_of(table: pa.Table, column: str, address: str) -> list[str | None]:
    """The text of a column that names entries: its values, or the paths of W&B's media in it.

    Raises `QueryRefused` for a column that is not there or names nothing.
    """
    known = {name.lower(): name for name in table.column_names}
    if column.lower() not in known:
        raise QueryRefused(
            f"{address!r}: the table has no column {column!r}; it has "
            f"{', '.join(table.column_names)}."
        )
    values = table.column(known[column.lower()])
    if pa.types.is_struct(values.type):
        if values.type.get_field_index("path") < 0:
            raise QueryRefused(f"{address!r}: the values of {column!r} have no path.")
        values = pc.struct_field(values, "path")
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise QueryRefused(
            f"{address!r}: {column!r} is {values.type}, and no text that names files."
        )
    return [_path_in(value) for value in values.to_pylist()]


def _path_in(value: str | None) -> str | None:
    """The path of W&B's media where it stands as JSON, as it does beside values of other types."""
    if value is None or not value.startswith('{"'):
        return value
    try:
        found = json.loads(value)["path"]
    except (ValueError, KeyError, RecursionError):
        return value
    return found if isinstance(found, str) else value


def links_of(
    names: Sequence[str | None], folder: str, sources: Sequence[SourceRef]
) -> tuple[pa.Table, bool]:
    """What each row may mean, the best first, and whether any of it is a URI."""
    rows: list[int] = []
    ranks: list[int] = []
    as_uri: list[bool] = []
    keys: list[str] = []
    for row, name in enumerate(names):
        for rank, (is_uri, key) in enumerate(candidates(name, folder, sources) if name else ()):
            rows.append(row)
            ranks.append(rank)
            as_uri.append(is_uri)
            keys.append(key.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    links = pa.table(
        {
            ROW: pa.array(rows, pa.int64()),
            "rank": pa.array(ranks, pa.int8()),
            "is_uri": pa.array(as_uri, pa.bool_()),
            "key": pa.array(keys, pa.string()),
        }
    )
    return links, any(as_uri)


def media_sql(table: str, links: str, entries: str, *, has_uris: bool) -> str:
    """The rows of `table`, in its order, each with the columns of the entry that it leads to."""
    columns = ", ".join(f"e.{name} AS entry_{name}" for name in ENTRY_COLUMNS)
    found = [_found_sql(columns, links, entries, "e.path = k.key AND NOT k.is_uri")]
    if has_uris:
        found.append(_found_sql(columns, links, entries, "e.uri = k.key AND k.is_uri"))
    best = (
        f"(SELECT * EXCLUDE (rank) FROM ({' UNION ALL '.join(found)}) "  # noqa: S608 - our own names
        f"QUALIFY row_number() OVER (PARTITION BY {ROW} ORDER BY rank) = 1)"
    )
    return (
        f"SELECT t.* EXCLUDE ({ROW}), b.* EXCLUDE ({ROW}) FROM {quoted_name(table)} t "  # noqa: S608
        f"LEFT JOIN {best} b ON b.{ROW} = t.{ROW} ORDER BY t.{ROW}"
    )


def _found_sql(columns: str, links: str, entries: str, condition: str) -> str:
    return f"SELECT k.{ROW}, k.rank, {columns} FROM {links} k JOIN {entries} e ON {condition}"  # noqa: S608
