"""Queries over a version, and changes of its tables; each is answered in a process of its own."""

from __future__ import annotations

from typing import Final

from indexer.daemon.operation import VERSION, Answer, Call, Operation, Parts
from indexer.wire.query import (
    ARROW_TYPE,
    CompareDocument,
    CompareOrder,
    QueryDocument,
    QueryOrder,
)


async def query(parts: Parts, call: Call) -> Answer:
    """Answers one SELECT over a version's entries and tables."""
    version = await parts.workspace.version(call.ref)
    return Answer(await parts.queries.query(version, call.body, "json"))


async def query_arrow(parts: Parts, call: Call) -> Answer:
    """Answers one SELECT over a version's entries and tables, as a stream of Arrow's."""
    version = await parts.workspace.version(call.ref)
    return Answer(await parts.queries.query(version, call.body), media_type=ARROW_TYPE)


async def compare_table(parts: Parts, call: Call) -> Answer:
    """Compares a table of a version with its later state in another one, row by row."""
    version = await parts.workspace.version(call.ref)
    return Answer(await parts.queries.compare(version, call.body, "json"))


async def compare_table_arrow(parts: Parts, call: Call) -> Answer:
    """Compares a table of a version with its later state in another one, as a stream of Arrow's."""
    version = await parts.workspace.version(call.ref)
    return Answer(await parts.queries.compare(version, call.body), media_type=ARROW_TYPE)


# What a query may end in beyond what any operation may: a table's store, or what it takes.
_PROBLEMS: Final = (403, 409, 415, 422, 502)

QUERIES: Final = (
    Operation(
        "POST", f"{VERSION}/query", "Query entries and tables", query,
        {200: QueryDocument}, body=QueryOrder, problems=_PROBLEMS,
    ),
    Operation(
        "POST", f"{VERSION}/query/arrow", "Query entries and tables, as Arrow", query_arrow,
        {200: ARROW_TYPE}, body=QueryOrder, problems=_PROBLEMS,
    ),
    Operation(
        "POST", f"{VERSION}/table-changes", "Compare two states of a table", compare_table,
        {200: CompareDocument}, body=CompareOrder, problems=_PROBLEMS,
    ),
    Operation(
        "POST", f"{VERSION}/table-changes/arrow", "Compare two states of a table, as Arrow",
        compare_table_arrow, {200: ARROW_TYPE}, body=CompareOrder, problems=_PROBLEMS,
    ),
)  # fmt: skip
