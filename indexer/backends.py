"""Backends: the stores by the schemes of their URIs, and what connections to them share.

Invariants
  * Only here is a store chosen; whoever reaches one receives a `Connection`.
  * Connections, and what takes long to find out before one can be made (botocore's rules, trusted
    certificates, access tokens), are shared by all sources and jobs that reach a server in the same
    way.
  * A library that only one kind of store needs is imported when such a store is first reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from indexer.limits import CLIENT_AGE_S_MAX, CLIENTS_MAX, FILE_THREADS_MAX
from indexer.protocols import Connection, EndpointFacts, SourceOptions
from indexer.sources import FILE_SCHEME, SourceUri
from indexer.stores.s3_endpoint import chosen_endpoint
from indexer.telemetry import Counters
from workers.clock import Clock
from workers.shared import Shared
from workers.threads import Threads
from workers.turns import Turns

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from indexer.stores.gcs_client import Access, GCSSession
    from indexer.stores.s3_clients import ClientPool

Wanted = TypeVar("Wanted", bound=Hashable)
Opened = TypeVar("Opened")


class Backends:
    """All stores, for as long as the context of `open` lasts."""

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        gcs_sessions: Shared[Access, GCSSession],
        web_sessions: Shared[None, ClientSession],
        facts: EndpointFacts,
        threads: Threads,
        turns: Turns,
        clock: Clock,
    ) -> None:
        self._stack = stack
        self._clients: ClientPool | None = None
        self._opening = asyncio.Lock()
        self._gcs_sessions = gcs_sessions
        self._web_sessions = web_sessions
        self._facts = facts
        self._threads = threads
        self._turns = turns
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, facts: EndpointFacts, turns: Turns, clock: Clock
    ) -> AsyncIterator[Backends]:
        """Nothing is connected yet."""
        async with AsyncExitStack() as stack:
            # Of their own, as they wait for file servers, and seals should not wait with them.
            threads = await stack.enter_async_context(Threads(FILE_THREADS_MAX))
            gcs_sessions = await _shared(stack, partial(_gcs_session, clock), clock)
            web_sessions = await _shared(stack, _web_session, clock)
            yield cls(
                stack,
                gcs_sessions=gcs_sessions,
                web_sessions=web_sessions,
                facts=facts,
                threads=threads,
                turns=turns,
                clock=clock,
            )

    async def load(self) -> None:
        """Reads what the first connection would have to read, which takes some 0.6 s."""
        clients = await self._s3_clients()
        await self._threads.run(clients.load)

    async def _s3_clients(self) -> ClientPool:
        async with self._opening:
            if self._clients is None:
                from indexer.stores.s3_clients import ClientPool

                opening = ClientPool.open(self._clock, self._turns)
                self._clients = await self._stack.enter_async_context(opening)
            return self._clients

    @asynccontextmanager
    async def connect(
        self, uri: SourceUri, options: SourceOptions, counters: Counters
    ) -> AsyncIterator[Connection]:
        """A connection to the server of a source."""
        async with AsyncExitStack() as stack:
            yield await self._connection(stack, uri, options, counters)

    async def _connection(
        self, stack: AsyncExitStack, uri: SourceUri, options: SourceOptions, counters: Counters
    ) -> Connection:
        match uri.scheme:
            case "s3":
                from indexer.stores import s3

                clients = await self._s3_clients()
                return await stack.enter_async_context(
                    s3.connect(
                        options.s3, self._facts, counters, turns=self._turns, clients=clients
                    )
                )
            case "gs":
                from indexer.stores import gcs

                return await stack.enter_async_context(
                    gcs.connect(
                        options.gcs, counters, turns=self._turns, sessions=self._gcs_sessions
                    )
                )
            case scheme if scheme == FILE_SCHEME:
                from indexer.stores.file import FileConnection

                return FileConnection(self._threads, options.file, clock=self._clock)
            case _:
                from indexer.stores import http

                return await stack.enter_async_context(
                    http.connect(counters, sessions=self._web_sessions)
                )


async def _shared(
    stack: AsyncExitStack,
    open_one: Callable[[Wanted], AbstractAsyncContextManager[Opened]],
    clock: Clock,
) -> Shared[Wanted, Opened]:
    shared = Shared(open_one, clock=clock, age_s_max=CLIENT_AGE_S_MAX, kept_max=CLIENTS_MAX)
    return await stack.enter_async_context(shared)


def _gcs_session(clock: Clock, access: Access) -> AbstractAsyncContextManager[GCSSession]:
    from indexer.stores.gcs_client import open_session

    return open_session(access, clock)


def _web_session(_: None) -> AbstractAsyncContextManager[ClientSession]:
    from indexer.stores.http_client import open_session

    return open_session()


def bucket_of(uri: SourceUri, options: SourceOptions) -> str:
    """A name for the bucket at its endpoint: what asks for the same name asks the same server."""
    if uri.scheme == "s3":
        return f"{uri.scheme}://{uri.bucket} at {chosen_endpoint(options.s3).url}"
    return f"{uri.scheme}://{uri.bucket}"
