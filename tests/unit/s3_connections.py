"""Connections to S3 for tests, quickly made, and servers that answer whatever a test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import cache
from typing import Any, Final

import botocore.session

from indexer.protocols import S3Options
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import S3Connection, connect
from indexer.stores.s3_clients import ClientPool
from indexer.telemetry import Counters
from workers.clock import SystemClock
from workers.turns import Turns

FOUND: Final = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 3\r\n\r\n'
"""The answer to a HEAD of an object of three bytes."""


@asynccontextmanager
async def connected(endpoint_url: str | None = None, **options: Any) -> AsyncIterator[S3Connection]:
    counters = options.pop("counters", None) or Counters()
    s3 = S3Options(endpoint_url=endpoint_url, **options)
    async with ClientPool.open(SystemClock(), Turns(1)) as pool:
        pool._loader = loader()
        async with connect(s3, MemoryFacts(), counters, clients=pool) as connection:
            yield connection


@cache
def loader() -> Any:
    """What botocore has read of S3, once for all tests."""
    return botocore.session.Session().get_component("data_loader")


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that answers always the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            await reader.read(65_536)
            writer.write(answer)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
