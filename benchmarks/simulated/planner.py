"""How many requests the planner makes, and how long they take, for each shape of keys.

    python -m benchmarks.simulated.planner [KEYS [SLOTS [SHAPE ...]]]

Nothing is asked of a server: pages come from a list of keys, after a simulated latency.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from indexer.testing.keysets import SHAPES, keys
from indexer.testing.simulated_listing import simulate

SEEDS = (1, 2, 3)


def main(arguments: Sequence[str]) -> None:
    """Prints a table, one line a shape: the mean of several seeds, and the worst slowdown."""
    count = int(arguments[0]) if arguments else 200_000
    slots = int(arguments[1]) if len(arguments) > 1 else 64
    print(f"{count:,} keys, {slots} slots; ideal: 1 request per 1,000 keys, slowdown 1")
    print(f"{'shape':17}{'requests/k':>11}{'empty/k':>9}{'segments':>10}", end="")
    print(f"{'slowdown':>10}{'worst':>7}{'µs/page':>9}")
    for shape in arguments[2:] or SHAPES:
        made = keys(shape, count)
        outcomes = [simulate(made, slots=slots, seed=seed) for seed in SEEDS]
        slowdowns = [outcome.slowdown for outcome in outcomes]
        requests = sum(outcome.requests for outcome in outcomes)
        print(
            f"{shape:17}"
            f"{sum(outcome.requests_per_thousand for outcome in outcomes) / len(SEEDS):11.2f}"
            f"{1000 * sum(o.requests_empty for o in outcomes) / len(SEEDS) / count:9.2f}"
            f"{sum(outcome.segments for outcome in outcomes) / len(SEEDS):10.0f}"
            f"{sum(slowdowns) / len(SEEDS):10.2f}{max(slowdowns):7.2f}"
            f"{1e6 * sum(outcome.planning_s for outcome in outcomes) / requests:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
