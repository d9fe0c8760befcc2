"""Measures commands: each run in a process of its own, with nothing of the user's settings.

Invariants
  * A command's start-up is what it takes until its first request, and is measured apart. Where none
    can be caught, it is what the command takes for a source of one object.
  * A run that fails, or that counts other objects than there are, is an error and no measurement.
  * Every run has a data folder of its own, which is empty before and gone after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
RUN_TIMEOUT_S: Final = 1_800.0
START_TIMEOUT_S: Final = 60.0
LAUNCH_TIMEOUT_S: Final = 30.0
"""More than the program gets; the launcher ends it and reports."""

FOREIGN_PREFIXES: Final = (
    *("AWS_", "INDEXER_", "S3_", "WANDB_"),
    *("CLOUDSDK_", "FSSPEC_", "GCSFS_", "GOOGLE_", "STORAGE_"),
)
ERROR_CHARACTERS_MAX: Final = 2_000


class RunFailed(Exception):
    """A measured command failed, or did not do the whole of its work."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where S3, or what stands for GCS, is, and with which keys."""

    url: str
    access_key: str
    secret_key: str
    region: str

    def environment(self) -> dict[str, str]:
        """The variables that lead each of the tools there."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_S3_ENDPOINT_URL": self.url,
            "S3_ENDPOINT_URL": self.url,
            "STORAGE_EMULATOR_HOST": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, from before its process began until after it ended."""

    wall_s: float
    cpu_s: float
    memory_peak_bytes: float
    output: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What a command says that it did: objects, and whatever figures it gives of its own.

    Where they have a `wall_s` or `cpu_s`, that is taken in place of what the process took.
    """

    objects: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Series:
    """Runs of one command on one workload."""

    command: Sequence[str]
    endpoint: Endpoint | None
    count: Callable[[str], Counted]
    start_command: Sequence[str] = ()
    """Where no request can be caught: what is run to its end in its place."""

    starts: list[Run] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)

    def start(self) -> None:
        """Measures the start-up once more."""
        if self.start_command:
            self.starts.append(run(self.start_command, self.endpoint))
        else:
            self.starts.append(run(self.command, self.endpoint, is_until_request=True))

    def run(self, objects: int) -> None:
        """Runs the command once more. Raises `RunFailed` unless it counts so many objects."""
        done = run(self.command, self.endpoint)
        counted = self.count(done.output)
        if counted.objects != objects:
            raise RunFailed(f"{self.command[0]} found {counted.objects:,} of {objects:,} objects")
        self.runs.append(done)
        self.counted.append(counted)

    def figures(self) -> dict[str, float]:
        """The median of each figure, and the highest of the peaks."""
        own = {name: median(c.figures[name] for c in self.counted) for name in self._names()}
        return {
            "objects": self.counted[0].objects,
            **{name: median(taken) for name, taken in self._taken().items()},
            "memory_peak_bytes": max(run.memory_peak_bytes for run in self.runs),
            **own,
        }

    def samples(self) -> dict[str, list[float]]:
        """What the medians are of, in the order of the runs."""
        return {name: [round(one, 4) for one in taken] for name, taken in self._taken().items()}

    def _taken(self) -> dict[str, list[float]]:
        """Times of every run, and of every start if there were some."""
        runs = list(zip(self.runs, self.counted, strict=True))
        taken = {
            "wall_s": [said.figures.get("wall_s", run.wall_s) for run, said in runs],
            "cpu_s": [said.figures.get("cpu_s", run.cpu_s) for run, said in runs],
        }
        if self.starts:
            taken["start_wall_s"] = [run.wall_s for run in self.starts]
            taken["start_cpu_s"] = [run.cpu_s for run in self.starts]
        return taken

    def _names(self) -> list[str]:
        return list(self.counted[0].figures)


def run(
    command: Sequence[str], endpoint: Endpoint | None = None, *, is_until_request: bool = False
) -> Run:
    """Runs a command to its end, or until its first request. Raises `RunFailed`."""
    with tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-") as name:
        folder = Path(name)
        output, errors = folder / "output", folder / "errors"
        timeout_s = START_TIMEOUT_S if is_until_request else RUN_TIMEOUT_S
        order: dict[str, Any] = {
            "command": [*command],
            "timeout_s": timeout_s,
            "output": str(output),
            "errors": str(errors),
            "is_until_request": is_until_request,
        }
        launched = subprocess.run(
            [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py"), json.dumps(order)],
            cwd=ROOT,
            env=environment(folder, endpoint),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s + LAUNCH_TIMEOUT_S,
            check=False,
        )
        said = errors.read_text(errors="replace")[-ERROR_CHARACTERS_MAX:] if errors.exists() else ""
        if launched.returncode:
            raise RunFailed(f"{' '.join(command)}: {launched.stderr[-ERROR_CHARACTERS_MAX:]}{said}")
        figures = json.loads(launched.stdout)
        if figures["exit_code"] and not is_until_request:
            raise RunFailed(f"{' '.join(command)}: exit code {figures['exit_code']}\n{said}")
        return Run(
            figures["wall_s"],
            figures["cpu_s"],
            figures["memory_peak_bytes"],
            output.read_text(errors="replace"),
        )


def environment(folder: Path, endpoint: Endpoint | None) -> dict[str, str]:
    """Without the user's settings, and such that everything is kept in the folder."""
    settings = folder / "indexer.toml"
    settings.touch()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)
    }
    own = {
        "HOME": folder,
        "XDG_CACHE_HOME": folder / "cache",
        "XDG_CONFIG_HOME": folder / "config",
        "XDG_DATA_HOME": folder / "share",
        "AWS_CONFIG_FILE": folder / "no-aws-config",
        "AWS_SHARED_CREDENTIALS_FILE": folder / "no-aws-credentials",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "INDEXER_CONFIG": settings,
        "INDEXER_DATA": folder / "data",
        "WANDB_DIR": folder,
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
    }
    led = endpoint.environment() if endpoint else {}
    return {**kept, **{name: str(value) for name, value in own.items()}, **led}
