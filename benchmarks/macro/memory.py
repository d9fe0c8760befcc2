"""Peak memory: the resident set of `indexer snapshot` on a large bucket and on a larger one."""

from __future__ import annotations

from benchmarks.macro.synthetic import serving, snapshot
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes

BENCHMARK = "memory"
REPEATS = 1
"""The highest of the peaks counts, and they hardly differ."""


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both sizes of each shape."""
    for shape in sizes.memory_shapes:
        for count in sizes.memory_objects:
            with serving(shape, count) as endpoint:
                workload = {"shape": shape, "objects": count, "in_flight": sizes.in_flight}
                snapshot(sitting, BENCHMARK, endpoint, workload, repeats=REPEATS)
