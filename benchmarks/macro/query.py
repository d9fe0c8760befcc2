"""SQL over a version of many entries, asked of a daemon, beside pandas over the same rows.

Invariants
  * Each query is answered in a process of its own, whose start is part of what it takes.
  * pandas has the rows that it needs as a data frame first, and what that takes is a figure too.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp

from benchmarks.daemons import RunningDaemon, running_daemon, snapshot
from benchmarks.goals import OVER_HTTP_QUERY
from benchmarks.macro.synthetic import bucket_of, serving
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS

BENCHMARK: Final = "query"
SHAPE: Final = "tree"
NAME: Final = "bench/objects"
LABELS: Final = "bench/labels"
PANDAS: Final = "pandas"

QUERIES: Final = {
    "count": "SELECT count(*) AS n FROM entries",
    "group by extension": (
        "SELECT extension, count(*) AS n, sum(size) AS bytes FROM entries GROUP BY 1"
    ),
    "join with a CSV": (
        'SELECT l.label, count(*) AS n, sum(e.size) AS bytes FROM labels."labels.csv" l '
        "JOIN entries e ON e.path = l.file GROUP BY 1"
    ),
    "join by its column of paths": (
        'SELECT label, count(entry_path) AS n, sum(entry_size) AS bytes '
        'FROM labels."labels.csv#file@objects" GROUP BY 1'
    ),
}  # fmt: skip


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records how long each query takes, and how long pandas."""
    count, labelled = sizes.query_objects, sizes.query_labels
    with (
        serving(SHAPE, count) as endpoint,
        tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-") as name,
        running_daemon(endpoint, data=Path(name) / "data") as daemon,
    ):
        asyncio.run(_snapshot(daemon, count))
        labels = Path(name) / "labels"
        _write_labels(daemon, labels, labelled)
        asyncio.run(_track_labels(daemon, labels))
        for what, sql in QUERIES.items():
            walls_s = [asyncio.run(_ask(daemon, sql)) for _ in range(sizes.repeats)]
            _record(sitting, what, count, walls_s, tool=OVER_HTTP_QUERY, version=OURS.version)
        pandas_version = importlib.metadata.version("pandas")
        for what, walls_s in _with_pandas(daemon, labels, sizes.repeats).items():
            _record(sitting, what, count, walls_s, tool=PANDAS, version=pandas_version)


def _record(
    sitting: Sitting, what: str, count: int, walls_s: list[float], *, tool: str, version: str
) -> None:
    say(f"{BENCHMARK:8} {tool[:6]:6} {what:28} {1e3 * median(walls_s):.0f} ms")
    sitting.record(
        BENCHMARK,
        {"server": "synthetic", "shape": SHAPE, "objects": count, "query": what},
        tool,
        {"objects": count, "wall_s": median(walls_s)},
        samples={"wall_s": [round(wall_s, 4) for wall_s in walls_s]},
        version=version,
    )


async def _snapshot(daemon: RunningDaemon, count: int) -> None:
    async with aiohttp.ClientSession(daemon.url) as session:
        await snapshot(session, bucket_of(count), NAME, count)


def _write_labels(daemon: RunningDaemon, folder: Path, count: int) -> None:
    """A table of so many entries, spread over all of them."""
    import indexer

    version = indexer.open(f"{NAME}:latest", server=daemon.url)
    step = max(version.record.objects // count, 1)
    paths = [path for table in version.entries() for path in table.column("path").to_pylist()]
    rows = [f"{path.decode()},{place % 7}" for place, path in enumerate(paths[::step][:count])]
    folder.mkdir()
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows, ""]))


async def _track_labels(daemon: RunningDaemon, folder: Path) -> None:
    import indexer
    from indexer.wire.jobs import SnapshotOrder

    async with indexer.connect(daemon.url) as client:
        await client.snapshot(SnapshotOrder(uri=folder.as_uri() + "/", name=LABELS))


async def _ask(daemon: RunningDaemon, sql: str) -> float:
    path = f"/api/v1/artifacts/{NAME}/versions/latest/query"
    order = {"sql": sql, "with": {"labels": f"{LABELS}:latest", "objects": f"{NAME}:latest"}}
    async with aiohttp.ClientSession(daemon.url) as session:
        started_s = time.perf_counter()
        async with session.post(path, json=order) as response:
            found: dict[str, Any] = await response.json()
            assert response.status == 200, found  # noqa: PLR2004
        assert found["rows"]
        return time.perf_counter() - started_s


def _with_pandas(daemon: RunningDaemon, labels: Path, repeats: int) -> dict[str, list[float]]:
    """What each step takes: rows as a frame, and the same questions of it."""
    import pandas as pd

    import indexer

    version = indexer.open(f"{NAME}:latest", server=daemon.url)
    taken: dict[str, list[float]] = {}

    def timed(what: str, step: Callable[..., Any], *given: Any) -> Any:
        started_s = time.perf_counter()
        done = step(*given)
        taken.setdefault(what, []).append(time.perf_counter() - started_s)
        return done

    def by_extension(frame: pd.DataFrame) -> Any:
        return frame.groupby("extension")["size"].agg(["size", "sum"])

    def by_label(frame: pd.DataFrame) -> Any:
        joined = pd.read_csv(labels / "labels.csv").merge(frame, left_on="file", right_on="path")
        return joined.groupby("label")["size"].agg(["size", "sum"])

    for _ in range(repeats):
        frame = timed("rows as a frame", version.to_pandas)
        timed("count", len, frame)
        timed("group by extension", by_extension, frame)
        timed("join with a CSV", by_label, frame)
    return taken
