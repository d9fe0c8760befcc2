"""Encoded: the rows of a result as they are sent, Arrow's stream or JSON."""

from __future__ import annotations

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
    columns = [column.to_pylist() for column in table.columns]
    document = {
        "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        "rows": list(zip(*columns, strict=True)) if columns else [],
    }
    if metadata := (table.schema.metadata or {}).get(b"column_changes"):
        document["column_changes"] = msgspec.json.decode(metadata)
    return msgspec.json.encode(document, enc_hook=str)
