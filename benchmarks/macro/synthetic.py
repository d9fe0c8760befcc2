"""What benchmarks on the synthetic server share: the server of one bucket, and runs of our command.

Invariants
  * The server is a process of its own, so that none of its work counts as ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Endpoint, Series
from benchmarks.results import Sitting, say
from benchmarks.tools import OURS, count_snapshot, indexer
from indexer.testing.synthetic_s3 import SyntheticS3


def bucket_of(count: int) -> str:
    """The name of the bucket of so many objects."""
    return f"objects-{count}"


@contextmanager
def serving(shape: str, *counts: int, latency_ms: float = 0.0) -> Iterator[Endpoint]:
    """A server with a bucket for each count of keys of a shape."""
    buckets = {bucket_of(count): f"{shape}:{count}" for count in counts}
    with SyntheticS3(buckets=buckets, latency_ms=latency_ms) as server:
        yield Endpoint(server.endpoint_url, server.access_key, server.secret_key, server.region)


def snapshot(
    sitting: Sitting,
    benchmark: str,
    endpoint: Endpoint,
    workload: Mapping[str, Any],
    *,
    repeats: int,
) -> None:
    """Runs `indexer snapshot` on a whole bucket so often, and records what it took.

    The workload says which: `shape`, `objects` and `in_flight`.
    """
    count = workload["objects"]
    command = indexer(bucket_of(count), in_flight=workload["in_flight"])
    series = Series(command, endpoint, count_snapshot)
    for _ in range(repeats):
        series.start()
        series.run(count)
        say(f"{benchmark:8} {workload['shape']:13} {count:>9,} {series.runs[-1].wall_s:8.2f} s")
    sitting.record(
        benchmark,
        {"server": "synthetic", **workload},
        OURS.name,
        series.figures(),
        samples=series.samples(),
        version=OURS.version,
    )
