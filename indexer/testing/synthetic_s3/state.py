"""The model: buckets, keys and versions, with S3's rules for writing and deleting them.

Invariants
  * The versions of a key are kept newest first, and the first one is what a plain GET sees.
  * A key without a history of its own is a *generated* object: size, content, ETag and times
    follow from the key, so that nothing is stored for it but the key.
  * Sequence numbers grow with every write of a bucket and are the front of its version ids, so that
    even the id of a version that is gone has a place in the order.
  * A bucket that never had versioning holds at most one version a key, whose id is `null`.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from indexer.testing.synthetic_s3.blocks import Blocks
from indexer.testing.synthetic_s3.errors import S3Error

NULL_VERSION_ID = "null"

GENERATED_SIZE_BYTES_MAX = 500
GENERATED_DAY_S = 1_704_067_200
"""2024-01-01 (Unix time): generated objects were modified at some minute of this day."""

MINUTES_PER_DAY = 24 * 60
SECONDS_PER_MINUTE = 60

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_VERSION_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a key: an object, or the mark that it was deleted."""

    sequence: int
    version_id: str
    modified_s: int
    content: bytes = b""
    etag: str = ""
    checksum: tuple[str, str] | None = None
    """Algorithm (`CRC32`) and value in base64, where there is one."""

    headers: tuple[tuple[str, str], ...] = ()
    """Content-Type and the like, given back as they came."""

    is_delete_marker: bool = False


