"""Backends: the stores by the schemes of their URIs, and what connections to them share.

Invariants
  * Only here is a store chosen; whoever reaches one receives a `Connection`.
  * A library that only one store needs is imported when that store is first reached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from indexer.protocols import Connection, EndpointFacts, SourceOptions
from indexer.sources import SourceUri
from indexer.stores.s3 import connect
from indexer.stores.s3_client import chosen_endpoint
from indexer.stores.s3_clients import ClientPool
from indexer.telemetry import Counters
from workers.clock import Clock
from workers.threads import Threads
from workers.turns import Turns


class Backends:
    """All stores, for as long as the context of `open` lasts."""

    def __init__(
        self,
        clients: ClientPool,
        *,
        facts: EndpointFacts,
        threads: Threads,
        turns: Turns,
        clock: Clock,
    ) -> None:
        self._clients = clients
        self._facts = facts
        self._threads = threads
        self._turns = turns
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, facts: EndpointFacts, threads: Threads, turns: Turns, clock: Clock
    ) -> AsyncIterator[Backends]:
        """Nothing is connected yet."""
        async with AsyncExitStack() as stack:
            clients = await stack.enter_async_context(ClientPool.open(clock, turns))
            yield cls(clients, facts=facts, threads=threads, turns=turns, clock=clock)

    def load(self) -> None:
        """Reads what the first connection would have to read; blocks for some 0.3 s."""
        self._clients.load()

    @asynccontextmanager
    async def connect(
        self, uri: SourceUri, options: SourceOptions, counters: Counters
    ) -> AsyncIterator[Connection]:
        """A connection to the server of a source."""
        async with connect(
            options.s3, self._facts, counters, turns=self._turns, clients=self._clients
        ) as connection:
            yield connection


def bucket_of(uri: SourceUri, options: SourceOptions) -> str:
    """A name for the bucket at its endpoint: what asks for the same name asks the same server."""
    if uri.scheme == "s3":
        return f"{uri.scheme}://{uri.bucket} at {chosen_endpoint(options.s3).url}"
    return f"{uri.scheme}://{uri.bucket}"
