"""Content: what is written comes back as it was, and nothing else is believed."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.content import (
    ContentStore,
    decode_fragment,
    decode_shard,
    encode_fragment,
    encode_shard,
)
from indexer.errors import CorruptContent
from indexer.page import SCHEMA, rows_digest, with_all_columns, without_null_columns
from tests.unit.rows_model import (
    Entry,
    MemoryBlobs,
    entries,
    few,
    page_of,
    plain,
    slow_digest,
    table_of,
)

ROWS = plain([b"a", b"a/b", b"b", "\u65e5/\U0001f600".encode(), b"\xff"])
DIGEST = slow_digest(ROWS)


def shard(rows: list[Entry]) -> bytes:
    return encode_shard(table_of(rows))


# --- shards --------------------------------------------------------------------------------------


@few
@given(entries())
def test_a_shard_comes_back_as_it_was(rows: list[Entry]) -> None:
    table = table_of(rows)
    digest = slow_digest(rows)
    for written in (table, without_null_columns(table), pa.Table.from_batches([page_of(rows)])):
        read = decode_shard(encode_shard(written), digest)
        assert with_all_columns(read).equals(table)
        assert read.schema.names == without_null_columns(table).schema.names
        assert rows_digest(read) == digest


def test_a_shard_is_a_parquet_file_with_every_column() -> None:
    data = shard(ROWS)
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.schema_arrow.equals(SCHEMA, check_metadata=False)
    assert file.read().to_pylist() == table_of(ROWS).to_pylist()
    columns = [file.metadata.row_group(0).column(n) for n in range(len(SCHEMA))]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert "DELTA_BYTE_ARRAY" in columns[0].encodings
    assert not columns[0].has_dictionary_page
    assert [columns[0].statistics.min, columns[0].statistics.max] == [b"a", b"\xff"]


def test_the_columns_may_stand_in_another_order() -> None:
    data = _parquet(table_of(ROWS).select(SCHEMA.names[::-1]))
    assert (
        decode_shard(data, DIGEST).to_pylist() == without_null_columns(table_of(ROWS)).to_pylist()
    )


@pytest.mark.parametrize(
    "rows",
    [
        [ROWS[1], ROWS[0]],
        [*ROWS, ROWS[0]],
        [ROWS[0], ROWS[0]],
        [ROWS[0], dict(ROWS[0], size=7), ROWS[1]],
    ],
    ids=["unsorted", "last before first", "twice", "twice with another size"],
)
def test_rows_that_do_not_ascend_are_refused(rows: list[Entry]) -> None:
    with pytest.raises(CorruptContent, match="key order"):
        decode_shard(shard(rows), slow_digest(rows))


@pytest.mark.parametrize("digest", [slow_digest(ROWS[:-1]), "0" * 64, DIGEST.upper(), ""])
def test_another_digest_is_refused(digest: str) -> None:
    with pytest.raises(CorruptContent, match="digest"):
        decode_shard(shard(ROWS), digest)


@given(st.integers(0, len(shard(ROWS)) - 1))
def test_half_a_file_is_refused(size: int) -> None:
    with pytest.raises(CorruptContent, match="not readable"):
        decode_shard(shard(ROWS)[:size], DIGEST)


@given(st.data())
def test_a_file_with_another_byte_is_refused_or_says_the_same(data: st.DataObject) -> None:
    damaged = bytearray(shard(ROWS))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = decode_shard(bytes(damaged), DIGEST)
    except CorruptContent:
        return
    assert slow_digest(read.to_pylist()) == DIGEST


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _with_column(name: str, column: pa.Array) -> pa.Table:
    table = table_of(ROWS)
    return table.set_column(table.schema.get_field_index(name), name, column)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"PAR1" * 100,
        b"PK\3\4 an archive of another kind",
        encode_fragment(table_of(ROWS)),
        _parquet(pa.table({"a": [1]})),
        _parquet(table_of(ROWS).drop_columns("size")),
        _parquet(table_of(ROWS).drop_columns("etag_md5")),
        _parquet(table_of(ROWS).append_column("path", pa.array([b"x"] * 5))),
        _parquet(_with_column("path", pa.array([b"a", b"b", None, b"d", b"e"]))),
        _parquet(_with_column("size", pa.array([1, 2, None, 4, 5]))),
        _parquet(_with_column("size", pa.array(["1", "2", "three", "4", "5"]))),
        _parquet(_with_column("size", pa.array([2**63, 2, 3, 4, 5], pa.uint64()))),
        _parquet(_with_column("etag_md5", pa.array([b"short"] * 5))),
        _parquet(_with_column("path", pa.array([[b"a"]] * 5))),
    ],
)
def test_foreign_files_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptContent):
        decode_shard(data, DIGEST)


# --- fragments -----------------------------------------------------------------------------------


@given(entries(), st.integers(0, 20))
def test_a_fragment_comes_back_with_the_same_columns(rows: list[Entry], start: int) -> None:
    for table in (table_of(rows), pa.Table.from_batches([page_of(rows)])):
        kept = table.slice(min(start, len(rows)))
        read = decode_fragment(encode_fragment(kept))
        assert read.schema.equals(kept.schema, check_metadata=True)
        assert read.equals(kept)


def test_no_two_fragments_have_the_same_bytes() -> None:
    # Each is named by its bytes, and deleted by whoever spilled it: two processes that list the
    # same prefix into one data folder must not take each other's.
    assert encode_fragment(table_of(ROWS)) != encode_fragment(table_of(ROWS))


# --- the store -----------------------------------------------------------------------------------


async def test_blobs_are_named_by_what_they_hold() -> None:
    blobs = MemoryBlobs()
    content = ContentStore(blobs)
    names = [await content.put(data) for data in (b"one", b"two", b"one", b"")]
    assert (
        names[0] == names[2] == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    )
    assert sorted(blobs.data) == sorted(f"blobs/{name}" for name in set(names))
    assert [await content.get(name) for name in names] == [b"one", b"two", b"one", b""]
    await content.delete(names[0])
    await content.delete(names[0])
    with pytest.raises(CorruptContent, match=names[0]):
        await content.get(names[0])
    assert await content.get(names[1]) == b"two"


async def test_a_blob_that_was_changed_is_refused() -> None:
    blobs = MemoryBlobs()
    content = ContentStore(blobs)
    name = await content.put(b"one")
    blobs.data[f"blobs/{name}"] = b"two"
    with pytest.raises(CorruptContent, match=name):
        await content.get(name)


async def test_shards_are_verified_when_their_rows_are_read() -> None:
    blobs = MemoryBlobs()
    content = ContentStore(blobs)
    assert not await content.has_shard(DIGEST)
    with pytest.raises(CorruptContent, match=DIGEST):
        await content.shard(DIGEST)
    await content.put_shard(DIGEST, shard(ROWS))
    assert await content.has_shard(DIGEST)
    assert await content.shard_bytes(DIGEST) == shard(ROWS)
    assert (await content.shard(DIGEST)).num_rows == len(ROWS)
    blobs.data[f"shards/{DIGEST}"] = shard(ROWS[1:])
    with pytest.raises(CorruptContent, match=DIGEST):
        await content.shard(DIGEST)


async def test_the_first_file_of_a_shard_stays() -> None:
    content = ContentStore(MemoryBlobs())
    first, second = shard(ROWS), _parquet(table_of(ROWS))
    assert first != second
    for data in (first, second):
        await content.put_shard(DIGEST, data)
    assert await content.shard_bytes(DIGEST) == first
    assert decode_shard(second, DIGEST).equals(await content.shard(DIGEST))
