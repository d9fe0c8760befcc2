"""What the indexer is to reach: bounds on figures, each computed from the measurements it needs.

Invariants
  * A goal speaks only of measurements of one benchmark in one sitting.
  * Start-up is apart wherever a wall time or a rate is compared: it is what a program takes until
    its first request, and is a goal of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from benchmarks.results import Measurement

OURS: Final = "indexer snapshot"
OVER_HTTP: Final = "POST /api/v1/snapshots"
OVER_HTTP_QUERY: Final = "POST …/query"
OUR_HEAD: Final = "Store.head"
AIOBOTOCORE_HEAD: Final = "aiobotocore head_object"
OBSTORE_HEAD: Final = "obstore head_async"
BARE_MD5: Final = "hashlib.md5, one core"
ONE_THREAD: Final = "file store, 1 thread"
TWO_THREADS: Final = "file store, 2 threads"
FIRST: Final = "first snapshot"
SECOND: Final = "second snapshot"
OUR_DOWNLOAD: Final = "indexer download"
S5CMD_DOWNLOAD: Final = "s5cmd cp"
BOTO3_DOWNLOAD: Final = "boto3 download_file, a loop"
OUR_DIFF: Final = "Workspace.diff"
MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a goal."""

    benchmark: str
    text: str
    value: float
    unit: str
    kind: Literal["at most", "at least"]
    bound: float

    @property
    def is_reached(self) -> bool:
        """Whether the value keeps to the bound."""
        if self.kind == "at most":
            return self.value <= self.bound
        return self.value >= self.bound


def outcomes(measurements: Sequence[Measurement]) -> list[Outcome]:
    """What came of each goal of which these measurements, of one sitting a benchmark, speak."""
    found: list[Outcome] = []
    for benchmark, goals in GOALS.items():
        found += goals([one for one in measurements if one.benchmark == benchmark])
    return found


