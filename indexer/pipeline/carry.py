"""carry: checksums that the version before already has, for objects that are still the same.

Invariants
  * An object is the same if the best of what is known of both says so: the version id where both
    have one that pins, else ETag and size, else modification time and size. Times are those of
    files, to the millisecond, and of the same source.
  * A file that was modified when it was last looked at, or later, may have been written once more
    within that moment: its times prove nothing.
  * A shard of the version before is read once for all pages that ask for it at the same time; at
    most `PARENT_SHARDS_KEPT_MAX` are kept, beside those that pages are being compared with.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.compute as pc

from indexer.limits import PARENT_SHARDS_KEPT_MAX
from indexer.manifest import Manifest
from indexer.objects import Checksum
from indexer.page import SCHEMA, Page, with_prefix

ReadShard = Callable[[str], Awaitable[pa.Table]]

_COMPARED = ("size", "etag_md5", "etag_parts", "etag_raw", "version_id", "mtime_ns")
NS_PER_MS: Final = 1_000_000

MODIFIED_SLACK_S: Final = 2.0
"""File systems tell times by clocks that tick each 4 ms to 2 s."""

_CARRIED = ("checksum_algorithm", "checksum_type", "checksum")


class Carry:
    """The version before, asked for the checksums of unchanged entries.

    `algorithm` narrows them to checksums of whole objects by it; None takes any. `seen_at` is when
    its objects were last looked at.
    """

    def __init__(
        self,
        manifest: Manifest,
        read_shard: ReadShard,
        seen_at: datetime,
        *,
        algorithm: str | None = None,
    ) -> None:
        self._shards = manifest.shards
        self._ends = [shard.max_path for shard in manifest.shards]
        self._read_shard = read_shard
        self._rest_since = seen_at - timedelta(seconds=MODIFIED_SLACK_S)
        self._algorithm = algorithm
        self._kept: dict[str, pa.Table] = {}
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def checksums(self, page: Page, path_prefix: bytes = b"") -> dict[int, Checksum]:
        """The checksums of those rows of a page that are unchanged, by row.

        The page's paths stand below `path_prefix`.
        """
        found: dict[int, Checksum] = {}
        if not page.num_rows:
            return found
        paths = (with_prefix(page, path_prefix) if path_prefix else page).column("path")
        first = bisect_left(self._ends, paths[0].as_py())
        last = paths[-1].as_py()
        for shard in self._shards[first:]:
            before = await self._shard(shard.digest)
            found |= self._unchanged(page, paths, before)
            if shard.max_path >= last:
                break
        return found

    async def _shard(self, digest: str) -> pa.Table:
        # A lock, not a task that all wait for: if its reader is cancelled, the next one reads.
        async with self._reading.setdefault(digest, asyncio.Lock()):
            table = self._kept.pop(digest, None)
            if table is None:
                table = await self._read_shard(digest)
            self._kept[digest] = table
            while len(self._kept) > PARENT_SHARDS_KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            return table

    def _unchanged(self, page: Page, paths: pa.Array, before: pa.Table) -> dict[int, Checksum]:
        if "checksum" not in before.schema.names:
            return {}
        before = _between(before, paths[0].as_py(), paths[-1].as_py())
        if not before.num_rows:
            return {}
        places = pc.index_in(paths, value_set=before.column("path").combine_chunks())
        rows = pa.array(range(page.num_rows), pa.int64()).filter(pc.is_valid(places))
        if not len(rows):
            return {}
        then = before.take(places.drop_null())
        now = page.take(rows)
        same = _same(now, then, self._rest_since)
        if self._algorithm is not None:
            is_it = pc.and_(
                pc.equal(then.column("checksum_algorithm"), self._algorithm),
                pc.equal(then.column("checksum_type"), "full_object"),
            )
            same = pc.and_(same, is_it)
        same = pc.fill_null(pc.and_(same, pc.is_valid(then.column("checksum"))), fill_value=False)
        carried = then.select(_CARRIED).filter(same)
        columns = (carried.column(name).to_pylist() for name in _CARRIED)
        return {
            row: Checksum(name, value, kind)
            for row, name, kind, value in zip(
                pc.filter(rows, same).to_pylist(), *columns, strict=True
            )
        }


def _between(rows: pa.Table, first: bytes, last: bytes) -> pa.Table:
    """The rows from one path to another: a page is a small part of most shards."""
    paths = rows.column("path")

    def path_at(row: int) -> bytes:
        return paths[row].as_py()  # type: ignore[no-any-return]

    start = bisect_left(range(rows.num_rows), first, key=path_at)
    end = bisect_right(range(rows.num_rows), last, lo=start, key=path_at)
    return rows.slice(start, end - start)


def _same(now: Page, then: pa.Table, rest_since: datetime) -> pa.ChunkedArray:
    """Whether rows are of the same objects; null where nothing can tell."""
    (size, size_then), md5, parts, raw, version, mtime = (
        (_column(now, name), _column(then, name)) for name in _COMPARED
    )
    pins = [pc.and_(pc.is_valid(one), pc.not_equal(one, "null")) for one in version]
    by_version = pc.and_(
        pc.fill_null(pins[0], fill_value=False), pc.fill_null(pins[1], fill_value=False)
    )
    has_etags = [pc.or_(pc.is_valid(a), pc.is_valid(b)) for a, b in zip(md5, raw, strict=True)]
    by_etag = pc.and_(*has_etags)
    etag_equal = pc.and_(pc.and_(_equal(*md5), _equal(*parts)), _equal(*raw))
    size_equal = pc.equal(size, size_then)
    # Who has a checksum needs no modification time to be told apart: that of a file is then only
    # observed, in milliseconds.
    modified = pc.cast(pc.divide(mtime[0], NS_PER_MS), pa.timestamp("ms", tz="UTC"))
    modified_then = _column(then, "last_modified")
    rested = pc.less(modified_then, pa.scalar(rest_since, pa.timestamp("ms", tz="UTC")))
    mtime_equal = pc.and_(pc.equal(modified, modified_then), rested)
    return pc.case_when(
        pc.make_struct(by_version, by_etag),
        pc.equal(*version),
        pc.and_(etag_equal, size_equal),
        pc.and_(mtime_equal, size_equal),
    )


def _equal(one: pa.Array, other: pa.Array) -> pa.Array:
    """Whether values are equal, two nulls being so."""
    both_null = pc.and_(pc.is_null(one), pc.is_null(other))
    return pc.or_(both_null, pc.fill_null(pc.equal(one, other), fill_value=False))


def _column(rows: Page | pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        return pa.nulls(rows.num_rows, SCHEMA.field(name).type)
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
