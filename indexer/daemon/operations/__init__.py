"""What can be asked of the daemon, by subject; the table that is served and documented."""

from __future__ import annotations

from typing import Final

from indexer.daemon.operation import Operation
from indexer.daemon.operations.about import about
from indexer.daemon.operations.artifacts import ARTIFACTS
from indexer.daemon.operations.jobs import JOBS
from indexer.daemon.operations.query import QUERIES
from indexer.daemon.operations.tracking import TRACKING

OPERATIONS: Final[tuple[Operation, ...]] = (
    *JOBS,
    *ARTIFACTS,
    *QUERIES,
    *TRACKING,
    *about((*JOBS, *ARTIFACTS, *QUERIES, *TRACKING)),
)
