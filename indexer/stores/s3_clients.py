"""Clients of S3 that many jobs share: making one takes botocore a quarter of a second.

Invariants
  * Jobs that reach S3 in the same way, at about the same time, have one client, and with it its
    connections and its credentials, which it refreshes.
  * A client is closed when nobody uses it and it is old, or one of too many; all are closed when
    the pool is. A new job never gets an old client, so that what was changed in the user's files
    since is found.
  * What botocore reads of S3 it reads once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import aiobotocore.session
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config

from indexer.limits import CLIENT_AGE_S_MAX, CLIENTS_MAX
from indexer.protocols import S3Options
from indexer.stores.s3_client import new_session, open_client
from indexer.stores.s3_requests import S3Requests
from indexer.stores.s3_targets import let_prepare
from indexer.telemetry import Counters
from workers.clock import Clock
from workers.turns import Turns

COUNTED: Final = frozenset(("get_bucket_versioning",))
"""The operations that are requests of a job."""

_COUNTING: ContextVar[Counters] = ContextVar("_COUNTING")
"""Whose request it is that a client sends: botocore tells its handlers nothing of the caller."""


@dataclass(slots=True, eq=False)
class SharedClient:
    """An open client, and requests beside it that go the same way.

    Who asks the endpoint for its facts holds `asking`, so that one does.
    """

    session: Any
    client: Any
    requests: S3Requests
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, eq=False)
class _Held:
    opened_s: float
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    shared: SharedClient | None = None
    users: int = 0


class ClientPool:
    """`async with ClientPool.open(...) as pool, pool.lease(options) as shared`, on one loop."""

    def __init__(self, clock: Clock, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self._loader: Any = None
        self._held: dict[S3Options, _Held] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, clock: Clock, turns: Turns) -> AsyncIterator[ClientPool]:
        """An empty pool; clients are made in `turns`."""
        pool = cls(clock, turns)
        try:
            yield pool
        finally:
            for held in pool._held.values():
                await held.stack.aclose()

    def load(self) -> None:
        """Reads what every client needs, 150 ms, before the first one is asked for. Blocks."""
        session = botocore.session.Session()
        # A client that nobody uses: what it has read is there for the next one.
        session.create_client(
            "s3", region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )
        self._loader = session.get_component("data_loader")

    @asynccontextmanager
    async def lease(self, options: S3Options) -> AsyncIterator[SharedClient]:
        """A client that reaches S3 so. Raises what `open_client` raises."""
        held = self._held.get(options)
        if held is None or self._clock.monotonic() - held.opened_s > CLIENT_AGE_S_MAX:
            fresh = _Held(self._clock.monotonic())
            self._held[options] = fresh
            await self._close_if_unused(held)
            held = fresh
        held.users += 1
        try:
            async with held.opening:
                if held.shared is None:
                    held.shared = await self._open(options, held.stack)
            yield held.shared
        finally:
            held.users -= 1
            if self._held.get(options) is not held:
                await self._close_if_unused(held)
            elif held.shared is None and not held.users:
                del self._held[options]
            await self._close_surplus()

    async def _open(self, options: S3Options, stack: AsyncExitStack) -> SharedClient:
        await self._turns.take()
        session: aiobotocore.session.AioSession = new_session(options)
        if self._loader is not None:
            session.register_component("data_loader", self._loader)
        await self._turns.take()
        client = await stack.enter_async_context(open_client(session, options))
        client.meta.events.register("before-send.s3.*", _count)
        let_prepare(client)
        requests = S3Requests(session, client, options, self._clock)
        stack.push_async_callback(requests.aclose)
        self._loader = session.get_component("data_loader")
        return SharedClient(session, client, requests)

    async def _close_surplus(self) -> None:
        unused = [options for options, held in self._held.items() if not held.users]
        for options in unused[: max(0, len(self._held) - CLIENTS_MAX)]:
            await self._close_if_unused(self._held.pop(options))

    async def _close_if_unused(self, held: _Held | None) -> None:
        if held is not None and not held.users:
            await held.stack.aclose()


class CountedClient:
    """A shared client, whose requests count as those of one job: redirected ones, too."""

    def __init__(self, client: Any, counters: Counters) -> None:
        self._client = client
        self._counters = counters

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in COUNTED:
            return found

        async def call(**parameters: Any) -> Any:
            token = _COUNTING.set(self._counters)
            try:
                return await found(**parameters)
            finally:
                _COUNTING.reset(token)

        return call


def _count(**_: Any) -> None:
    if counters := _COUNTING.get(None):
        counters.requests += 1
