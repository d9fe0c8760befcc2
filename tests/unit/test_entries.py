"""Entries of a version: no shard is read in vain, none is left out, and each is verified."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.artifact.entries import read_entries, shards_below, within
from indexer.content import ContentStore, encode_shard
from indexer.entries import entries_of, uri_of
from indexer.errors import CorruptContent
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.records import Entry
from tests.unit.rows_model import MemoryBlobs, plain, slow_digest, table_of

SOURCE = SourceRef("s3://bucket/data/")

letters = st.lists(st.sampled_from([b"a", b"b", b"/", b"\xff", b"\0"]), max_size=4).map(b"".join)


@st.composite
def versions(draw: st.DrawFn) -> list[list[bytes]]:
    """The paths of each shard of a version."""
    paths = sorted(draw(st.sets(letters, min_size=1, max_size=20)))
    ends = sorted(draw(st.sets(st.integers(1, len(paths)), max_size=6)) | {len(paths)})
    return [paths[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def manifest_of(shards: list[list[bytes]]) -> Manifest:
    refs = [
        ShardRef(paths[-1], slow_digest(plain(paths)), len(paths), sum(map(len, paths)))
        for paths in shards
    ]
    return Manifest((SOURCE,), tuple(refs))


@given(versions(), letters)
def test_just_the_shards_that_can_hold_a_prefix_are_read(
    shards: list[list[bytes]], prefix: bytes
) -> None:
    manifest = manifest_of(shards)
    chosen = {shard.max_path for shard in shards_below(manifest, prefix)}
    before = None
    for paths in shards:
        can_hold = paths[-1] >= prefix and (
            before is None or before < prefix or before.startswith(prefix)
        )
        assert (paths[-1] in chosen) == can_hold
        holds = any(path.startswith(prefix) for path in paths)
        assert can_hold or not holds
        before = paths[-1]


async def stored(shards: list[list[bytes]]) -> tuple[ContentStore, MemoryBlobs]:
    blobs = MemoryBlobs()
    content = ContentStore(blobs)
    for paths in shards:
        await content.put_shard(slow_digest(plain(paths)), encode_shard(table_of(plain(paths))))
    return content, blobs


@pytest.mark.parametrize(
    "prefix", [b"", b"a", b"a/", b"b", b"a/2", b"a/20", b"c", b"\xff", b"a/9/"]
)
async def test_the_entries_below_a_prefix_come_in_key_order(prefix: bytes) -> None:
    paths = sorted([*(b"a/%d" % n for n in range(30)), b"a0", b"b/1", b"b/2", b"\xff\xfe"])
    shards = [paths[:7], paths[7:8], paths[8:20], paths[20:32], paths[32:]]
    content, _ = await stored(shards)
    tables = [table async for table in read_entries(content, manifest_of(shards), prefix)]
    found = [path for table in tables for path in table.column("path").to_pylist()]
    assert found == [path for path in paths if path.startswith(prefix)]
    assert all(table.num_rows for table in tables)


async def test_a_shard_that_was_changed_is_not_believed() -> None:
    shards = [[b"a"], [b"b"], [b"c"]]
    content, blobs = await stored(shards)
    names = [f"shards/{slow_digest(plain(paths))}" for paths in shards]
    blobs.data[names[1]] = blobs.data[names[2]]
    reading = read_entries(content, manifest_of(shards))
    assert (await anext(reading)).num_rows == 1
    with pytest.raises(CorruptContent):
        await anext(reading)
    # Others are read all the same.
    last = [table async for table in read_entries(content, manifest_of(shards), b"c")]
    assert [table.num_rows for table in last] == [1]


def test_a_prefix_is_bytes_not_a_folder() -> None:
    table = table_of(plain([b"data", b"data/a", b"data2/b"]))
    assert within(table, b"data").num_rows == 3
    assert within(table, b"data/").num_rows == 1
    assert within(table, b"").equals(table)


def test_an_entry_has_what_its_row_has() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    table = table_of(
        [
            {"path": b"", "size": 0},
            {
                "path": b"a/b",
                "size": 5,
                "etag_md5": b"\1" * 16,
                "etag_parts": 2,
                "version_id": "null",
                "last_modified": moment,
                "storage_class": "GLACIER",
            },
            {"path": b"c", "size": 1, "uri": "https://example.com/c?d", "etag_raw": "W/x"},
            {
                "path": b"d",
                "size": 2,
                "checksum": b"\xab\0",
                "checksum_algorithm": "md5",
                "checksum_type": "full_object",
                "mtime_ns": 7,
            },
        ]
    )
    assert list(entries_of(table, [SOURCE])) == [
        Entry(b"", 0, "s3://bucket/data/", None, None, None, None),
        Entry(b"a/b", 5, "s3://bucket/data/a/b", "01" * 16 + "-2", "null", moment, "GLACIER"),
        Entry(b"c", 1, "https://example.com/c?d", "W/x", None, None, None),
        Entry(
            b"d", 2, "s3://bucket/data/d", None, None, None, None, "ab00", "md5", "full_object", 7
        ),
    ]
    # Columns that are absent are the same as columns without values.
    bare = table.select(["path", "size"])
    assert [(e.path, e.etag, e.version_id) for e in entries_of(bare, [SOURCE])] == [
        (path, None, None) for path in (b"", b"a/b", b"c", b"d")
    ]
    assert list(entries_of(table.slice(4), [SOURCE])) == []


@pytest.mark.parametrize(
    ("uri", "path", "expected"),
    [
        ("s3://bucket/", b"a b%20#?+//", "s3://bucket/a b%20#?+//"),
        ("s3://bucket/data/", "é\U0001f600".encode(), "s3://bucket/data/é\U0001f600"),
        ("s3://bucket/data/", b"", "s3://bucket/data/"),
        ("s3://bucket/data/file.bin", b"file.bin", "s3://bucket/data/file.bin"),
        ("s3://bucket/", b"\xff", "s3://bucket/\udcff"),
        ("gs://bucket/a/", b"b%20#?", "gs://bucket/a/b%20#?"),
        ("file:///data/", b"b%20#?\xff", "file:///data/b%2520%23%3F%FF"),
    ],
)
def test_an_objects_uri_is_its_sources_and_its_path(uri: str, path: bytes, expected: str) -> None:
    assert uri_of([SourceRef(uri)], path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/x#y", "s3://one/x#y"),
        (b"a.b/", "gs://two/p/"),
        (b"data/files/100%/\xff", "file:///data/100%25/%FF"),
        (b"web/a b?.html", "https://host/a%20b%3F.html"),
        (b"z/lone.bin", "https://host/lone.bin?v=1"),
    ],
)
def test_a_mount_says_which_source_an_entry_is_of(path: bytes, expected: str) -> None:
    sources = [
        SourceRef("s3://one/", "a"),
        SourceRef("gs://two/p/", "a.b"),
        SourceRef("file:///data/", "data/files"),
        SourceRef("https://host/", "web"),
        SourceRef("https://host/lone.bin?v=1", "z"),
    ]
    assert uri_of(sources, path) == expected
