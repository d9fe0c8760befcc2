"""Checksums of bytes, by the names that a user writes.

Placeholder.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

ALGORITHMS: Final = ("md5", "sha256", "crc32c", "crc64nvme", "blake3")
CHECKSUMS: Final = ("none", "store", *ALGORITHMS)


def new_hash(algorithm: str) -> Any:
    return hashlib.new(algorithm)
