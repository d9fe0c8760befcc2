"""sameness: by what it is told that bytes fetched before are those of an entry.

Invariants
  * Equal keys mean equal bytes: by a cryptographic hash, or by the same URI in the same state.
    A CRC tells damage and no identity: of a million objects of one size, a hundred share a CRC32C.
  * What nothing but the size is known of is the same as nothing.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from indexer.artifact.originals import Original
from indexer.checksums import VERIFIABLE
from indexer.objects import Checksum
from indexer.texts import path_bytes

_IDENTIFYING: Final = frozenset(("md5", "sha1", "sha256", "blake3"))
_MD5: Final = re.compile(r"[0-9a-f]{32}")


def content_key(original: Original, uri: str) -> bytes | None:
    """What two entries have in common if their bytes are the same; None if nothing would tell."""
    pin, checksum = original.pin, original.checksum
    if _identifies(checksum):
        assert checksum is not None
        return _key("sum", checksum.algorithm, checksum.value.hex(), str(pin.size))
    state = _state_of(original)
    if state is None:
        return None
    told = "" if checksum is None else f"{checksum.algorithm} {checksum.value.hex()}"
    return _key("object", uri, *state, told, str(pin.size))


def is_lasting(original: Original) -> bool:
    """Whether the same key will mean the same bytes wherever it is met again.

    Times and weak ETags are good for telling that a file was not touched, in one place.
    """
    etag = original.pin.etag
    is_strong = etag is not None and not etag.startswith("W/")
    return _identifies(original.checksum) or _is_pinned(original) or is_strong


def verifiable(original: Original) -> Checksum | None:
    """The checksum that the object's bytes can be held against."""
    checksum = original.checksum
    if checksum is None or checksum.type != "full_object" or checksum.algorithm not in VERIFIABLE:
        return None
    return checksum


def provable(original: Original) -> Checksum | None:
    """A checksum that proves that a file has the object's bytes if it has it.

    An ETag that looks like an MD5 is most often one. Where it is not, no file has it for its MD5:
    that a file has another one proves nothing, and that it has it, everything.
    """
    checksum = verifiable(original)
    if checksum is not None:
        return checksum
    etag = original.pin.etag
    if etag is not None and _MD5.fullmatch(etag):
        return Checksum("md5", bytes.fromhex(etag))
    return None


def _identifies(checksum: Checksum | None) -> bool:
    if checksum is None or checksum.type != "full_object":
        return False
    return checksum.algorithm in _IDENTIFYING


def _is_pinned(original: Original) -> bool:
    return original.pin.version_id not in (None, "null")


def _state_of(original: Original) -> tuple[str, str] | None:
    pin = original.pin
    if _is_pinned(original):
        return "version", str(pin.version_id)
    if pin.etag is not None:
        return "etag", pin.etag
    if pin.mtime_ns is not None:
        return "mtime", str(pin.mtime_ns)
    if verifiable(original) is not None:
        return "bytes", ""
    return None


def _key(*words: str) -> bytes:
    data = b"\0".join(path_bytes(word) for word in words)
    return blake2b(data, digest_size=32).digest()
