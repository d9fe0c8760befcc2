"""Content store: shards, fragments and blobs, each named by what it holds.

Invariants
  * What is read is verified: rows against the digest of rows, blobs against the hash of their
    bytes. Something else under that name raises `CorruptContent`.
  * A shard's name is the digest of its rows, never of its file: two Parquet writers may write the
    same shard differently. The first file stays.
  * Putting content that is there is a no-op.
"""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import CorruptContent
from indexer.page import (
    SCHEMA,
    ascends,
    rows_digest,
    with_all_columns,
    without_null_columns,
)
from indexer.protocols import BlobStore

_ENCODINGS: Final = {
    "path": "DELTA_BYTE_ARRAY",
    "size": "DELTA_BINARY_PACKED",
    "last_modified": "DELTA_BINARY_PACKED",
}
_DICTIONARIES: Final = ["storage_class", "checksum_algorithm", "checksum_type"]


def encode_shard(rows: pa.Table) -> bytes:
    """The Parquet file of a shard: zstd, sorted by path, every column of the schema.

    Paths are delta encoded; ETags, which do not compress, are left alone (measured: 24 bytes a row
    beside 27 with the writer's defaults, in 60 % of the time).
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        with_all_columns(rows),
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=_DICTIONARIES,
        column_encoding=_ENCODINGS,
        write_statistics=["path", "size"],
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode_shard(data: bytes, digest: str) -> pa.Table:
    """The rows of a shard's Parquet file, without columns that are all null.

    Raises `CorruptContent` when it is no such file, its rows do not ascend strictly by path, or
    they do not have the digest.
    """
    try:
        # Not `read_table`, which goes by way of a data set: that takes three times as long.
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table = without_null_columns(table.select(SCHEMA.names).cast(SCHEMA).combine_chunks())
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptContent(f"shard {digest} is not readable: {error}") from error
    if rows_digest(table) != digest:
        raise CorruptContent(f"the rows of shard {digest} do not have that digest")
    if not ascends(table):
        raise CorruptContent(f"the rows of shard {digest} are not in key order")
    return table


def encode_fragment(rows: pa.Table) -> bytes:
    """Rows that wait for a neighbour, as an Arrow file; columns that are absent stay absent.

    No two files have the same bytes, hence no two the same name: whoever deletes one takes it from
    nobody else, such as another process that lists the same prefix.
    """
    unique = rows.replace_schema_metadata({b"nonce": uuid4().bytes})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, unique.schema) as writer:
        writer.write_table(unique)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode_fragment(data: bytes) -> pa.Table:
    """The rows of `encode_fragment`."""
    return pa.ipc.open_file(pa.BufferReader(data)).read_all().replace_schema_metadata(None)


class ContentStore:
    """Content by digest over any `BlobStore`."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def put(self, data: bytes) -> str:
        """Keeps bytes and returns their name, a SHA-256 in hexadecimal."""
        name = hashlib.sha256(data).hexdigest()
        await self._blobs.put(f"blobs/{name}", data)
        return name

    async def get(self, name: str) -> bytes:
        """The bytes of that name. Raises `CorruptContent` when they are gone or others."""
        data = await self._read(f"blobs/{name}")
        if hashlib.sha256(data).hexdigest() != name:
            raise CorruptContent(f"the stored blob {name} does not have that digest")
        return data

    async def delete(self, name: str) -> None:
        """Forgets the bytes of that name."""
        await self._blobs.delete(f"blobs/{name}")

    async def put_shard(self, digest: str, data: bytes) -> None:
        """Keeps a shard's Parquet bytes, which the caller has verified to have the digest."""
        await self._blobs.put(f"shards/{digest}", data)

    async def shard_bytes(self, digest: str) -> bytes:
        """A shard's Parquet bytes, unverified. Raises `CorruptContent` when they are gone."""
        return await self._read(f"shards/{digest}")

    async def shard(self, digest: str) -> pa.Table:
        """A shard's rows. Raises `CorruptContent` as `decode_shard` does, or when it is gone."""
        return decode_shard(await self.shard_bytes(digest), digest)

    async def has_shard(self, digest: str) -> bool:
        """Whether the shard is there."""
        return await self._blobs.has(f"shards/{digest}")

    async def _read(self, name: str) -> bytes:
        try:
            return await self._blobs.get(name)
        except FileNotFoundError as error:
            raise CorruptContent(
                f"stored content is gone: {name}. Its version expired or was removed meanwhile, or "
                f"the file was lost: look with 'indexer ls', or snapshot the source again."
            ) from error
