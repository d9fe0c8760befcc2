"""What is known of one object, and pages made of it.

Invariants
  * A `Head` lives for one request: objects that are kept are rows of pages.
  * A `Pin` is what an object must still be when its bytes are read; bytes of another state are
    never taken for its.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa

from indexer.page import Page, empty_page, make_page, pack_etags

SIZE_UNKNOWN: Final = -1
"""The size of a row whose store lists names alone; a HEAD replaces it before a row is sealed."""

ChecksumType = Literal["full_object", "composite"]


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum of an object's bytes or, if `composite`, of its parts' checksums.

    `algorithm` is in lower case, as a user writes it: md5, sha1, sha256, crc32, crc32c, crc64nvme,
    blake3.
    """

    algorithm: str
    value: bytes
    type: ChecksumType = "full_object"


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says of one object without sending its bytes. `etag` is without quotes.

    `mtime_ns` is only told by file systems. `uri` is there where it does not follow from the
    source's URI and the key.
    """

    size: int
    etag: str | None = None
    version_id: str | None = None
    last_modified: datetime | None = None
    storage_class: str | None = None
    checksum: Checksum | None = None
    mtime_ns: int | None = None
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """The state of an object that is meant; what is None was not told and is not compared.

    A version id of `null` names the version that was written while none were kept. Another may have
    taken its place, so that the rest is compared as well.
    """

    size: int
    etag: str | None = None
    version_id: str | None = None
    mtime_ns: int | None = None

    @property
    def tells_state(self) -> bool:
        """Whether more than the size tells that bytes are of the same state as others."""
        return (self.etag, self.version_id, self.mtime_ns) != (None, None, None)


def pin_of(
    size: int,
    etag: str | None,
    version_id: str | None,
    mtime_ns: int | None,
    *,
    of_moment: bool = False,
) -> Pin:
    """What an object must be of which this was recorded.

    A version id of `null` pins nothing, and asking for it takes a right that asking for the newest
    version does not; it is left out unless another one may be the newest, as in what was recorded
    `of_moment`, a moment that was past.
    """
    is_needless = version_id == "null" and not of_moment
    return Pin(size, etag, None if is_needless else version_id, mtime_ns)


def page_of_heads(rows: Iterable[tuple[bytes, Head]]) -> Page:
    """A page of objects by path, in the order given."""
    rows = list(rows)
    if not rows:
        return empty_page()
    heads = [head for _, head in rows]
    sums = [head.checksum for head in heads]
    etags = [head.etag for head in heads]
    columns = {
        "path": pa.array([path for path, _ in rows], pa.binary()),
        "size": pa.array([head.size for head in heads], pa.int64()),
        "uri": pa.array([head.uri for head in heads], pa.string()),
        "version_id": pa.array([head.version_id for head in heads], pa.string()),
        "checksum_algorithm": pa.array([one and one.algorithm for one in sums], pa.string()),
        "checksum_type": pa.array([one and one.type for one in sums], pa.string()),
        "checksum": pa.array([one and one.value for one in sums], pa.binary()),
        "mtime_ns": pa.array([head.mtime_ns for head in heads], pa.int64()),
        "last_modified": pa.array(
            [head.last_modified for head in heads], pa.timestamp("ms", tz="UTC")
        ),
        "storage_class": pa.array([head.storage_class for head in heads], pa.string()),
    }
    if any(etag is not None for etag in etags):
        columns |= pack_etags([None if etag is None else etag.encode() for etag in etags])
    return make_page(columns)
