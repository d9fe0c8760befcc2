"""Dispatch: one request is matched to its operation, read, checked, done, answered and counted.

Invariants
  * A request is read within a bound of bytes and time, and answered within one; all bodies that
    are being read take a bounded part of memory together, however many there are.
  * Whatever goes wrong, the answer is one problem, with the id of its request.
  * An answer that its reader does not take is given up after a time, and so is the connection.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import xxhash
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from indexer.daemon.operation import Answer, Call, NoQuery, Operation, Parts
from indexer.daemon.problems import (
    BodyTooLarge,
    HttpProblem,
    Malformed,
    MethodNotAllowed,
    NoSuchPath,
    NotInTime,
    TooSlow,
    WrongHost,
    WrongMediaType,
)
from indexer.errors import Busy, DaemonUnavailable, IndexerError
from indexer.limits import (
    ANSWER_TIMEOUT_S,
    BODIES_BYTES_MAX,
    BODY_TIMEOUT_S,
    SEND_TIMEOUT_S,
    UNAVAILABLE_RETRY_AFTER_S,
)
from indexer.remote import JSON_TYPE, PROBLEM_TYPE
from indexer.wire.problems import Problem, status_of

REQUEST_ID: Final = "X-Request-Id"
_REQUEST_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REQUEST_ID_BYTES: Final = 8
_NOT_MODIFIED: Final = 304
_HEAD: Final = ("GET", "HEAD")
"""What a GET answers, HEAD answers without a body."""

_CHUNK_BYTES: Final = 64 * 1024

HEADERS: Final = {
    "Server": "bucket-indexer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
}


class Dispatch:
    """Answers requests to a table of operations."""

    def __init__(self, operations: Sequence[Operation], parts: Parts) -> None:
        self._operations = operations
        self._parts = parts
        self._body_bytes = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer, already sent. Never raises but for a cancel."""
        clock, started_s = self._parts.clock, self._parts.clock.monotonic()
        request_id = _request_id(request)
        operation: Operation | None = None
        try:
            _check_host(request)
            operation, path = self._find(request)
            response = await self._answer(operation, path, request, request_id)
        except IndexerError as error:
            response = problem_response(error, request_id)
        except (ConnectionError, HttpProcessingError) as error:
            # Who asked is gone, or speaks no HTTP; this answer is for the log.
            response = problem_response(Malformed(f"The request broke off ({error})."), request_id)
        except Exception as error:
            self._parts.log.exception("request failed", request=request_id, path=request.path)
            said = f"Unexpectedly, {type(error).__name__}. The daemon's log has more."
            response = problem_response(IndexerError(said), request_id)
        if not response.prepared:
            await _send(response, request)
        is_stream = operation is not None and operation.is_stream
        elapsed_s = clock.monotonic() - started_s
        name = operation.id if operation else "none"
        self._parts.metrics.answered(name, response.status, None if is_stream else elapsed_s)
        self._parts.log.info(
            "answered",
            request=request_id,
            method=request.method,
            path=request.path,
            status=response.status,
            elapsed_s=round(elapsed_s, 4),
        )
        return response

    def _find(self, request: web.BaseRequest) -> tuple[Operation, Mapping[str, str]]:
        raw = request.rel_url.raw_path
        allowed: list[str] = []
        found: tuple[Operation, Mapping[str, str]] | None = None
        for operation in self._operations:
            if match := operation.pattern.fullmatch(raw):
                allowed.append(operation.method)
                is_asked = operation.method == request.method
                if is_asked or (found is None and (operation.method, request.method) == _HEAD):
                    found = operation, match.groupdict()
        if found is not None:
            operation, path = found
            return operation, {name: unquote(text) for name, text in path.items()}
        if allowed:
            raise MethodNotAllowed(request.method, request.path, allowed)
        raise NoSuchPath(f"There is nothing at {request.path[:200]!r}; /docs shows what there is.")

    async def _answer(
        self,
        operation: Operation,
        path: Mapping[str, str],
        request: web.BaseRequest,
        request_id: str,
    ) -> web.StreamResponse:
        query = _query(operation, request)
        async with self._body(operation, request) as body:
            call = Call(path, query, body, request.headers, request, request_id)
            if operation.is_stream:
                answer = await operation.handle(self._parts, call)
            else:
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        answer = await operation.handle(self._parts, call)
                except TimeoutError as error:
                    raise TooSlow(
                        f"{operation.summary}: that took more than {ANSWER_TIMEOUT_S:.0f} s; "
                        f"try again, or ask for less."
                    ) from error
        if isinstance(answer, web.StreamResponse):
            return answer
        return _response(answer, request, request_id)

    @asynccontextmanager
    async def _body(self, operation: Operation, request: web.BaseRequest) -> AsyncIterator[Any]:
        """The body as what the operation takes, held in memory as long as the block lasts."""
        if operation.body is None:
            yield None
            return
        media_type = operation.body if isinstance(operation.body, str) else JSON_TYPE
        if request.content_type != media_type:
            # A page elsewhere cannot send this type without being asked whether it may.
            raise WrongMediaType(
                f"The body is {request.content_type}, and should be {media_type}: send it with "
                f"'Content-Type: {media_type}'."
            )
        most = operation.body_bytes_max
        if (request.content_length or 0) > most:
            raise BodyTooLarge(
                f"The body has {request.content_length:,} bytes; at most {most:,} may be sent here."
            )
        data = bytearray()
        try:
            await self._read(request, data, most)
            if isinstance(operation.body, str):
                yield bytes(data)
            else:
                yield _decode(bytes(data), operation.body)
        finally:
            self._body_bytes -= len(data)

    async def _read(self, request: web.BaseRequest, data: bytearray, most: int) -> None:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                    data += chunk
                    self._body_bytes += len(chunk)
                    if len(data) > most:
                        raise BodyTooLarge(f"The body has more than {most:,} bytes.")
                    if self._body_bytes > BODIES_BYTES_MAX:
                        raise Busy("More is being sent than can be taken at once; try again.")
        except TimeoutError as error:
            raise NotInTime(
                f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s; send it again."
            ) from error
        except web.RequestPayloadError as error:
            raise Malformed(f"The body broke off or is not encoded as it says: {error}") from error


