"""Measurements on file: one line of JSON each, appended and never changed.

    {"at", "sitting", "commit", "is_clean", "machine", "benchmark", "workload", "tool", "version",
     "figures", "samples"}

Invariants
  * A line is on disk before the next measurement begins.
  * `figures` hold medians; `samples` what they are medians of, in the order of the runs.
  * Measurements of one `sitting` were taken one after the other on one machine, and only those are
    compared.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results.jsonl"
COMMAND_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One tool on one workload."""

    benchmark: str
    workload: Mapping[str, Any]
    tool: str
    figures: Mapping[str, float]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    version: str = ""
    at: str = ""
    sitting: str = ""
    commit: str = ""
    is_clean: bool = False
    machine: Mapping[str, Any] = field(default_factory=dict)

    def figure(self, name: str) -> float | None:
        """A figure as measured, or one that follows from those."""
        if name in self.figures:
            return self.figures[name]
        objects = self.figures.get("objects", 0)
        match name:
            case "net_wall_s" | "net_cpu_s" if name.removeprefix("net_") in self.figures:
                taken_s = self.figures[name.removeprefix("net_")]
                start_s = self.figures.get(name.replace("net", "start"), 0.0)
                # Of a run that is hardly longer than its start-up nothing can be said.
                return taken_s - start_s if taken_s > start_s else None
            case "objects_per_s" if objects and (wall_s := self.figure("net_wall_s")):
                return objects / wall_s
            case "cpu_us_per_object" if objects and (cpu_s := self.figure("net_cpu_s")):
                return 1e6 * cpu_s / objects
            case "bytes_per_s" if "bytes" in self.figures and (wall_s := self.figure("net_wall_s")):
                return self.figures["bytes"] / wall_s
            case "requests_per_thousand" if objects and "requests" in self.figures:
                return 1000 * self.figures["requests"] / objects
            case _:
                return None


class Sitting:
    """The measurements of one run of the benchmarks, written to `file` if there is one."""

    def __init__(self, file: Path | None) -> None:
        self.measurements: list[Measurement] = []
        self.failures: list[str] = []
        self._file = file
        self._common = {"sitting": _now(), **_commit(), "machine": machine()}

    def record(
        self,
        benchmark: str,
        workload: Mapping[str, Any],
        tool: str,
        figures: Mapping[str, float],
        *,
        samples: Mapping[str, Sequence[float]] | None = None,
        version: str = "",
    ) -> None:
        """Keeps one measurement."""
        measurement = Measurement(
            benchmark=benchmark,
            workload=dict(workload),
            tool=tool,
            figures={name: round(value, 4) for name, value in figures.items()},
            samples=samples or {},
            version=version,
            at=_now(),
            **self._common,
        )
        self.measurements.append(measurement)
        if self._file is not None:
            append(self._file, measurement)

    def fail(self, what: str, error: Exception) -> None:
        """Tells of a measurement that cannot be had; the others go on."""
        self.failures.append(what)
        say(f"{what}: {error}")


def append(path: Path, measurement: Measurement) -> None:
    """Adds a line to a file, which is made if it is not there."""
    line = json.dumps(asdict(measurement), ensure_ascii=False, separators=(",", ":"))
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Measurement]:
    """All measurements of a file, oldest first."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Measurement(**json.loads(line)) for line in lines if line.strip()]


def newest(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Those of each benchmark's newest sitting."""
    kept = list(measurements)
    sittings: dict[str, str] = {}
    for one in kept:
        sittings[one.benchmark] = max(one.sitting, sittings.get(one.benchmark, ""))
    return [one for one in kept if one.sitting == sittings[one.benchmark]]


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> dict[str, Any]:
    commit = _git("rev-parse", "--short=12", "HEAD")
    return {"commit": commit, "is_clean": bool(commit) and not _git("status", "--porcelain")}


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git made the checkout
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def say(text: str) -> None:
    """Tells whoever waits how far it has come."""
    print(text, file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
