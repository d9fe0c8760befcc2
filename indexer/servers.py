"""Servers: how the servers of sources are reached, within bounds, and trying again.

Invariants
  * Whoever reaches a server has caps of its own and shares the server's limiters with all others.
  * What was found out of a server's load is kept for whoever reaches it next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from indexer.backends import Backends, bucket_of
from indexer.limits import (
    FIRST_CONTACT_ATTEMPTS_MAX,
    IN_FLIGHT_MAX,
    IN_FLIGHT_START,
    PAGES_PER_TURN_MAX,
    REQUEST_ATTEMPTS_MAX,
)
from indexer.protocols import EndpointFacts, Reach, Reached, SourceOptions
from indexer.sources import SourceUri
from indexer.stores.s3_endpoint import EXPLICIT_ENDPOINT, chosen_endpoint
from indexer.stores.wrappers import LimiterPool, ResilientConnection
from indexer.telemetry import Counters
from workers.caps import Caps
from workers.clock import Clock
from workers.control import Limits
from workers.retry import Retry, RetryBudget
from workers.turns import Turns

BUCKET_LIMITS: Final = Limits(
    start=IN_FLIGHT_START, lowest=min(IN_FLIGHT_START, Limits().lowest), highest=IN_FLIGHT_MAX
)
"""Where the limiters of a bucket begin, and where they stay; caps of a caller bound it further."""


class ResilientServers:
    """All servers, for as long as the context of `open` lasts. See `protocols.Servers`."""

    def __init__(
        self, backends: Backends, options: SourceOptions, *, clock: Clock, log: Any
    ) -> None:
        self.backends = backends
        self.options = options
        self._clock = clock
        self._log = log
        self._limiters = LimiterPool(BUCKET_LIMITS, clock)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, options: SourceOptions, *, facts: EndpointFacts, clock: Clock, log: Any
    ) -> AsyncIterator[ResilientServers]:
        """Nothing is connected yet."""
        turns = Turns(PAGES_PER_TURN_MAX)
        async with Backends.open(facts=facts, turns=turns, clock=clock) as backends:
            yield cls(backends, options, clock=clock, log=log)

    def reach(
        self,
        options: SourceOptions,
        counters: Counters,
        records: Sequence[Mapping[str, Any]] = (),
        log: Any = None,
    ) -> Reach:
        """See `protocols.Servers`: bounded by the caller's caps and by what the servers take.

        What is tried again is told to `log`.
        """
        log = log or self._log
        recorded = {record["uri"]: record for record in records}
        caps = Caps(options.in_flight, options.requests_per_s)
        retry, first_contact = (
            Retry(attempts_max=attempts_max, budget=RetryBudget(), clock=self._clock)
            for attempts_max in (REQUEST_ATTEMPTS_MAX, FIRST_CONTACT_ATTEMPTS_MAX)
        )

        @asynccontextmanager
        async def reach(uri: SourceUri) -> AsyncIterator[Reached]:
            def on_retry(attempt: int, error: Exception, delay_s: float) -> None:
                counters.retries += 1
                log.info(
                    "retry",
                    source=uri.shown,
                    attempt=attempt,
                    error=str(error),
                    delay_s=round(delay_s, 3),
                )

            own = as_recorded(options, recorded.get(str(uri), {}))
            async with self.backends.connect(uri, own, counters) as connection:
                with self._limiters.lease(bucket_of(uri, own)) as (limiters, share):
                    resilient = ResilientConnection(
                        connection,
                        uri.scheme,
                        limiters=limiters,
                        caps=caps,
                        retry=retry,
                        first_contact=first_contact,
                        on_retry=on_retry,
                        counters=counters,
                        clock=self._clock,
                    )
                    yield Reached(resilient, lambda: min(caps.in_flight, share()), caps.in_flight)

        return reach


def as_recorded(options: SourceOptions, record: Mapping[str, Any]) -> SourceOptions:
    """How a source is reached again, by the options and by what its scan recorded.

    What the options say holds. An endpoint that was given for the scan alone is used again; one
    that the environment named then is the one that it names now, if it does. What becomes of
    symbolic links is as recorded: other links would be other entries.
    """
    s3, file = options.s3, options.file
    is_named_now = chosen_endpoint(s3).url is not None
    was_given = record.get("endpoint_from") == EXPLICIT_ENDPOINT
    if s3.endpoint_url is None and "endpoint" in record and (was_given or not is_named_now):
        s3 = replace(s3, endpoint_url=record["endpoint"])
    if s3.region is None and "region" in record:
        s3 = replace(s3, region=record["region"])
    if "symlinks" in record:
        file = replace(file, symlinks=record["symlinks"])
    return replace(options, s3=s3, file=file)
