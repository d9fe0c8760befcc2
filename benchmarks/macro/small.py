"""A small bucket in a warm process: what many requests at once cost where one would do.

Invariants
  * Both ways are run in one process, in pairs that take turns in going first.
  * Each snapshot is a first one: of an artifact that is not there yet.
"""

from __future__ import annotations

import json
import sys
from statistics import median

from benchmarks.macro.synthetic import bucket_of, serving
from benchmarks.measure import run
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS

BENCHMARK = "small"
SHAPE = "tree"
IN_FLIGHT = 64


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records medians of both ways, and of the ratios of the pairs."""
    count = sizes.small_objects
    for latency_ms in sizes.small_latencies_ms:
        with serving(SHAPE, count, latency_ms=latency_ms) as endpoint:
            words = (bucket_of(count), str(count), str(IN_FLIGHT), str(sizes.small_pairs))
            taken = run(_warm_command(*words), endpoint)
        pairs = [(many_s, one_s) for many_s, one_s in json.loads(taken.output.splitlines()[-1])]
        many, one = ([pair[place] for pair in pairs] for place in (0, 1))
        say(f"{BENCHMARK:8} {latency_ms:g} ms a page: {median(many):.3f} s and {median(one):.3f} s")
        for in_flight, walls_s in ((IN_FLIGHT, many), (1, one)):
            figures = {"objects": count, "wall_s": median(walls_s)}
            if in_flight != 1:
                figures["ratio_to_serial"] = median(many_s / one_s for many_s, one_s in pairs)
            sitting.record(
                BENCHMARK,
                {
                    "server": "synthetic",
                    "shape": SHAPE,
                    "objects": count,
                    "latency_ms": latency_ms,
                    "in_flight": in_flight,
                },
                "indexer.snapshot()",
                figures,
                samples={"wall_s": [round(wall_s, 4) for wall_s in walls_s]},
                version=OURS.version,
            )


def _warm_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.macro.warm", *words]
