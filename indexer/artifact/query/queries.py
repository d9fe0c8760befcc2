"""Queries: what SQL and comparisons of tables are asked of, and how many at once.

Invariants
  * SQL sees the versions that its order names, as the order names them, and nothing else.
  * So many queries run at once, each in a process of its own; one more is `Busy` and not in line.
  * An order may take less than `QueryLimits` allow, never more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.entries import shards_below
from indexer.artifact.handle import Handle
from indexer.artifact.originals import Original, originals_of
from indexer.artifact.query.messages import Bounds, TableStates, Task, View
from indexer.artifact.query.sandbox import answer
from indexer.artifact.recorded import InMemory, read_as_recorded
from indexer.checksums import ALGORITHMS, new_hash
from indexer.content import decode_shard
from indexer.defaults import QueryLimits
from indexer.errors import Busy, Mismatch, NoSuchObject, QueryRefused
from indexer.limits import (
    MIB,
    QUERIES_AT_ONCE_MAX,
    QUERY_RESULT_BYTES_MAX,
    TABLE_BYTES_MAX,
)
from indexer.manifest import Manifest
from indexer.records import VersionRecord
from indexer.references import parse_beside
from indexer.texts import path_bytes
from indexer.wire.query import VIEW_NAME, CompareOrder, QueryOrder
from indexer.workspace import Workspace
from workers.threads import Threads

Format = Literal["arrow", "json"]


ReadShard = Callable[[str], Awaitable[bytes]]
"""The Parquet bytes of a shard by its digest, unverified."""


class Queries:
    """Answers queries about the versions of a data folder."""

    def __init__(
        self,
        workspace: Workspace,
        read_shard: ReadShard,
        threads: Threads,
        limits: QueryLimits,
    ) -> None:
        self._workspace = workspace
        self._read_shard = read_shard
        self._threads = threads
        self._limits = limits
        self._running = 0

    async def query(
        self, version: VersionRecord, order: QueryOrder, form: Format = "arrow"
    ) -> bytes:
        """The rows of a statement. See `sandbox.answer` for what it raises, and `Busy`."""
        named = await self._named(version, order.versions)
        prefixes = {"": path_bytes(order.prefix)}
        bounds = _bounds(self._limits, order.rows_max, order.timeout_s)
        return await self._answer(named, prefixes, order.sql, bounds, form)

    async def compare(
        self, version: VersionRecord, order: CompareOrder, form: Format = "arrow"
    ) -> bytes:
        """What changed of a table from a version to another one, by key."""
        named = await self._named(version, {"after": order.to})
        bounds = _bounds(self._limits, order.rows_max, order.timeout_s)
        what = TableStates(order.path, tuple(order.key))
        return await self._answer(named, {}, what, bounds, form)

    async def _named(
        self, version: VersionRecord, others: Mapping[str, str]
    ) -> dict[str, VersionRecord]:
        named = {"": version}
        for name, ref in others.items():
            is_taken = name.lower() in {*_TAKEN, *(one.lower() for one in named)}
            if is_taken or not VIEW_NAME.fullmatch(name):
                raise QueryRefused(
                    f"{name!r} cannot name a version here: choose another name, of letters, digits "
                    f"and _."
                )
            named[name] = await self._workspace.version(parse_beside(ref, version.name))
        return named

    async def _answer(
        self,
        named: Mapping[str, VersionRecord],
        prefixes: Mapping[str, bytes],
        what: str | TableStates,
        bounds: Bounds,
        form: Format,
    ) -> bytes:
        if self._running >= QUERIES_AT_ONCE_MAX:
            raise Busy(
                f"{QUERIES_AT_ONCE_MAX} queries run already, as many as may at once; try again."
            )
        self._running += 1
        try:
            handles = [Handle(self._workspace, one) for one in named.values()]
            manifests = [await handle.manifest() for handle in handles]
            views = tuple(
                _view(name, version, manifest, prefixes.get(name, b""))
                for (name, version), manifest in zip(named.items(), manifests, strict=True)
            )
            serving = _Serving(views, handles, manifests, self._read_shard, self._threads)
            return await answer(Task(bounds, views, what, form), serving)
        finally:
            self._running -= 1


_TAKEN = ("main", "temp", "system", "memory", "information_schema", "pg_catalog", "entries")
"""Names of schemas and databases that DuckDB has itself, in lower case."""


def _view(name: str, version: VersionRecord, manifest: Manifest, prefix: bytes) -> View:
    shards = tuple(shards_below(manifest, prefix))
    return View(
        name=name,
        ref=version.ref,
        sources=tuple((source.uri, source.mount) for source in manifest.sources),
        shards=tuple(shard.digest for shard in shards),
        rows=sum(shard.rows for shard in shards),
        prefix=prefix,
    )


class _Serving:
    """What one query needs, from the data folder and from the stores of its versions."""

    def __init__(
        self,
        views: Sequence[View],
        handles: Sequence[Handle],
        manifests: Sequence[Manifest],
        read_shard: ReadShard,
        threads: Threads,
    ) -> None:
        self._views = views
        self._handles = handles
        self._manifests = manifests
        self._read_shard = read_shard
        self._threads = threads

    async def shard(self, view: int, number: int) -> bytes:
        return await self._read_shard(self._views[view].shards[number])

    async def table(self, view: int, path: bytes) -> bytes:
        handle = self._handles[view]
        shown = path.decode("utf-8", "backslashreplace")
        row = await self._row(self._manifests[view], path)
        if row is None:
            raise NoSuchObject(
                f"{handle.record.ref} has no entry {shown!r}. Tables are 'entries', and entries by "
                f"their paths in double quotes; the table 'tables' lists them."
            )
        size_bytes = row.column("size")[0].as_py()
        if size_bytes > TABLE_BYTES_MAX:
            raise QueryRefused(
                f"{shown!r} has {size_bytes:,} bytes; tables of at most {TABLE_BYTES_MAX:,} are "
                f"read."
            )
        (original,) = originals_of(row, of_moment=handle.is_of_moment)
        async with handle.originals() as originals:
            memory = InMemory(size_bytes)
            await read_as_recorded(originals, original, memory)
        data = b"".join(memory.pieces)
        await self._threads.run(check_bytes, data, original, f"{handle.record.ref}/{shown}")
        return data

    async def _row(self, manifest: Manifest, path: bytes) -> pa.Table | None:
        place = bisect_left(manifest.shards, path, key=lambda shard: shard.max_path)
        if place == len(manifest.shards):
            return None
        digest = manifest.shards[place].digest
        table = await self._threads.run(decode_shard, await self._read_shard(digest), digest)
        row = table.filter(pc.equal(table.column("path"), path))
        return row if row.num_rows else None


def check_bytes(data: bytes, original: Original, shown: str) -> None:
    """Raises `Mismatch` where bytes are not those that were recorded."""
    checksum = original.checksum
    if len(data) != original.pin.size:
        raise Mismatch(f"{shown} has {len(data):,} bytes and not those that were recorded.")
    if checksum is None or checksum.type != "full_object" or checksum.algorithm not in ALGORITHMS:
        return
    running = new_hash(checksum.algorithm)
    running.update(data)
    if running.digest() != checksum.value:
        raise Mismatch(f"{shown} does not have the {checksum.algorithm} that was recorded.")


def _bounds(limits: QueryLimits, rows: int | None, timeout_s: float | None) -> Bounds:
    """What one query may take that asks for so much."""
    return Bounds(
        timeout_s=min(limits.timeout_s, timeout_s or limits.timeout_s),
        memory_bytes=limits.memory_mib * MIB,
        rows=min(limits.rows, rows or limits.rows),
        result_bytes=QUERY_RESULT_BYTES_MAX,
    )
