"""Encoded: the rows of a result as they are sent, Arrow's stream or JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc


def with_plain_sums(table: pa.Table) -> pa.Table:
    """The table with integers where DuckDB's are wider than 64 bits, as its sums are, and fit."""
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = pc.cast(table.column(place), pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(place, field.name, column)
    return table


def encoded(table: pa.Table, how: str) -> bytes:
    """A result as Arrow's stream, or as JSON."""
    if how == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
    columns = [plain_values(column) for column in table.columns]
    document = {
        "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        "rows": list(zip(*columns, strict=True)) if columns else [],
    }
    if metadata := (table.schema.metadata or {}).get(b"column_changes"):
        document["column_changes"] = msgspec.json.decode(metadata)
    return msgspec.json.encode(document, enc_hook=str)


def plain_values(column: Any) -> list[Any]:
    """The values of a column as Python's own, and as text those of times that it cannot hold.

    These are nanoseconds, and years before 1 and after 9999.
    """
    try:
        return _as_text(column, _has_nanoseconds).to_pylist()  # type: ignore[no-any-return]
    except (OverflowError, ValueError):
        return _as_text(column, pa.types.is_temporal).to_pylist()  # type: ignore[no-any-return]


def _has_nanoseconds(kind: Any) -> bool:
    return pa.types.is_temporal(kind) and getattr(kind, "unit", "") == "ns"


def _as_text(column: Any, is_text: Callable[[Any], bool]) -> Any:
    wanted = _with_text(column.type, is_text)
    return column if wanted == column.type else column.cast(wanted)


def _with_text(kind: Any, is_text: Callable[[Any], bool]) -> Any:
    """A type with text where another type is within it, however deep."""
    if is_text(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_text(field.type, is_text)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_with_text(kind.key_type, is_text), _with_text(kind.item_type, is_text))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_with_text(kind.value_type, is_text), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_with_text(kind.value_type, is_text))
    return kind
