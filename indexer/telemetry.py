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
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(slots=True)
class Counters:
    """The figures of one job."""

    objects_listed: int = 0
    requests: int = 0
    retries: int = 0
    throttles: int = 0
    segments: int = 0
    open_segments: int = 0
    shards_new: int = 0
    shards_reused: int = 0

    def start_again(self) -> None:
        """Forgets what was listed, as the job begins anew; requests were made all the same."""
        self.objects_listed = 0
        self.segments = self.open_segments = 0
        self.shards_new = self.shards_reused = 0


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


def without_credentials(text: str) -> str:
    """The text, with names and passwords inside of its URLs blanked."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
