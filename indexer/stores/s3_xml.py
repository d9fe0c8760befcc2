"""What a listing response of S3 says, as columns: XML bytes in, the text of its elements out.

Invariants
  * The fast path matches every row against the shape of the first one, and is believed only when
    it found as many rows as the body has opening tags; else lxml reads the body, in whatever order
    its elements stand.
  * Text comes out as it was meant: references are resolved, with those to control characters, which
    XML 1.0 forbids and servers write all the same.
  * A body that is too large, declares a document type or another encoding than UTF-8, or says
    something twice that is said once, raises. No entity but XML's own five is ever resolved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from indexer.errors import BrokenListing, StoreUnavailable
from indexer.limits import S3_PAGE_BYTES_MAX
from indexer.stores.headers import unquoted

if TYPE_CHECKING:
    from lxml.etree import _Element

Operation = Literal["ListObjects", "ListObjectsV2", "ListObjectVersions"]

ROW_TAGS: Final[dict[Operation, tuple[bytes, ...]]] = {
    "ListObjects": (b"Contents",),
    "ListObjectsV2": (b"Contents",),
    "ListObjectVersions": (b"Version", b"DeleteMarker"),
}
_WANTED: Final = frozenset(
    (b"Key", b"LastModified", b"ETag", b"Size", b"StorageClass", b"VersionId", b"IsLatest")
)
_SAID_ONCE: Final = frozenset(
    (b"IsTruncated", b"EncodingType", b"KeyCount", b"NextContinuationToken", b"NextMarker",
     b"NextKeyMarker", b"NextVersionIdMarker")
)  # fmt: skip
TAG: Final = b"<>"
"""Names the column that holds each row's own tag."""

_LISTING_END: Final = re.compile(rb"</(?:\w+:)?List(?:Bucket|Versions)Result>\s*$")
_ANY_ROW: Final = re.compile(rb"<(?:\w+:)?(?:Contents|Version|DeleteMarker)[\s/>]")
_TEXT_ELEMENT: Final = re.compile(rb"<(\w+)>([^<]*)</\1>")
_ROW_ELEMENT: Final = re.compile(rb"<(\w+)>(?:([^<]*)</\1>)?")
_QUOTE: Final = rb'(?:&quot;|&#34;|")'
_CHECKSUMS: Final = rb"(?:<Checksum\w+>[^<]*</Checksum\w+>)*"

_REFERENCE: Final = re.compile(rb"&(?:#([0-9]{1,7})|#x([0-9a-fA-F]{1,6})|(\w+))?(;?)")
_NAMED: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_DECLARED: Final = re.compile(rb"\s*(?:\xef\xbb\xbf)?<\?xml[^>]*?\bencoding\s*=\s*[\"']([^\"']*)")
_FORBIDDEN: Final = (b"<!DOCTYPE", b"<!ENTITY")
"""What declares entities, which may stand for gigabytes, or for other files."""
_FLAGS: Final = frozenset((b"true", b"false", b""))

_Shape = tuple[tuple[bytes, bool], ...]
Columns = dict[bytes, Sequence[bytes]]
Parsed = tuple[Columns, dict[bytes, bytes]]


def read_columns(body: bytes, operation: Operation) -> Parsed:
    """The rows of a listing by element, and what it says beside them.

    Raises `StoreUnavailable` when the body was cut off on its way, and `BrokenListing` when it is
    no listing.
    """
    if len(body) > S3_PAGE_BYTES_MAX:
        raise BrokenListing(f"the server's listing is longer than {S3_PAGE_BYTES_MAX:,} bytes")
    if not _LISTING_END.search(body, max(0, len(body) - 64)):
        raise StoreUnavailable("the server's listing was cut off on its way; try again")
    if any(word in body for word in _FORBIDDEN):
        raise BrokenListing(
            "the server's listing declares a document type, which none of S3's does"
        )
    declared = _DECLARED.match(body)
    if declared is not None and declared[1].lower() != b"utf-8":
        raise BrokenListing(f"the server's listing is not UTF-8 but {declared[1]!r}")
    columns, head = fast_columns(body, operation) or slow_columns(body, operation)
    flags = {*columns.get(b"IsLatest", ()), head.get(b"IsTruncated", b"false")}
    if not flags <= _FLAGS:
        raise BrokenListing(
            f"the server's listing has {(flags - _FLAGS).pop()!r} for true or false"
        )
    return columns, head


def resolved(text: bytes) -> bytes:
    """The text that is meant, references resolved. Raises `BrokenListing` for one that is none."""
    return _REFERENCE.sub(_meant, text) if b"&" in text else text


def _meant(reference: re.Match[bytes]) -> bytes:
    decimal, hexadecimal, name, end = reference.groups()
    try:
        if not end:
            raise ValueError
        if name:
            return _NAMED[name]
        code = int(decimal or b"") if decimal else int(hexadecimal or b"", 16)
        return (chr(code) if code else "\ud800").encode()
    except (ValueError, KeyError, OverflowError) as error:
        raise BrokenListing(f"the server's listing has {reference[0]!r}, no reference") from error


def fast_columns(body: bytes, operation: Operation) -> Parsed | None:
    """All rows by one regular expression; None where one has not the shape of the first."""
    shapes: list[tuple[bytes, _Shape]] = []
    count = 0
    start, end = len(body), 0
    for tag in ROW_TAGS[operation]:
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
    for name in columns.keys() - {b"ETag", TAG}:
        if b"&" in b"".join(columns[name]):
            columns[name] = [resolved(text) for text in columns[name]]
    return _with_head(columns, body[:start] + body[end:])


def _with_head(columns: Columns, rest: bytes) -> Parsed | None:
    """The columns with what the body says beside its rows; None where that cannot be read."""
    found = _TEXT_ELEMENT.findall(rest)
    said = [name for name, _ in found if name in _SAID_ONCE]
    if b"IsTruncated" not in said or len(set(said)) < len(said):
        return None
    return columns, {name: resolved(text) if name in _SAID_ONCE else text for name, text in found}


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
        names += [] if is_sole else [TAG]
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


def slow_columns(body: bytes, operation: Operation) -> Parsed:
    """The same by lxml, for bodies of any shape that is XML."""
    from lxml import etree

    try:
        parser = etree.XMLParser(
            resolve_entities=False, huge_tree=True, remove_comments=True, remove_pis=True
        )
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise BrokenListing(f"the server's listing is no XML: {error}") from error
    wanted = [*_WANTED, TAG]
    columns: dict[bytes, list[bytes]] = {name: [] for name in wanted}
    head: dict[bytes, bytes] = {}
    for element in root:
        name = etree.QName(element).localname.encode()
        if name not in ROW_TAGS[operation]:
            _say(head, name, element, _SAID_ONCE)
            continue
        row: dict[bytes, bytes] = {TAG: name}
        for child in element:
            _say(row, etree.QName(child).localname.encode(), child, _WANTED)
        if b"Key" not in row:
            raise BrokenListing("the server's listing has a row without a key")
        row[b"ETag"] = unquoted(row.get(b"ETag", b"").decode()).encode()
        for wish in wanted:
            columns[wish].append(row.get(wish, b""))
    return {name: values for name, values in columns.items() if any(values)}, head


def _say(said: dict[bytes, bytes], name: bytes, element: _Element, once: Collection[bytes]) -> None:
    """Notes the text of an element; one that is read has text alone and comes once."""
    if name in once and (name in said or len(element)):
        raise BrokenListing(f"the server's listing says {name.decode()} twice, or in parts")
    said[name] = (element.text or "").encode()
