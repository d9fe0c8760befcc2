"""What GCS says of objects and buckets, turned into columns: JSON bytes in, a page out.

Invariants
  * Names come out as the UTF-8 bytes of what the server names, without the source's prefix, which
    every one of them must have.
  * What is no JSON was garbled or cut off on its way and may come right when asked for again; JSON
    that is no listing raises `BrokenListing`. Neither is ever taken for a short listing.
  * An object is identified by its generation and a checksum of its bytes: the MD5 or, for composite
    objects, which have none, the CRC32C. ETags of GCS change with metadata, and are left out.

The formats are those of the resources Objects and Buckets in the reference of GCS's JSON API.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import BrokenListing, StoreUnavailable
from indexer.limits import GCS_PAGE_BYTES_MAX
from indexer.objects import Checksum, Head
from indexer.page import Page, empty_page, make_page, pack_times

OBJECT_FIELDS: Final = "name,size,md5Hash,crc32c,generation,updated,storageClass"
LISTING_FIELDS: Final = f"items({OBJECT_FIELDS}),nextPageToken"
VERSIONS_FIELDS: Final = f"items({OBJECT_FIELDS},timeCreated,timeDeleted),nextPageToken"
BUCKET_FIELDS: Final = "location,versioning"

_MD5_BYTES: Final = 16
_CRC32C_BYTES: Final = 4

_TEXT: Final = pa.string()
_NANOSECONDS: Final = pa.timestamp("ns", tz="UTC")


class _Object(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An object as GCS tells of it. Numbers of 64 bits come as strings."""

    name: str
    size: str
    generation: str
    updated: str | None = None
    md5_hash: str | None = None
    crc32c: str | None = None
    storage_class: str | None = None
    time_created: str | None = None
    time_deleted: str | None = None


class _Listing(msgspec.Struct, frozen=True, rename="camel"):
    items: list[_Object] = []
    next_page_token: str | None = None
    error: Any = None


class _Versioning(msgspec.Struct, frozen=True):
    enabled: bool = False


class _Bucket(msgspec.Struct, frozen=True):
    location: str | None = None
    versioning: _Versioning = _Versioning()
    error: Any = None


class _Failure(msgspec.Struct, frozen=True):
    error: Any = None


_LISTINGS: Final = msgspec.json.Decoder(_Listing)
_OBJECTS: Final = msgspec.json.Decoder(_Object)
_BUCKETS: Final = msgspec.json.Decoder(_Bucket)
_FAILURES: Final = msgspec.json.Decoder(_Failure)

_Answer = TypeVar("_Answer")


class FailedAnswer(Exception):
    """An answer of a good status tells of an error."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One response of objects.list: a row for each of its items, in their order.

    `shown` says of each row whether it was the object at the moment that was asked for; None where
    none was, as all of them are live. `token` is where the listing goes on, None at its end.
    """

    rows: Page
    shown: pa.BooleanArray | None
    token: str | None


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What a bucket is asked for."""

    location: str
    keeps_versions: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as the server words it; empty where it does not."""

    status: int
    reason: str
    message: str


def parse_listing(body: bytes, prefix: bytes, *, as_of: datetime | None = None) -> Listing:
    """The listing in `body`, of names below `prefix`.

    Raises `StoreUnavailable` for what is no JSON, `FailedAnswer` for an error and `BrokenListing`
    for what is no listing. So do all that parse here.
    """
    answer = _decoded(_LISTINGS.decode, body)
    items = answer.items
    if not items:
        return Listing(empty_page(), None, answer.next_page_token or None)
    try:
        rows = make_page(_columns(items, prefix))
        shown = None if as_of is None else _shown(items, as_of)
    except (TypeError, ValueError) as error:
        raise BrokenListing(f"a row of the server's listing cannot be read: {error}") from error
    return Listing(rows, shown, answer.next_page_token or None)


def parse_object(body: bytes) -> Head:
    """What is said of one object."""
    found = _decoded(_OBJECTS.decode, body)
    try:
        row = make_page(_columns([found], b"")).to_pylist()[0]
    except (TypeError, ValueError) as error:
        raise BrokenListing(f"what the server says of an object cannot be read: {error}") from error
    value = row.get("checksum")
    return Head(
        size=row["size"],
        version_id=row["version_id"],
        last_modified=row.get("last_modified"),
        storage_class=row.get("storage_class"),
        checksum=None if value is None else Checksum(row["checksum_algorithm"], value),
    )


def parse_bucket(body: bytes) -> BucketFacts:
    """What is said of a bucket."""
    found = _decoded(_BUCKETS.decode, body)
    return BucketFacts(found.location or "unknown", found.versioning.enabled)


def failure_in(body: bytes) -> Failure | None:
    """The error that a body tells of, whatever its status was; None where it tells of none."""
    try:
        error = _FAILURES.decode(body).error
    except (ValueError, RecursionError):
        return None
    if not isinstance(error, dict):
        return None
    details = error.get("errors")
    first = details[0] if isinstance(details, list) and details else None
    reason = first.get("reason") if isinstance(first, dict) else None
    code = error.get("code")
    return Failure(
        status=code if isinstance(code, int) else 0,
        reason=str(reason or error.get("status") or ""),
        message=str(error.get("message") or ""),
    )


