"""Defaults: what holds for snapshots and queries where whoever asks leaves it open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from indexer.limits import (
    OBJECTS_MAX_DEFAULT,
    QUERY_MEMORY_MIB_DEFAULT,
    QUERY_ROWS_DEFAULT,
    QUERY_TIMEOUT_S_DEFAULT,
)
from indexer.protocols import SourceOptions

OnLimit = Literal["error", "partial"]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may take at most."""

    timeout_s: float = QUERY_TIMEOUT_S_DEFAULT
    memory_mib: int = QUERY_MEMORY_MIB_DEFAULT
    rows: int = QUERY_ROWS_DEFAULT


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds at a place where nobody says otherwise."""

    objects_max: int = OBJECTS_MAX_DEFAULT
    on_limit: OnLimit = "error"
    checksum: str | None = None
    options: SourceOptions = field(default_factory=SourceOptions)
    query: QueryLimits = field(default_factory=QueryLimits)
