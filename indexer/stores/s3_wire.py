"""What S3 says in a listing response, turned into columns: XML bytes in, a page out.

Invariants
  * Keys come out as the very bytes that the server names, without the source's prefix; they are
    URL-decoded only where the response itself says that they are encoded.
  * The fast path matches every row against the shape of the first one, and is believed only when
    it found as many rows as the body has opening tags; else lxml reads the body, in whatever order
    its elements stand.
  * A body that is cut off, that is an error, or that contradicts its own counts raises; it is never
    taken for a short listing.

The formats are those of ListObjectsV2 and ListObjectVersions in the Amazon S3 API Reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from itertools import compress
from operator import gt, ne
from typing import Final, Literal
from urllib.parse import unquote_plus, unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import BrokenListing, StoreUnavailable
from indexer.keyspace import Key
from indexer.page import Page, empty_page, make_page, pack_etags

Operation = Literal["ListObjectsV2", "ListObjectVersions"]

# Never part of valid UTF-8, so that keys joined by it can be told apart after decoding.
_SEPARATOR: Final = b"\xff"

_ROW_TAGS: Final[dict[Operation, tuple[bytes, ...]]] = {
    "ListObjectsV2": (b"Contents",),
    "ListObjectVersions": (b"Version", b"DeleteMarker"),
}
_WANTED: Final = frozenset(
    (b"Key", b"LastModified", b"ETag", b"Size", b"StorageClass", b"VersionId", b"IsLatest")
)
_ESCAPED: Final = (b"Key", b"VersionId", b"StorageClass")
"""Columns whose text is taken as it stands, so that it must hold no entity."""
_TAG: Final = b"<>"  # names the column that holds each row's own tag
_LISTING_END: Final = re.compile(rb"</(?:\w+:)?List(?:Bucket|Versions)Result>\s*$")
_ERROR: Final = re.compile(
    rb"<Error>.*?<Code>([^<]*)</Code>(?:.*?<Message>([^<]*)</Message>)?", re.DOTALL
)
_ANY_ROW: Final = re.compile(rb"<(?:\w+:)?(?:Contents|Version|DeleteMarker)[\s/>]")
_TEXT_ELEMENT: Final = re.compile(rb"<(\w+)>([^<]*)</\1>")
_ROW_ELEMENT: Final = re.compile(rb"<(\w+)>(?:([^<]*)</\1>)?")
_QUOTE: Final = rb'(?:&quot;|&#34;|")'
_CHECKSUMS: Final = rb"(?:<Checksum\w+>[^<]*</Checksum\w+>)*"

_Shape = tuple[tuple[bytes, bool], ...]
_Columns = dict[bytes, Sequence[bytes]]
_Parsed = tuple[_Columns, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing response.

    `rows` are the live objects. `entries` counts all that the response lists, with old versions and
    delete markers; `first` and `last` are the first and last key among those, below the prefix.
    `first_is_latest` is false when the response begins in the middle of a key's versions. `token`
    continues the listing where the server keeps a cursor.
    """

    rows: Page
    entries: int
    first: Key | None
    last: Key | None
    first_is_latest: bool
    more: bool
    token: str | None
    is_url_encoded: bool


def parse_listing(body: bytes, operation: Operation, prefix: bytes) -> Listing:
    """The listing in `body`, the response to `operation` for keys below `prefix`.

    Raises `StoreUnavailable` when the body was cut off on its way, and `BrokenListing` when it
    contradicts itself or names a key outside of `prefix`.
    """
    if not _LISTING_END.search(body, len(body) - 64):
        raise StoreUnavailable("the server's listing was cut off on its way; try again")
    columns, head = _fast_columns(body, operation) or _slow_columns(body, operation)
    is_url_encoded = head.get(b"EncodingType") == b"url"
    keys = _below(prefix, columns.get(b"Key", ()), is_url_encoded=is_url_encoded)
    if head.get(b"KeyCount", b"%d" % len(keys)) != b"%d" % len(keys):
        raise BrokenListing(f"the server says {head[b'KeyCount']!r} keys and lists {len(keys):,}")
    versions = operation == "ListObjectVersions"
    live = _live_rows(columns, keys) if versions and keys else None
    return Listing(
        rows=_page(columns, keys, live),
        entries=len(keys),
        first=Key(keys[0]) if keys else None,
        last=Key(keys[-1]) if keys else None,
        first_is_latest=not (versions and keys) or columns[b"IsLatest"][0] == b"true",
        more=head.get(b"IsTruncated") == b"true",
        token=_token(head, is_url_encoded=is_url_encoded),
        is_url_encoded=is_url_encoded,
    )


