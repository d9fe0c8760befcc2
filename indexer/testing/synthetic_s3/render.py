"""XML as AWS writes it: the rows of listings, the envelopes around them, error documents.

Invariants
  * The order of elements is AWS's, quotes in ETags are `&quot;`, the document begins with the XML
    declaration and a newline.
  * With `encoding-type=url`, keys are encoded as AWS does it: `/` and `A-Za-z0-9-_.*` stay, a space
    becomes `+`, every other byte `%XX`. Then nothing in a key is special to XML.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import md5
from html import escape as escape_text
from itertools import accumulate
from time import gmtime, strftime

from indexer.testing.synthetic_s3.blocks import Block, Rows, Style
from indexer.testing.synthetic_s3.errors import S3Error
from indexer.testing.synthetic_s3.state import (
    GENERATED_DAY_S,
    MINUTES_PER_DAY,
    SECONDS_PER_MINUTE,
    Bucket,
    Version,
    generated_content,
    generated_minute,
)

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
OWNER_ID = "5f0e1d2c3b4a59687766554433221100ffeeddccbbaa99887766554433221100"

_OWNER = b"<Owner><ID>%b</ID></Owner>" % OWNER_ID.encode()
_CONTENTS = (
    b"<Contents><Key>%b</Key><LastModified>%b</LastModified><ETag>&quot;%b&quot;</ETag>%b"
    b"<Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_VERSION = (
    b"<Version><Key>%b</Key><VersionId>%b</VersionId><IsLatest>%b</IsLatest>"
    b"<LastModified>%b</LastModified><ETag>&quot;%b&quot;</ETag>%b<Size>%d</Size>"
    b"%b<StorageClass>STANDARD</StorageClass></Version>"
)
_DELETE_MARKER = (
    b"<DeleteMarker><Key>%b</Key><VersionId>%b</VersionId><IsLatest>%b</IsLatest>"
    b"<LastModified>%b</LastModified>%b</DeleteMarker>"
)
_CHECKSUM = b"<ChecksumAlgorithm>%b</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
_GENERATED_CHECKSUM = _CHECKSUM % b"CRC32"

_ENCODED = [b"%%%02X" % byte for byte in range(256)]
_ENCODED[ord(" ")] = b"+"
_NOT_URL_SAFE = re.compile(rb"[^A-Za-z0-9\-_./*]")
_NOT_XML_SAFE = re.compile(rb'[&<>"\x00-\x1f]')
_XML_NAMES = {b"&": b"&amp;", b"<": b"&lt;", b">": b"&gt;", b'"': b"&quot;"}


def url_encoded(key: bytes) -> bytes:
    """As AWS encodes it for `encoding-type=url`."""
    return _NOT_URL_SAFE.sub(lambda match: _ENCODED[match[0][0]], key)


def xml_escaped(key: bytes) -> bytes:
    """Control characters become references, which XML 1.0 forbids and S3 sends all the same."""
    return _NOT_XML_SAFE.sub(lambda match: _XML_NAMES.get(match[0]) or b"&#x%x;" % match[0][0], key)


def written(key: bytes, *, url: bool) -> bytes:
    """A key, prefix or marker as the listing's encoding wants it."""
    return url_encoded(key) if url else xml_escaped(key)


def rows_of(bucket: Bucket, block: Block, style: Style) -> Rows:
    """The rows of a block, rendered at the first call."""
    rows = block.rows.get(style)
    if rows is None:
        rendered = list(_render(bucket, block, style))
        rows = block.rows[style] = Rows(
            keys=[key for key, _ in rendered] if style.versions else _live(bucket, block),
            offsets=array("I", accumulate((len(row) for _, row in rendered), initial=0)),
            body=memoryview(b"".join(row for _, row in rendered)),
        )
    return rows


def in_order(versions: Sequence[Version], style: Style) -> Sequence[Version]:
    """The versions of one key as this style lists them."""
    return versions[::-1] if style.oldest_first else versions


def document(root: bytes, parts: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """A whole document in pieces, which are sent without being joined."""
    return [DECLARATION + b"<%b %b>" % (root, NAMESPACE), *parts, b"</%b>" % root]


def element(name: str, value: str | bytes | None) -> bytes:
    """`value` is text to escape, or bytes that are escaped already; None gives nothing at all."""
    if value is None:
        return b""
    inner = escape_text(value).encode() if isinstance(value, str) else value
    return b"<%b>%b</%b>" % (name.encode(), inner, name.encode())


def error_document(error: S3Error, *, resource: str, request_id: str) -> bytes:
    """The document that says what went wrong."""
    return b"".join(
        (
            DECLARATION,
            b"<Error>",
            element("Code", error.code),
            element("Message", error.message),
            *(element(name, value) for name, value in error.details),
            element("Resource", resource),
            element("RequestId", request_id),
            element("HostId", "synthetic"),
            b"</Error>",
        )
    )


def iso_time(time_s: int) -> str:
    """As listings write it: to the second, with zeros for the milliseconds."""
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(time_s))


def _live(bucket: Bucket, block: Block) -> Sequence[bytes]:
    """The keys that a plain listing shows.

    The block's own list where that is all of them: rows are forgotten when it changes.
    """
    hidden = {
        key
        for key in block.keys
        if (history := bucket.history(key)) is not None and history[0].is_delete_marker
    }
    return [key for key in block.keys if key not in hidden] if hidden else block.keys


def _render(bucket: Bucket, block: Block, style: Style) -> Iterator[tuple[bytes, bytes]]:
    """Each row with its key. Generated objects take the short way: millions are made at start."""
    for key in block.keys:
        name = written(key, url=style.url)
        history = bucket.history(key)
        if history is None:
            yield key, _generated_row(bucket, key, name, style)
        elif style.versions:
            for version in in_order(history, style):
                yield key, _version_row(version, name, is_latest=version is history[0])
        elif not history[0].is_delete_marker:
            yield key, _object_row(history[0], name)


def _generated_row(bucket: Bucket, key: bytes, name: bytes, style: Style) -> bytes:
    content = generated_content(key)
    etag = md5(content, usedforsecurity=False).hexdigest().encode()
    time = _GENERATED_TIMES[generated_minute(key)]
    if not style.versions:
        return _CONTENTS % (name, time, etag, _GENERATED_CHECKSUM, len(content))
    version_id = bucket.generated_version_id(key).encode()
    return _VERSION % (
        *(name, version_id, b"true", time, etag, _GENERATED_CHECKSUM, len(content)),
        _OWNER,
    )


def _object_row(version: Version, name: bytes) -> bytes:
    time = iso_time(version.modified_s).encode()
    return _CONTENTS % (
        *(name, time, version.etag.encode(), _checksum(version), len(version.content)),
    )


def _version_row(version: Version, name: bytes, *, is_latest: bool) -> bytes:
    time = iso_time(version.modified_s).encode()
    head = (name, version.version_id.encode(), b"true" if is_latest else b"false", time)
    if version.is_delete_marker:
        return _DELETE_MARKER % (*head, _OWNER)
    etag = version.etag.encode()
    return _VERSION % (*head, etag, _checksum(version), len(version.content), _OWNER)


def _checksum(version: Version) -> bytes:
    return _CHECKSUM % version.checksum[0].encode() if version.checksum else b""


_GENERATED_TIMES = [
    iso_time(GENERATED_DAY_S + minute * SECONDS_PER_MINUTE).encode()
    for minute in range(MINUTES_PER_DAY)
]