def problem_response(error: IndexerError, request_id: str) -> web.Response:
    """The answer that tells of an error."""
    status = error.status if isinstance(error, HttpProblem) else status_of(error)
    problem = Problem.of(error, status, request_id)
    headers = {REQUEST_ID: request_id, **HEADERS, "Cache-Control": "no-store"}
    if isinstance(error, HttpProblem):
        headers |= error.headers
    if isinstance(error, Busy):
        headers["Retry-After"] = f"{error.retry_after_s:.0f}"
    elif isinstance(error, (DaemonUnavailable, TooSlow)):
        headers["Retry-After"] = f"{UNAVAILABLE_RETRY_AFTER_S:.0f}"
    response = web.Response(
        body=msgspec.json.encode(problem),
        status=status,
        headers=headers,
        content_type=PROBLEM_TYPE,
    )
    if isinstance(error, (BodyTooLarge, NotInTime, Malformed)):
        # What is left of the body would be read as the next request.
        response.force_close()
    return response


def _response(answer: Answer, request: web.BaseRequest, request_id: str) -> web.Response:
    body = answer.body if isinstance(answer.body, bytes) else b""
    if isinstance(answer.body, msgspec.Struct):
        body = msgspec.json.encode(answer.body)
    headers = {REQUEST_ID: request_id, **HEADERS, **answer.headers}
    if answer.immutable:
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    if request.method in ("GET", "HEAD") and answer.body is not None:
        tag = answer.tag or tag_of(body)
        headers["ETag"] = tag
        if _matches(request.headers.get("If-None-Match"), tag):
            return web.Response(status=_NOT_MODIFIED, headers=headers)
    elif answer.tag:
        headers["ETag"] = answer.tag
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    return web.Response(
        body=body, status=answer.status, headers={**headers, "Content-Type": answer.media_type}
    )


def tag_of(body: bytes) -> str:
    """The strong ETag of bytes."""
    return f'"{xxhash.xxh3_128_hexdigest(body)}"'


def _matches(header: str | None, tag: str) -> bool:
    if header is None:
        return False
    given = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in given or tag in given


async def _send(response: web.StreamResponse, request: web.BaseRequest) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # who asked is gone


def _check_host(request: web.BaseRequest) -> None:
    """Raises `WrongHost` for a name that is not this machine's own.

    A page from elsewhere whose name was made to lead here would be the daemon's own to a browser.
    """
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        is_own = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own:
        raise WrongHost(
            "This daemon is asked as localhost or by its address, such as 127.0.0.1, and by no "
            "other name."
        )


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get(REQUEST_ID, "")
    if _REQUEST_ID_PATTERN.fullmatch(given):
        return given
    return secrets.token_hex(_REQUEST_ID_BYTES)


def _query(operation: Operation, request: web.BaseRequest) -> Any:
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            request.rel_url.raw_query_string,
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=100,
        )
    except ValueError as error:
        raise Malformed(f"The query cannot be read: {error}.") from error
    for name, value in pairs:
        if name in given:
            raise Malformed(f"The parameter {name!r} is given twice; give it once.")
        given[name] = value
    if operation.query is NoQuery and given:
        raise Malformed(f"There is no parameter {min(given)!r} here: it takes none.")
    try:
        return msgspec.convert(given, operation.query, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(operation.query.__struct_fields__)
        raise Malformed(f"The query cannot be: {error}. Parameters are {known}.") from error


def _decode(data: bytes, kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"The body cannot be: {error}. See /docs for what it may be.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"The body is no JSON: {error}.") from error
