"""`python -m benchmarks [WHAT ...]`: measures, prints tables, and appends to results.jsonl."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.macro import (
    checksums,
    crowd,
    diff,
    download,
    enrich,
    folders,
    heads,
    latency,
    margin,
    memory,
    minio,
    query,
    small,
    stores,
    tracking,
)
from benchmarks.measure import RunFailed
from benchmarks.report import report
from benchmarks.results import RESULTS, Sitting, newest, read, say
from benchmarks.sizes import FULL, QUICK, Sizes
from deploy.s3_server import ServerError

BENCHMARKS: Final[Mapping[str, Callable[[Sitting, Sizes], None]]] = {
    module.BENCHMARK: module.measure
    for module in (
        *(minio, margin, latency, small, memory, tracking, folders, crowd),
        *(checksums, stores, enrich, heads, diff, query, download),
    )
}
REPORT: Final = "report"
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for and returns the exit code."""
    options = _parser().parse_args(arguments)
    file = options.results or RESULTS
    if options.what == [REPORT]:
        found = newest(read(file))
        print(report(found) if found else f"There are no measurements in {file}.")
        return 0
    sizes = QUICK if options.quick else FULL
    if options.repeats:
        sizes = replace(sizes, repeats=options.repeats)
    # A try of the harness is no measurement, unless somebody says where to put it.
    sitting = Sitting(None if options.quick and not options.results else file)
    for what in options.what or BENCHMARKS:
        try:
            BENCHMARKS[what](sitting, sizes)
        except (RunFailed, ServerError) as error:
            sitting.fail(what, error)
        except KeyboardInterrupt:
            say("Interrupted.")
            return EXIT_INTERRUPTED
    print(report(sitting.measurements, has_goals=not options.quick))
    return 1 if sitting.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the indexer, beside other tools where there are such.",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help=f"{', '.join(BENCHMARKS)} (default: all of them), or {REPORT}: what is on file",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the harness")
    parser.add_argument("--repeats", type=int, metavar="N", help="runs of what is quickly run")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help=f"append there (default: {RESULTS.name})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
