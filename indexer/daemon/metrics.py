"""Metrics: what the daemon counts, in Prometheus's text format.

Invariants
  * Names are in base units and end as Prometheus wants them to; no label holds a bucket, a key, an
    artifact or anything else that a user makes up, so that their number is bounded.
  * Figures of jobs are read from their counters when somebody asks; counting costs a job nothing.
  * There is no process-wide registry: each daemon has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from indexer import __version__, telemetry
from indexer.records import GarbageReport
from indexer.service import Service
from indexer.telemetry import Counters, Totals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

REQUEST_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)

COUNTED: Final = (
    ("objects_listed", "Objects that listings have shown."),
    ("retries", "Requests that were tried again."),
    ("throttle_events", "Requests that a store answered by asking for fewer."),
    ("range_splits", "Pieces that key ranges were cut into."),
    ("shard_bytes", "Bytes of shards that were written."),
)


class Metrics:
    """The registry of one daemon, and what its server counts itself."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Jobs(service))
        self._registry.register(_Build())
        self._requests = Counter(
            "indexer_http_requests",
            "Requests that were answered.",
            ("operation", "status"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "indexer_http_request_duration_seconds",
            "Time from a request's head to its answer's last byte, streams apart.",
            ("operation",),
            buckets=REQUEST_BOUNDS_S,
            registry=self._registry,
        )
        self._streams = Gauge(
            "indexer_event_streams", "Followers of jobs just now.", registry=self._registry
        )
        self._expired = Counter(
            "indexer_versions_expired",
            "Versions that expired and were deleted.",
            registry=self._registry,
        )
        self._deleted = Counter(
            "indexer_garbage_deleted_bytes",
            "Bytes of files that no version needed and that were deleted.",
            ("kind",),
            registry=self._registry,
        )
        self.open_streams = 0
        self._connections = Gauge(
            "indexer_http_connections", "Connections just now.", registry=self._registry
        )
        self._lag = Histogram(
            "indexer_loop_lag_seconds",
            "How much later than asked for the event loop wakes a timer.",
            buckets=LAG_BOUNDS_S,
            registry=self._registry,
        )

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Asks `count` for the number of connections whenever somebody wants to know."""
        self._connections.set_function(count)

    def answered(self, operation: str, status: int, seconds: float | None) -> None:
        """Counts an answer; of a stream no time is taken."""
        self._requests.labels(operation, str(status)).inc()
        if seconds is not None:
            self._durations.labels(operation).observe(seconds)

    def collected(self, report: GarbageReport) -> None:
        """Counts what a collection of garbage deleted."""
        self._expired.inc(len(report.expired))
        for kind, amount in report.deleted.items():
            self._deleted.labels(kind).inc(amount.size_bytes)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Counts a follower of a job for as long as the block lasts."""
        self.open_streams += 1
        self._streams.set(self.open_streams)
        try:
            yield
        finally:
            self.open_streams -= 1
            self._streams.set(self.open_streams)

    def lagged(self, seconds: float) -> None:
        """Counts one look at how far the loop is behind."""
        self._lag.observe(max(0.0, seconds))

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _Build(Collector):
    def collect(self) -> Iterator[Metric]:
        """The version that runs."""
        build = GaugeMetricFamily("indexer_build_info", "What runs.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build


class _Jobs(Collector):
    """The figures of all jobs that there were and are."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The families, summed up just now."""
        totals = Totals()
        totals.add(self._service.totals.counters)
        running = [job.counters for job in self._service.running]
        for counters in running:
            totals.add(counters)
        yield from _counted(totals.counters)
        yield from _answers(totals.counters)
        yield from self._gauges(running)
        ended = CounterMetricFamily("indexer_jobs_ended", "Jobs that ended.", labels=("state",))
        for state, count in sorted(self._service.totals.jobs.items()):
            ended.add_metric((state,), count)
        yield ended
        yield _histogram(
            "indexer_snapshot_duration_seconds",
            "Time that jobs ran.",
            self._service.totals.durations,
        )

    def _gauges(self, running: list[Counters]) -> Iterator[Metric]:
        values = (
            ("indexer_jobs_running", "Jobs that run.", len(running)),
            ("indexer_queue_depth", "Jobs that wait for their turn.", self._service.waiting),
            (
                "indexer_ranges_open",
                "Key ranges that are being listed.",
                sum(counters.open_segments for counters in running),
            ),
            (
                "indexer_inflight_requests",
                "Requests to stores that are under way.",
                sum(counters.open_requests for counters in running),
            ),
            (
                "indexer_concurrency_target",
                "Requests to stores that may be under way.",
                sum(counters.open_limit for counters in running),
            ),
        )
        for name, said, value in values:
            gauge = GaugeMetricFamily(name, said)
            gauge.add_metric((), value)
            yield gauge


def _counted(counters: Counters) -> Iterator[Metric]:
    values = (
        counters.objects_listed + counters.objects_abandoned,
        counters.retries,
        counters.throttles,
        counters.segments,
        counters.shard_bytes,
    )
    for (name, said), value in zip(COUNTED, values, strict=True):
        yield CounterMetricFamily(f"indexer_{name}", said, value=value)
    shards = CounterMetricFamily(
        "indexer_shards_written", "Shards by whether they were there.", labels=("outcome",)
    )
    shards.add_metric(("new",), counters.shards_new)
    shards.add_metric(("reused",), counters.shards_reused)
    yield shards


def _answers(counters: Counters) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "indexer_requests",
        "Requests to stores, by what they ask for.",
        labels=("backend", "op", "code"),
    )
    for labels, count in sorted(counters.answers.items()):
        requests.add_metric(labels, count)
    yield requests
    yield _histogram(
        "indexer_request_duration_seconds",
        "Time that stores took to answer, waits apart.",
        counters.latencies,
    )


def _histogram(name: str, said: str, values: telemetry.Histogram) -> Metric:
    family = HistogramMetricFamily(name, said)
    buckets: list[tuple[str, float]] = []
    total = 0
    bounds = [*(str(bound) for bound in values.bounds_s), "+Inf"]
    for bound, count in zip(bounds, values.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric((), buckets, values.sum_s)
    return family