def _token(head: dict[bytes, bytes], *, is_url_encoded: bool) -> str | None:
    """The server's cursor. In version listings that is a pair of markers, kept as JSON."""
    try:
        if continuation := head.get(b"NextContinuationToken"):
            return unescape(continuation.decode())
        if marker := head.get(b"NextKeyMarker"):
            key = unescape(marker.decode())
            key = unquote_plus(key, errors="strict") if is_url_encoded else key
            return json.dumps([key, unescape(head.get(b"NextVersionIdMarker", b"").decode())])
    except UnicodeDecodeError as error:
        raise BrokenListing("the server goes on after a key that is not UTF-8") from error
    return None


def unquoted(etag: str) -> str:
    """An ETag without its outer quotes; a weak one (`W/"…"`) keeps them."""
    is_quoted = len(etag) > 1 and etag.startswith('"') and etag.endswith('"')
    return etag[1:-1] if is_quoted else etag


def error_in(body: bytes) -> tuple[str, str] | None:
    """The code and message when the body of a 200 response is an error, as S3's sometimes is."""
    if not body.rstrip().endswith(b"</Error>"):
        return None
    match = _ERROR.search(body)
    code, message = match.groups(b"") if match else (b"InternalError", b"")
    return code.decode("utf-8", "replace"), message.decode("utf-8", "replace")


def _fast_columns(body: bytes, operation: Operation) -> _Parsed | None:
    """All rows by one regular expression; None where one has not the shape of the first."""
    shapes: list[tuple[bytes, _Shape]] = []
    count = 0
    start, end = len(body), 0
    for tag in _ROW_TAGS[operation]:
        opening, closing = b"<" + tag + b">", b"</" + tag + b">"
        opened = body.count(opening)
        if opened != body.count(closing):
            return None
        first = body.find(opening)
        if first < 0:
            continue
        last = body.rfind(closing)
        shape = _shape(body[first + len(opening) : body.find(closing, first)])
        if shape is None:
            return None
        shapes.append((tag, shape))
        count += opened
        start, end = min(start, first), max(end, last + len(closing))
    if not shapes:
        # What a page without rows echoes of the request need not even be XML.
        return None if _ANY_ROW.search(body) else _with_head({}, body)
    pattern, names = _row_pattern(tuple(shapes))
    rows = pattern.findall(body, start, end)
    if len(rows) != count:
        return None
    columns: dict[bytes, Sequence[bytes]] = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        # A row that matched one of two shapes is empty in the groups of the other.
        before = columns.get(name)
        columns[name] = [a or b for a, b in zip(before, values, strict=True)] if before else values
    if any(b"&" in b"".join(columns.get(name, ())) for name in _ESCAPED):
        return None
    return _with_head(columns, body[:start] + body[end:])


def _with_head(columns: _Columns, rest: bytes) -> _Parsed | None:
    """The columns with what the body says beside its rows; None where that cannot be read."""
    head = dict(_TEXT_ELEMENT.findall(rest))
    return (columns, head) if b"IsTruncated" in head else None


def _shape(row: bytes) -> _Shape | None:
    """The elements of a row in order, each with whether it holds text alone; None if unreadable."""
    shape: list[tuple[bytes, bool]] = []
    at = 0
    while at < len(row):
        match = _ROW_ELEMENT.match(row, at)
        if match is None:
            return None
        name, text = match.group(1, 2)
        if text is not None:
            at = match.end()
        elif name in _WANTED:
            return None
        else:
            closing = b"</" + name + b">"
            at = row.find(closing, at) + len(closing)
            if at < len(closing):
                return None
        if not name.startswith(b"Checksum"):
            shape.append((name, text is not None))
    names = [name for name, _ in shape]
    return tuple(shape) if b"Key" in names and len(set(names)) == len(names) else None


@lru_cache(maxsize=32)
def _row_pattern(shapes: tuple[tuple[bytes, _Shape], ...]) -> tuple[re.Pattern[bytes], list[bytes]]:
    """The expression for rows of the given shapes, and the element that each group is of."""
    alternatives: list[bytes] = []
    names: list[bytes] = []
    for tag, shape in shapes:
        # What only one kind of row can be need not be asked of every row.
        is_sole = tag == b"Contents"
        parts = [b"<%b>" % tag if is_sole else b"<(%b)>" % tag]
        names += [] if is_sole else [_TAG]
        for name, is_text in shape:
            if not is_text:
                content = b"<%b>.*?</%b>" % (name, name)
            elif name == b"ETag":
                content = b'<ETag>%b([^<&"]*)%b</ETag>' % (_QUOTE, _QUOTE)
            else:
                value = b"([^<]*)" if name in _WANTED else b"[^<]*"
                content = b"<%b>%b</%b>" % (name, value, name)
            if name in _WANTED:
                names.append(name)
            parts.append(content)
            if name == b"ETag":
                # Where S3 names checksum algorithms, it does so for some rows and not for others.
                parts.append(_CHECKSUMS)
        parts.append(b"</" + tag + b">")
        alternatives.append(b"".join(parts))
    return re.compile(b"|".join(alternatives), re.DOTALL), names


