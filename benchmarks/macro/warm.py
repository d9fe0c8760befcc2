"""Snapshots one bucket again and again in this process, with many requests in flight and with one.

    python -m benchmarks.macro.warm BUCKET OBJECTS IN_FLIGHT PAIRS

Prints the seconds of each pair as JSON: [[many, one], ...].
"""

from __future__ import annotations

import json
import sys
import time

import indexer


def main(bucket: str, objects: int, in_flight: int, pairs: int) -> None:
    """Warms up with one pair, then times the others."""
    taken = [_pair(bucket, objects, in_flight, number) for number in range(pairs + 1)]
    print(json.dumps(taken[1:]))


def _pair(bucket: str, objects: int, in_flight: int, number: int) -> tuple[float, float]:
    order = (in_flight, 1) if number % 2 else (1, in_flight)
    taken_s = {at_once: _timed(bucket, objects, at_once, number) for at_once in order}
    return taken_s[in_flight], taken_s[1]


def _timed(bucket: str, objects: int, in_flight: int, number: int) -> float:
    started_s = time.perf_counter()
    version = indexer.snapshot(
        f"s3://{bucket}",
        name=f"bench/objects-{in_flight}-{number}",
        max_objects=objects,
        in_flight=in_flight,
    )
    taken_s = time.perf_counter() - started_s
    assert version.record.objects == objects
    return taken_s


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
