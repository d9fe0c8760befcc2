"""Tools beside each other at the same work: what benchmarks share that compare with others.

Invariants
  * The tools take turns, so that what changes on the machine meanwhile touches all of them.
  * Each has to do all of the work. One that fails is told of, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Endpoint, RunFailed, Series
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import Tool


@dataclass(frozen=True, slots=True)
class Work:
    """What the tools are given: a source of so many objects, found at the endpoint."""

    benchmark: str
    workload: Mapping[str, Any]
    source: str
    objects: int
    endpoint: Endpoint | None = None
    start_source: str = ""
    """One of a single object, where start-ups are measured by it; see `measure`."""

    is_warmed: bool = False
    """Then each tool does it once before anything is counted."""


def compare(sitting: Sitting, sizes: Sizes, work: Work, tools: Sequence[Tool]) -> None:
    """Lets every tool that is installed do the work, and records what that took."""
    installed = [tool for tool in tools if tool.is_installed]
    if missing := [tool.name for tool in tools if tool not in installed]:
        say(f"not installed, so left out: {', '.join(missing)}")
    runs = [_Runs(sitting, sizes, work, tool) for tool in installed]
    if work.is_warmed and sizes.is_fair:
        for one in runs:
            one.warm()
    for turn in range(sizes.repeats):
        for one in runs:
            one.take(turn)
    for one in runs:
        one.record()


class _Runs:
    """One tool's runs."""

    def __init__(self, sitting: Sitting, sizes: Sizes, work: Work, tool: Tool) -> None:
        self._sitting = sitting
        self._settle_s = sizes.settle_s
        self._has_starts = sizes.is_fair and not tool.times_itself
        self._work = work
        self._tool = tool
        self._has_failed = False
        self._series = self._new_series()

    def warm(self) -> None:
        """Does the work once, and forgets what it took."""
        try:
            self._new_series().run(self._work.objects)
        except RunFailed as error:
            self._fail(error)

    def take(self, turn: int) -> None:
        """Measures the start-up, and the work if it is the tool's turn."""
        if self._has_failed:
            return
        try:
            if self._has_starts:
                self._series.start()
            if turn and self._tool.is_slow:
                return
            self._series.run(self._work.objects)
        except RunFailed as error:
            self._fail(error)
            return
        wall_s = self._series.samples()["wall_s"][-1]
        say(f"{self._work.benchmark:9} {self._shape:20} {self._tool.name:26} {wall_s:8.2f} s")
        time.sleep(self._settle_s)

    def record(self) -> None:
        """Keeps what came of it."""
        if self._has_failed:
            return
        self._sitting.record(
            self._work.benchmark,
            {**self._work.workload, "objects": self._work.objects},
            self._tool.name,
            self._series.figures(),
            samples=self._series.samples(),
            version=self._tool.version,
        )

    def _fail(self, error: RunFailed) -> None:
        self._has_failed = True
        self._sitting.fail(f"{self._work.benchmark}, {self._shape}, {self._tool.name}", error)

    def _new_series(self) -> Series:
        work, tool = self._work, self._tool
        start = tool.command(work.start_source, 1) if work.start_source else ()
        command = tool.command(work.source, work.objects)
        return Series(command, work.endpoint, tool.count, start)

    @property
    def _shape(self) -> str:
        return str(self._work.workload["shape"])
