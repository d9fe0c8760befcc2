"""Manifests: canonical bytes, what the digest depends on, and roots that are refused."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import CorruptContent
from indexer.keyspace import CUT_RULE
from indexer.manifest import FORMAT, Manifest, ShardRef, SourceRef, read_manifest

shards = st.builds(
    ShardRef,
    max_path=st.binary(max_size=20),
    digest=st.binary(min_size=32, max_size=32).map(bytes.hex),
    rows=st.integers(1, 2**40),
    size_bytes=st.integers(0, 2**80),
)
sources = st.builds(SourceRef, uri=st.text(), mount=st.text())
manifests = st.builds(
    Manifest,
    st.lists(sources, min_size=1, max_size=3).map(tuple),
    st.lists(shards, max_size=5, unique_by=lambda shard: shard.max_path).map(
        lambda found: tuple(sorted(found, key=lambda shard: shard.max_path))
    ),
)

SHARD = ShardRef(b"a/\xff", "ab" * 32, rows=2, size_bytes=3)
MANIFEST = Manifest((SourceRef("s3://bucket/\u00e9/"),), (SHARD,))


def test_the_root_is_canonical_json_and_the_digest_its_sha256() -> None:
    written = (
        '{"cut":"xxh3_64/14-2/65536","format":"indexer-manifest/1","shards":[{"digest":"'
        + "ab" * 32
        + '","max_path":"YS//","rows":2,"size":3}],"sources":[{"mount":"","uri":"s3://bucket/\\u00e9/"}]}'
    ).encode()
    assert MANIFEST.root == written
    assert MANIFEST.digest == "sha256:" + hashlib.sha256(written).hexdigest()
    assert (MANIFEST.rows, MANIFEST.size_bytes) == (2, 3)


@given(manifests)
def test_a_root_is_read_as_what_it_was_written_from(manifest: Manifest) -> None:
    assert read_manifest(manifest.root) == manifest
    assert manifest.root.isascii()
    assert manifest.rows == sum(shard.rows for shard in manifest.shards)
    assert manifest.size_bytes == sum(shard.size_bytes for shard in manifest.shards)


@given(manifests, manifests)
def test_digests_are_equal_where_manifests_are(one: Manifest, other: Manifest) -> None:
    assert (one.digest == other.digest) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        Manifest((SourceRef("s3://bucket/e/"),), (SHARD,)),
        Manifest((SourceRef("s3://bucket/\u00e9/", "mount"),), (SHARD,)),
        Manifest((*MANIFEST.sources, *MANIFEST.sources), (SHARD,)),
        Manifest(MANIFEST.sources, ()),
        Manifest(MANIFEST.sources, (replace(SHARD, max_path=b"a/\xfe"),)),
        Manifest(MANIFEST.sources, (replace(SHARD, digest="ac" * 32),)),
        Manifest(MANIFEST.sources, (replace(SHARD, rows=1),)),
        Manifest(MANIFEST.sources, (replace(SHARD, size_bytes=4),)),
    ],
)
def test_every_part_of_a_manifest_moves_its_digest(other: Manifest) -> None:
    assert other.digest != MANIFEST.digest


@pytest.mark.parametrize("max_paths", [(b"b", b"a"), (b"a", b"a")])
def test_shards_stand_in_key_order(max_paths: tuple[bytes, bytes]) -> None:
    out_of_order = tuple(replace(SHARD, max_path=path) for path in max_paths)
    with pytest.raises(AssertionError):
        Manifest(MANIFEST.sources, out_of_order)
    with pytest.raises(CorruptContent):
        read_manifest(_root(shards=[_document(shard) for shard in out_of_order]))


def _document(shard: ShardRef) -> dict[str, Any]:
    return {
        "digest": shard.digest,
        "max_path": base64.b64encode(shard.max_path).decode(),
        "rows": shard.rows,
        "size": shard.size_bytes,
    }


def _root(**changes: Any) -> bytes:
    """The root of `MANIFEST`, written canonically, with other fields."""
    document = {
        "cut": CUT_RULE,
        "format": FORMAT,
        "shards": [_document(SHARD)],
        "sources": [{"mount": "", "uri": "s3://bucket/\u00e9/"}],
    } | changes
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _root_with_shard(**changes: Any) -> bytes:
    return _root(shards=[_document(SHARD) | changes])


def test_the_samples_below_are_refused_for_their_changes_alone() -> None:
    assert read_manifest(_root()) == MANIFEST
    assert read_manifest(_root_with_shard(rows=7)).rows == 7


@pytest.mark.parametrize(
    "root",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        _root()[:-1],
        _root() + b" ",
        _root() + b"\n",
        _root().replace(b":", b": ", 1),
        _root().replace(b"\\u00e9", "\u00e9".encode()),
        _root().replace(b"\\u00e9", b"\\u00E9"),
        json.dumps(json.loads(_root()), separators=(",", ":"), sort_keys=True, indent=1).encode(),
        json.dumps(dict(reversed(json.loads(_root()).items())), separators=(",", ":")).encode(),
        _root(more=1),
        _root(cut="xxh3_64/16-2/65536"),
        _root(format="indexer-manifest/2"),
        _root(shards=None),
        _root(shards={}),
        _root(shards=[[]]),
        _root(sources="s3://bucket/"),
        _root(sources=[{"mount": "", "uri": 5}]),
        _root(sources=[{"mount": None, "uri": "s3://bucket/"}]),
        _root(sources=[{"mount": "", "uri": "s3://bucket/", "more": 1}]),
        _root_with_shard(digest="ab" * 31),
        _root_with_shard(digest="AB" * 32),
        _root_with_shard(digest="../" + "a" * 61),
        _root_with_shard(digest=5),
        _root_with_shard(digest=None),
        _root_with_shard(max_path="YS//\n"),
        _root_with_shard(max_path="YS//="),
        _root_with_shard(max_path="YR=="),
        _root_with_shard(max_path="\u00e9"),
        _root_with_shard(max_path=None),
        _root_with_shard(rows=2.0),
        _root_with_shard(rows="2"),
        _root_with_shard(rows=True),
        _root_with_shard(rows=0),
        _root_with_shard(rows=-1),
        _root_with_shard(rows=float("nan")),
        _root_with_shard(size=-1),
        _root_with_shard(size=None),
        _root_with_shard(more=1),
    ],
)
def test_what_is_no_canonical_root_is_refused(root: bytes) -> None:
    with pytest.raises(CorruptContent, match="manifest"):
        read_manifest(root)


@given(st.data())
def test_a_root_with_another_byte_is_refused_or_is_another_manifest(data: st.DataObject) -> None:
    root = bytearray(_root())
    root[data.draw(st.integers(0, len(root) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read_manifest(bytes(root))
    except CorruptContent:
        return
    assert found.root == root
    assert found != MANIFEST
