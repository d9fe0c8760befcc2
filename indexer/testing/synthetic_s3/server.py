"""The server on the network: connections on the loopback address, and when it stops.

Invariants
  * It listens on 127.0.0.1 alone.
  * The answers of one connection leave in the order of its requests, one at a time.
  * It stops at SIGTERM and SIGINT, when its standard input, being a pipe, is closed, and when the
    process that started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from indexer.testing.synthetic_s3.router import Answer
from indexer.testing.synthetic_s3.wire import (
    CONTINUE,
    BadRequest,
    Request,
    RequestParser,
    Response,
)

HOST = "127.0.0.1"
PARENT_CHECK_S = 1.0
CONNECTIONS_WAITING_MAX = 1024

_RESET_DELAY_S = 0.02
"""Between half a body and the reset, so that the client has had the half."""

_DRIP_S = 0.02
"""Between two bytes of an answer that drips: some ten seconds for its headers."""

_LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset instead of the rest."""


Answering = Callable[[Request], Answer]
"""From a request to its answer, at once."""


async def serve(answering: Answering, port: int) -> None:
    """Serve until told to stop; announce the endpoint on standard output as one line of JSON."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    connections: set[_Connection] = set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(
        lambda: _Connection(answering, connections), HOST, port, backlog=CONNECTIONS_WAITING_MAX
    )
    _watch_standard_input(loop, stopped.set)
    _watch_parent(loop, os.getppid(), stopped.set)
    endpoint_url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    ready = {"endpoint_url": endpoint_url, "pid": os.getpid()}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await stopped.wait()
    server.close()
    for connection in list(connections):
        connection.abort()


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, answering: Answering, connections: set[_Connection]) -> None:
        self._answering = answering
        self._connections = connections
        self._parser = RequestParser()
        self._waiting: deque[Request] = deque()
        self._answer: Answer | None = None
        """The answer that has yet to leave."""

        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._parser.feed(data))
        except BadRequest as error:
            body = str(error).encode()
            head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            self._transport.write(head % len(body) + body)
            self._transport.close()
            return
        if self._parser.wants_continue:
            self._parser.wants_continue = False
            self._transport.write(CONTINUE)
        self._serve_next()

    def _serve_next(self) -> None:
        if self._answer is not None or not self._waiting:
            return
        request = self._waiting.popleft()
        self._answer = answer = self._answering(request)
        if answer.delay_s > 0:
            self._later(answer.delay_s, lambda: self._send(answer, request))
        else:
            self._send(answer, request)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, call)

    def _send(self, answer: Answer, request: Request) -> None:
        response = answer.response
        match answer.delivery:
            case "stall":
                return
            case "reset":
                body = b"".join(response.body)
                self._transport.write(response.head() + body[: len(body) // 2])
                self._later(_RESET_DELAY_S, self._reset)
                return
            case "drip":
                self._drip(response.head() + b"".join(response.body), request)
                return
            case "truncate_body":
                body = b"".join(response.body)
                cut = Response(response.status, response.headers, [body[: len(body) // 2]])
                self._transport.writelines([cut.head(), *cut.body])
            case "cut_body":
                body = b"".join(response.body)
                self._transport.write(response.head() + body[: len(body) // 2])
                self._transport.close()
            case _:
                self._transport.writelines([response.head(), *response.body])
        self._sent(request)

    def _drip(self, left: bytes, request: Request) -> None:
        if not left:
            self._sent(request)
            return
        self._transport.write(left[:1])
        self._later(_DRIP_S, lambda: self._drip(left[1:], request))

    def _sent(self, request: Request) -> None:
        self._finish()
        if request.is_last:
            self._transport.close()
        else:
            self._serve_next()

    def _reset(self) -> None:
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self._transport.abort()

    def _finish(self) -> None:
        if self._answer is not None:
            self._answer.done()
            self._answer = None


def _watch_standard_input(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """A closed pipe says that the process at its other end is gone."""
    if sys.stdin is None or not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return
    number = sys.stdin.fileno()

    def read() -> None:
        if not os.read(number, 4096):
            loop.remove_reader(number)
            stop()

    loop.add_reader(number, read)


def _watch_parent(loop: asyncio.AbstractEventLoop, parent: int, stop: Callable[[], None]) -> None:
    """Look every second whether the parent is still the same."""
    if os.getppid() != parent:
        stop()
        return
    loop.call_later(PARENT_CHECK_S, _watch_parent, loop, parent, stop)
