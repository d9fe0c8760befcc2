"""Listing a distant server: pages that take 200 ms, one at a time and many at once.

One at a time is measured on two small buckets; their difference is what a key costs then. A million
keys would take over three minutes that way, and tell nothing more.
"""

from __future__ import annotations

from benchmarks.macro.synthetic import serving, snapshot
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes

BENCHMARK = "latency"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records runs with one request in flight, and with many, for each shape."""
    for shape in sizes.latency_shapes:
        counts = dict.fromkeys(sizes.latency_serial_objects, 1)
        counts[sizes.latency_objects] = sizes.in_flight
        with serving(shape, *counts, latency_ms=sizes.latency_ms) as endpoint:
            for count, in_flight in counts.items():
                snapshot(
                    sitting,
                    BENCHMARK,
                    endpoint,
                    {
                        "shape": shape,
                        "objects": count,
                        "latency_ms": sizes.latency_ms,
                        "in_flight": in_flight,
                    },
                    repeats=1 if in_flight == 1 else sizes.repeats,
                )
