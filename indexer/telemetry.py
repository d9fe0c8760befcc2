"""Telemetry: what a job counts while it runs, and what is logged of it.

Invariants
  * Standard error is for logs and progress, standard output for data.
  * Nothing that is a secret by its name is logged, nor are credentials inside of a URL.
  * Counters only rise while a job goes on, except for gauges, whose names begin with `open`.
  * Counting costs an addition; who watches reads when it likes.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

LATENCY_BOUNDS_S: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the buckets for how long a store takes to answer."""

DURATION_BOUNDS_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)
"""Upper bounds of the buckets for how long a job runs."""

ADDED: Final = (
    "objects_listed", "objects_abandoned", "objects_enriched", "checksums_read",
    "checksums_carried", "bytes_read", "requests", "retries", "throttles", "segments", "shards_new",
    "shards_reused", "shard_bytes",
)  # fmt: skip
"""The counters that are added up over jobs."""


class Histogram:
    """How many observations there were up to each bound, beyond the last one, and their sum."""

    def __init__(self, bounds_s: Sequence[float] = LATENCY_BOUNDS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

    def add(self, other: Histogram) -> None:
        """Counts all that another one has counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s


@dataclass(slots=True)
class Counters:
    """The figures of one job. `answers` are those of stores, by backend, operation and outcome."""

    objects_listed: int = 0
    requests: int = 0
    retries: int = 0
    throttles: int = 0
    segments: int = 0
    open_segments: int = 0
    shards_new: int = 0
    shards_reused: int = 0
    shard_bytes: int = 0
    open_requests: int = 0
    open_limit: int = 0
    objects_abandoned: int = 0
    objects_enriched: int = 0
    checksums_read: int = 0
    checksums_carried: int = 0
    bytes_read: int = 0
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies: Histogram = field(default_factory=Histogram)

    def answered(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        """Counts what a request to a store came to, and how long that took."""
        self.answers[backend, operation, outcome] += 1
        self.latencies.observe(seconds)

    def start_again(self, listed: int) -> None:
        """Forgets what was listed beyond `listed` objects, as the scan of a source begins anew;
        requests were made all the same.
        """
        self.objects_abandoned += self.objects_listed - listed
        self.objects_listed = listed
        self.objects_enriched = min(self.objects_enriched, listed)
        self.segments = self.open_segments = 0
        self.shards_new = self.shards_reused = 0


class Totals:
    """The figures of all jobs that have ended, and how many ended in which way."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.jobs: Counter[str] = Counter()
        self.durations = Histogram(DURATION_BOUNDS_S)

    def add(self, counters: Counters) -> None:
        """Adds the figures of a job."""
        total = self.counters
        for name in ADDED:
            setattr(total, name, getattr(total, name) + getattr(counters, name))
        total.answers.update(counters.answers)
        total.latencies.add(counters.latencies)

    def ended(self, state: str, seconds: float | None) -> None:
        """Counts a job that ended, and how long it ran if it did."""
        self.jobs[state] += 1
        if seconds is not None:
            self.durations.observe(seconds)


SECRET_NAMES: Final = re.compile(
    r"secret|password|token|authorization|credential|signature", re.IGNORECASE
)


def new_logger(level: str = "warning", style: str = "console") -> Any:
    """A structured logger that writes `level` and above to standard error.

    For people, or as JSON lines with the style `json`. It is bound to this process's standard
    error as it is now, and configures nothing for others.
    """
    import structlog

    is_colored = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=is_colored)
    )
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # As text, without the values of local variables, which may be secrets.
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
    )


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blanks values that are secrets by their name, and credentials inside of URLs."""
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = without_credentials(value)
    return event


_CREDENTIALS: Final = re.compile(
    r"://(?:[^/?#\s]+|[^/?#@\s:\[]*:(?![0-9]*(?:[/?#\s]|$))[^@\n]{0,1000}(?:@[^@/?#\s]+)*)@"
)
"""What stands before the host of a URL; a password may hold what should have been quoted in it:
blanks, slashes, question marks and @. A port is no password.
"""


def without_credentials(text: str) -> str:
    """The text, with names and passwords inside of its URLs blanked."""
    return _CREDENTIALS.sub("://***@", text)
