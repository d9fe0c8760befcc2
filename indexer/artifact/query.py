"""Query: what SQL and comparisons of tables are asked of, and how many at once.

Invariants
  * SQL sees the versions that its order names, as the order names them, and nothing else.
  * So many queries run at once, each in a process of its own; one more is `Busy` and not in line.
  * An order may take less than `QueryLimits` allow, never more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.entries import shards_below
from indexer.artifact.frames import Bounds, Comparison, Task, View
from indexer.artifact.sandbox import answer
from indexer.content import decode_shard
from indexer.entries import entries_of
from indexer.errors import Busy, NoSuchObject, QueryRefused
from indexer.limits import (
    MIB,
    QUERIES_AT_ONCE_MAX,
    QUERY_MEMORY_MIB_DEFAULT,
    QUERY_RESULT_BYTES_MAX,
    QUERY_ROWS_DEFAULT,
    QUERY_TIMEOUT_S_DEFAULT,
    TABLE_BYTES_MAX,
)
from indexer.manifest import Manifest
from indexer.records import Entry, VersionRecord
from indexer.references import VersionRef, parse_reference
from indexer.wire.query import CompareOrder, QueryOrder

Format = Literal["arrow", "json"]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may take at most."""

    timeout_s: float = QUERY_TIMEOUT_S_DEFAULT
    memory_mib: int = QUERY_MEMORY_MIB_DEFAULT
    rows: int = QUERY_ROWS_DEFAULT

    def bounds(self, rows: int | None, timeout_s: float | None) -> Bounds:
        """What one query may take that asks for so much."""
        return Bounds(
            timeout_s=min(self.timeout_s, timeout_s or self.timeout_s),
            memory_bytes=self.memory_mib * MIB,
            rows=min(self.rows, rows or self.rows),
            result_bytes=QUERY_RESULT_BYTES_MAX,
        )


class Versions(Protocol):
    """Where versions are known."""

    async def version(self, ref: VersionRef) -> VersionRecord:
        """The version that a reference names. Raises `NoSuchVersion`."""
        ...

    async def manifest(self, digest: str) -> Manifest:
        """The manifest of a version."""
        ...


ReadShard = Callable[[str], Awaitable[bytes]]
ReadOriginal = Callable[[VersionRecord, Entry, int], Awaitable[bytes]]
"""The bytes of the object of an entry as it was recorded, or an error; of at most so many."""


class Queries:
    """Answers queries about the versions of a data folder."""

    def __init__(
        self,
        versions: Versions,
        read_shard: ReadShard,
        read_original: ReadOriginal,
        limits: QueryLimits,
    ) -> None:
        self._versions = versions
        self._read_shard = read_shard
        self._read_original = read_original
        self._limits = limits
        self._running = 0

    async def query(
        self, version: VersionRecord, order: QueryOrder, form: Format = "arrow"
    ) -> bytes:
        """The rows of a statement. See `sandbox.answer` for what it raises, and `Busy`."""
        named = await self._named(version, order.versions)
        prefixes = {"": order.prefix.encode("utf-8", "surrogateescape")}
        bounds = self._limits.bounds(order.rows_max, order.timeout_s)
        return await self._answer(named, prefixes, order.sql, bounds, form)

    async def compare(
        self, version: VersionRecord, order: CompareOrder, form: Format = "arrow"
    ) -> bytes:
        """What changed of a table between a version and another one, by key."""
        named = await self._named(version, {"other": order.other})
        bounds = self._limits.bounds(order.rows_max, order.timeout_s)
        what = Comparison(order.path, tuple(order.key))
        return await self._answer(named, {}, what, bounds, form)

    async def _named(
        self, version: VersionRecord, others: Mapping[str, str]
    ) -> dict[str, VersionRecord]:
        named = {"": version}
        for name, ref in others.items():
            if name.lower() in {*_TAKEN, *(one.lower() for one in named)}:
                raise QueryRefused(f"{name!r} cannot name a version here; choose another name.")
            named[name] = await self._versions.version(parse_reference(ref))
        return named

    async def _answer(
        self,
        named: Mapping[str, VersionRecord],
        prefixes: Mapping[str, bytes],
        what: str | Comparison,
        bounds: Bounds,
        form: Format,
    ) -> bytes:
        if self._running >= QUERIES_AT_ONCE_MAX:
            raise Busy(
                f"{QUERIES_AT_ONCE_MAX} queries run already, as many as may at once; try again."
            )
        self._running += 1
        try:
            manifests = [await self._versions.manifest(one.digest) for one in named.values()]
            views = tuple(
                _view(name, version, manifest, prefixes.get(name, b""))
                for (name, version), manifest in zip(named.items(), manifests, strict=True)
            )
            serving = _Serving(
                views, tuple(named.values()), manifests, self._read_shard, self._read_original
            )
            return await answer(Task(bounds, views, what, form), serving)
        finally:
            self._running -= 1


_TAKEN = ("main", "temp", "system", "memory", "information_schema", "pg_catalog", "entries")
"""Names of schemas and databases that DuckDB has itself, in lower case."""


def read_arrow(data: bytes) -> pa.Table:
    """A result that was sent as Arrow, checked."""
    table = pa.ipc.open_stream(pa.BufferReader(data)).read_all()
    table.validate(full=True)
    return table


def _view(name: str, version: VersionRecord, manifest: Manifest, prefix: bytes) -> View:
    return View(
        name=name,
        ref=version.ref,
        sources=tuple((source.uri, source.mount) for source in manifest.sources),
        shards=tuple(shard.digest for shard in shards_below(manifest, prefix)),
        prefix=prefix,
    )


class _Serving:
    """What one query needs, from the data folder and from the stores of its versions."""

    def __init__(
        self,
        views: Sequence[View],
        versions: Sequence[VersionRecord],
        manifests: Sequence[Manifest],
        read_shard: ReadShard,
        read_original: ReadOriginal,
    ) -> None:
        self._views = views
        self._versions = versions
        self._manifests = manifests
        self._read_shard = read_shard
        self._read_original = read_original

    async def shard(self, view: int, number: int) -> bytes:
        return await self._read_shard(self._views[view].shards[number])

    async def table(self, view: int, path: bytes) -> bytes:
        version, manifest = self._versions[view], self._manifests[view]
        shown = path.decode("utf-8", "backslashreplace")
        found = await self._entry(manifest, path)
        if found is None:
            raise NoSuchObject(
                f"{version.ref} has no entry {shown!r}. Tables are 'entries', and entries by their "
                f"paths in double quotes; SELECT path FROM tables lists them."
            )
        if found.size > TABLE_BYTES_MAX:
            raise QueryRefused(
                f"{shown!r} has {found.size:,} bytes; tables of at most {TABLE_BYTES_MAX:,} are "
                f"read."
            )
        return await self._read_original(version, found, TABLE_BYTES_MAX)

    async def _entry(self, manifest: Manifest, path: bytes) -> Entry | None:
        place = bisect_left(manifest.shards, path, key=lambda shard: shard.max_path)
        if place == len(manifest.shards):
            return None
        digest = manifest.shards[place].digest
        table = decode_shard(await self._read_shard(digest), digest)
        row = table.filter(pc.equal(table.column("path"), path))
        return next(entries_of(row, manifest.sources), None)
