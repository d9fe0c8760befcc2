"""HTTP/1.1 between bytes and values: requests are parsed, answers are written, nothing is sent.

Invariants
  * Bytes may arrive in pieces of any size; a request is given out once it is there in full.
  * Bodies come with a Content-Length or chunked, and in S3's own chunks (`aws-chunked`), whose
    signatures are not checked; a checksum in the trailer becomes a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
"""Objects are kept in memory, so larger ones are refused."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST_LINE = re.compile(
    r"(?P<method>[A-Z]+) (?P<path>/[^ ?]*)(?:\?(?P<query>[^ ]*))? HTTP/1\.[01]"
)
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_LENGTH = frozenset({204, 304})


class BadRequest(Exception):
    """What came is no HTTP that this server speaks; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. The target is as it came, percent-encoded; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def is_last(self) -> bool:
        """The client wants the connection closed after the answer."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Its body is in pieces, which are sent one after the other."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: list[bytes | memoryview] = field(default_factory=list)
    length: int | None = None
    """What Content-Length says where that is not the length of the body: on HEAD."""

    @property
    def body_bytes(self) -> int:
        return sum(len(piece) for piece in self.body)

    def head(self) -> bytes:
        """The status line and headers, down to the empty line."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status not in _WITHOUT_LENGTH:
            length = self.body_bytes if self.length is None else self.length
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class RequestParser:
    """Cuts the bytes of one connection into requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Request | None = None
        """The request whose body is still arriving."""

        self.wants_continue = False
        """The client waits for `100 Continue` before it sends a body; whoever sends it resets
        this."""

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that are complete with these bytes. Raises BadRequest."""
        self._buffer += data
        while True:
            if self._head is None:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    if len(self._buffer) > HEAD_BYTES_MAX:
                        raise BadRequest("the headers are too long")
                    return
                self._head = _parse_head(bytes(self._buffer[:end]))
                del self._buffer[: end + 4]
                self.wants_continue = self._head.headers.get("expect") == "100-continue"
            body = self._take_body(self._head)
            if body is None:
                return
            request, self._head, self.wants_continue = self._head, None, False
            yield _with_body(request, body)

    def _take_body(self, head: Request) -> bytes | None:
        """The whole body, taken from the buffer; None while it is not all there."""
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            chunked = _parse_chunks(self._buffer)
            if chunked is None:
                return None
            body, _, end = chunked
        else:
            text = head.headers.get("content-length", "0")
            if not text.isdecimal() or int(text) > BODY_BYTES_MAX:
                raise BadRequest(f"a body of {text} bytes is not taken")
            end = int(text)
            if len(self._buffer) < end:
                return None
            body = bytes(self._buffer[:end])
        del self._buffer[:end]
        return body


def _parse_head(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest("the request line is malformed")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("a header is malformed")
        headers[name.lower()] = value.strip()
    return Request(match["method"], match["path"], match["query"] or "", headers)


def _with_body(request: Request, body: bytes) -> Request:
    if not body:
        return request
    headers = request.headers
    encodings = [one.strip() for one in headers.get("content-encoding", "").split(",")]
    if "aws-chunked" in encodings or headers.get("x-amz-content-sha256", "").startswith("STREAM"):
        chunked = _parse_chunks(body)
        if chunked is None:
            raise BadRequest("the chunks of the body are cut short")
        body, trailer, _ = chunked
        headers = {**headers, **trailer}
        encodings = [one for one in encodings if one not in ("aws-chunked", "")]
        headers["content-encoding"] = ",".join(encodings)
        if not encodings:
            del headers["content-encoding"]
    return Request(request.method, request.path, request.query, headers, body)


def _parse_chunks(data: bytes | bytearray) -> tuple[bytes, dict[str, str], int] | None:
    """Body, trailer and length of a chunked message; None while it is not all there."""
    pieces: list[bytes] = []
    place = 0
    while True:
        end = data.find(b"\r\n", place)
        if end < 0:
            return None
        try:
            size = int(bytes(data[place:end]).partition(b";")[0], 16)
        except ValueError as error:
            raise BadRequest("a chunk has no size") from error
        place = end + 2
        if size == 0:
            break
        if len(data) < place + size + 2:
            return None
        pieces.append(bytes(data[place : place + size]))
        place += size + 2
    trailer = {}
    while (end := data.find(b"\r\n", place)) != place:
        if end < 0:
            return None
        name, _, value = bytes(data[place:end]).decode("latin-1").partition(":")
        trailer[name.lower()] = value.strip()
        place = end + 2
    return b"".join(pieces), trailer, place + 2
