"""Queries, comparisons of tables, and their results as documents."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from msgspec import Meta, field

from indexer.limits import (
    CURSOR_CHARACTERS_MAX,
    QUERY_CHARACTERS_MAX,
    QUERY_ROWS_MAX,
    QUERY_TIMEOUT_S_MAX,
    QUERY_VERSIONS_MAX,
    TABLE_KEYS_MAX,
)
from indexer.wire.base import Answer, Order

ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"

Path = Annotated[str, Meta(min_length=1, max_length=CURSOR_CHARACTERS_MAX)]
VIEW_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")
ViewName = Annotated[str, Meta(pattern=f"^{VIEW_NAME.pattern}$")]
Rows = Annotated[int, Meta(ge=1, le=QUERY_ROWS_MAX)]
Seconds = Annotated[float, Meta(gt=0, le=QUERY_TIMEOUT_S_MAX)]


class QueryOrder(Order, frozen=True, kw_only=True):
    """One SELECT. Its tables are `entries`, those in the version by their paths in double quotes,
    and the same of each version in `with` after that version's name and a dot. A version of the
    same artifact may be written alone, such as v3.

    `prefix` narrows `entries` of the version down. `rows_max` and `timeout_s` are bounds below the
    daemon's own.
    """

    sql: Annotated[str, Meta(min_length=1, max_length=QUERY_CHARACTERS_MAX)]
    versions: Annotated[dict[ViewName, str], Meta(max_length=QUERY_VERSIONS_MAX)] = field(
        default_factory=dict, name="with"
    )
    prefix: Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)] = ""
    rows_max: Rows | None = None
    timeout_s: Seconds | None = None


class CompareOrder(Order, frozen=True, kw_only=True):
    """A table, the version that has its later state, and the columns that name a row.

    `to` may be the version alone, such as v3, if it is of the same artifact.
    """

    path: Path
    to: str
    key: Annotated[list[Path], Meta(min_length=1, max_length=TABLE_KEYS_MAX)]
    rows_max: Rows | None = None
    timeout_s: Seconds | None = None


class ColumnDocument(Answer, frozen=True, kw_only=True):
    """A column of a result, and its type as Arrow names it."""

    name: str
    type: str


class QueryDocument(Answer, frozen=True, kw_only=True):
    """The rows of a result, each a list of values in the order of the columns."""

    columns: list[ColumnDocument]
    rows: list[list[Any]]


class ColumnChange(Answer, frozen=True, kw_only=True):
    """A column whose type is another in both states, null where there is no such column."""

    column: str
    before: str | None
    after: str | None


class CompareDocument(Answer, frozen=True, kw_only=True):
    """The rows that changed, as of a query, and the columns that did."""

    columns: list[ColumnDocument]
    rows: list[list[Any]]
    column_changes: list[ColumnChange]
