"""A TCP proxy on loopback that cuts connections where it is told to: before, within, after.

    async with CuttingProxy.open("127.0.0.1", port) as proxy:
        proxy.cut(after_sent=100)      # the next connection, when 100 bytes went to the server
        proxy.cut(after_received=0)    # the next one, when the server begins to answer

Invariants
  * What is forwarded is forwarded unchanged, in order.
  * A cut is made once; connections after it are whole until the next one is ordered.
  * All connections have ended when the block is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 65_536


@dataclass(slots=True)
class Cut:
    """Where a connection is to end: after so many bytes to the server, or from it."""

    after_sent: int | None = None
    after_received: int | None = None


class CuttingProxy:
    """A proxy that listens at `port`. `connections` counts those that there were."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._cuts: deque[Cut] = deque()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        self.cuts_made = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str, port: int) -> AsyncIterator[CuttingProxy]:
        """A proxy of the server at this address, for as long as the block lasts."""
        proxy = cls(host, port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut_all()
            await server.wait_closed()

    def cut(self, *, after_sent: int | None = None, after_received: int | None = None) -> None:
        """Orders one more cut, of a connection that none was ordered for yet."""
        self._cuts.append(Cut(after_sent, after_received))

    def cut_all(self) -> None:
        """Ends all connections that there are."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        cut = self._cuts.popleft() if self._cuts else Cut()
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._writers |= both

        def end() -> None:
            self.cuts_made += 1
            for each in both:
                each.transport.abort()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(reader, there_writer, cut.after_sent, end))
                group.create_task(_forward(there_reader, writer, cut.after_received, end))
        finally:
            self._writers -= both
            for each in both:
                each.close()


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    left: int | None,
    end: Callable[[], None],
) -> None:
    """Forwards until either side ends, or until `left` bytes were; then calls `end`."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while data := await reader.read(CHUNK_BYTES):
            if left is not None:
                if len(data) >= left:
                    writer.write(data[:left])
                    with suppress(ConnectionError):
                        await writer.drain()
                    end()
                    return
                left -= len(data)
            writer.write(data)
            await writer.drain()
    if writer.can_write_eof():
        with suppress(OSError, RuntimeError):
            writer.write_eof()