def _decoded(decode: Callable[[bytes], _Answer], body: bytes) -> _Answer:
    try:
        answer = decode(body)
    except msgspec.ValidationError as error:
        if failure_in(body):
            raise FailedAnswer from error
        raise BrokenListing(f"the server's answer is not one of GCS's: {error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreUnavailable(
            f"the server's answer is no JSON ({error}), or was cut off on its way; try again"
        ) from error
    if getattr(answer, "error", None) is not None:
        raise FailedAnswer
    return answer


def _columns(items: Sequence[_Object], prefix: bytes) -> dict[str, pa.Array]:
    """The columns of a page. Raises `BrokenListing`, and ValueError for what cannot be read."""
    generations = _texts(items, "generation")
    sizes = pc.cast(_texts(items, "size"), pa.int64())
    # Names are told as they are; that they are numbers is all that is asked of generations.
    smallest = pc.min(pc.cast(generations, pa.int64())).as_py()
    if min(smallest, pc.min(sizes).as_py()) < 0:
        raise BrokenListing("the server lists an object of a negative size or generation")
    return {
        "path": _below(prefix, _texts(items, "name")),
        "size": sizes,
        "version_id": generations,
        **_checksums(items),
        "last_modified": pack_times(_texts(items, "updated")),
        "storage_class": _texts(items, "storage_class"),
    }


def _texts(items: Sequence[_Object], name: str) -> pa.Array:
    return pa.array(list(map(attrgetter(name), items)), _TEXT)


def _below(prefix: bytes, names: pa.Array) -> pa.Array:
    """The names as bytes, without the prefix, which every one of them must have."""
    paths = pc.cast(names, pa.binary())
    if not prefix:
        return paths
    if not pc.all(pc.starts_with(paths, prefix)).as_py():
        raise BrokenListing(f"the server lists keys outside of the prefix {prefix!r}")
    # Without an end it fails; no name is longer than the page that it stands on.
    return pc.binary_slice(paths, len(prefix), GCS_PAGE_BYTES_MAX)


def _shown(items: Sequence[_Object], as_of: datetime) -> pa.BooleanArray:
    """Which generations had been made at that moment, and were not yet replaced or deleted."""
    moment = pa.scalar(as_of, _NANOSECONDS)
    made = pc.less_equal(pc.cast(_texts(items, "time_created"), _NANOSECONDS), moment)
    if made.null_count:
        raise BrokenListing("the server does not say when an object was made")
    gone = pc.less_equal(pc.cast(_texts(items, "time_deleted"), _NANOSECONDS), moment)
    return pc.and_not(made, pc.fill_null(gone, fill_value=False))


def _checksums(items: Sequence[_Object]) -> dict[str, pa.Array]:
    """The strongest checksum of each object: its MD5, else its CRC32C."""
    md5s = [item.md5_hash for item in items]
    if None not in md5s:
        return {
            "checksum_algorithm": pa.repeat(pa.scalar("md5"), len(items)),
            "checksum_type": pa.repeat(pa.scalar("full_object"), len(items)),
            "checksum": _unpacked(md5s, _MD5_BYTES),
        }
    crcs = [item.crc32c for item in items]
    chosen = [md5 or crc for md5, crc in zip(md5s, crcs, strict=True)]
    algorithms = [
        "md5" if md5 else "crc32c" if crc else None for md5, crc in zip(md5s, crcs, strict=True)
    ]
    values: list[bytes | None] = [None] * len(items)
    for algorithm, size_bytes in (("md5", _MD5_BYTES), ("crc32c", _CRC32C_BYTES)):
        rows = [row for row, name in enumerate(algorithms) if name == algorithm]
        if rows:
            unpacked = _unpacked([chosen[row] for row in rows], size_bytes).to_pylist()
            for row, value in zip(rows, unpacked, strict=True):
                values[row] = value
    return {
        "checksum_algorithm": pa.array(algorithms, _TEXT),
        "checksum_type": pa.array([name and "full_object" for name in algorithms], _TEXT),
        "checksum": pa.array(values, pa.binary()),
    }


def _unpacked(texts: Sequence[str | None], size_bytes: int) -> pa.Array:
    """The bytes of base64 texts, all of `size_bytes`, decoded in one go. Raises ValueError.

    Where such a text ends in padding, `A` in its place makes it one of whole groups, so that the
    texts may be joined; each then has zero bytes at its end, which are left out again.
    """
    joined = "".join(texts)  # type: ignore[arg-type]
    group = (size_bytes + 2) // 3
    padding = group * 3 - size_bytes
    width = group * 4
    count = len(texts)
    ends = all(joined[width - end :: width] == "=" * count for end in range(1, padding + 1))
    if len(joined) != count * width or not ends or joined.count("=") != padding * count:
        raise BrokenListing(f"the server lists a checksum that has not {size_bytes} bytes")
    raw = binascii.a2b_base64(joined.replace("=", "A"), strict_mode=True)
    values = bytearray(count * size_bytes)
    for place in range(size_bytes):
        values[place::size_bytes] = raw[place :: group * 3]
    packed = pa.Array.from_buffers(pa.binary(size_bytes), count, [None, pa.py_buffer(values)])
    return pc.cast(packed, pa.binary())
