"""What S3 says in a listing response, turned into columns: XML bytes in, a page out.

Invariants
  * Keys come out as the very bytes that the server names, without the source's prefix; they are
    URL-decoded only where the response itself says that they are encoded. Where they are not, a key
    that XML may have changed on its way raises.
  * A body that is cut off, that is an error, or that contradicts its own counts raises; it is never
    taken for a short listing.

The formats are those of ListObjects, ListObjectsV2 and ListObjectVersions in the Amazon S3 API
Reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import compress
from typing import Final
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import BrokenListing
from indexer.keyspace import Key
from indexer.page import Page, empty_page, make_page, pack_etags, pack_times
from indexer.stores.s3_versions import (
    Shown,
    VersionOrder,
    VersionRows,
    at,
    interleaved,
    newest,
    order_of,
)
from indexer.stores.s3_xml import TAG, Columns, Operation, read_columns

__all__ = ["Listing", "Operation", "Question", "error_in", "parse_listing"]

# Never part of valid UTF-8, so that keys joined by it can be told apart after decoding.
_SEPARATOR: Final = b"\xff"

_ERROR: Final = re.compile(
    rb"<Error>.*?<Code>([^<]*)</Code>(?:.*?<Message>([^<]*)</Message>)?", re.DOTALL
)
_V1_MARKER: Final = re.compile(rb"<(?:\w+:)?Marker\s*/?>")
_RAW_RETURN: Final = re.compile(rb"<(?:\w+:)?Key>[^<]*\r")
_REPLACEMENT: Final = "\ufffd".encode()
_NANOSECONDS: Final = pa.timestamp("ns", "UTC")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for: keys below `prefix`, for ListObjectVersions as they were at `as_of`.

    `told` is a key that is not to be told again, though it, or versions of it, may come.
    """

    operation: Operation
    prefix: bytes
    told: Key | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing response.

    `rows` are the live objects. `entries` counts all that the response lists, with old versions and
    delete markers, and `keys` are the keys of those, in order; `first` and `last` are the first and
    last key that it decides on, below the prefix. `first_is_latest` is false when the response
    begins in the middle of a key's versions. `token` continues the listing where the server keeps a
    cursor. `is_undecided` is true when it lists something and decides on no key, `is_v1` when the
    answer is one to ListObjects.
    """

    rows: Page
    entries: int
    keys: Sequence[bytes]
    first: Key | None
    last: Key | None
    first_is_latest: bool
    more: bool
    token: str | None
    is_url_encoded: bool
    is_undecided: bool
    is_v1: bool


def parse_listing(body: bytes, question: Question) -> Listing:
    """The listing in `body`, the response to `question`.

    Raises `StoreUnavailable` when the body was cut off on its way, and `BrokenListing` when it
    contradicts itself or names a key outside of the prefix.
    """
    columns, head = read_columns(body, question.operation)
    is_url_encoded = head.get(b"EncodingType") == b"url"
    keys = _keys(body, columns, question.prefix, is_url_encoded=is_url_encoded)
    if head.get(b"KeyCount", b"%d" % len(keys)) != b"%d" % len(keys):
        raise BrokenListing(f"the server says {head[b'KeyCount']!r} keys and lists {len(keys):,}")
    more = head.get(b"IsTruncated") == b"true"
    versions = question.operation == "ListObjectVersions"
    marker = _marker(head, is_url_encoded=is_url_encoded)
    if versions and keys:
        columns, keys, shown = _shown(columns, keys, question, marker, more=more)
    else:
        if keys and keys[0] == question.told:
            columns, keys = {name: column[1:] for name, column in columns.items()}, keys[1:]
        first, last = (keys[0], keys[-1]) if keys else (None, None)
        shown = Shown(None, first, last, first_is_latest=True)
    return Listing(
        rows=_page(columns, keys, shown.live),
        entries=len(keys),
        keys=keys,
        first=None if shown.first is None else Key(shown.first),
        last=None if shown.last is None else Key(shown.last),
        first_is_latest=shown.first_is_latest,
        more=more,
        token=_token(head, question, marker, keys, more=more),
        is_url_encoded=is_url_encoded,
        is_undecided=bool(columns) and shown.last is None,
        is_v1=not versions and b"KeyCount" not in head and bool(_V1_MARKER.search(body)),
    )


def parse_order(body: bytes, prefix: bytes) -> tuple[VersionOrder | None, list[bytes]]:
    """In which order a response to ListObjectVersions lists them, and its keys in that order.

    None where it does not show that. Raises what `parse_listing` raises.
    """
    columns, head = read_columns(body, "ListObjectVersions")
    is_url_encoded = head.get(b"EncodingType") == b"url"
    keys = _keys(body, columns, prefix, is_url_encoded=is_url_encoded)
    if keys and b"IsLatest" not in columns:
        return "out of order", keys
    return order_of(_version_rows(columns, keys)), keys


def error_in(body: bytes) -> tuple[str, str] | None:
    """The code and message when the body of a 200 response is an error, as S3's sometimes is."""
    if not body.rstrip().endswith(b"</Error>"):
        return None
    match = _ERROR.search(body)
    code, message = match.groups(b"") if match else (b"InternalError", b"")
    return code.decode("utf-8", "replace"), message.decode("utf-8", "replace")


