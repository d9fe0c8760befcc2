"""A crowd: many snapshots at once, and many clients who ask how far they are.

Invariants
  * Daemon, store and clients are processes of their own; on two cores they share those.
  * Every client asks for the state of a job, waits a little, and asks again, as long as jobs go on;
    what is measured is how long it waits for an answer.
  * How much CPU the longest callbacks took is asked of another daemon, which measures each of them.
  * How far the event loop is behind is the daemon's own figure: its `indexer_loop_lag_seconds`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.macro.synthetic import bucket_of, serving
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS

BENCHMARK: Final = "crowd"
SHAPE: Final = "tree"
WAIT_S: Final = 0.5
"""Between two questions of one client."""

WARM_UP_S: Final = 1.0


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records what clients wait for, and what the daemon takes meanwhile."""
    count, jobs, clients = sizes.crowd_objects, sizes.crowd_jobs, sizes.crowd_clients
    latency_ms = sizes.crowd_latency_ms
    with (
        serving(SHAPE, count, latency_ms=latency_ms) as endpoint,
        running_daemon(endpoint, f"--jobs={jobs}") as daemon,
    ):
        figures, samples = asyncio.run(_crowd(daemon, count, jobs, clients))
    longest = _longest_callbacks(sizes)
    figures["callback_max_cpu_s"] = longest[0][0]
    samples["callback_cpu_s"] = [round(cpu_s, 4) for cpu_s, _ in longest]
    say(f"{BENCHMARK:8} longest: {longest[0][1]}, {1e3 * longest[0][0]:.0f} ms of CPU")
    say(f"{BENCHMARK:8} p99 {1e3 * figures['status_p99_s']:.0f} ms")
    sitting.record(
        BENCHMARK,
        {
            "server": "synthetic",
            "shape": SHAPE,
            "objects": count,
            "latency_ms": latency_ms,
            "jobs": jobs,
            "clients": clients,
        },
        "indexer serve",
        figures,
        samples=samples,
        version=OURS.version,
    )


def _longest_callbacks(sizes: Sizes) -> list[tuple[float, str]]:
    """The daemon's longest callbacks with the same crowd and fewer objects: CPU seconds, name."""
    count, jobs = sizes.crowd_watched_objects, sizes.crowd_jobs
    with tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-") as name:
        file = Path(name) / "callbacks.json"
        watched = [sys.executable, "-m", "benchmarks.watched", str(file)]
        with (
            serving(SHAPE, count, latency_ms=sizes.crowd_latency_ms) as endpoint,
            running_daemon(endpoint, f"--jobs={jobs}", command=watched) as daemon,
        ):
            # The step in which it tells its URL belongs to its start, and has to end.
            time.sleep(WARM_UP_S)
            os.kill(daemon.pid, signal.SIGUSR1)
            asyncio.run(_crowd(daemon, count, jobs, sizes.crowd_clients))
        return [(cpu_s, name) for cpu_s, name in json.loads(file.read_text())]


async def _crowd(
    daemon: RunningDaemon, count: int, jobs: int, clients: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    waited_s: list[float] = []
    done = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(daemon.url, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        for number in range(clients):
            group.create_task(_poll(session, number / clients, waited_s, done))
        await asyncio.sleep(WARM_UP_S)
        waited_s.clear()
        cpu_s, lag = daemon.cpu_s(), await _lag(session)
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as snapshots:
            made = [
                snapshots.create_task(
                    snapshot(session, bucket_of(count), f"bench/objects-{number}", count)
                )
                for number in range(jobs)
            ]
        wall_s = time.perf_counter() - started_s
        taken_s = daemon.cpu_s() - cpu_s
        lag = _since(lag, await _lag(session))
        done.set()
    ordered = sorted(waited_s)
    figures = {
        "objects": float(sum(task.result()["result"]["objects"] for task in made)),
        "wall_s": wall_s,
        "cpu_s": taken_s,
        "memory_peak_bytes": daemon.memory_peak_bytes(),
        "status_calls": float(len(ordered)),
        "status_p50_s": _quantile(ordered, 0.5),
        "status_p95_s": _quantile(ordered, 0.95),
        "status_p99_s": _quantile(ordered, 0.99),
        "lag_p99_s": _bound_of(lag, 0.99),
        "lag_max_s": _bound_of(lag, 1.0),
    }
    return figures, {"status_slowest_s": [round(one, 4) for one in ordered[-10:]]}


async def _poll(
    session: aiohttp.ClientSession, delay: float, waited_s: list[float], done: asyncio.Event
) -> None:
    await asyncio.sleep(delay * WAIT_S)
    path = "/api/v1/jobs?limit=1"
    while not done.is_set():
        started_s = time.perf_counter()
        async with session.get(path) as response:
            answer: dict[str, Any] = await response.json()
        waited_s.append(time.perf_counter() - started_s)
        if answer.get("results"):
            path = f"/api/v1/jobs/{answer['results'][0]['id']}"
        await asyncio.sleep(WAIT_S)


async def _lag(session: aiohttp.ClientSession) -> list[tuple[float, float]]:
    """How many looks at the loop found it at most so far behind, by seconds."""
    async with session.get("/metrics") as response:
        text = await response.text()
    pattern = r'^indexer_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$'
    return [
        (float(bound), float(count)) for bound, count in re.findall(pattern, text, re.MULTILINE)
    ]


def _since(
    before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    return [
        (bound, count - earlier) for (bound, count), (_, earlier) in zip(after, before, strict=True)
    ]


def _bound_of(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """The least bound that so many of all looks stayed within."""
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= share * total)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
