"""The parameters of a listing, and the tokens by which one page leads to the next.

Invariants
  * A continuation token is opaque, wins over start-after, and belongs to the bucket, prefix and
    delimiter it was given for: any other is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from indexer.testing.synthetic_s3.errors import S3Error
from indexer.testing.synthetic_s3.paging import Mark
from indexer.testing.synthetic_s3.state import check_version_id

PAGE_KEYS_MAX = 1000
"""S3 gives no more on a page, however many are asked for."""

_TOKEN_DIGEST_BYTES = 8
_TOKEN_PAGE_BYTES = 4
_MARKER_PARAMETERS = {"ListObjects": "marker", "ListObjectVersions": "key-marker"}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters of a listing, checked."""

    operation: str
    prefix: bytes
    delimiter: bytes
    keys_max: int
    url: bool
    after: Mark | None
    """Where the page begins, whichever parameter said so."""

    token: str | None
    page_number: int
    """Counts the pages of one chain of tokens, so that each token differs from the one before."""

    start_after: bytes


def parse_query(operation: str, bucket_name: str, parameters: Mapping[str, str]) -> ListQuery:
    """Raises S3Error `InvalidArgument`."""
    encoding = parameters.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise _invalid("encoding-type", encoding, "Invalid Encoding Method specified in Request")
    prefix = parameters.get("prefix", "").encode()
    delimiter = parameters.get("delimiter", "").encode()
    token = parameters.get("continuation-token") if operation == "ListObjectsV2" else None
    page_number = 0
    start_after = b""
    after: Mark | None = None
    if operation == "ListObjectsV2":
        start_after = parameters.get("start-after", "").encode()
        after = Mark(start_after) if start_after else None
        if token is not None:
            page_number, after = _decode_token(token, bucket_name, prefix, delimiter)
    else:
        after = _parse_markers(operation, parameters)
    return ListQuery(
        operation=operation,
        prefix=prefix,
        delimiter=delimiter,
        keys_max=_parse_keys_max(parameters.get("max-keys", "")),
        url=encoding == "url",
        after=after,
        token=token,
        page_number=page_number,
        start_after=start_after,
    )


def _parse_keys_max(text: str) -> int:
    if not text:
        return PAGE_KEYS_MAX
    if not re.fullmatch(r"-?[0-9]{1,10}", text) or not 0 <= int(text) < 2**31:
        raise _invalid("max-keys", text, "max-keys must be an integer between 0 and 2147483647")
    return min(int(text), PAGE_KEYS_MAX)


def _parse_markers(operation: str, parameters: Mapping[str, str]) -> Mark | None:
    key = parameters.get(_MARKER_PARAMETERS[operation], "").encode()
    if operation == "ListObjects":
        return Mark(key) if key else None
    version_id = parameters.get("version-id-marker", "") or None
    if version_id is not None:
        if not key:
            message = "A version-id marker cannot be specified without a key marker."
            raise _invalid("version-id-marker", version_id, message)
        check_version_id(version_id)
    return Mark(key, version_id) if key else None


def next_token(bucket_name: str, query: ListQuery, last: Mark | None) -> str:
    """The token by which the page after this one is asked for."""
    key = last.key if last is not None else b""
    page_number = (query.page_number + 1).to_bytes(_TOKEN_PAGE_BYTES, "big")
    digest = _token_digest(bucket_name, query.prefix, query.delimiter)
    return b64encode(digest + page_number + key).decode()


def _decode_token(
    token: str, bucket_name: str, prefix: bytes, delimiter: bytes
) -> tuple[int, Mark | None]:
    """The number of the page that gave the token, and where that page ended."""
    try:
        raw = b64decode(token, validate=True)
    except ValueError:
        raw = b""
    digest, rest = raw[:_TOKEN_DIGEST_BYTES], raw[_TOKEN_DIGEST_BYTES:]
    if len(rest) < _TOKEN_PAGE_BYTES or digest != _token_digest(bucket_name, prefix, delimiter):
        message = "The continuation token provided is incorrect"
        raise _invalid("continuation-token", token, message)
    key = rest[_TOKEN_PAGE_BYTES:]
    return int.from_bytes(rest[:_TOKEN_PAGE_BYTES], "big"), Mark(key) if key else None


def _token_digest(bucket_name: str, prefix: bytes, delimiter: bytes) -> bytes:
    parts = (bucket_name.encode(), prefix, delimiter)
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()[
        :_TOKEN_DIGEST_BYTES
    ]


def _invalid(name: str, value: str, message: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        message=message,
        details=(("ArgumentName", name), ("ArgumentValue", value)),
    )
