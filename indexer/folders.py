"""Folder index: what is directly in a folder of a version, without a look at what lies below.

    children(parent, name, rows)

A folder's children are rows. A row is one of two things. Either it is a sub-folder, whose name ends
in `/`: how many entries lie below it and their bytes, and the ordinal of its first entry in the
manifest. Or it is a run: direct entries that follow one another, up to the next sub-folder; it is
named by the first of them, and the entries themselves stay in the shards. A folder that has
sub-folders has an id, the `parent` of its rows, which are kept so many together as a block under
the first one's name. A folder that has none is its own run, and needs no rows. The version itself
is the row without a name whose parent is 0.

Invariants
  * A folder is what paths make it, byte by byte, up to and with a `/`: `a//b` lies in the folder
    `/` of `a/`. Each entry stands directly in one folder. An object `a/` is the entry without a
    name in the folder `a/`, and there is its first child.
  * Children come in path order. In that order whatever lies below a folder is contiguous, so a run
    is a range of ordinals.
  * The file is derived from the shards and from nothing else. Whatever is not as it was built
    raises `UnreadableIndex`: it can be made anew.
  * Building takes one shard, a chain of open folders with a block each, and so many rows that wait
    to be written; a page, the rows of its children and so many shards, one at a time. Neither
    depends on the size of the version or of the folder.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate, count, pairwise, repeat
from operator import sub
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from indexer.entries import entries_of
from indexer.limits import CATALOG_ROWS_MAX, FOLDER_PAGE_SHARDS_MAX, FOLDER_ROWS_WAITING_MAX
from indexer.manifest import Manifest
from indexer.records import Entry, Folder, FolderPage
from workers.threads import Threads

REVISION: Final = 1
"""Of the file's layout; a file of another one is unreadable."""

BLOCK_ROWS: Final = 256
"""Rows that are one row of SQLite, which takes over a microsecond for each: so a million folders
side by side are 4,000 of them. A block is read in some 100 µs."""

