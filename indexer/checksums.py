"""The checksums that the indexer can compute, by the names that a user writes.

Invariants
  * A hash takes bytes in any pieces; of the same bytes it gives the same digest.
  * The digest of a CRC are its bytes, the most significant one first, as S3 has them in base64.
  * A library is loaded with the first hash that needs it. Hashes let other threads run while they
    take long pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from indexer.errors import InvalidSetting

BYTES_PER_S: Final = {
    "md5": 600e6,
    "sha256": 1_250e6,
    "crc32c": 4_900e6,
    "crc64nvme": 3_600e6,
    "blake3": 2_300e6,
}
"""How fast one processor is at each, measured on one of 2025 that has instructions for SHA-256."""

ALGORITHMS: Final = tuple(BYTES_PER_S)

VERIFIABLE: Final = (*ALGORITHMS, "sha1", "crc32")
"""Those that bytes can be held against: stores record two that nobody needs to ask for."""

CHECKSUMS: Final = ("none", "store", *ALGORITHMS)
"""What may be asked for: nothing, what the store knows without reading, or one that is computed."""

Bytes: TypeAlias = bytes | bytearray | memoryview


class Hash(Protocol):
    """A checksum of the bytes so far."""

    def update(self, data: Bytes, /) -> object: ...

    def digest(self) -> bytes: ...


def new_hash(algorithm: str) -> Hash:
    """A hash of no bytes yet. Raises `InvalidSetting` for an algorithm that is not known."""
    match algorithm:
        case "md5":
            return hashlib.md5(usedforsecurity=False)
        case "sha256":
            return hashlib.sha256()
        case "sha1":
            return hashlib.sha1(usedforsecurity=False)
        case "crc32":
            from awscrt.checksums import crc32

            return _Crc(crc32, size_bytes=4)
        case "blake3":
            from blake3 import blake3

            return blake3()
        case "crc32c":
            from awscrt.checksums import crc32c

            return _Crc(crc32c, size_bytes=4)
        case "crc64nvme":
            from awscrt.checksums import crc64nvme

            return _Crc(crc64nvme, size_bytes=8)
    raise InvalidSetting(
        f"{algorithm!r} is no checksum that can be computed: choose one of {', '.join(ALGORITHMS)}."
    )


class _Crc:
    """A running CRC. See `Hash`."""

    def __init__(self, proceed: Callable[[Bytes, int], int], size_bytes: int) -> None:
        self._proceed = proceed
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: Bytes, /) -> None:
        self._value = self._proceed(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")
