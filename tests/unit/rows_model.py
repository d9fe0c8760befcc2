"""A slow model of entries for the tests: rows, their digest and their shards in plain Python.

Invariants
  * What is computed here follows the written format alone and calls nothing that it checks.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from indexer import keyspace
from indexer.manifest import ShardRef
from indexer.page import IDENTITY, OBSERVED, SCHEMA
from indexer.pipeline import seal

Entry = Mapping[str, Any]

OPTIONAL = [field.name for field in (*IDENTITY, *OBSERVED) if field.nullable]
WIDTHS = {"size": "<q", "etag_md5": "16s", "etag_parts": "<I", "mtime_ns": "<q"}
"""The identity columns of fixed width, as `struct` packs a value; others are lengths and bytes."""

few = settings(max_examples=min(settings().max_examples, 100))
"""For properties of which one example takes long."""

# --- entries of any kind -------------------------------------------------------------------------

keys = st.one_of(
    st.binary(max_size=12),
    st.text("ab/\0\n\x7fé日\U0001f600", max_size=8).map(str.encode),
)
texts = st.text(max_size=6)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "uri": texts,
    "etag_md5": st.binary(min_size=16, max_size=16),
    "etag_parts": st.integers(1, 2**32 - 1),
    "etag_raw": texts,
    "version_id": texts,
    "checksum_algorithm": st.sampled_from(("md5", "crc32c", "sha256")),
    "checksum_type": st.sampled_from(("full", "composite")),
    "checksum": st.binary(max_size=6),
    "mtime_ns": st.integers(-(2**63), 2**63 - 1),
    "last_modified": st.integers(0, 10**12).map(
        lambda ms: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    ),
    "storage_class": st.sampled_from(("STANDARD", "GLACIER", "")),
}


@st.composite
def entries(draw: st.DrawFn, min_size: int = 1, max_size: int = 10) -> list[Entry]:
    """Entries in key order; whole columns and single values may be missing."""
    paths = sorted(draw(st.sets(keys, min_size=min_size, max_size=max_size)))
    present = draw(st.sets(st.sampled_from(OPTIONAL)))
    full = draw(st.sets(st.sampled_from(OPTIONAL)))
    rows: list[Entry] = []
    for path in paths:
        row: dict[str, Any] = {"path": path, "size": draw(st.integers(0, 2**63 - 1))}
        for name in OPTIONAL:
            value = _VALUES[name] if name in full else st.none() | _VALUES[name]
            row[name] = draw(value) if name in present else None
        rows.append(row)
    return rows


def something(name: str) -> st.SearchStrategy[Any]:
    """Values that a column may hold in a row that has one."""
    return {"path": keys, "size": st.integers(0, 2**63 - 1), **_VALUES}[name]


def another(name: str, value: object) -> st.SearchStrategy[Any]:
    """Values that a column could hold instead of this one."""
    values = st.none() | something(name) if name in OPTIONAL else something(name)
    return values.filter(lambda other: other != value)


def plain(paths: Sequence[bytes]) -> list[Entry]:
    """Entries of these paths, each with a size and an ETag that follow from it."""
    return [
        {
            "path": path,
            "size": len(path),
            "etag_md5": hashlib.md5(path, usedforsecurity=False).digest(),
        }
        for path in paths
    ]


def table_of(rows: Sequence[Entry]) -> pa.Table:
    """The table of these entries, with every column of the schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)


def page_of(rows: Sequence[Entry]) -> pa.RecordBatch:
    """The page of these entries, without columns that are all null."""
    names = {name for row in rows for name, value in row.items() if value is not None}
    kept = pa.schema([f for f in SCHEMA if f.name in names | {"path", "size"}])
    return pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=kept)


# --- the digest, as the format describes it ------------------------------------------------------


