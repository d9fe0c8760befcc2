"""Tables: entries of a version that hold rows, read from their bytes into Arrow.

Invariants
  * What a table is, is told by the end of its path alone (`FORMATS`).
  * A column's type is what all of its values can be: no file is judged by its beginning.
  * What is unpacked is bounded as what is stored is; bytes that are no such table raise
    `QueryRefused`, whatever is in them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from indexer.errors import QueryRefused
from indexer.limits import MIB, TABLE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS: Final = {
    ".joined-table.json": "wandb-joined-table",
    ".table.json": "wandb-table",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Formats by how a path ends, in lower case; the first that fits. Those of text may be packed."""

PACKED: Final = {".gz": "gzip", ".zst": "zstd"}
_TEXTS: Final = ("csv", "tsv", "jsonl")

_BLOCK_BYTES_MIN: Final = MIB


def format_of(path: str) -> str | None:
    """The format of the table at a path, None where the path is no table's."""
    lower, _ = _unpacked_name(path)
    found = next((kind for end, kind in FORMATS.items() if lower.endswith(end)), None)
    return found if lower == path.lower() or found in _TEXTS else None


def format_sql(text: str) -> str:
    """`format_of` as SQL, of the expression `text`."""
    packed = "|".join(end[1:] for end in PACKED)
    cases = []
    for end, kind in FORMATS.items():
        tail = f"(\\.({packed}))?" if kind in _TEXTS else ""
        pattern = f"(?i)({end.replace('.', chr(92) + '.')}){tail}$"
        cases.append(f"WHEN regexp_matches({text}, '{pattern}') THEN '{kind}'")
    return f"CASE {' '.join(cases)} END"


def read_table(data: bytes, path: str) -> pa.Table:
    """The rows of the table at a path, but for W&B's joined ones. Raises `QueryRefused`."""
    kind = format_of(path)
    name, codec = _unpacked_name(path)
    del name
    if kind is None:
        raise QueryRefused(
            f"{path!r} is no table: tables are entries whose paths end in "
            f"{', '.join(FORMATS)}, those of text also with {' or '.join(PACKED)}."
        )
    try:
        if codec is not None:
            data = unpacked(data, codec, path)
        # The names of columns may be no UTF-8, which shows when they are looked at.
        table = with_own_names(_read(data, kind, path))
    except (pa.ArrowException, ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        said = str(error).partition("\n")[0][:300]
        raise QueryRefused(f"{path!r} cannot be read as {kind}: {said}") from error
    if not table.num_columns:
        raise QueryRefused(f"{path!r} is empty: it has no columns.")
    return table


def _read(data: bytes, kind: str, path: str) -> pa.Table:
    if kind == "parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(pa.BufferReader(data))
        size_bytes = sum(
            file.metadata.row_group(number).total_byte_size
            for number in range(file.metadata.num_row_groups)
        )
        _check_size(size_bytes, path)
        return file.read(use_threads=False)
    if kind in {"csv", "tsv"}:
        return _read_csv(data, "\t" if kind == "tsv" else ",")
    if kind == "jsonl":
        return _read_jsonl(data)
    return read_wandb(json.loads(data))


def _read_csv(data: bytes, delimiter: str) -> pa.Table:
    from pyarrow import csv

    if not data.strip():
        return pa.table({})
    return csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(use_threads=False, block_size=_block_bytes(data)),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=False),
    )


def _read_jsonl(data: bytes) -> pa.Table:
    import pyarrow.json as jsonl

    if not data.strip():
        return pa.table({})
    return jsonl.read_json(
        pa.BufferReader(data),
        read_options=jsonl.ReadOptions(use_threads=False, block_size=_block_bytes(data)),
    )


def _block_bytes(data: bytes) -> int:
    """One block for all, so that types are those of all rows."""
    return max(len(data) + 1, _BLOCK_BYTES_MIN)


