"""A second snapshot with checksums, after some objects changed: what it reads, and how long.

Both are asked of one daemon, whose figures of a job tell what was read and what was carried over.

Invariants
  * A snapshot has a checksum of every object, read or carried over, and what changed was read, else
    there is no measurement.
  * Each pair of snapshots is the first of a daemon with an empty data folder.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.filled import Objects, kind_of, quick_folder
from benchmarks.goals import FIRST, SECOND
from benchmarks.measure import Endpoint, RunFailed
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS
from deploy.s3_server import S3Server

BENCHMARK: Final = "enrich"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both snapshots of several pairs."""
    objects = Objects("enrich", sizes.enrich_objects, sizes.enrich_object_bytes)
    changed = objects.keys[:: objects.count // sizes.enrich_changed][: sizes.enrich_changed]
    with (
        quick_folder(objects.count * objects.size_bytes, 3 * objects.count) as folder,
        S3Server.start("minio", folder / "minio") as server,
    ):
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        objects.load(endpoint)
        first, second = _Snapshots(FIRST, objects), _Snapshots(SECOND, objects)
        for turn in range(sizes.repeats):
            with running_daemon(endpoint) as daemon:
                first.take(daemon, objects.count)
                objects.change(endpoint, changed, f"changed {turn}")
                second.take(daemon, len(changed))
        workload = {
            "server": f"minio {server.version}",
            "shape": f"objects of {objects.size_bytes / 1000:g} kB",
            "place": kind_of(folder),
            "objects": objects.count,
            "changed": len(changed),
        }
    changed_bytes = {FIRST: {}, SECOND: {"bytes_changed": len(changed) * objects.size_bytes}}
    for one in (first, second):
        sitting.record(
            BENCHMARK,
            workload,
            one.name,
            {**one.figures(), **changed_bytes[one.name]},
            samples=one.samples(),
            version=OURS.version,
        )


@dataclass(slots=True)
class _Snapshots:
    """The first, or the second, of each pair."""

    name: str
    objects: Objects
    runs: list[dict[str, float]] = field(default_factory=list)

    def take(self, daemon: RunningDaemon, to_read: int) -> None:
        """Asks the daemon for one. Raises `RunFailed` if it read fewer objects than it has to."""
        run = asyncio.run(self._taken(daemon))
        if run["checksums_read"] < to_read:
            raise RunFailed(
                f"{self.name}: of {to_read:,} objects to be read, {run['checksums_read']:,} were"
            )
        self.runs.append(run)
        say(
            f"{BENCHMARK:9} {self.name:26} {run['wall_s']:8.2f} s, "
            f"{run['checksums_read']:,} objects read"
        )

    def figures(self) -> dict[str, float]:
        """The median of each figure."""
        return {name: median(run[name] for run in self.runs) for name in self.runs[0]}

    def samples(self) -> dict[str, list[float]]:
        """What the medians are of, in the order of the runs."""
        names = ("wall_s", "cpu_s", "bytes_read")
        return {name: [round(run[name], 4) for run in self.runs] for name in names}

    async def _taken(self, daemon: RunningDaemon) -> dict[str, float]:
        count = self.objects.count
        async with aiohttp.ClientSession(daemon.url) as session:
            cpu_s, started_s = daemon.cpu_s(), time.perf_counter()
            job = await snapshot(
                session, self.objects.bucket, "bench/objects", count, checksum="md5"
            )
            wall_s = time.perf_counter() - started_s
        done = job["progress"]
        if done["checksums_read"] + done["checksums_carried"] != count:
            raise RunFailed(
                f"of {count:,} objects, {done['checksums_read']:,} were read and the checksums of "
                f"{done['checksums_carried']:,} carried over"
            )
        return {
            "objects": job["result"]["objects"],
            "wall_s": wall_s,
            "cpu_s": daemon.cpu_s() - cpu_s,
            **{name: done[name] for name in ("requests", *CHECKSUM_FIGURES)},
        }


CHECKSUM_FIGURES: Final = ("checksums_read", "checksums_carried", "bytes_read")
