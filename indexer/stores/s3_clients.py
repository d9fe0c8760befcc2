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
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
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
from workers.shared import Shared
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


class ClientPool:
    """`async with ClientPool.open(...) as pool, pool.lease(options) as shared`, on one loop."""

    def __init__(self, clock: Clock, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self._loader: Any = None
        self._shared = Shared(
            self._opened, clock=clock, age_s_max=CLIENT_AGE_S_MAX, kept_max=CLIENTS_MAX
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, clock: Clock, turns: Turns) -> AsyncIterator[ClientPool]:
        """An empty pool; clients are made in `turns`."""
        pool = cls(clock, turns)
        async with pool._shared:
            yield pool

    def load(self) -> None:
        """Reads what every client needs, 150 ms, before the first one is asked for. Blocks."""
        session = botocore.session.Session()
        # A client that nobody uses: what it has read is there for the next one.
        session.create_client(
            "s3", region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )
        self._loader = session.get_component("data_loader")

    def lease(self, options: S3Options) -> AbstractAsyncContextManager[SharedClient]:
        """A client that reaches S3 so. Raises what `open_client` raises."""
        return self._shared.lease(options)

    @asynccontextmanager
    async def _opened(self, options: S3Options) -> AsyncIterator[SharedClient]:
        await self._turns.take()
        session: aiobotocore.session.AioSession = new_session(options)
        if self._loader is not None:
            session.register_component("data_loader", self._loader)
        await self._turns.take()
        async with open_client(session, options) as client:
            client.meta.events.register("before-send.s3.*", _count)
            let_prepare(client)
            self._loader = session.get_component("data_loader")
            async with aclosing(S3Requests(session, client, options, self._clock)) as requests:
                yield SharedClient(session, client, requests)


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
