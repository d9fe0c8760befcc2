"""What can be asked of the daemon, by subject; the table that is served and documented."""

from __future__ import annotations

from typing import Final

from indexer.daemon.operation import Operation
from indexer.daemon.operations.about import about
from indexer.daemon.operations.artifacts import ARTIFACTS
from indexer.daemon.operations.diff import DIFFS
from indexer.daemon.operations.jobs import JOBS
from indexer.daemon.operations.query import QUERIES
from indexer.daemon.operations.retention import RETENTION
from indexer.daemon.operations.runs import RUNS
from indexer.daemon.operations.tracking import TRACKING

_SUBJECTS: Final = (*JOBS, *ARTIFACTS, *DIFFS, *QUERIES, *RUNS, *RETENTION, *TRACKING)

OPERATIONS: Final[tuple[Operation, ...]] = (*_SUBJECTS, *about(_SUBJECTS))
