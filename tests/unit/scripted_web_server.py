"""A web server on loopback that answers whatever a test says, byte by byte if it must.

    async with ScriptedServer() as server:
        server.answers["/a"] = response(body=b"...")

Invariants
  * Each connection has one request. What was asked is kept, in order.
  * An answer is bytes that are sent as they are, or a coroutine function that sends them itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


Send = Callable[[asyncio.StreamWriter], Awaitable[None]]
Answer: TypeAlias = bytes | Send


@dataclass(slots=True)
class Scripted:
    """Marks a function that makes the answer from the request."""

    answer: Callable[[Request], Answer]


@dataclass(slots=True)
class ScriptedServer:
    """Use it as an asynchronous context manager. Paths without an answer are not there."""

    tls: ssl.SSLContext | None = None
    answers: dict[str, Answer | Scripted] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The root's address."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"

    def asked_for(self, path: str) -> list[Request]:
        """The requests for a path."""
        return [request for request in self.asked if request.path == path]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if not first.isalpha():  # TLS is spoken to a server that has none
                writer.write(response(HTTPStatus.BAD_REQUEST))
                return
            head = first + await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").splitlines()
            method, path, _ = lines[0].split(" ", 2)
            pairs = (line.partition(":") for line in lines[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            request = Request(method, path, headers)
            self.asked.append(request)
            answer = self.answers.get(path, response(HTTPStatus.NOT_FOUND))
            if isinstance(answer, Scripted):
                answer = answer.answer(request)
            if isinstance(answer, bytes):
                writer.write(
                    answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else answer
                )
            else:
                await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()


def response(
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    length: int | None = -1,
) -> bytes:
    """A response as bytes; with `length` another one is said, with None none at all."""
    told = {"Date": "Wed, 25 Nov 2026 19:00:00 GMT", "Connection": "close", **(headers or {})}
    if length is not None:
        told.setdefault("Content-Length", str(len(body) if length < 0 else length))
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in told.items()]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def index(*hrefs: str, title: str = "Index of /") -> bytes:
    """An index page as a response."""
    links = "".join(f'<a href="{href}">x</a>\r\n' for href in hrefs)
    page = f"<html><head><title>{title}</title></head><body><pre>{links}</pre></body></html>"
    return response(headers={"Content-Type": "text/html"}, body=page.encode())


def redirect(location: str, status: HTTPStatus = HTTPStatus.MOVED_PERMANENTLY) -> bytes:
    """A redirect as a response."""
    return response(status, {"Location": location})
