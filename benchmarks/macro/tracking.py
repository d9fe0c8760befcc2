"""Shards streamed to a daemon while listing goes on, beside a snapshot into the own data folder."""

from __future__ import annotations

from typing import Final

from benchmarks.daemons import running_daemon
from benchmarks.macro.synthetic import bucket_of, serving
from benchmarks.measure import Series
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, count_snapshot, indexer

BENCHMARK: Final = "tracking"
SHAPE: Final = "tree"
REMOTE: Final = "indexer snapshot --to"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both ways, which take turns; each daemon is a new one."""
    count = sizes.tracking_objects
    with serving(SHAPE, count) as endpoint:
        embedded = Series(indexer(bucket_of(count)), endpoint, count_snapshot)
        remote = Series([], endpoint, count_snapshot)
        for _ in range(sizes.repeats):
            embedded.start()
            embedded.run(count)
            say(f"{BENCHMARK:8} {OURS.name:22} {embedded.runs[-1].wall_s:8.2f} s")
            with running_daemon(endpoint) as daemon:
                remote.command = [*indexer(bucket_of(count)), f"--to={daemon.url}"]
                remote.run(count)
                # What it takes until its first request to the store is what the other takes.
                remote.starts = embedded.starts
            say(f"{BENCHMARK:8} {REMOTE:22} {remote.runs[-1].wall_s:8.2f} s")
    workload = {"server": "synthetic", "shape": SHAPE, "objects": count}
    for name, series in ((OURS.name, embedded), (REMOTE, remote)):
        sitting.record(
            BENCHMARK,
            workload,
            name,
            series.figures(),
            samples=series.samples(),
            version=OURS.version,
        )