def _keys(body: bytes, columns: Columns, prefix: bytes, *, is_url_encoded: bool) -> list[bytes]:
    """The keys, decoded, without the prefix, which every one of them must have."""
    keys = columns.get(b"Key", ())
    if not keys:
        return []
    joined = _SEPARATOR + _SEPARATOR.join(keys)
    if is_url_encoded:
        if b"%" in joined or b"+" in joined:
            joined = unquote_to_bytes(joined.replace(b"+", b" "))
    elif _REPLACEMENT in joined or (b"\r" in body and _RAW_RETURN.search(body)):
        raise BrokenListing(
            "the server does not URL-encode keys, and lists one with a character (U+FFFD, or a"
            " carriage return) that may stand for another one, which XML cannot hold"
        )
    if joined.count(_SEPARATOR) != len(keys):
        raise BrokenListing("the server lists a key that is not UTF-8")
    start = _SEPARATOR + prefix
    if joined.count(start) != len(keys):
        raise BrokenListing(f"the server lists keys outside of the prefix {prefix!r}")
    return joined.replace(start, _SEPARATOR).split(_SEPARATOR)[1:]


# --- cursors -------------------------------------------------------------------------------------


def _marker(head: dict[bytes, bytes], *, is_url_encoded: bool) -> bytes | None:
    """The key at which a listing goes on, where the server names one."""
    marker = head.get(b"NextKeyMarker") or head.get(b"NextMarker")
    if marker and is_url_encoded:
        marker = unquote_to_bytes(marker.replace(b"+", b" "))
    return marker or None


def _token(
    head: dict[bytes, bytes],
    question: Question,
    marker: bytes | None,
    keys: Sequence[bytes],
    *,
    more: bool,
) -> str | None:
    """The server's cursor, as text.

    In version listings that is a pair of markers, kept as JSON, with what was told of a key that
    may go on. ListObjects has none but the last key.
    """
    try:
        if question.operation == "ListObjectsV2":
            token = head.get(b"NextContinuationToken")
            return token.decode() if token else None
        if question.operation == "ListObjects":
            if marker is None and more and keys:
                marker = question.prefix + keys[-1]
            return None if marker is None else marker.decode()
        if marker is None:
            return None
        return json.dumps([marker.decode(), head.get(b"NextVersionIdMarker", b"").decode()])
    except UnicodeDecodeError as error:
        raise BrokenListing("the server goes on after a key that is not UTF-8") from error


# --- versions ------------------------------------------------------------------------------------


