"""A snapshot that a daemon is asked for over HTTP, to be compared with the command's.

Each run has a daemon of its own with an empty data folder. Its start-up is before it is asked, and
no part of what is measured.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.measure import Endpoint, RunFailed


class Triggers:
    """Runs over HTTP on one bucket."""

    def __init__(self, endpoint: Endpoint, bucket: str, objects: int) -> None:
        self._endpoint = endpoint
        self._bucket = bucket
        self._objects = objects
        self.runs: list[dict[str, float]] = []

    def run(self) -> None:
        """Triggers one snapshot and follows it to its end. Raises `RunFailed`."""
        with running_daemon(self._endpoint) as daemon:
            self.runs.append(asyncio.run(self._triggered(daemon)))

    def figures(self) -> dict[str, float]:
        """The median of each figure."""
        return {name: median(run[name] for run in self.runs) for name in self.runs[0]}

    def samples(self) -> dict[str, list[float]]:
        """What the medians are of, in the order of the runs."""
        return {name: [round(run[name], 4) for run in self.runs] for name in ("wall_s", "cpu_s")}

    async def _triggered(self, daemon: RunningDaemon) -> dict[str, float]:
        async with aiohttp.ClientSession(daemon.url) as session:
            cpu_s, started_s = daemon.cpu_s(), time.perf_counter()
            job = await snapshot(session, self._bucket, "bench/objects", self._objects)
            wall_s = time.perf_counter() - started_s
        found = job["result"]["objects"]
        if found != self._objects:
            raise RunFailed(f"the daemon found {found:,} of {self._objects:,} objects")
        return {
            "objects": found,
            "wall_s": wall_s,
            "cpu_s": daemon.cpu_s() - cpu_s,
            "memory_peak_bytes": daemon.memory_peak_bytes(),
            "requests": job["result"]["requests"],
        }
