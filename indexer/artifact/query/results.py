"""Results: the rows that a query or a comparison gave, for Python, as a table, a frame or CSV."""

from __future__ import annotations

import html
import io
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import pyarrow as pa

from indexer.artifact.query.encoded import plain_values
from indexer.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

MISSING_PANDAS: Final = "Data frames need one more package: install bucket-indexer[pandas]."

_ROWS_SHOWN: Final = 20
_COLUMNS_SHOWN: Final = 8


@dataclass(frozen=True, repr=False)
class Result:
    """Rows as `table`."""

    table: pa.Table

    @classmethod
    def read(cls, data: bytes) -> Self:
        """A result that was sent as Arrow, checked."""
        table = pa.ipc.open_stream(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        return cls(table)

    def __len__(self) -> int:
        return self.table.num_rows  # type: ignore[no-any-return]

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame. Raises `UsageError` where pandas is not installed."""
        return frame_of(self.table)

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, one a row; times that Python cannot hold are text."""
        names = self.table.column_names
        columns = [plain_values(column) for column in self.table.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """The rows as CSV, with a head; written to `path`, or returned where there is none.

        Lists and structs are written as JSON, bytes in base64.
        """
        import csv

        sink = io.StringIO(newline="")
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(self.table.column_names)
        writer.writerows([_plain(value) for value in row] for row in self.cells())
        if path is None:
            return sink.getvalue()
        Path(path).write_text(sink.getvalue(), "utf-8", newline="")
        return None

    def cells(self) -> Iterator[tuple[Any, ...]]:
        """The rows one by one; lists and structs as JSON, bytes in base64."""
        for batch in self.table.to_batches():
            columns = [[_flat(value) for value in plain_values(column)] for column in batch.columns]
            yield from zip(*columns, strict=True)

    def __repr__(self) -> str:
        names = self.table.column_names
        more = f", … {len(names) - _COLUMNS_SHOWN:,} more" if len(names) > _COLUMNS_SHOWN else ""
        return f"<Result: {len(self):,} rows of {', '.join(names[:_COLUMNS_SHOWN])}{more}>"

    def _repr_html_(self) -> str:
        names = "".join(f"<th>{html.escape(name)}</th>" for name in self.table.column_names)
        shown = Result(self.table.slice(0, _ROWS_SHOWN)).cells()
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(_plain(one)))}</td>" for one in row) + "</tr>"
            for row in shown
        )
        return f"<table><tr>{names}</tr>{rows}</table><p>{len(self):,} rows</p>"


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """The rows of a table that changed: `change`, `key`, `columns`, `before` and `after`."""

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were added, removed and changed, and how many keys occur twice."""
        found = Counter(self.table.column("change").to_pylist())
        return {
            "added": found["added"],
            "removed": found["removed"],
            "changed": found["changed"],
            "duplicates": found["duplicate"],
        }

    def __repr__(self) -> str:
        return f"<Comparison: {', '.join(f'{n:,} {what}' for what, n in self.counts.items())}>"

    @property
    def column_changes(self) -> list[dict[str, str | None]]:
        """Columns that one state has alone, or that are of another type."""
        return json.loads(self.table.schema.metadata[b"column_changes"])  # type: ignore[no-any-return]


def frame_of(table: pa.Table) -> pd.DataFrame:
    """A table as a data frame. Raises `UsageError` where pandas is not installed."""
    try:
        import pandas  # noqa: F401, ICN001 - only whether it is there
    except ImportError:
        raise UsageError(MISSING_PANDAS) from None
    return table.to_pandas()


def _flat(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, (list, dict)):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return value


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, (date, datetime)) else value