def _shown(
    columns: Columns,
    keys: list[bytes],
    question: Question,
    marker: bytes | None,
    *,
    more: bool,
) -> tuple[Columns, list[bytes], Shown]:
    """What a page of versions shows, and its rows, in order and without those of a key told."""
    if b"IsLatest" not in columns:
        raise BrokenListing("the server does not mark the latest versions", do_without="versions")
    rows = _version_rows(columns, keys)
    order = interleaved(rows)
    if order is not None:
        _check_interleaved(keys, question, marker, more=more)
    elif keys[0] == question.told:
        order = list(range(len(keys)))
    if order is not None:
        order = [row for row in order if keys[row] != question.told]
        columns = {name: [column[row] for row in order] for name, column in columns.items()}
        keys = [keys[row] for row in order]
        rows = _version_rows(columns, keys)
    if question.as_of is None:
        return columns, keys, newest(rows)
    moment_ns = int(pa.scalar(question.as_of, _NANOSECONDS).value)
    return columns, keys, at(moment_ns, _timed(rows, columns), more=more)


def _check_interleaved(
    keys: Sequence[bytes], question: Question, marker: bytes | None, *, more: bool
) -> None:
    """Raises `BrokenListing` where it matters that versions and marks are told apart."""
    if question.as_of is not None:
        raise BrokenListing(
            "the server lists marks of deletion apart from versions, so that which came first is"
            " not known"
        )
    end = b"" if marker is None else marker.removeprefix(question.prefix)
    if more and max(keys) > end:
        # What it tells of a part of the keys alone cannot be continued by the last one.
        raise BrokenListing("the server does not list versions in key order", do_without="versions")


def _version_rows(columns: Columns, keys: list[bytes]) -> VersionRows:
    markers = [tag == b"DeleteMarker" for tag in columns.get(TAG, ())]
    latest = [value == b"true" for value in columns.get(b"IsLatest", ())]
    return VersionRows(keys, markers, latest)


def _timed(rows: VersionRows, columns: Columns) -> VersionRows:
    """The rows with what a moment is compared with."""
    if not rows.keys:
        return rows
    try:
        times = pc.cast(pa.array(columns[b"LastModified"], pa.string()), _NANOSECONDS)
    except (KeyError, ValueError) as error:
        raise BrokenListing(f"a row of the server's listing has no time: {error}") from error
    return replace(
        rows,
        times_ns=times.cast(pa.int64()).to_pylist(),
        etags=columns.get(b"ETag", [b""] * len(rows.keys)),
    )


# --- rows ----------------------------------------------------------------------------------------


def _page(columns: Columns, keys: list[bytes], live: list[bool] | None) -> Page:
    def column(name: bytes) -> Sequence[bytes]:
        values = columns.get(name, ())
        return list(compress(values, live)) if live is not None else values

    kept = list(compress(keys, live)) if live is not None else keys
    if not kept:
        return empty_page()
    try:
        sizes = column(b"Size")
        if not all(map(bytes.isdigit, sizes)):
            raise ValueError("a size is not a number")
        arrays = {
            "path": pa.array(kept, pa.binary()),
            "size": pa.array(list(map(int, sizes)), pa.int64()),
        }
        if b"ETag" in columns:
            arrays |= pack_etags(column(b"ETag"))
            if "etag_raw" in arrays:
                arrays["etag_raw"] = _without_empty(arrays["etag_raw"])
        if b"LastModified" in columns:
            arrays["last_modified"] = pack_times(pa.array(column(b"LastModified"), pa.string()))
        for name, field in ((b"VersionId", "version_id"), (b"StorageClass", "storage_class")):
            if name in columns:
                arrays[field] = _without_empty(pa.array(column(name), pa.string()))
        return make_page(arrays)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise BrokenListing(f"a row of the server's listing cannot be read: {error}") from error


def _without_empty(texts: pa.Array) -> pa.Array:
    """The texts with nulls for empty ones: an element without text says no more than none."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