def read_wandb(document: object) -> pa.Table:
    """The rows of W&B's `.table.json`. Raises `ValueError` and `TypeError`.

    Media and other objects are structs, with the `path` of their file in the artifact; moments are
    milliseconds there, and timestamps here. What is of several types in a column is JSON as text.
    """
    if not (isinstance(document, dict) and document.get("_type") == "table"):
        raise ValueError("it is no JSON object whose _type is 'table'")
    if document.get("log_mode") == "INCREMENTAL":
        raise ValueError("it is one increment of several; log the table whole")
    names, rows = document.get("columns"), document.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        raise TypeError("it has no columns and data")
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise ValueError(f"a row has not {len(names)} values, as there are columns")
    moments = _moments(document, names)
    columns = [
        _column([row[place] for row in rows], is_moment=str(name) in moments)
        for place, name in enumerate(names)
    ]
    return pa.Table.from_arrays(columns, names=[str(name) for name in names])


def _moments(document: dict[str, object], names: Sequence[object]) -> set[str]:
    """The columns whose type is W&B's timestamp, also where it may be missing."""
    types = document.get("column_types")
    params = types.get("params") if isinstance(types, dict) else None
    known = params.get("type_map") if isinstance(params, dict) else None
    if not isinstance(known, dict):
        return set()
    return {str(name) for name in names if _names_timestamp(known.get(str(name)))}


def _names_timestamp(kind: object) -> bool:
    if not isinstance(kind, dict):
        return False
    params = kind.get("params")
    several = params.get("allowed_types") if isinstance(params, dict) else None
    among = several if isinstance(several, list) else []
    return kind.get("wb_type") == "timestamp" or any(_names_timestamp(one) for one in among)


def _column(values: list[object], *, is_moment: bool) -> pa.Array:
    try:
        if is_moment:
            whole = [int(one) if isinstance(one, float) else one for one in values]
            return pa.array(whole, pa.timestamp("ms", tz="UTC"))
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array(
            [one if one is None or isinstance(one, str) else json.dumps(one) for one in values],
            pa.string(),
        )
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def joined_parts(data: bytes, path: str) -> tuple[str, str, tuple[str, str]]:
    """The paths of the two tables that W&B's `.joined-table.json` joins, and their keys.

    Raises `QueryRefused`.
    """
    try:
        document = json.loads(data)
        if document["_type"] != "joined-table":
            raise ValueError("its _type is not 'joined-table'")
        first, second, key = document["table1"], document["table2"], document["join_key"]
        keys = (key, key) if isinstance(key, str) else tuple(key)
        if len(keys) != 2 or not all(isinstance(one, str) for one in (first, second, *keys)):  # noqa: PLR2004
            raise ValueError("it names no two tables and their keys")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise QueryRefused(f"{path!r} cannot be read as a joined table: {error}") from error
    return first, second, (keys[0], keys[1])


def unpacked(data: bytes, codec: str, path: str) -> bytes:
    """The bytes that were packed. Raises `QueryRefused` where they are more than a table may be."""
    with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
        found = stream.read(TABLE_BYTES_MAX + 1)
    _check_size(len(found), path)
    return found  # type: ignore[no-any-return]


def _check_size(size_bytes: int, path: str) -> None:
    if size_bytes > TABLE_BYTES_MAX:
        raise QueryRefused(
            f"{path!r} has more than {TABLE_BYTES_MAX // MIB} MiB when it is unpacked, the most "
            f"that is read of a table."
        )


def with_own_names(table: pa.Table) -> pa.Table:
    """The table with a name of its own for each column, whatever case is made of it."""
    taken: set[str] = set()
    names = []
    for place, name in enumerate(table.column_names):
        wanted, number = name or f"column_{place}", 1
        own = wanted
        while own.lower() in taken:
            own, number = f"{wanted}_{number}", number + 1
        taken.add(own.lower())
        names.append(own)
    return table.rename_columns(names)


def _unpacked_name(path: str) -> tuple[str, str | None]:
    lower = path.lower()
    for end, codec in PACKED.items():
        if lower.endswith(end):
            return lower.removesuffix(end), codec
    return lower, None
