"""Two states of a table by key, against a model in Python."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.artifact.query.table_changes import column_changes, compare_sql, matched_key
from indexer.errors import QueryRefused

duckdb = pytest.importorskip("duckdb")


@cache
def connection() -> Any:
    """One for all examples: opening one takes longer than an example."""
    return duckdb.connect()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.integers(0, 4),
            "part": st.sampled_from(["a", "b"]),
            "value": st.none() | st.integers(0, 2),
            "text": st.sampled_from([None, "", "x"]),
        }
    ),
    max_size=8,
)
SCHEMA = pa.schema(
    [("id", pa.int64()), ("part", pa.string()), ("value", pa.int64()), ("text", pa.string())]
)


def compared(before: pa.Table, after: pa.Table, key: tuple[str, ...]) -> list[dict[str, Any]]:
    database = connection()
    database.register("b4", before)
    database.register("af", after)
    columns = before.column_names, after.column_names
    differ = {str(one["column"]) for one in column_changes(before.schema, after.schema)}
    sql = compare_sql("b4", "af", columns, matched_key(key, *columns, "t.csv"), differ)
    return database.sql(sql).to_arrow_table().to_pylist()  # type: ignore[no-any-return]


def model(
    before: list[dict[str, Any]], after: list[dict[str, Any]], key: tuple[str, ...]
) -> Counter[tuple[Any, ...]]:
    def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in key)

    told: Counter[tuple[Any, ...]] = Counter()
    for one in {key_of(row) for row in [*before, *after]}:
        first, second = ([row for row in rows if key_of(row) == one] for rows in (before, after))
        if len(first) > 1 or len(second) > 1:
            told[("duplicate", one, None, len(first), len(second))] += 1
        elif not first:
            told[("added", one, None, 0, 1)] += 1
        elif not second:
            told[("removed", one, None, 1, 0)] += 1
        elif first != second:
            names = tuple(n for n in SCHEMA.names if first[0][n] != second[0][n])
            told[("changed", one, names, 1, 1)] += 1
    return told


@given(ROWS, ROWS, st.sampled_from([("id",), ("id", "part"), ("part", "id")]))
@settings(max_examples=40, deadline=None)
def test_changes_are_those_of_the_model(
    before: list[dict[str, Any]], after: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (before, after)]
    found = compared(tables[0], tables[1], key)
    told = Counter(
        (
            row["change"],
            tuple(row["key"][name] for name in key),
            None if row["columns"] is None else tuple(row["columns"]),
            row["rows_before"],
            row["rows_after"],
        )
        for row in found
    )
    assert told == model(before, after, key)
    for row in found:
        assert row["before"] in (None, *before)
        assert row["after"] in (None, *after)
        assert (row["before"] is not None) == (row["change"] in {"removed", "changed"})
        assert (row["after"] is not None) == (row["change"] in {"added", "changed"})


def test_columns_that_changed_are_no_change_of_every_row() -> None:
    before = pa.table({"id": [1, 2], "old": [1, 1], "n": [1, 2], "It's": ["a", "b"]})
    after = pa.table({"ID": ["1", "2"], "new": [1, 1], "n": ["1", "3"], "It's": ["a", "b"]})
    (row,) = compared(before, after, ("id",))
    assert (row["change"], row["key"], row["columns"]) == ("changed", {"id": "2"}, ["n"])
    assert row["after"] == {"ID": "2", "new": 1, "n": "3", "It's": "b"}
    assert column_changes(before.schema, after.schema) == [
        {"column": "ID", "before": None, "after": "string"},
        {"column": "id", "before": "int64", "after": None},
        {"column": "n", "before": "int64", "after": "string"},
        {"column": "new", "before": None, "after": "int64"},
        {"column": "old", "before": "int64", "after": None},
    ]


def test_a_key_that_is_no_column_is_told_of() -> None:
    with pytest.raises(QueryRefused, match="no column 'c' in its state after, which has a, b"):
        matched_key(["c"], ["c"], ["a", "b"], "t.csv")
