"""One object of S3 at a time: what a HEAD says of it, and its bytes.

Invariants
  * What is told of an object stands in the headers of its own answer; an answer without them is not
    S3's and is believed nothing.
  * Bytes are handed on only after the answer's headers were found to fit the pin, and are counted:
    fewer or more than were asked for is an error.
  * A version id is told only where the server names one that is not `null`: only a listing of
    versions can say that an object's version is that one.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import aiohttp
from multidict import istr

from indexer.errors import (
    AccessDenied,
    IndexerError,
    NotFound,
    ObjectChanged,
    StoreUnavailable,
)
from indexer.keyspace import Key
from indexer.limits import HANDED_ON_BYTES_MAX, READ_BYTES_MIN, REQUEST_TIMEOUT_S
from indexer.objects import Checksum, Head, Pin
from indexer.protocols import Link, Sink
from indexer.stores.headers import parse_content_range, parse_date, parse_number, unquoted
from indexer.stores.s3_errors import foreign_error, not_of_s3, object_error
from indexer.stores.s3_requests import Ask, Caller, read_refusal
from indexer.stores.s3_signing import canonical_query
from workers.clock import Clock

CHECKSUMS: Final = ("sha256", "sha1", "crc64nvme", "crc32c", "crc32")
"""Strongest first. SHA-256 cannot be forged. SHA-1 can, with effort, but an accident hits 160 bits
less likely than 64, and those less than 32; of the last two CRC-32C misses fewer errors."""

_ETAG, _LENGTH, _MODIFIED, _VERSION, _CLASS = map(
    istr, ("ETag", "Content-Length", "Last-Modified", "x-amz-version-id", "x-amz-storage-class")
)
_COMPOSITE: Final = re.compile(r"(.+)-\d+")
_SENDABLE_ETAG: Final = re.compile(r'[!#-~]+|W/"[!#-~]*"')
"""What can stand in a header between quotes, or is quoted already."""


class S3Objects:
    """The objects below one prefix of a bucket. See `protocols.Store` for `head` and `read`."""

    def __init__(self, caller: Caller, bucket: str, prefix: str) -> None:
        self._caller = caller
        self._bucket = bucket
        self._prefix = prefix
        self._prefix_bytes = prefix.encode()
        self._is_found = False
        self._headers: Mapping[str, str] = caller.headers
        self._headers_checksum = {**self._headers, "x-amz-checksum-mode": "ENABLED"}

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """What the server says of an object."""
        query = _version_query(version_id)
        headers = self._headers_checksum if checksum else self._headers
        response = await self._send("HEAD", key, query, headers)
        response.release()
        try:
            return head_of(response.headers, checksum=checksum)
        except ValueError as error:
            raise not_of_s3(self._uri(key)) from error

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """Writes the bytes of an object that still is what `pin` says into `sink`."""
        end = pin.size if end is None else end
        assert 0 <= start <= end <= pin.size
        if start == end and start:
            # There is no way to ask for no bytes, and nothing to be had.
            return
        is_part = (start, end) != (0, pin.size)
        is_pinned = pin.version_id not in (None, "null")
        headers = dict(self._headers)
        if is_part:
            headers["range"] = f"bytes={start}-{end - 1}"
        if not is_pinned and pin.etag is not None and _SENDABLE_ETAG.fullmatch(pin.etag):
            headers["if-match"] = pin.etag if pin.etag.startswith("W/") else f'"{pin.etag}"'
        response = await self._send("GET", key, _version_query(pin.version_id), headers)
        uri = self._uri(key)
        async with response:
            if "ETag" not in response.headers and pin.etag is not None:
                # An error that S3 ran into after it had begun to answer, or no S3 at all.
                said = await read_refusal(response)
                raise object_error(uri, said.code, said.message) if said.code else not_of_s3(uri)
            _check_is_pinned(uri, response, pin, (start, end) if is_part else None)
            await _pour(uri, response, sink, end - start, self._caller.requests.clock)

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link:
        """A URL of an object, signed unless requests are not. See `protocols.Linking`."""
        if not self._is_found:
            # Only the answer to a request tells in which region a bucket is, and what the time is.
            with suppress(NotFound, AccessDenied, ObjectChanged):
                await self.head(key, version_id=pin.version_id)
            self._is_found = True
        parameters = [] if pin.version_id is None else [("versionId", pin.version_id)]
        parameters += self._headers.items()
        ask = Ask("GET", self._bucket, self._uri(key), self._prefix_bytes + key)
        url, is_signed = await self._caller.requests.url_of(ask, parameters, expires_s)
        return Link(
            url,
            is_pinned=pin.version_id not in (None, "null"),
            access="signed" if is_signed else "anybody",
        )

    async def _send(
        self, method: str, key: Key, query: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        ask = Ask(
            method,
            self._bucket,
            self._uri(key),
            self._prefix_bytes + key,
            query,
            headers,
            object_error,
            is_streamed=method == "GET",
        )
        return await self._caller.send(ask)

    def _uri(self, key: Key) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key.decode('utf-8', 'backslashreplace')}"


def head_of(headers: Mapping[str, str], *, checksum: bool = False) -> Head:
    """What the headers of an answer tell of an object. Raises `ValueError` if they tell nothing."""
    etag, size = headers.get(_ETAG), parse_number(headers.get(_LENGTH))
    said, version_id = headers.get(_MODIFIED), headers.get(_VERSION)
    modified = None if said is None else parse_date(said)
    if etag is None or size is None or (said and modified is None):
        raise ValueError
    return Head(
        size=size,
        etag=unquoted(etag),
        version_id=None if version_id == "null" else version_id,
        last_modified=modified,
        # S3 names every class but this one.
        storage_class=headers.get(_CLASS, "STANDARD"),
        checksum=checksum_of(headers) if checksum else None,
    )


def checksum_of(headers: Mapping[str, str]) -> Checksum | None:
    """The strongest checksum that is told; one of the whole object before any of its parts' sums.

    The latter depends on where the object was cut, and cannot be compared with its bytes alone.
    """
    is_composite = headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE"
    composite: Checksum | None = None
    for algorithm in CHECKSUMS:
        text = headers.get(f"x-amz-checksum-{algorithm}")
        if not text:
            continue
        of_parts = _COMPOSITE.fullmatch(text)
        value = b64decode(of_parts[1] if of_parts else text, validate=True)
        if not of_parts and not is_composite:
            return Checksum(algorithm, value)
        composite = composite or Checksum(algorithm, value, "composite")
    return composite


def _version_query(version_id: str | None) -> str:
    return "" if version_id is None else canonical_query((("versionId", version_id),))


def _check_is_pinned(
    uri: str, response: aiohttp.ClientResponse, pin: Pin, part: tuple[int, int] | None
) -> None:
    """Raises unless the answer is of the object that is meant, and of the part that was asked."""
    etag = response.headers.get("ETag")
    if etag is not None and pin.etag not in (None, unquoted(etag)):
        raise ObjectChanged(f"{uri}: the object was written since it was listed.")
    size = parse_number(response.headers.get("Content-Length"))
    if part is not None:
        said = response.headers.get("Content-Range")
        found = parse_content_range(said)
        if response.status != HTTPStatus.PARTIAL_CONTENT or found is None or found.start is None:
            raise IndexerError(
                f"{uri}: a part of the object was asked for, and the server sent something else "
                f"({response.status}); it does not honour ranges."
            )
        if (found.start, found.end) != part:
            raise IndexerError(f"{uri}: the server sent {said}, another part than asked for.")
        size = found.size
    elif response.status != HTTPStatus.OK:
        raise not_of_s3(uri)
    if size in (None, pin.size):
        return
    if etag is None or pin.etag is None:
        raise ObjectChanged(
            f"{uri}: the object has {size:,} bytes and had {pin.size:,} when it was listed."
        )
    # The same ETag is the same object, so it is the answer that is short.
    raise StoreUnavailable(
        f"{uri}: the server sends {size:,} bytes of an object of {pin.size:,}; try again."
    )


async def _pour(
    uri: str, response: aiohttp.ClientResponse, sink: Sink, size_bytes: int, clock: Clock
) -> None:
    """Hands on a body that has so many bytes, in chunks."""
    left_bytes, window_bytes = size_bytes, 0
    window_ends_s = clock.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            data = await response.content.readany()
        except Exception as error:
            ours = foreign_error(uri, error)
            if ours is None:
                raise
            raise ours from error
        if not data:
            break
        left_bytes -= len(data)
        window_bytes += len(data)
        if left_bytes < 0:
            raise ObjectChanged(f"{uri}: the server sent more bytes than the object had.")
        arrived_s = clock.monotonic()
        if arrived_s > window_ends_s:
            if window_bytes < READ_BYTES_MIN and left_bytes:
                raise StoreUnavailable(
                    f"{uri}: the server sent {window_bytes} bytes in {REQUEST_TIMEOUT_S:g} s. "
                    f"Check the endpoint and the network."
                )
            window_bytes, window_ends_s = 0, arrived_s + REQUEST_TIMEOUT_S
        for start in range(0, len(data), HANDED_ON_BYTES_MAX):
            await sink.write(data[start : start + HANDED_ON_BYTES_MAX])
        # How long the sink takes is not the server's to answer for.
        window_ends_s += clock.monotonic() - arrived_s
    if left_bytes:
        raise StoreUnavailable(
            f"{uri}: the object's bytes ended {left_bytes:,} early on their way; try again."
        )
