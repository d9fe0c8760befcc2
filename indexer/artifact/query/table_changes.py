"""Table changes: two states of a table by key, row by row, as SQL.

Invariants
  * Every key is told of once: as added, removed or changed, as duplicate where one of the states
    has several rows of it, and not at all where its row is the same in both.
  * A null is a value: it equals another null, also in a key.
  * A column that only one state has is told of as a change of the columns, not of every row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from indexer.artifact.query.columns import quoted_name, quoted_text
from indexer.errors import QueryRefused

CHANGES = ("added", "removed", "changed", "duplicate")


def matched_key(
    key: Sequence[str], before: Sequence[str], after: Sequence[str], path: str
) -> list[tuple[str, str]]:
    """The key's columns as each state writes them. Raises `QueryRefused` where one lacks one."""
    found = []
    for name in key:
        pair = [
            next((one for one in columns if one.lower() == name.lower()), None)
            for columns in (before, after)
        ]
        if pair[0] is None or pair[1] is None:
            side, columns = ("before", before) if pair[0] is None else ("after", after)
            raise QueryRefused(
                f"{path!r} has no column {name!r} in its state {side}, which has "
                f"{', '.join(columns)}."
            )
        found.append((pair[0], pair[1]))
    return found


def column_changes(before: pa.Schema, after: pa.Schema) -> list[dict[str, str | None]]:
    """Columns that one state has alone, or that are of another type, in order of their names."""
    types = [{field.name: str(field.type) for field in schema} for schema in (before, after)]
    return [
        {"column": name, "before": types[0].get(name), "after": types[1].get(name)}
        for name in sorted(types[0].keys() | types[1].keys())
        if types[0].get(name) != types[1].get(name)
    ]


def compare_sql(
    before: str,
    after: str,
    columns: tuple[Sequence[str], Sequence[str]],
    key: Sequence[tuple[str, str]],
    types_differ: Collection[str],
) -> str:
    """The changes between two relations, whose columns these are, by a key that both have."""
    first, second = columns
    keys = [_key_column(pair, types_differ) for pair in key]
    in_key = {one for one, _ in key}
    shared = [name for name in first if name in set(second) and name not in in_key]
    key_of = [
        f"struct_pack({', '.join(f'{name} := {pair[side]}' for name, pair in keys)})"
        for side in (0, 1)
    ]
    rows = [
        f"struct_pack({', '.join(f'{quoted_name(name)} := {quoted_name(name)}' for name in names)})"
        for names in columns
    ]
    changed = ", ".join(_changed(name, is_cast=name in types_differ) for name in shared)
    return (
        f"WITH b AS MATERIALIZED ({_grouped(key_of[0], rows[0], before)}), "  # noqa: S608 - names
        f"a AS MATERIALIZED ({_grouped(key_of[1], rows[1], after)}), "
        "pairs AS (SELECT coalesce(b.key, a.key) AS key, coalesce(b.n, 0) AS rows_before, "
        "coalesce(a.n, 0) AS rows_after, b.row AS before, a.row AS after "
        "FROM b FULL JOIN a ON b.key IS NOT DISTINCT FROM a.key), "
        "told AS (SELECT CASE WHEN rows_before > 1 OR rows_after > 1 THEN 'duplicate' "
        "WHEN rows_before = 0 THEN 'added' WHEN rows_after = 0 THEN 'removed' ELSE 'changed' END "
        "AS change, *, "
        f"CASE WHEN rows_before = 1 AND rows_after = 1 THEN list_filter([{changed}]::VARCHAR[], "
        "lambda one: one IS NOT NULL) END AS columns FROM pairs) "
        "SELECT change, key, columns, "
        "CASE WHEN change <> 'duplicate' THEN before END AS before, "
        "CASE WHEN change <> 'duplicate' THEN after END AS after, rows_before, rows_after "
        "FROM told WHERE change <> 'changed' OR len(columns) > 0 ORDER BY key"
    )


def _grouped(key: str, row: str, table: str) -> str:
    return f"SELECT {key} AS key, any_value({row}) AS row, count(*) AS n FROM {table} GROUP BY 1"  # noqa: S608


def _key_column(
    pair: tuple[str, str], types_differ: Collection[str]
) -> tuple[str, tuple[str, str]]:
    """A column of the key by its name, and what it is in both states."""
    cast = "::VARCHAR" if pair[0] != pair[1] or pair[0] in types_differ else ""
    first, second = (quoted_name(name) for name in pair)
    return first, (first + cast, second + cast)


def _changed(name: str, *, is_cast: bool) -> str:
    cast = "::VARCHAR" if is_cast else ""
    column = quoted_name(name)
    return (
        f"CASE WHEN before.{column}{cast} IS DISTINCT FROM after.{column}{cast} "
        f"THEN {quoted_text(name)} END"
    )
