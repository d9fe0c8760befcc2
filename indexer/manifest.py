"""Manifest: the ordered list of shards that a version is, and the root that gives it its digest.

Invariants
  * The root is canonical JSON (keys sorted, no spaces, ASCII) of the format, the cut rule, the
    sources and the shards, and of nothing else. The manifest's digest is the SHA-256 of its bytes.
  * Shards stand in key order; their `max_path`s ascend strictly.
  * What does not change what the version holds (endpoint, times, tiling, filters) is not in here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from indexer.errors import CorruptContent
from indexer.keyspace import CUT_RULE

FORMAT: Final = "indexer-manifest/1"

SHARD_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A shard by name: the digest of its rows, its last path, its rows, its objects' bytes."""

    max_path: bytes
    digest: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where entries come from: a canonical URI, and the mount below which they stand."""

    uri: str
    mount: str = ""

    @property
    def path_prefix(self) -> bytes:
        """What the paths of its entries begin with."""
        return self.mount.encode() + b"/" if self.mount else b""


@dataclass(frozen=True)
class Manifest:
    """What a version holds."""

    sources: tuple[SourceRef, ...]
    shards: tuple[ShardRef, ...]

    def __post_init__(self) -> None:
        assert all(a.max_path < b.max_path for a, b in pairwise(self.shards))

    @property
    def rows(self) -> int:
        """How many entries there are."""
        return sum(shard.rows for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """The sum of all objects' sizes."""
        return sum(shard.size_bytes for shard in self.shards)

    @cached_property
    def root(self) -> bytes:
        """The canonical bytes."""
        document = {
            "cut": CUT_RULE,
            "format": FORMAT,
            "shards": [
                {
                    "digest": shard.digest,
                    "max_path": base64.b64encode(shard.max_path).decode(),
                    "rows": shard.rows,
                    "size": shard.size_bytes,
                }
                for shard in self.shards
            ],
            "sources": [{"mount": source.mount, "uri": source.uri} for source in self.sources],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def digest(self) -> str:
        """The version's identity, as `sha256:` and 64 hexadecimal digits."""
        return "sha256:" + hashlib.sha256(self.root).hexdigest()


def read_manifest(root: bytes) -> Manifest:
    """The manifest whose root these bytes are.

    Raises `CorruptContent` when they are none, or are not written canonically.
    """
    try:
        document = json.loads(root)
        manifest = Manifest(
            sources=tuple(_read_source(source) for source in document["sources"]),
            shards=tuple(_read_shard(shard) for shard in document["shards"]),
        )
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError) as error:
        raise CorruptContent(f"this is no manifest of an artifact version: {error!r}") from error
    if manifest.root != root:
        raise CorruptContent("this manifest is of another format or is not written canonically")
    return manifest


def _read_source(document: dict[str, Any]) -> SourceRef:
    uri, mount = document["uri"], document["mount"]
    if not (isinstance(uri, str) and isinstance(mount, str)):
        raise TypeError(f"{document!r} is no source")
    return SourceRef(uri, mount)


def _read_shard(document: dict[str, Any]) -> ShardRef:
    digest, rows, size_bytes = document["digest"], document["rows"], document["size"]
    if not (SHARD_DIGEST.fullmatch(digest) and type(rows) is type(size_bytes) is int):
        raise ValueError(f"{document!r} is no shard")
    if not (rows > 0 and size_bytes >= 0):
        raise ValueError(f"{document!r} is no shard")
    max_path = base64.b64decode(document["max_path"], validate=True)
    return ShardRef(max_path, digest, rows, size_bytes)