ReadShard = Callable[[str], Awaitable[pa.Table]]
"""From a shard's digest to its rows, which were verified."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]

_SCHEMA: Final = """
CREATE TABLE children (
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    rows BLOB NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID
"""

_ABOVE_ROOT: Final = 0
"""The parent of the version's own row."""


class UnreadableIndex(Exception):
    """The file is not there, is damaged, or was not built of this manifest."""


class _Row(NamedTuple):
    """A sub-folder, with an id where it has sub-folders itself; or a run, without one."""

    name: bytes
    id: Count | None
    objects: Count
    size_bytes: Count
    first: Count

    @property
    def is_folder(self) -> bool:
        return self.name.endswith(b"/")


_Fields: TypeAlias = tuple[bytes, int | None, int, int, int]
"""A row as it is packed, which takes no time to make."""


# --- building ------------------------------------------------------------------------------------


class FolderIndexBuilder:
    """Takes a version's shards in order, and writes their index to a new file. Blocks.

    It may be called from any thread, from one at a time. The file is whole once `finish` returned,
    and is not flushed to the disk. Raises `sqlite3.Error` when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._ids = count(_ABOVE_ROOT + 1)
        self._encoder = msgspec.msgpack.Encoder()
        self._ordinal = 0
        self._open = [_Open(b"", 0, id=_ABOVE_ROOT), _Open(b"", 0)]
        self._waiting: list[tuple[int, bytes, bytes]] = []
        self._rows_waiting = 0

    def add(self, rows: pa.Table) -> None:
        """Takes the next shard's rows."""
        groups = _Groups.of(rows, self._ordinal)
        for start, stop in pairwise(groups.siblings):
            self._take(groups, start)
            if stop - start > 1:
                # Those between two siblings are whole, and without sub-folders.
                self._take_whole(groups, start + 1, stop - 1)
                self._take(groups, stop - 1)
            if self._rows_waiting >= FOLDER_ROWS_WAITING_MAX:
                self._write()
        self._ordinal += rows.num_rows

    def finish(self) -> None:
        """Writes what is left; there is nothing to be added any more."""
        while len(self._open) > 1:
            self._leave()
        self._pack(self._open[0])
        self._write().execute("COMMIT")
        self.close()

    def close(self) -> None:
        """Lets go of the file, whole or not."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take(self, groups: _Groups, index: int) -> None:
        folder = groups.folders[index]
        first, end = groups.ordinals[index : index + 2]
        before, sum_bytes = groups.sums_bytes[index : index + 2]
        self._enter(folder[1:] + b"/" if folder else b"", first)
        top = self._open[-1]
        if not top.run_objects:
            top.run_path, top.run_first = groups.paths[index], first
        top.run_objects += end - first
        top.run_bytes += sum_bytes - before
        top.objects += end - first
        top.size_bytes += sum_bytes - before

    def _take_whole(self, groups: _Groups, start: int, stop: int) -> None:
        """Takes groups each of which is all of a folder, beside the one that was taken last."""
        if start == stop:
            return
        self._leave()
        above = self._open[-1]
        names = [folder[1 + len(above.path) :] + b"/" for folder in groups.folders[start:stop]]
        ordinals = groups.ordinals[start : stop + 1]
        sums_bytes = groups.sums_bytes[start : stop + 1]
        objects = map(sub, ordinals[1:], ordinals)
        sizes_bytes = map(sub, sums_bytes[1:], sums_bytes)
        above.rows.extend(zip(names, repeat(None), objects, sizes_bytes, ordinals, strict=False))
        above.objects += ordinals[-1] - ordinals[0]
        above.size_bytes += sums_bytes[-1] - sums_bytes[0]
        self._pack_whole_blocks(above)

    def _enter(self, folder: bytes, ordinal: int) -> None:
        while not folder.startswith(self._open[-1].path):
            self._leave()
        top = self._open[-1]
        while len(top.path) < len(folder):
            if top.id is None:
                top.id = next(self._ids)
            top.end_run()
            top = _Open(folder[: folder.index(b"/", len(top.path)) + 1], ordinal)
            self._open.append(top)

    def _leave(self) -> None:
        folder = self._open.pop()
        if folder.id is not None:
            folder.end_run()
            self._pack(folder)
        above = self._open[-1]
        above.objects += folder.objects
        above.size_bytes += folder.size_bytes
        name = folder.path[len(above.path) :]
        above.rows.append(_Row(name, folder.id, folder.objects, folder.size_bytes, folder.first))
        if len(above.rows) >= BLOCK_ROWS:
            self._pack_whole_blocks(above)

    def _pack_whole_blocks(self, folder: _Open) -> None:
        rest = len(folder.rows) % BLOCK_ROWS
        left = folder.rows[len(folder.rows) - rest :]
        del folder.rows[len(folder.rows) - rest :]
        self._pack(folder)
        folder.rows = left

    def _pack(self, folder: _Open) -> None:
        assert folder.id is not None
        for start in range(0, len(folder.rows), BLOCK_ROWS):
            block = folder.rows[start : start + BLOCK_ROWS]
            self._waiting.append((folder.id, block[0][0], self._encoder.encode(block)))
            self._rows_waiting += len(block)

    def _write(self) -> sqlite3.Connection:
        if self._connection is None:
            # Any thread may come next; without an isolation level the driver begins nothing itself.
            self._connection = sqlite3.connect(
                self._path, check_same_thread=False, isolation_level=None
            )
            # A file that was not finished is thrown away, so nothing is kept to repair it.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(f"PRAGMA user_version = {REVISION}")
            self._connection.execute("BEGIN")
            self._connection.execute(_SCHEMA)
        self._connection.executemany("INSERT INTO children VALUES (?, ?, ?)", self._waiting)
        self._waiting.clear()
        self._rows_waiting = 0
        return self._connection


@dataclass(slots=True)
class _Open:
    """A folder that more entries may come for: rows to be packed, and the run since the last."""

    path: bytes
    first: int
    id: int | None = None
    objects: int = 0
    size_bytes: int = 0
    rows: list[_Fields] = field(default_factory=list)
    run_path: bytes = b""
    run_first: int = 0
    run_objects: int = 0
    run_bytes: int = 0

    def end_run(self) -> None:
        """Makes a row of the run, if there is one."""
        if self.run_objects:
            name = self.run_path[len(self.path) :]
            self.rows.append(_Row(name, None, self.run_objects, self.run_bytes, self.run_first))
            self.run_objects = self.run_bytes = 0


@dataclass(frozen=True, slots=True)
class _Groups:
    """A shard's rows in groups, each of which follows one another directly in one folder.

    `folders` have a slash before them and none at their end; the root is empty. `paths` are those
    of each group's first row. `ordinals` and `sums_bytes` are bounds: what is before each group,
    and after the last. `siblings` are bounds of groups whose folders lie in the same folder.
    """

    folders: list[bytes]
    paths: list[bytes]
    ordinals: list[int]
    sums_bytes: list[int]
    siblings: list[int]

    @classmethod
    def of(cls, rows: pa.Table, ordinal: int) -> _Groups:
        """The groups of rows, as columns: a version has far more entries than folders."""
        empty = pa.scalar(b"", pa.binary())
        paths = rows.column("path").combine_chunks()
        folders = pc.run_end_encode(_all_but_name(pc.binary_join_element_wise(empty, paths, b"/")))
        ends = folders.run_ends
        sums_bytes = pc.cumulative_sum(rows.column("size").combine_chunks())
        bounds = [0, *ends.to_pylist()]
        # The root has nothing above it, and so no sibling.
        above = pc.if_else(pc.equal(folders.values, empty), None, _all_but_name(folders.values))
        return cls(
            folders=folders.values.to_pylist(),
            paths=paths.take(pa.array(bounds[:-1], pa.int32())).to_pylist(),
            ordinals=[ordinal + bound for bound in bounds],
            sums_bytes=[0, *sums_bytes.take(pc.subtract(ends, 1)).to_pylist()],
            siblings=[0, *pc.run_end_encode(above).run_ends.to_pylist()],
        )


def _all_but_name(paths: pa.Array) -> pa.Array:
    """What stands before the last slash."""
    return pc.list_element(pc.split_pattern(paths, "/", max_splits=1, reverse=True), 0)


# --- reading -------------------------------------------------------------------------------------


class FolderReader:
    """Pages of a version's folders, from the index in the file at `path`.

    Raises `UnreadableIndex`, and what `read_shard` raises.
    """

    def __init__(
        self, path: Path, manifest: Manifest, read_shard: ReadShard, threads: Threads
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._read_shard = read_shard
        self._threads = threads

    async def children(
        self, prefix: bytes = b"", after: bytes | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> FolderPage:
        """What stands directly in a folder, in path order, from the first path after `after` on.

        The folder is `prefix` up to its last slash; what follows that narrows the children. A
        folder that is not there has none. A page may end early, so as to read no more than
        `FOLDER_PAGE_SHARDS_MAX` shards. It has children unless it is the last one.
        """
        assert limit > 0
        lowest = prefix if after is None else max(prefix, after + b"\0")
        if not lowest.startswith(prefix):
            return FolderPage((), None)
        folder = prefix[: prefix.rfind(b"/") + 1]
        # The first row may lie before all that is wanted, and the last one says that there is more.
        rows = await self._threads.run(
            _find, self._path, self._manifest, folder, lowest[len(folder) :], limit + 2
        )
        folders: list[Folder] = []
        entries = _DirectEntries(self._manifest, self._read_shard, folder, prefix, lowest)
        has_more = False
        for row in rows:
            path = folder + row.name
            room = limit - len(folders) - entries.taken
            if path > prefix and not path.startswith(prefix):
                break
            if room <= 0:
                has_more = True
            elif not row.is_folder:
                has_more = await entries.take(row, room)
            elif path >= lowest:
                folders.append(Folder(path, row.objects, row.size_bytes))
            if has_more:
                break
        children: list[Entry | Folder] = [*folders, *entries.finish()]
        # Both are in order, which makes the sort a merge.
        children.sort(key=lambda child: child.path)
        if has_more and not children:
            raise UnreadableIndex(f"{self._path} has runs without entries")
        return FolderPage(tuple(children), children[-1].path if has_more else None)


class _DirectEntries:
    """The direct entries on one page: shards are read in order, each once, one held at a time."""

    def __init__(
        self,
        manifest: Manifest,
        read_shard: ReadShard,
        folder: bytes,
        prefix: bytes,
        lowest: bytes,
    ) -> None:
        self.taken = 0
        self._manifest = manifest
        self._read_shard = read_shard
        self._folder = folder
        self._prefix = prefix
        self._lowest = lowest
        self._starts = list(accumulate((shard.rows for shard in manifest.shards), initial=0))
        self._shard_min = bisect_left(manifest.shards, lowest, key=lambda shard: shard.max_path)
        self._reads_left = FOLDER_PAGE_SHARDS_MAX
        self._index = -1
        self._table: pa.Table = None
        self._rows: list[int] = []
        self._entries: list[Entry] = []

    async def take(self, run: _Row, room: int) -> bool:
        """Takes up to `room` wanted entries of a run, and says whether there may be more.

        There may be for want of room, or because no other shard may be read.
        """
        end = run.first + run.objects
        if end > self._starts[-1]:
            raise UnreadableIndex(f"{run} ends after the last entry")
        index = max(bisect_right(self._starts, run.first) - 1, self._shard_min)
        while self._starts[index] < end:
            if not (room and await self._open(index)):
                return True
            start, stop = self._starts[index], min(self._starts[index + 1], end)
            if start <= run.first:
                self._check_start(run, run.first - start)
            wanted = self._wanted(max(run.first - start, 0), stop - start)
            taken = wanted[:room]
            self._rows.extend(taken)
            self.taken += len(taken)
            room -= len(taken)
            if wanted.stop < stop - start or taken != wanted:
                return taken != wanted
            index += 1
        return False

    def finish(self) -> list[Entry]:
        """All that was taken, in order."""
        self._convert()
        for entry in self._entries:
            path = entry.path
            if not path.startswith(self._folder) or b"/" in path[len(self._folder) :]:
                raise UnreadableIndex(f"{path!r} is not directly in the folder {self._folder!r}")
        return self._entries

    async def _open(self, index: int) -> bool:
        if index != self._index:
            if not self._reads_left:
                return False
            self._convert()
            self._reads_left -= 1
            self._table = None
            self._table = await self._read_shard(self._manifest.shards[index].digest)
            self._index = index
        return True

    def _check_start(self, run: _Row, row: int) -> None:
        path = self._table.column("path")[row].as_py()
        if not path.startswith(self._folder + run.name):
            raise UnreadableIndex(f"{run} does not start with {path!r}")

    def _wanted(self, start: int, stop: int) -> range:
        """Those of the open shard's rows whose paths are wanted: they follow one another."""
        paths = self._table.column("path")
        rows = range(stop)
        first = bisect_left(rows, self._lowest, lo=start, key=lambda row: paths[row].as_py())
        return range(
            first,
            bisect_left(
                rows, 1, lo=first, key=lambda row: not paths[row].as_py().startswith(self._prefix)
            ),
        )

    def _convert(self) -> None:
        if self._rows:
            rows = self._table.take(pa.array(self._rows, pa.int64()))
            self._entries += entries_of(rows, self._manifest.sources)
            self._rows.clear()


def _find(path: Path, manifest: Manifest, folder: bytes, lowest: bytes, limit: int) -> list[_Row]:
    """Up to `limit` rows of a folder by name, from the one on that may hold the name `lowest`.

    Of a folder without sub-folders it is its own row, as a run. Blocks.
    """
    try:
        # Nobody changes a file that is whole, so no lock has to be asked for.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            row = _find_root(connection, manifest)
            for name in folder.split(b"/")[:-1]:
                found = _select(connection, row.id, name + b"/", 1)
                if not found or found[0].name != name + b"/":
                    return []
                row = found[0]
            if row.id is None:
                return [row._replace(name=b"")]
            return _select(connection, row.id, lowest, limit)
    except (sqlite3.Error, msgspec.MsgspecError, TypeError, ValueError) as error:
        # A damaged file may hold anything: also text that is none, where SQLite says what is wrong.
        raise UnreadableIndex(f"{path} cannot be read: {error}") from error


def _find_root(connection: sqlite3.Connection, manifest: Manifest) -> _Row:
    (revision,) = connection.execute("PRAGMA user_version").fetchone()
    if revision == REVISION:
        for row in _select(connection, _ABOVE_ROOT, b"", 1):
            if (row.first, row.objects, row.size_bytes) == (0, manifest.rows, manifest.size_bytes):
                return row
    raise UnreadableIndex("it is not the index of this manifest")


_BLOCKS: Final = """
SELECT rows FROM children
WHERE parent = :parent AND name >= coalesce((
    SELECT name FROM children WHERE parent = :parent AND name <= :name ORDER BY name DESC LIMIT 1
), :name)
ORDER BY name
"""

_decoder: Final = msgspec.msgpack.Decoder(list[_Row])


def _select(
    connection: sqlite3.Connection, parent: int | None, name: bytes, limit: int
) -> list[_Row]:
    """Up to `limit` rows, from the last one on that is not after `name`, or from the first one."""
    rows: list[_Row] = []
    for (block,) in connection.execute(_BLOCKS, {"parent": parent, "name": name}):
        rows += _decoder.decode(block)
        del rows[: max(bisect_right(rows, name, key=lambda row: row.name) - 1, 0)]
        if len(rows) >= limit:
            break
    return rows[:limit]
