"""The server: listens on one address, and keeps what others do to it within bounds.

Invariants
  * It listens beyond loopback only when it may, which it never may while there are no tokens.
  * Connections, heads, bodies, answers and streams are bounded in number, size and time (`limits`),
    so that a slow client, or one that went away, costs a connection for a time and nothing else.
  * When it stops, it takes no more jobs, lets those that there are end, tells their followers, and
    lets requests that are being answered be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiohttp import web

from indexer.artifact.query.queries import Queries
from indexer.content import ContentStore
from indexer.daemon.dispatch import Dispatch, problem_response
from indexer.daemon.health import Health
from indexer.daemon.metrics import Metrics
from indexer.daemon.operation import Parts, ReadOrder
from indexer.daemon.operations import OPERATIONS
from indexer.daemon.problems import Malformed
from indexer.errors import DaemonUnavailable, InvalidSetting
from indexer.limits import (
    CONNECTIONS_MAX,
    IDLE_TIMEOUT_S,
    JOBS_STOP_TIMEOUT_S,
    LAG_INTERVAL_S,
    REQUEST_HEADER_BYTES_MAX,
    REQUEST_HEADERS_MAX,
    REQUEST_LINE_BYTES_MAX,
    SERVER_STOP_TIMEOUT_S,
    UNAVAILABLE_RETRY_AFTER_S,
)
from indexer.protocols import Tracker
from indexer.remote import PROBLEM_TYPE
from indexer.service import Service
from indexer.wire.problems import Problem
from indexer.workspace import Workspace
from workers.clock import Clock
from workers.threads import Threads

HEALTH_THREADS: Final = 1
BACKLOG: Final = CONNECTIONS_MAX

_TOO_MANY: Final = "As many connections are open as may be at once; try again in some seconds."


class Daemon:
    """A daemon that listens at `url`: `async with Daemon.open(...) as daemon`."""

    def __init__(self, url: str, service: Service) -> None:
        self.url = url
        self._service = service

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        workspace: Workspace,
        read_order: ReadOrder,
        tracker: Tracker,
        content: ContentStore,
        queries: Queries,
        service: Service,
        health: Health,
        clock: Clock,
        log: Any,
        host: str,
        port: int,
    ) -> AsyncIterator[Daemon]:
        """Listens as long as the block lasts; port 0 takes any that is free.

        Raises `InvalidSetting` for an address that it may not, or cannot, listen on.
        """
        listener = _listen(host, port)
        metrics = Metrics(service)
        async with Threads(HEALTH_THREADS) as threads, asyncio.TaskGroup() as group:
            parts = Parts(
                workspace=workspace,
                read_order=read_order,
                tracker=tracker,
                content=content,
                queries=queries,
                service=service,
                health=health,
                metrics=metrics,
                threads=threads,
                clock=clock,
                log=log,
            )
            server = _Server(Dispatch(OPERATIONS, parts), metrics)
            listening = await asyncio.get_running_loop().create_server(
                server, sock=listener, backlog=BACKLOG
            )
            lag = group.create_task(_watch_lag(metrics, clock))
            shown = f"[{host}]" if ":" in host else host
            try:
                yield cls(f"http://{shown}:{listener.getsockname()[1]}", service)
            finally:
                lag.cancel()
                listening.close()
                await _stop(server, service, log)

    async def until_cancelled(self) -> None:
        """Waits until the task is cancelled, as it is by SIGTERM and Ctrl-C."""
        await asyncio.Event().wait()


async def _stop(server: _Server, service: Service, log: Any) -> None:
    """Ends jobs, tells their followers, and ends connections when they have their answers."""
    service.stop()
    try:
        async with asyncio.timeout(JOBS_STOP_TIMEOUT_S):
            await service.ended()
    except TimeoutError:
        log.warning("jobs did not end in time", seconds=JOBS_STOP_TIMEOUT_S)
    server.pre_shutdown()
    await server.shutdown(SERVER_STOP_TIMEOUT_S)


async def _watch_lag(metrics: Metrics, clock: Clock) -> None:
    while True:
        due_s = clock.monotonic() + LAG_INTERVAL_S
        await clock.sleep(LAG_INTERVAL_S)
        metrics.lagged(clock.monotonic() - due_s)


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises `InvalidSetting`."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise InvalidSetting(
            f"{host!r} is no address to listen on: give an IP address of this machine, such as "
            f"127.0.0.1, with --host."
        ) from None
    if not is_loopback:
        raise InvalidSetting(
            f"{host} can be reached from other machines, and this daemon has no tokens by which to "
            f"know who asks. Listen on 127.0.0.1, and forward to that by what does know."
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.setblocking(False)  # noqa: FBT003 - the socket's own call
    except OSError as error:
        listener.close()
        raise InvalidSetting(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another with --port, "
            f"or --port 0 for any that is free."
        ) from error
    return listener


class _Server(web.Server):
    """aiohttp's server, with our bounds, and our problems for what is no HTTP."""

    def __init__(self, dispatch: Dispatch, metrics: Metrics) -> None:
        super().__init__(dispatch, handler_cancellation=True)
        metrics.watch_connections(lambda: len(self.connections))

    def __call__(self) -> Any:
        if len(self.connections) >= CONNECTIONS_MAX:
            return _Refusal()
        return _Handler(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=0,
            access_log=None,  # type: ignore[arg-type]  # it asks whether there is one
            max_line_size=REQUEST_LINE_BYTES_MAX,
            max_field_size=REQUEST_HEADER_BYTES_MAX,
            max_headers=REQUEST_HEADERS_MAX,
            auto_decompress=False,
        )


class _Handler(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request. Nothing is logged: anybody may send anything."""
        said = (message or str(exc or "")).partition("\n")[0].strip(" :")
        response = problem_response(Malformed(f"The request cannot be read ({said})."), "none")
        response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """Answers one connection too many, and ends it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        with contextlib.suppress(OSError):
            transport.write(_refusal())
        transport.close()


def _refusal() -> bytes:
    """The problem of one connection too many, as all that is sent on it."""
    problem = Problem.of(DaemonUnavailable(_TOO_MANY))
    body = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {problem.status} Service Unavailable\r\n"
        f"Retry-After: {UNAVAILABLE_RETRY_AFTER_S:.0f}\r\n"
        f"Connection: close\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