def _minio(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for shape, bound in (("tree", 1.3), ("flat", 2.0)):
        ours = _one(found, OURS, shape=shape, versioned=False)
        obstore = _one(found, "obstore list", shape=shape)
        boto3 = _one(found, "boto3 paginator", shape=shape)
        wandb = _one(found, "wandb add_reference", shape=shape)
        if ratio := _ratio(ours, obstore, "net_wall_s"):
            yield Outcome("minio", f"{shape}: our time to obstore's", ratio, "x", "at most", bound)
        if ratio := _ratio(boto3, ours, "net_wall_s"):
            yield Outcome("minio", f"{shape}: boto3's time to ours", ratio, "x", "at least", 3)
        if ratio := _ratio(ours, wandb, "objects_per_s"):
            yield Outcome("minio", f"{shape}: our rate to wandb's", ratio, "x", "at least", 50)
    plain = _one(found, OURS, shape="tree", versioned=False)
    versioned = _one(found, OURS, shape="tree", versioned=True)
    if ratio := _ratio(versioned, plain, "net_wall_s"):
        yield Outcome("minio", "versioned tree to unversioned", ratio, "x", "at most", 1.6)
    over_http = _one(found, OVER_HTTP)
    if ratio := _ratio(over_http, plain, "net_wall_s"):
        yield Outcome("minio", "tree: over HTTP to the command", ratio, "x", "at most", 1.1)


def _margin(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for shape in _shapes(found):
        ends = _ends([one for one in found if one.workload.get("shape") == shape])
        if ends is None:
            continue
        small, large = ends
        cpu_s = large.figures["cpu_s"] - small.figures["cpu_s"]
        cpu_us = 1e6 * cpu_s / (large.figures["objects"] - small.figures["objects"])
        text = f"CPU at the margin, {shape}"
        yield Outcome("margin", text, cpu_us, "µs an object", "at most", 8)
    started = [one.figures["start_cpu_s"] for one in found if "start_cpu_s" in one.figures]
    if started:
        text = "start-up to the first request"
        yield Outcome("margin", text, max(started), "s of CPU", "at most", 2.5)
    if helped := _one(found, "indexer --help"):
        cpu_s = helped.figures["cpu_s"]
        yield Outcome("margin", "indexer --help", cpu_s, "s of CPU", "at most", 0.3)


def _latency(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for shape in _shapes(found):
        of_shape = [one for one in found if one.workload["shape"] == shape]
        ends = _ends([one for one in of_shape if one.workload["in_flight"] == 1])
        parallel = next((one for one in of_shape if one.workload["in_flight"] != 1), None)
        if ends is None or parallel is None:
            continue
        small, large = ends
        # The margin again: what a serial run takes once is not counted against it a second time.
        serial_s = (large.figures["wall_s"] - small.figures["wall_s"]) / (
            large.figures["objects"] - small.figures["objects"]
        )
        if rate := parallel.figure("objects_per_s"):
            text = f"{shape}: faster than one at a time"
            yield Outcome("latency", text, serial_s * rate, "x", "at least", 15)
        if requests := parallel.figure("requests_per_thousand"):
            text = f"{shape}: requests for 1,000 keys"
            yield Outcome("latency", text, requests, "", "at most", 1.7)


def _small(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for one in found:
        if "ratio_to_serial" in one.figures:
            text = f"{one.workload['latency_ms']:g} ms a page: time to one at a time's"
            ratio = one.figures["ratio_to_serial"]
            yield Outcome("small", text, ratio, "x", "at most", 1.1)


def _memory(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for shape in _shapes(found):
        ends = _ends([one for one in found if one.workload["shape"] == shape])
        if ends is None:
            continue
        small, large = ends
        peak = large.figures["memory_peak_bytes"]
        text = f"{shape}: peak at {large.figures['objects']:,.0f} objects"
        yield Outcome("memory", text, peak / MEGABYTE, "MB", "at most", 300)
        text = f"{shape}: that to the peak at {small.figures['objects']:,.0f}"
        ratio = peak / small.figures["memory_peak_bytes"]
        yield Outcome("memory", text, ratio, "x", "at most", 1.3)


def _tracking(found: Sequence[Measurement]) -> Iterator[Outcome]:
    embedded = _one(found, OURS)
    remote = next((one for one in found if one.tool != OURS), None)
    if ratio := _ratio(remote, embedded, "objects_per_s"):
        yield Outcome("tracking", "rate to a daemon to the embedded", ratio, "x", "at least", 0.7)


def _folders(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for one in found:
        text = f"{one.workload['shape']}: {one.workload['place']}"
        yield Outcome("folders", text, 1e3 * one.figures["page_s"], "ms", "at most", 100)


def _query(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for one in found:
        if one.tool == OVER_HTTP_QUERY:
            text = str(one.workload["query"])
            yield Outcome("query", text, one.figures["wall_s"], "s", "at most", 2)


def _crowd(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for one in found:
        status_ms, lag_ms = (1e3 * one.figures[name] for name in ("status_p99_s", "lag_p99_s"))
        yield Outcome("crowd", "status calls, p99", status_ms, "ms", "at most", 150)
        yield Outcome("crowd", "loop lag, p99 (upper bound)", lag_ms, "ms", "at most", 50)
        cpu_ms = 1e3 * one.figures["callback_max_cpu_s"]
        yield Outcome("crowd", "longest callback", cpu_ms, "ms of CPU", "at most", 50)


def _download(found: Sequence[Measurement]) -> Iterator[Outcome]:
    small = min(_shapes(found), key=len, default="")
    ours = _one(found, OUR_DOWNLOAD, shape=small)
    if ratio := _ratio(_one(found, BOTO3_DOWNLOAD, shape=small), ours, "net_wall_s"):
        yield Outcome("download", f"{small}: boto3's time to ours", ratio, "x", "at least", 5)
    if ratio := _ratio(ours, _one(found, S5CMD_DOWNLOAD, shape=small), "net_wall_s"):
        yield Outcome("download", f"{small}: our time to s5cmd's", ratio, "x", "at most", 1)


def _heads(found: Sequence[Measurement]) -> Iterator[Outcome]:
    ours = _one(found, OUR_HEAD)
    for tool, text, bound in (
        (AIOBOTOCORE_HEAD, "our rate to aiobotocore's", 3.0),
        (OBSTORE_HEAD, "our rate to obstore's", 0.8),
    ):
        if ratio := _ratio(ours, _one(found, tool), "objects_per_s"):
            yield Outcome("heads", text, ratio, "x", "at least", bound)


def _checksums(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for shape in _shapes(found):
        ours = _one(found, OURS, shape=shape)
        bare = _one(found, BARE_MD5, shape=shape)
        if ratio := _ratio(ours, bare, "bytes_per_s"):
            text = f"{shape}: our rate to hashlib's on one core"
            yield Outcome("checksums", text, ratio, "x", "at least", 0.7)
        two = _one(found, TWO_THREADS, shape=shape)
        if ratio := _ratio(two, _one(found, ONE_THREAD, shape=shape), "bytes_per_s"):
            text = f"{shape}: two threads to one"
            yield Outcome("checksums", text, ratio, "x", "at least", 1.5)


def _enrich(found: Sequence[Measurement]) -> Iterator[Outcome]:
    second = _one(found, SECOND)
    if second is None:
        return
    ratio = second.figures["bytes_read"] / second.figures["bytes_changed"]
    yield Outcome("enrich", "bytes read again to those that changed", ratio, "x", "at most", 1)


def _diff(found: Sequence[Measurement]) -> Iterator[Outcome]:
    for one in found:
        if one.tool != OUR_DIFF:
            continue
        shape, place = one.workload["shape"], one.workload["place"]
        is_together = "folder" in place
        wall_s, bound_s = one.figures["wall_s"], 1 if is_together else 3
        yield Outcome("diff", f"{shape}: {place}", wall_s, "s", "at most", bound_s)
        if is_together:
            share = 100 * one.figures["shards_read"] / one.figures["shards"]
            text = f"{shape}: {place}, shards read"
            yield Outcome("diff", text, share, "%", "at most", 5)


GOALS: Final[dict[str, Callable[[Sequence[Measurement]], Iterator[Outcome]]]] = {
    "minio": _minio,
    "margin": _margin,
    "latency": _latency,
    "small": _small,
    "memory": _memory,
    "tracking": _tracking,
    "folders": _folders,
    "query": _query,
    "crowd": _crowd,
    "heads": _heads,
    "checksums": _checksums,
    "enrich": _enrich,
    "diff": _diff,
    "download": _download,
}


def _one(found: Sequence[Measurement], tool: str, **workload: Any) -> Measurement | None:
    matching = (
        one for one in found if one.tool == tool and workload.items() <= dict(one.workload).items()
    )
    return next(matching, None)


def _shapes(found: Sequence[Measurement]) -> list[str]:
    shapes = (one.workload["shape"] for one in found if "shape" in one.workload)
    return list(dict.fromkeys(shapes))


def _ends(found: Sequence[Measurement]) -> tuple[Measurement, Measurement] | None:
    """Those of the fewest and of the most objects, if they were taken."""
    ascending = sorted(found, key=lambda one: one.figures["objects"])
    return (ascending[0], ascending[-1]) if len(ascending) > 1 else None


def _ratio(above: Measurement | None, below: Measurement | None, name: str) -> float | None:
    over, under = above and above.figure(name), below and below.figure(name)
    return over / under if over and under else None
