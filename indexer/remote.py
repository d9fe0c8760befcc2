"""Remote: requests to one daemon, its answers, and its problems as the errors that they were.

Invariants
  * What may be asked twice is tried again while the daemon cannot be reached; what may not is
    tried once, and its caller hears that the answer was lost.
  * A problem raises the same error, in the same words, as the call would have raised there.
  * An answer is bounded in size and time; one that is cut off is none.
"""

from __future__ import annotations

import io
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from indexer.errors import Busy, DaemonUnavailable, IndexerError, InvalidSetting
from indexer.limits import (
    ANSWER_BYTES_MAX,
    CONNECT_TIMEOUT_S,
    DAEMON_ATTEMPTS_MAX,
    DAEMON_REQUESTS_MAX,
    DAEMON_TIMEOUT_S,
    EVENT_HEARTBEAT_S,
    EVENT_INTERVAL_S,
)
from indexer.wire.jobs import JobDocument
from indexer.wire.problems import Problem
from workers.clock import Clock, SystemClock
from workers.retry import Retry, RetryBudget

API: Final = "/api/v1"

JSON_TYPE: Final = "application/json"
SHARD_TYPE: Final = "application/vnd.apache.parquet"
PROBLEM_TYPE: Final = "application/problem+json"
EVENTS_TYPE: Final = "text/event-stream"

Document = TypeVar("Document")
Result = TypeVar("Result")

_NOT_FOUND: Final = 404
_FAILURES: Final = 400
_CHUNK_BYTES: Final = 256 * 1024
_EVENT: Final = re.compile(rb"\r?\n\r?\n")


