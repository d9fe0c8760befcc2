"""What is carried over, against a model of one dictionary; and how often shards are read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.limits import PARENT_SHARDS_KEPT_MAX
from indexer.manifest import Manifest, ShardRef
from indexer.objects import Checksum, Head, page_of_heads
from indexer.page import Page, empty_page
from indexer.pipeline.carry import MODIFIED_SLACK_S, Carry

Rows = list[tuple[bytes, Head]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SEEN_AT = EPOCH + timedelta(seconds=MODIFIED_SLACK_S, milliseconds=2)
"""Files that were modified at the second millisecond had not rested for long enough then."""

MD5 = Checksum("md5", b"m" * 16)
HEADS = st.builds(
    Head,
    size=st.integers(0, 1),
    etag=st.sampled_from([None, "0" * 32, "1" * 32, "0" * 32 + "-2", "odd", "even"]),
    version_id=st.sampled_from([None, "null", "v1", "v2"]),
    mtime_ns=st.sampled_from([None, 1_000_000, 1_999_999, 2_000_000]),
    last_modified=st.sampled_from([None, *(EPOCH + timedelta(milliseconds=ms) for ms in (1, 2))]),
    checksum=st.sampled_from(
        [None, MD5, Checksum("crc32c", b"c"), Checksum("sha256", b"s", "composite")]
    ),
)
KEYS = st.sampled_from([f"{letter}{number}".encode() for letter in "abc" for number in range(4)])
ROWS = st.dictionaries(KEYS, HEADS, max_size=12).map(lambda rows: sorted(rows.items()))


class Before:
    """A version of shards in memory, that counts how often they are read."""

    def __init__(self, rows: Rows, shard_rows: int) -> None:
        pieces = [rows[at : at + shard_rows] for at in range(0, len(rows), shard_rows)]
        self.tables = {
            f"shard-{number}": pa.Table.from_batches([page_of_heads(piece)])
            for number, piece in enumerate(pieces)
        }
        self.manifest = Manifest(
            (),
            tuple(
                ShardRef(piece[-1][0], f"shard-{number}", len(piece), 0)
                for number, piece in enumerate(pieces)
            ),
        )
        self.reads: Counter[str] = Counter()
        self.hangs = False

    async def read(self, digest: str) -> pa.Table:
        self.reads[digest] += 1
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return self.tables[digest]

    def carry(self, algorithm: str | None = None) -> Carry:
        return Carry(self.manifest, self.read, SEEN_AT, algorithm=algorithm)


def is_same(now: Head, then: Head) -> bool:
    """The rule in words: the best that both know decides alone."""
    pins = [one.version_id not in (None, "null") for one in (now, then)]
    if all(pins):
        return now.version_id == then.version_id
    if now.size != then.size:
        return False
    if now.etag is not None and then.etag is not None:
        return now.etag == then.etag
    if now.mtime_ns is None or then.last_modified is None:
        return False
    modified = EPOCH + timedelta(milliseconds=now.mtime_ns // 1_000_000)
    return modified == then.last_modified < SEEN_AT - timedelta(seconds=MODIFIED_SLACK_S)


def is_asked(checksum: Checksum, algorithm: str | None) -> bool:
    is_it = (checksum.algorithm, checksum.type) == (algorithm, "full_object")
    return algorithm is None or is_it


def expected(now: Rows, then: Rows, algorithm: str | None) -> dict[int, Checksum]:
    before = dict(then)
    found: dict[int, Checksum] = {}
    for row, (key, head) in enumerate(now):
        other = before.get(key)
        if other is None or other.checksum is None or not is_same(head, other):
            continue
        if is_asked(other.checksum, algorithm):
            found[row] = other.checksum
    return found


@given(
    then=ROWS,
    now=ROWS,
    shard_rows=st.integers(1, 5),
    page_rows=st.integers(1, 5),
    algorithm=st.sampled_from([None, "md5", "sha256"]),
    prefix=st.sampled_from([b"", b"mount/"]),
)
def test_what_is_the_same_is_carried_over(
    then: Rows, now: Rows, shard_rows: int, page_rows: int, algorithm: str | None, prefix: bytes
) -> None:
    before = Before([(prefix + key, head) for key, head in then], shard_rows)
    carry = before.carry(algorithm)

    async def carried() -> None:
        for at in range(0, len(now), page_rows):
            rows = now[at : at + page_rows]
            page = page_of_heads(rows)
            assert await carry.checksums(page, prefix) == expected(rows, then, algorithm)

    asyncio.run(carried())


def head(number: int) -> Head:
    return Head(number, f"{number:032x}", checksum=MD5)


def numbered(count: int) -> Rows:
    return [(b"%06d" % number, head(number)) for number in range(count)]


def pages(rows: Rows, page_rows: int) -> list[Page]:
    return [page_of_heads(rows[at : at + page_rows]) for at in range(0, len(rows), page_rows)]


async def all_at_once(carry: Carry, asked: Sequence[Page]) -> list[dict[int, Checksum]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(carry.checksums(page)) for page in asked]
    return [task.result() for task in tasks]


async def test_pages_that_ask_at_once_read_a_shard_once() -> None:
    before = Before(numbered(1_000), 500)
    found = await all_at_once(before.carry("md5"), pages(numbered(1_000), 100))
    assert before.reads == {"shard-0": 1, "shard-1": 1}
    assert [len(one) for one in found] == [100] * 10


async def test_only_so_many_shards_are_kept() -> None:
    before = Before(numbered(100), 1)
    carry = before.carry()
    for page in pages(numbered(100), 1):
        await carry.checksums(page)
        assert len(carry._kept) <= PARENT_SHARDS_KEPT_MAX
    assert set(before.reads.values()) == {1}
    await carry.checksums(pages(numbered(100), 1)[0])
    assert before.reads["shard-0"] == 2
    assert not carry._reading


async def test_shards_beside_a_page_are_not_read() -> None:
    before = Before(numbered(100), 10)
    rows = numbered(100)[35:45]
    assert len(await before.carry().checksums(page_of_heads(rows))) == 10
    assert before.reads == {"shard-3": 1, "shard-4": 1}


async def test_paths_after_all_that_was_there_are_new() -> None:
    before = Before(numbered(10), 5)
    assert await before.carry().checksums(page_of_heads([(b"z", head(1))])) == {}
    assert await before.carry().checksums(empty_page()) == {}
    assert not before.reads


async def test_a_reader_that_is_cancelled_leaves_the_shard_to_the_next_one() -> None:
    before = Before(numbered(10), 10)
    carry = before.carry()
    page = page_of_heads(numbered(10))
    before.hangs = True
    async with asyncio.TaskGroup() as group:
        first = group.create_task(carry.checksums(page))
        second = group.create_task(carry.checksums(page))
        await asyncio.sleep(0.01)
        assert before.reads == {"shard-0": 1}
        before.hangs = False
        first.cancel()
    assert len(second.result()) == 10
    assert before.reads == {"shard-0": 2}


async def test_a_shard_that_cannot_be_read_is_an_error_and_is_asked_for_again() -> None:
    before = Before(numbered(10), 10)
    page = page_of_heads(numbered(10))
    table = before.tables.pop("shard-0")
    carry = before.carry()
    with pytest.raises(KeyError):
        await carry.checksums(page)
    before.tables["shard-0"] = table
    assert len(await carry.checksums(page)) == 10


async def test_a_version_without_checksums_has_none_to_carry() -> None:
    rows = [(key, replace(head, checksum=None)) for key, head in numbered(10)]
    assert await Before(rows, 5).carry().checksums(page_of_heads(rows)) == {}
