"""Named: the tables that a statement names, as DuckDB itself reads it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from indexer.errors import QueryRefused


class Named(NamedTuple):
    """What a statement names: tables by schema and name, and, in lower case, its own `WITH`s."""

    tables: frozenset[tuple[str, str]]
    expressions: frozenset[str]


def named_tables(tree: str) -> Named:
    """What a statement names, of which `tree` is what DuckDB's `json_serialize_sql` makes."""
    tables: set[tuple[str, str]] = set()
    expressions: set[str] = set()
    try:
        waiting: list[Any] = [json.loads(tree)]
    except RecursionError:
        raise QueryRefused("the query is nested too deeply.") from None
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if node.get("type") == "BASE_TABLE" and not node.get("catalog_name"):
                tables.add((str(node.get("schema_name", "")), str(node.get("table_name", ""))))
            if isinstance(defined := node.get("cte_map"), dict):
                expressions |= {str(one["key"]).lower() for one in defined.get("map", ())}
    return Named(frozenset(tables), frozenset(expressions))
