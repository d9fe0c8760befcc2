"""One object of a web server: what is said of it, and its bytes.

Invariants
  * An object is told apart by its ETag; without one by its size and modification time, without
    that too by its size alone. A weak ETag is kept with the `W/"…"` around it, as it is another
    promise than that of the same bytes.
  * Bytes are only handed on of an object that is still the one meant: the server is asked for that,
    and what it says of the object is compared all the same, as many servers know no conditions.
  * Where a server ignores that a part was asked for, its answer is skipped up to there: slow, and
    right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from indexer.errors import IndexerError, NoSuchObject, ObjectChanged, StoreUnavailable
from indexer.limits import HTTP_CHUNK_BYTES, SIZE_BYTES_MAX
from indexer.objects import Head, Pin
from indexer.protocols import Sink
from indexer.stores.headers import ContentRange, parse_content_range, parse_date, unquoted
from indexer.stores.http_client import Answer, HTTPClient, shown

_HEAD_REFUSED: Final = frozenset((HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED))
_PARTS: Final = frozenset((HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE))

_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Grades:
    """By what the objects of a source are told apart."""

    by_etag: int = 0
    by_time: int = 0
    by_size: int = 0

    def count(self, head: Head) -> None:
        """Counts an object."""
        if head.etag is not None:
            self.by_etag += 1
        elif head.mtime_ns is not None:
            self.by_time += 1
        else:
            self.by_size += 1

    def notices(self) -> tuple[str, ...]:
        """What a user must know of them, in sentences."""
        total = self.by_etag + self.by_time + self.by_size
        notices = []
        if self.by_time:
            notices.append(
                f"{self.by_time:,} of {total:,} objects have no ETag; they are told apart by size "
                f"and modification time."
            )
        if self.by_size:
            notices.append(
                f"{self.by_size:,} of {total:,} objects have neither ETag nor Last-Modified; they "
                f"are told apart by size alone."
            )
        return tuple(notices)


async def head_url(client: HTTPClient, url: str, *, uri: str | None = None) -> Head:
    """What the server says of the object at a URL. Raises `NoSuchObject` for a folder too."""
    async with client.request("HEAD", url, expected=_HEAD_REFUSED | {HTTPStatus.OK}) as answer:
        _check_no_folder(url, answer)
        if answer.status == HTTPStatus.OK and (size := answer.content_length) is not None:
            return _head(answer, size, uri)
    # Refused, or without a size, as Apache does it for empty files: a GET that is not read tells.
    async with client.request(
        "GET", url, headers={"Range": "bytes=0-0"}, expected=_PARTS | {HTTPStatus.OK}
    ) as answer:
        _check_no_folder(url, answer)
        size = answer.content_length if answer.status == HTTPStatus.OK else _range(answer).size
        if size is None:
            raise IndexerError(
                f"{shown(url)}: the server does not say how large it is, neither to HEAD nor to "
                f"GET. Leave it out with --exclude, or let the server send Content-Length."
            )
        return _head(answer, size, uri)


async def read_url(
    client: HTTPClient, url: str, pin: Pin, sink: Sink, *, start: int, end: int | None
) -> None:
    """Writes bytes of the object at a URL into a sink. See `protocols.Store.read`."""
    end = pin.size if end is None else min(end, pin.size)
    if start >= end > 0:
        return
    headers, expected = _conditions(pin), frozenset((HTTPStatus.OK,))
    if start or end < pin.size:
        headers["Range"] = f"bytes={start}-{end - 1}"
        expected |= _PARTS
    async with client.request("GET", url, headers=headers, expected=expected) as answer:
        _check_no_folder(url, answer)
        position = _begin(answer, pin, start, end)
        while position < end:
            chunk = await client.read(answer, min(HTTP_CHUNK_BYTES, end - position))
            if not chunk:
                raise StoreUnavailable(f"{shown(url)} ended after {position:,} of {end:,} bytes.")
            wanted = chunk[max(0, start - position) :]
            position += len(chunk)
            if wanted:
                await sink.write(wanted)
        if answer.content_length is None and end == pin.size and await client.read(answer, 1):
            raise ObjectChanged(f"{shown(url)} is longer than it was when it was listed.")


def _begin(answer: Answer, pin: Pin, start: int, end: int) -> int:
    """Where in the object the body begins, which is of the state of the pin."""
    url = shown(answer.url)
    _check_unchanged(answer, pin)
    if answer.status == HTTPStatus.OK:
        if answer.content_length not in (None, pin.size):
            raise ObjectChanged(
                f"{url} has {answer.content_length:,} bytes now, and had {pin.size:,}."
            )
        return 0
    told = _range(answer)
    if told.size not in (None, pin.size):
        raise ObjectChanged(f"{url} has {told.size:,} bytes now, and had {pin.size:,}.")
    if (told.start, told.end) != (start, end):
        raise StoreUnavailable(
            f"{url}: the server sent other bytes than {start:,} to {end - 1:,}, which it was "
            f"asked for."
        )
    return start


def _check_unchanged(answer: Answer, pin: Pin) -> None:
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return  # of the object it need tell nothing but the size
    url = shown(answer.url)
    if pin.etag is not None:
        etag = _etag(answer)
        if etag is None or _opaque(etag) != _opaque(pin.etag):
            raise ObjectChanged(f"{url} has another ETag than when it was listed.")
    elif pin.mtime_ns is not None and pin.mtime_ns != _mtime_ns(_modified(answer)):
        raise ObjectChanged(f"{url} has another modification time than when it was listed.")


def _conditions(pin: Pin) -> dict[str, str]:
    """The headers that ask for the object in the state of the pin alone."""
    if pin.etag is not None:
        # By RFC 9110, section 13.1.1, a weak ETag matches nothing.
        is_strong = pin.etag == _opaque(pin.etag) and pin.etag.isascii()
        return {"If-Match": f'"{pin.etag}"'} if is_strong else {}
    if pin.mtime_ns is not None:
        modified = datetime.fromtimestamp(pin.mtime_ns // _NS, UTC)
        return {"If-Unmodified-Since": format_datetime(modified, usegmt=True)}
    return {}


def _head(answer: Answer, size: int, uri: str | None) -> Head:
    etag, modified = _etag(answer), _modified(answer)
    return Head(
        size=size,
        etag=etag,
        last_modified=modified,
        mtime_ns=_mtime_ns(modified) if etag is None else None,
        uri=uri,
    )


def _check_no_folder(url: str, answer: Answer) -> None:
    asked, answered = urlsplit(url).path, urlsplit(answer.url).path
    if answered.endswith("/") and not asked.endswith("/"):
        raise NoSuchObject(f"{shown(url)} is a folder.")


def _etag(answer: Answer) -> str | None:
    """The ETag: without quotes if it is a strong one, as it came if it is weak."""
    said = answer.header("ETag")
    if not said:
        return None
    # Bytes that are no ASCII mean nothing; each is a character, so that they can be kept.
    said = said.encode("utf-8", "surrogateescape").decode("latin-1")
    return unquoted(said) or None


def _opaque(etag: str) -> str:
    """What two ETags have in common if they are of one state, be one of them weak."""
    return etag[3:-1] if etag.startswith('W/"') and etag.endswith('"') else etag


def _modified(answer: Answer) -> datetime | None:
    modified = parse_date(answer.header("Last-Modified"))
    # Times that nanoseconds in 64 bits cannot tell are none of a file's.
    if modified is None or abs(modified.timestamp()) > SIZE_BYTES_MAX // _NS:
        return None
    return modified


def _mtime_ns(modified: datetime | None) -> int | None:
    return None if modified is None else int(modified.timestamp()) * _NS


def _range(answer: Answer) -> ContentRange:
    """The part that the body is of, and the object's size, as far as they are told."""
    return parse_content_range(answer.header("Content-Range")) or ContentRange(None, None, None)
