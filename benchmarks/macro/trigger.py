"""A snapshot triggered over HTTP beside the same by the command, on a real MinIO.

Invariants
  * Both list the same bucket, in turn, each into an empty data folder.
  * Start-up is apart: the daemon's before it is asked, the command's until its first request.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Final

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.macro.minio import load_bucket
from benchmarks.measure import Endpoint, RunFailed, Series
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS
from deploy.s3_server import S3Server

BENCHMARK: Final = "trigger"
BUCKET: Final = "tree"
SHAPE: Final = "tree"
DAEMON: Final = "POST /api/v1/snapshots"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both ways."""
    with S3Server.start("minio") as server:
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        count = sizes.minio_objects
        asyncio.run(load_bucket(endpoint, BUCKET, SHAPE, count, versioned=False))
        command = Series(OURS.command(BUCKET, count), endpoint, OURS.count)
        command.run(count)
        command.runs.clear()
        command.counted.clear()
        taken: list[dict[str, float]] = []
        for _ in range(sizes.repeats):
            command.start()
            command.run(count)
            say(f"{BENCHMARK:8} {OURS.name:22} {command.runs[-1].wall_s:8.2f} s")
            time.sleep(sizes.settle_s)
            with running_daemon(endpoint) as daemon:
                taken.append(asyncio.run(_triggered(daemon, count)))
            say(f"{BENCHMARK:8} {DAEMON:22} {taken[-1]['wall_s']:8.2f} s")
            time.sleep(sizes.settle_s)
    workload = {"server": f"minio {server.version}", "shape": SHAPE, "objects": count}
    figures = command.figures()
    sitting.record(
        BENCHMARK, workload, OURS.name, figures, samples=command.samples(), version=OURS.version
    )
    walls_s = [one["wall_s"] for one in taken]
    sitting.record(
        BENCHMARK,
        workload,
        DAEMON,
        {name: median(one[name] for one in taken) for name in taken[0]},
        samples={"wall_s": [round(wall_s, 4) for wall_s in walls_s]},
        version=OURS.version,
    )


async def _triggered(daemon: RunningDaemon, count: int) -> dict[str, float]:
    async with aiohttp.ClientSession(daemon.url) as session:
        cpu_s, started_s = daemon.cpu_s(), time.perf_counter()
        job = await snapshot(session, BUCKET, "bench/objects", count)
        wall_s = time.perf_counter() - started_s
    if job["result"]["objects"] != count:
        raise RunFailed(f"the daemon found {job['result']['objects']:,} of {count:,} objects")
    return {
        "objects": count,
        "wall_s": wall_s,
        "cpu_s": daemon.cpu_s() - cpu_s,
        "memory_peak_bytes": daemon.memory_peak_bytes(),
        "requests": job["result"]["requests"],
    }
