"""The first page of a folder, asked of a daemon that has just started.

Invariants
  * The daemon holds nothing in memory of the version: it is a new process each time, and a page is
    asked for once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.macro.synthetic import bucket_of, serving
from benchmarks.measure import Endpoint
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS

BENCHMARK: Final = "folders"
SHAPES: Final = ("hex", "uuid_dirs")
"""All entries in one folder, and each in a folder of its own."""

LIMIT: Final = 100


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records how long the first pages of the root, the middle and the last folder take."""
    count = sizes.folders_objects
    for shape in SHAPES:
        with serving(shape, count) as endpoint:
            taken = _pages(endpoint, count, sizes.repeats)
        say(f"{BENCHMARK:8} {shape:13} {1e3 * max(max(one) for one in taken.values()):.0f} ms")
        for place, walls_s in taken.items():
            sitting.record(
                BENCHMARK,
                {"server": "synthetic", "shape": shape, "objects": count, "place": place},
                "GET …/entries?delimiter=/",
                {"objects": count, "page_s": median(walls_s)},
                samples={"page_s": [round(wall_s, 4) for wall_s in walls_s]},
                version=OURS.version,
            )


def _pages(endpoint: Endpoint, count: int, repeats: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-") as name:
        data = Path(name) / "data"
        with running_daemon(endpoint, data=data) as daemon:
            asyncio.run(_snapshot(daemon, count))
        for _ in range(repeats):
            with running_daemon(endpoint, data=data) as daemon:
                for place, wall_s in asyncio.run(_ask(daemon)).items():
                    taken.setdefault(place, []).append(wall_s)
    return taken


async def _snapshot(daemon: RunningDaemon, count: int) -> None:
    async with aiohttp.ClientSession(daemon.url) as session:
        await snapshot(session, bucket_of(count), "bench/objects", count)


async def _ask(daemon: RunningDaemon) -> dict[str, float]:
    path = "/api/v1/artifacts/bench/objects/versions/latest/entries"
    async with aiohttp.ClientSession(daemon.url) as session:

        async def page(**query: str) -> tuple[dict[str, Any], float]:
            started_s = time.perf_counter()
            given = {"delimiter": "/", "limit": str(LIMIT), **query}
            async with session.get(path, params=given) as response:
                found: dict[str, Any] = await response.json()
            return found, time.perf_counter() - started_s

        first, first_s = await page()
        assert 0 < len(first["results"]) <= LIMIT
        last = first["results"][-1]
        taken = {"first page": first_s}
        if first["next"] is not None:
            _, taken["next page"] = await page(after=first["next"])
        if last["kind"] == "folder":
            _, taken["first page of a subfolder"] = await page(prefix=last["path"])
        _, taken["names from 8"] = await page(prefix="8")
        return taken
