"""The bytes of an object of GCS, as they are stored, of the very generation that is meant.

Invariants
  * What goes into the sink is what the object's checksums are of: an object stored packed comes
    packed, and what the server packed for the way alone is unpacked.
  * Not one byte more than was asked for is handed on; a body that ends early, or that is of another
    object than is meant, raises.
"""

from __future__ import annotations

import zlib
from http import HTTPStatus
from typing import Any, Final

from indexer.errors import ObjectChanged, StoreUnavailable
from indexer.limits import HANDED_ON_BYTES_MAX
from indexer.objects import Pin
from indexer.protocols import Sink
from indexer.stores.gcs_client import Body, GCSClient
from indexer.stores.headers import parse_content_range, parse_number, unquoted

_GZIP: Final = 31
"""For zlib: a gzip header, and the largest window."""


async def read_object(
    client: GCSClient, path: str, uri: str, pin: Pin, sink: Sink, *, start: int, end: int | None
) -> None:
    """Writes the bytes of an object into a sink. See `protocols.Store.read`."""
    stop = pin.size if end is None else min(end, pin.size)
    if start >= stop and pin.size:
        return
    parameters = {"alt": "media"}
    if pin.version_id is not None:
        parameters["generation"] = pin.version_id
    is_part = (start, stop) != (0, pin.size)
    headers = {"Range": f"bytes={start}-{stop - 1}"} if is_part else {}
    async with client.body(path, parameters, headers, uri=uri) as body:
        _check(body, uri, pin, start if is_part else None)
        unpacker: Any = zlib.decompressobj(_GZIP) if _is_packed_for_the_way(body) else None
        left = stop - start
        while data := await body.next():
            for part in _unpacked(unpacker, data, uri):
                left -= len(part)
                if left < 0:
                    raise StoreUnavailable(
                        f"{uri}: the server sends more bytes than the object has; try again."
                    )
                await sink.write(part)
        if left:
            raise StoreUnavailable(f"{uri}: the body ended {left:,} bytes early; try again.")


def _check(body: Body, uri: str, pin: Pin, start: int | None) -> None:
    """Raises for an answer that is not of the object, or the part, that is meant."""
    if start is not None:
        found = parse_content_range(body.headers.get("Content-Range"))
        if body.status != HTTPStatus.PARTIAL_CONTENT or found is None or found.start != start:
            raise StoreUnavailable(
                f"{uri}: the server does not send the part that was asked for; try again."
            )
        size = found.size
    else:
        size = parse_number(body.headers.get("X-Goog-Stored-Content-Length"))
        if size is None and not _is_packed_for_the_way(body):
            size = parse_number(body.headers.get("Content-Length"))
    if size not in (None, pin.size):
        if pin.version_id is not None:
            # A generation never changes: this is not the object.
            raise StoreUnavailable(
                f"{uri}: the server sends {size:,} bytes that are not the object's {pin.size:,}; "
                f"try again."
            )
        raise ObjectChanged(
            f"{uri}: the object has {size:,} bytes, not {pin.size:,} as when it was listed."
        )
    etag = unquoted(body.headers.get("ETag", ""))
    if pin.version_id is None and pin.etag not in (None, etag):
        raise ObjectChanged(f"{uri}: the object was written since it was listed.")


def _is_packed_for_the_way(body: Body) -> bool:
    """Whether an object that is not stored packed comes packed, as we say that we take that."""
    stored = body.headers.get("X-Goog-Stored-Content-Encoding", "gzip")
    return body.headers.get("Content-Encoding") == "gzip" and stored != "gzip"


def _unpacked(unpacker: Any, data: bytes, uri: str) -> list[bytes]:
    if unpacker is None:
        return [data]
    parts = []
    try:
        while data:
            parts.append(unpacker.decompress(data, HANDED_ON_BYTES_MAX))
            data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise StoreUnavailable(f"{uri}: the body was garbled on its way; try again.") from error
    return parts
