"""CPU at the margin: what one more object costs, from its listing to a committed manifest.

It is the difference between a large and a small bucket, so that what a run takes once has no part
in it. That is measured beside it, as CPU until the first request, and so is `indexer --help`.
"""

from __future__ import annotations

from statistics import median

from benchmarks.macro.synthetic import serving, snapshot
from benchmarks.measure import run
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, indexer_command

BENCHMARK = "margin"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both sizes of each shape, and the help."""
    for shape in sizes.margin_shapes:
        with serving(shape, *sizes.margin_objects) as endpoint:
            for count in sizes.margin_objects:
                workload = {"shape": shape, "objects": count, "in_flight": sizes.in_flight}
                snapshot(sitting, BENCHMARK, endpoint, workload, repeats=sizes.repeats)
    runs = [run([*indexer_command(), "--help"]) for _ in range(sizes.repeats)]
    sitting.record(
        BENCHMARK,
        {},
        "indexer --help",
        {
            "wall_s": median(one.wall_s for one in runs),
            "cpu_s": median(one.cpu_s for one in runs),
            "memory_peak_bytes": max(one.memory_peak_bytes for one in runs),
        },
        samples={"cpu_s": [round(one.cpu_s, 4) for one in runs]},
        version=OURS.version,
    )