def _slow_columns(body: bytes, operation: Operation) -> _Parsed:
    """The same by lxml, for bodies of any shape that is XML."""
    from lxml import etree

    try:
        parser = etree.XMLParser(
            resolve_entities=False, huge_tree=True, remove_comments=True, remove_pis=True
        )
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise BrokenListing(f"the server's listing is no XML: {error}") from error
    wanted = [*_WANTED, _TAG]
    columns: dict[bytes, list[bytes]] = {name: [] for name in wanted}
    head: dict[bytes, bytes] = {}
    for element in root:
        name = etree.QName(element).localname.encode()
        if name not in _ROW_TAGS[operation]:
            head[name] = (element.text or "").encode()
            continue
        row = {etree.QName(child).localname.encode(): child.text or "" for child in element}
        if b"Key" not in row:
            raise BrokenListing("the server's listing has a row without a key")
        row[_TAG] = name.decode()
        row[b"ETag"] = unquoted(row.get(b"ETag", ""))
        for wish in wanted:
            columns[wish].append(row.get(wish, "").encode())
    return {name: values for name, values in columns.items() if any(values)}, head


def _below(prefix: bytes, keys: Sequence[bytes], *, is_url_encoded: bool) -> list[bytes]:
    """The keys, decoded, without the prefix, which every one of them must have."""
    if not keys:
        return []
    joined = _SEPARATOR + _SEPARATOR.join(keys)
    if is_url_encoded and (b"%" in joined or b"+" in joined):
        joined = unquote_to_bytes(joined.replace(b"+", b" "))
    if joined.count(_SEPARATOR) != len(keys):
        raise BrokenListing("the server lists a key that is not UTF-8")
    start = _SEPARATOR + prefix
    if joined.count(start) != len(keys):
        raise BrokenListing(f"the server lists keys outside of the prefix {prefix!r}")
    return joined.replace(start, _SEPARATOR).split(_SEPARATOR)[1:]


def _live_rows(columns: _Columns, keys: list[bytes]) -> list[bool] | None:
    """Which rows of a version listing are live objects; None where all are.

    Raises `BrokenListing` when a key's first version is not its latest one (some servers list the
    oldest first), but for the page's first key, which may go on from the page before; and when keys
    descend (some servers list delete markers apart).
    """
    if b"IsLatest" not in columns or any(map(gt, keys, keys[1:])):
        raise BrokenListing(
            "the server does not list versions in key order, the latest marked",
            do_without="versions",
        )
    latest = [value == b"true" for value in columns[b"IsLatest"]]
    is_new_key = [True, *map(ne, keys, keys[1:])]
    if not all(latest[row] for row in compress(range(1, len(keys)), is_new_key[1:])):
        raise BrokenListing(
            "the server does not list the newest version of a key first", do_without="versions"
        )
    tags = columns[_TAG]
    live = [is_latest and tag == b"Version" for is_latest, tag in zip(latest, tags, strict=True)]
    return None if all(live) else live


def _page(columns: _Columns, keys: list[bytes], live: list[bool] | None) -> Page:
    def column(name: bytes) -> Sequence[bytes]:
        values = columns.get(name, ())
        return list(compress(values, live)) if live is not None else values

    kept = list(compress(keys, live)) if live is not None else keys
    if not kept:
        return empty_page()
    try:
        sizes = pa.array(list(map(int, column(b"Size"))), pa.int64())
        arrays = {"path": pa.array(kept, pa.binary()), "size": sizes}
        if b"ETag" in columns:
            arrays |= pack_etags(column(b"ETag"))
            if "etag_raw" in arrays:
                arrays["etag_raw"] = _without_empty(arrays["etag_raw"])
        if b"LastModified" in columns:
            arrays["last_modified"] = _timestamps(column(b"LastModified"))
        for name, field in ((b"VersionId", "version_id"), (b"StorageClass", "storage_class")):
            if name in columns:
                arrays[field] = _without_empty(pa.array(column(name), pa.string()))
        return make_page(arrays)
    except (ValueError, KeyError, pa.ArrowInvalid) as error:
        raise BrokenListing(f"a row of the server's listing cannot be read: {error}") from error


def _without_empty(texts: pa.Array) -> pa.Array:
    """The texts with nulls for empty ones: an element without text says no more than none."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _timestamps(texts: Sequence[bytes]) -> pa.Array:
    strings = pa.array(texts, pa.string())
    try:
        return pc.cast(strings, pa.timestamp("ms", tz="UTC"))
    except pa.ArrowInvalid:
        # Finer than milliseconds: what is below them is cut off.
        fine = pc.cast(strings, pa.timestamp("ns", tz="UTC"))
        return pc.cast(fine, pa.timestamp("ms", tz="UTC"), safe=False)
