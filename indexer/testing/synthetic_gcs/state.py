"""The model: buckets, names and generations, by GCS's rules for writing and deleting them.

Invariants
  * The generations of a name ascend; at most the last one is live, and then has no `deleted_ms`.
  * A bucket without versioning keeps no generation that is not live.
  * Times of one bucket ascend strictly, a millisecond at least between two writes, so that a moment
    tells any two writes apart. Generations are those times in microseconds.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from base64 import b64encode
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from indexer.testing.buckets import body_of

GENERATED_MS = 1_704_067_200_000
"""2024-01-01: generated objects were made in that second."""

_CRC32C_POLYNOMIAL = 0x82F63B78


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC of bytes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a name. A composite one has no MD5."""

    created_ms: int
    content: bytes
    encoding: str = ""
    is_composite: bool = False
    deleted_ms: int | None = None

    @property
    def number(self) -> int:
        """What tells it from the others of its name."""
        return self.created_ms * 1000

    def document(self, bucket: str, key: bytes) -> dict[str, Any]:
        """All that the API tells of it."""
        created = _time(self.created_ms)
        shown: dict[str, Any] = {
            "kind": "storage#object",
            "name": key.decode(),
            "bucket": bucket,
            "generation": str(self.number),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "size": str(len(self.content)),
            "crc32c": b64encode(struct.pack(">I", crc32c(self.content))).decode(),
            "etag": b64encode(struct.pack(">Q", self.number)).decode(),
            "timeCreated": created,
            "updated": created,
        }
        if self.is_composite:
            shown["componentCount"] = 2
        else:
            md5 = hashlib.md5(self.content, usedforsecurity=False).digest()
            shown["md5Hash"] = b64encode(md5).decode()
        if self.encoding:
            shown["contentEncoding"] = self.encoding
        if self.deleted_ms is not None:
            shown["timeDeleted"] = _time(self.deleted_ms)
        return shown

    def sent(self, *, takes_gzip: bool) -> tuple[bytes, bool]:
        """The bytes that leave, and whether they were unpacked for who does not take gzip."""
        if self.encoding != "gzip" or takes_gzip:
            return self.content, False
        return gzip.decompress(self.content), True


@dataclass(slots=True)
class Bucket:
    """One bucket. `keys` ascend and have generations each, or are generated objects."""

    name: str
    versioned: bool = False
    keys: list[bytes] = field(default_factory=list)
    last_ms: int = 0
    rendered: dict[Any, Any] = field(default_factory=dict)
    """What listings have made of its generations."""

    _generations: dict[bytes, tuple[Generation, ...]] = field(default_factory=dict)

    @classmethod
    def of_keys(cls, name: str, keys: Sequence[bytes], *, versioned: bool) -> Bucket:
        """A bucket of generated objects; `keys` ascend strictly."""
        return cls(name, versioned, list(keys))

    def generations(self, key: bytes) -> tuple[Generation, ...]:
        """All generations of a name, oldest first; none of an unknown one."""
        found = self._generations.get(key)
        if found is not None:
            return found
        place = bisect_left(self.keys, key)
        if place == len(self.keys) or self.keys[place] != key:
            return ()
        made = self._generations[key] = (Generation(GENERATED_MS, body_of(key)),)
        return made

    def live(self, key: bytes) -> Generation | None:
        """The generation that a plain GET sees."""
        found = self.generations(key)
        return found[-1] if found and found[-1].deleted_ms is None else None

    def put(
        self,
        key: bytes,
        content: bytes,
        now_ms: int,
        *,
        encoding: str = "",
        is_composite: bool = False,
    ) -> Generation:
        """Writes an object; the one before it is kept if the bucket is versioned."""
        now_ms = self._tick(now_ms)
        kept = self._closed(key, now_ms)
        made = Generation(now_ms, content, encoding, is_composite)
        if not self.generations(key):
            insort(self.keys, key)
        self._generations[key] = (*kept, made)
        return made

    def delete(self, key: bytes, now_ms: int) -> None:
        """Deletes the live object of a name that has one."""
        kept = self._closed(key, self._tick(now_ms))
        self._generations[key] = kept
        if not kept:
            del self._generations[key]
            del self.keys[bisect_left(self.keys, key)]

    def _tick(self, now_ms: int) -> int:
        self.last_ms = max(now_ms, self.last_ms + 1)
        return self.last_ms

    def _closed(self, key: bytes, now_ms: int) -> tuple[Generation, ...]:
        """What is kept of a name whose live object ends now."""
        found = self.generations(key)
        if not found or found[-1].deleted_ms is not None:
            return found
        return (
            (*found[:-1], replace(found[-1], deleted_ms=now_ms)) if self.versioned else found[:-1]
        )


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
