"""The composition root: names concrete classes, wires them, and closes them again.

Invariants
  * Nothing else chooses an implementation; everything below receives protocols.
  * What is opened here is closed here, in the opposite order, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexer.catalog.catalog import Catalog
from indexer.errors import NoSuchVersion
from indexer.job import JobParts, Snapshot, run_job
from indexer.limits import (
    FIRST_CONTACT_ATTEMPTS_MAX,
    IN_FLIGHT_DEFAULT,
    IN_FLIGHT_START,
    REQUEST_ATTEMPTS_MAX,
    THREADS_MAX,
)
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import Store
from indexer.slice import SliceContext
from indexer.stores.s3 import S3Connection, connect
from indexer.stores.s3_client import S3Options
from indexer.stores.wrappers import ResilientConnection
from indexer.telemetry import Counters, new_logger
from workers.clock import Clock, SystemClock
from workers.control import Limits
from workers.limiter import Limiter
from workers.retry import Retry, RetryBudget
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are reached: one set of options a scheme, and the most requests in flight."""

    s3: S3Options = field(default_factory=S3Options)
    in_flight: int = IN_FLIGHT_DEFAULT


class App:
    """An open data folder, and what can be done with it."""

    def __init__(self, catalog: Catalog, threads: Threads, clock: Clock, log: Any) -> None:
        self.catalog = catalog
        self._log = log
        self._threads = threads
        self._clock = clock

    async def snapshot(
        self,
        request: SnapshotRequest,
        options: SourceOptions,
        counters: Counters | None = None,
    ) -> Snapshot:
        """Lists what the request names and commits it. See `job.run_job`."""
        counters = counters or Counters()
        limiter = Limiter(_limits(options.in_flight), clock=self._clock)
        log = self._log.bind(job=str(request.name), source=str(request.uri))

        def on_retry(attempt: int, error: Exception, delay_s: float) -> None:
            counters.retries += 1
            log.info("retry", attempt=attempt, error=str(error), delay_s=round(delay_s, 3))

        def context(store: Store, known: Sequence[str]) -> SliceContext:
            return SliceContext(
                store=store,
                content=self.catalog.content,
                tracker=self.catalog.tracker,
                threads=self._threads,
                slots=lambda: limiter.limit,
                counters=counters,
                clock=self._clock,
                known=known,
            )

        async with connect(options.s3, self.catalog.facts, counters) as connection:
            parts = JobParts(
                connection=ResilientConnection(
                    connection,
                    limiter=limiter,
                    retry=self._retry(REQUEST_ATTEMPTS_MAX),
                    first_contact=self._retry(FIRST_CONTACT_ATTEMPTS_MAX),
                    on_retry=on_retry,
                ),
                tracker=self.catalog.tracker,
                context=context,
                clock=self._clock,
                counters=counters,
            )
            snapshot = await run_job(request, parts)
        log.info("committed", ref=snapshot.result.version.ref, created=snapshot.result.created)
        return snapshot

    def _retry(self, attempts_max: int) -> Retry:
        return Retry(attempts_max=attempts_max, budget=RetryBudget(), clock=self._clock)

    @asynccontextmanager
    async def s3(self, options: S3Options) -> AsyncIterator[S3Connection]:
        """A connection to S3, for looking at what it is."""
        async with connect(options, self.catalog.facts, Counters()) as connection:
            yield connection


@asynccontextmanager
async def open_app(
    data: Path, *, log: Any = None, clock: Clock | None = None, creates: bool = True
) -> AsyncIterator[App]:
    """The app on a data folder, which is made if it is not there, unless `creates` is false.

    `log` is a structured logger; without one, warnings are written to standard error.

    Raises `UnusableDataFolder`, and `NoSuchVersion` where there is nothing and nothing is made.
    """
    if not creates and not data.exists():  # noqa: ASYNC240 - one look, before anything runs
        raise NoSuchVersion(f"There is no data folder at {data}; snapshot something first.")
    clock = clock or SystemClock()
    async with (
        Threads(THREADS_MAX) as threads,
        Catalog.open(data, clock) as catalog,
    ):
        yield App(catalog, threads, clock, log or new_logger())


def _limits(in_flight: int) -> Limits:
    start = min(in_flight, IN_FLIGHT_START)
    return Limits(start=start, lowest=min(start, Limits().lowest), highest=in_flight)