def slow_digest(rows: Sequence[Entry]) -> str:
    """What `page.rows_digest` says that it is."""
    hashed = b"indexer-shard/1\0" + struct.pack("<Q", len(rows))
    for tag, column in enumerate(IDENTITY):
        values = [row.get(column.name) for row in rows]
        if all(value is None for value in values):
            continue
        has_nulls = None in values
        hashed += struct.pack("<BB", tag, has_nulls)
        if has_nulls:
            hashed += _bitmap([value is not None for value in values])
        hashed += _values(column.name, values)
    return hashlib.sha256(hashed).hexdigest()


def _bitmap(flags: Sequence[bool]) -> bytes:
    padded = [*flags, *[False] * (-len(flags) % 8)]
    bytes_of = (padded[start : start + 8] for start in range(0, len(padded), 8))
    return bytes(sum(flag << bit for bit, flag in enumerate(eight)) for eight in bytes_of)


def _values(name: str, values: Sequence[Any]) -> bytes:
    if name in WIDTHS:
        zero = b"" if name == "etag_md5" else 0
        return b"".join(struct.pack(WIDTHS[name], zero if v is None else v) for v in values)
    texts = [b"" if v is None else v.encode() if isinstance(v, str) else v for v in values]
    return b"".join(struct.pack("<I", len(text)) for text in texts) + b"".join(texts)


# --- the cuts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuts:
    """A cut rule of other numbers, so that small tests see every branch of it."""

    bits: int = 4
    run_rows_max: int = 12

    @contextmanager
    def used(self) -> Iterator[None]:
        """Lets the code under test cut by these numbers."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keyspace, "CUT_BITS", self.bits)
            patch.setattr(keyspace, "RUN_ROWS_MAX", self.run_rows_max)
            patch.setattr(seal, "RUN_ROWS_MAX", self.run_rows_max)
            yield

    def groups(self, rows: Sequence[Entry]) -> list[Sequence[Entry]]:
        """The rows of each shard, in order."""
        return [
            group
            for run in self._split(rows, self.bits)
            for group in self._recut(run, self.bits - keyspace.CUT_BITS_STEP)
        ]

    def _recut(self, rows: Sequence[Entry], bits: int) -> list[Sequence[Entry]]:
        if len(rows) <= self.run_rows_max:
            return [rows]
        if bits < keyspace.CUT_BITS_MIN:
            step = self.run_rows_max
            return [rows[start : start + step] for start in range(0, len(rows), step)]
        pieces = self._split(rows, bits)
        return [group for piece in pieces for group in self._recut(piece, bits - 2)]

    def _split(self, rows: Sequence[Entry], bits: int) -> list[Sequence[Entry]]:
        ends = [i + 1 for i, row in enumerate(rows) if self._is_cut(row["path"], bits)]
        bounds = [0, *(end for end in ends if end != len(rows)), len(rows)]
        return [rows[start:end] for start, end in pairwise(bounds) if rows]

    @staticmethod
    def _is_cut(path: bytes, bits: int) -> bool:
        return f"{xxh3_64_intdigest(path):064b}".endswith("0" * bits)


def slow_shards(rows: Sequence[Entry], cuts: Cuts) -> list[ShardRef]:
    """The shards of a whole key space, from all of its entries in order."""
    return [
        ShardRef(
            max_path=group[-1]["path"],
            digest=slow_digest(group),
            rows=len(group),
            size_bytes=sum(row["size"] for row in group),
        )
        for group in cuts.groups(rows)
    ]


# --- what content is kept in ---------------------------------------------------------------------


@dataclass
class MemoryBlobs:
    """A `BlobStore` in memory."""

    data: dict[str, bytes] = field(default_factory=dict)

    async def put(self, name: str, data: bytes) -> None:
        self.data.setdefault(name, data)

    async def get(self, name: str) -> bytes:
        if name not in self.data:
            raise FileNotFoundError(name)
        return self.data[name]

    async def has(self, name: str) -> bool:
        return name in self.data

    async def delete(self, name: str) -> None:
        self.data.pop(name, None)