class Remote:
    """One daemon at `url`: `async with Remote.open(url) as remote`."""

    def __init__(self, url: str, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.url = url
        self._session = session
        self._clock = clock
        self._retry = Retry(
            attempts_max=DAEMON_ATTEMPTS_MAX, budget=RetryBudget(), clock=clock, delay_s_max=5.0
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, clock: Clock | None = None) -> AsyncIterator[Remote]:
        """A daemon that is asked nothing yet."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=DAEMON_REQUESTS_MAX),
            timeout=aiohttp.ClientTimeout(total=DAEMON_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            trust_env=True,
            auto_decompress=False,
        ) as session:
            yield cls(url, session, clock or SystemClock())

    async def get(
        self, path: str, kind: type[Document], query: Mapping[str, str | int | None] | None = None
    ) -> Document:
        """The document at a path of the interface. Raises what the daemon raises."""
        data = await self.get_bytes(path, query)
        return self._read(data, kind)

    async def get_bytes(
        self, path: str, query: Mapping[str, str | int | None] | None = None
    ) -> bytes:
        """The bytes at a path of the interface."""
        return await self.repeated(lambda: self._ask("GET", path, query=query))

    async def get_tagged(self, path: str, kind: type[Document]) -> tuple[Document, str]:
        """The document at a path, and the ETag of its state."""

        async def ask() -> tuple[Document, str]:
            async with self._request("GET", path) as response:
                body = await self._body(response)
                if response.status >= _FAILURES:
                    raise self._problem(response, body)
                return self._read(body, kind), response.headers.get("ETag", "")

        return await self.repeated(ask)

    async def has(self, path: str) -> bool:
        """Whether there is something at a path."""

        async def ask() -> bool:
            async with self._request("HEAD", path) as response:
                if response.status == _NOT_FOUND:
                    return False
                self._check_answered(response)
                return True

        return await self.repeated(ask)

    async def send(
        self,
        method: str,
        path: str,
        kind: type[Document],
        body: msgspec.Struct | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """The document that a daemon answers an order with. Tried once."""
        data = io.BytesIO(_encoded(body)) if body is not None else None
        answered = await self._ask(
            method, path, data=data, headers={"Content-Type": JSON_TYPE, **(headers or {})}
        )
        return self._read(answered, kind)

    async def send_for_bytes(self, method: str, path: str, body: msgspec.Struct) -> bytes:
        """The bytes that a daemon answers an order with, which changes nothing."""
        encoded = _encoded(body)
        headers = {"Content-Type": JSON_TYPE}
        return await self.repeated(
            lambda: self._ask(method, path, data=io.BytesIO(encoded), headers=headers)
        )

    async def put_bytes(self, path: str, data: bytes) -> None:
        """Puts bytes at a path, as often as it takes."""
        headers = {"Content-Type": SHARD_TYPE}

        async def put() -> bytes:
            # As a file, of which aiohttp sends a piece at a time.
            return await self._ask("PUT", path, data=io.BytesIO(data), headers=headers)

        await self.repeated(put)

    async def repeated(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """What a call comes to that may be made again while the daemon cannot answer it."""
        return await self._retry.call(
            call,
            is_retryable=lambda error: isinstance(error, (DaemonUnavailable, Busy)),
            retry_after_s=lambda error: error.retry_after_s if isinstance(error, Busy) else None,
        )

    async def follow(self, job_id: str) -> AsyncIterator[JobDocument]:
        """A job at each of its events, until it has ended; goes on where the stream was cut."""
        last: str | None = None
        while True:
            got_any = False
            try:
                async for number, job in self._events(job_id, last):
                    last, got_any = number, True
                    yield job
                    if job.has_ended:
                        return
            except DaemonUnavailable:
                if got_any:
                    continue
                # Nobody there: as patient as with any other question, then it is an error.
                job = await self.get(f"/jobs/{job_id}", JobDocument)
                yield job
                if job.has_ended:
                    return
                # There, but not for a stream, as behind a proxy that takes none: ask now and then.
                await self._clock.sleep(EVENT_INTERVAL_S)

    async def _events(
        self, job_id: str, last: str | None
    ) -> AsyncIterator[tuple[str, JobDocument]]:
        headers = {"Accept": EVENTS_TYPE} | ({"Last-Event-ID": last} if last else {})
        timeout = aiohttp.ClientTimeout(
            sock_connect=CONNECT_TIMEOUT_S, sock_read=2 * EVENT_HEARTBEAT_S
        )
        async with self._request(
            "GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout
        ) as response:
            if response.status >= _FAILURES:
                raise self._problem(response, await self._body(response))
            waiting = b""
            async for chunk in response.content.iter_any():
                *events, waiting = _EVENT.split(waiting + chunk)
                for event in events:
                    fields = _fields(event)
                    if "data" in fields:
                        yield fields["id"], self._read(fields["data"].encode(), JobDocument)
        raise DaemonUnavailable(f"{self.url}: the daemon ended its events too early.")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        data: bytes | io.BytesIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        async with self._request(method, path, query=query, data=data, headers=headers) as response:
            body = await self._body(response)
            if response.status >= _FAILURES:
                raise self._problem(response, body)
            return body

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        query_string = urlencode(given, errors="surrogateescape", quote_via=quote)
        words = f"?{query_string}" if given else ""
        url = URL(f"{self.url}{API}{path}{words}", encoded=True)
        with self._translated():
            async with self._session.request(
                method, url, allow_redirects=False, **options
            ) as response:
                yield response

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise DaemonUnavailable(f"{self.url}: the answer has no end. {self._advice()}")
        return bytes(body)

    def _check_answered(self, response: aiohttp.ClientResponse) -> None:
        if response.status >= _FAILURES:
            raise self._problem(response, b"")

    def _problem(self, response: aiohttp.ClientResponse, body: bytes) -> IndexerError:
        try:
            problem = msgspec.json.decode(body, type=Problem)
        except msgspec.MsgspecError:
            return DaemonUnavailable(
                f"{self.url} answered with the status {response.status} and no reason. "
                f"{self._advice()}"
            )
        error = problem.error()
        asked_s = response.headers.get("Retry-After", "")
        if isinstance(error, Busy) and asked_s.isdecimal():
            error.retry_after_s = float(asked_s)
        return error

    def _read(self, data: bytes, kind: type[Document]) -> Document:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise DaemonUnavailable(
                f"{self.url} answered what no daemon of this version says ({error}). "
                f"{self._advice()}"
            ) from error

    @contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise DaemonUnavailable(f"{self.url} cannot be asked: {error}.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DaemonUnavailable(
                f"the daemon at {self.url} cannot be reached ({_said(error)}). Check the URL, and "
                f"start one with 'indexer serve'."
            ) from error

    def _advice(self) -> str:
        return "Check that the URL is a daemon's, and that both are of the same version."


def _encoded(body: msgspec.Struct) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise InvalidSetting("what is asked for is not UTF-8; write it in that encoding.") from None


def _said(error: Exception) -> str:
    """What an error says, on one line."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror)
    return " ".join(str(error).split()) or type(error).__name__


def _fields(event: bytes) -> dict[str, str]:
    """The fields of one event; a comment has none."""
    fields: dict[str, str] = {}
    for line in event.decode().splitlines():
        name, colon, value = line.partition(":")
        if name and colon:
            fields[name] = value.removeprefix(" ")
    return fields