class Bucket:
    """One bucket. Whether it is versioned is `versioning`: "", "Enabled" or "Suspended"."""

    def __init__(
        self, name: str, *, created_s: int, keys: Sequence[bytes] = (), versioned: bool = False
    ) -> None:
        """`keys`, ascending strictly, are the generated objects it begins with."""
        self.name = name
        self.created_s = created_s
        self.versioning = "Enabled" if versioned else ""
        self.blocks = Blocks(keys)
        self._generated_versioned = versioned
        self._histories: dict[bytes, tuple[Version, ...]] = {}
        self._sequence = 0

    def versions(self, key: bytes) -> tuple[Version, ...]:
        """The versions of `key`, newest first; none if the key is unknown."""
        history = self._histories.get(key)
        if history is not None:
            return history
        return (self.generated(key),) if key in self.blocks else ()

    def history(self, key: bytes) -> tuple[Version, ...] | None:
        """The versions of a key of this bucket, or None if it is a generated object."""
        return self._histories.get(key)

    def generated(self, key: bytes) -> Version:
        """The one version of a generated object."""
        content = generated_content(key)
        return Version(
            sequence=0,
            version_id=self.generated_version_id(key),
            modified_s=GENERATED_DAY_S + generated_minute(key) * SECONDS_PER_MINUTE,
            content=content,
            etag=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            checksum=("CRC32", b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()),
        )

    def generated_version_id(self, key: bytes) -> str:
        return version_id(0, key) if self._generated_versioned else NULL_VERSION_ID

    def put(
        self,
        key: bytes,
        content: bytes,
        *,
        now_s: int,
        checksum: tuple[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Version:
        """Write an object; its ETag is the MD5 of the content."""
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        sequence, new_id = self._next_id(key)
        version = Version(sequence, new_id, now_s, content, etag, checksum, headers)
        self._push(key, version)
        return version

    def delete(self, key: bytes, *, now_s: int) -> Version | None:
        """Delete without a version id: the delete marker this made, if the bucket makes them."""
        if not self.versioning:
            if key in self.blocks:
                self._replace(key, ())
            return None
        sequence, new_id = self._next_id(key)
        marker = Version(sequence, new_id, now_s, is_delete_marker=True)
        self._push(key, marker)
        return marker

    def delete_version(self, key: bytes, wanted_id: str) -> Version | None:
        """Remove one version for good, and return what was removed.

        Raises S3Error `InvalidArgument` if the id cannot be one.
        """
        check_version_id(wanted_id)
        versions = self.versions(key)
        gone = next((version for version in versions if version.version_id == wanted_id), None)
        if gone is not None:
            self._replace(key, tuple(version for version in versions if version is not gone))
        return gone

    def _next_id(self, key: bytes) -> tuple[int, str]:
        self._sequence += 1
        enabled = self.versioning == "Enabled"
        return self._sequence, version_id(self._sequence, key) if enabled else NULL_VERSION_ID

    def _push(self, key: bytes, version: Version) -> None:
        """The newest version; a new null version takes the place of the old one."""
        older = self.versions(key)
        if version.version_id == NULL_VERSION_ID:
            older = tuple(one for one in older if one.version_id != NULL_VERSION_ID)
        self._replace(key, (version, *older))

    def _replace(self, key: bytes, versions: tuple[Version, ...]) -> None:
        known = key in self.blocks
        if not versions:
            self._histories.pop(key, None)
            self.blocks.remove(key)
            return
        self._histories[key] = versions
        if known:
            self.blocks.touch(key)
        else:
            self.blocks.add(key)


class Buckets:
    """All the buckets of a server, by name."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        """`now` gives Unix time in seconds."""
        self._now = now
        self._by_name: dict[str, Bucket] = {}

    def now_s(self) -> int:
        return int(self._now())

    def all(self) -> list[Bucket]:
        return [self._by_name[name] for name in sorted(self._by_name)]

    def get(self, name: str) -> Bucket:
        """Raises S3Error `NoSuchBucket`."""
        if name not in self._by_name:
            raise S3Error("NoSuchBucket", details=(("BucketName", name),))
        return self._by_name[name]

    def create(self, name: str) -> Bucket:
        """Raises S3Error `InvalidBucketName` or `BucketAlreadyOwnedByYou`."""
        if name in self._by_name:
            raise S3Error("BucketAlreadyOwnedByYou", details=(("BucketName", name),))
        return self.load(name)

    def load(self, name: str, keys: Sequence[bytes] = (), *, versioned: bool = False) -> Bucket:
        """A bucket of generated objects, in the place of one of that name if there is one."""
        if not _BUCKET_NAME.fullmatch(name):
            raise S3Error("InvalidBucketName", details=(("BucketName", name),))
        bucket = Bucket(name, created_s=self.now_s(), keys=keys, versioned=versioned)
        self._by_name[name] = bucket
        return bucket

    def remove(self, name: str) -> None:
        """Raises S3Error `NoSuchBucket` or `BucketNotEmpty`."""
        if self.get(name).blocks.key_count():
            raise S3Error("BucketNotEmpty", details=(("BucketName", name),))
        del self._by_name[name]


def generated_content(key: bytes) -> bytes:
    """What a generated object holds: its key, over and over."""
    size = 1 + zlib.crc32(key) % GENERATED_SIZE_BYTES_MAX
    return (key * (size // len(key) + 1))[:size]


def generated_minute(key: bytes) -> int:
    """The minute of `GENERATED_DAY_S` at which a generated object was modified."""
    return zlib.crc32(key) // GENERATED_SIZE_BYTES_MAX % MINUTES_PER_DAY


def version_id(sequence: int, key: bytes) -> str:
    """32 hexadecimal digits, the first half of which are the sequence number."""
    return f"{sequence:016x}{zlib.crc32(key):016x}"


def check_version_id(text: str) -> None:
    """Raises S3Error `InvalidArgument` for what can be no version id."""
    if text != NULL_VERSION_ID and not _VERSION_ID.fullmatch(text):
        raise S3Error(
            "InvalidArgument",
            message="Invalid version id specified",
            details=(("ArgumentName", "versionId"), ("ArgumentValue", text)),
        )


def sequence_of(checked_id: str) -> int:
    """The sequence number in a version id that is not `null`."""
    return int(checked_id[:16], 16)
