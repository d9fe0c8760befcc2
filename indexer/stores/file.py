"""Files below a folder of this machine, on a disk or a file server, as a store.

Invariants
  * A file is identified by its path, size and modification time; a name is its bytes, text or not.
  * What is no file, or a link that is not followed, is left out and counted. Whatever else cannot
    be read raises an error that names it: nothing is silently missing.
  * The event loop waits for no disk: everything is asked for on threads, in batches.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import pyarrow as pa

from indexer.errors import Ability, IndexerError, InvalidSetting, NoSuchObject
from indexer.keyspace import Key, KeyRange
from indexer.limits import FILE_CALLS_AT_ONCE_MAX, FILES_PER_CALL, PAGE_ROWS, PATH_BYTES_MAX
from indexer.objects import Head, Pin, page_of_heads
from indexer.page import Page, empty_page, make_page
from indexer.protocols import (
    FileOptions,
    ListedPage,
    LoneObject,
    OpenedSource,
    Sink,
    StoreProperties,
    Symlinks,
)
from indexer.sources import SourceUri, uri_below
from indexer.stores.file_bytes import (
    FileCopying,
    FileHashing,
    FileReading,
    hash_batches,
    mtime_ns_of,
    split_key,
)
from indexer.stores.file_errors import NOWHERE, translated
from indexer.stores.file_left_out import LeftOut
from indexer.stores.file_root import Root
from indexer.stores.tree import Tree, Window
from workers.clock import Clock, SystemClock
from workers.errors import single_error
from workers.lanes import Lanes
from workers.threads import Threads

PROPERTIES: Final = StoreProperties(
    key_bytes_max=PATH_BYTES_MAX, resume="directory", digests=True, copies=True
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_MS: Final = 1_000_000


class FileConnection:
    """The file systems of this machine. See `protocols.Connection`.

    All that is asked of them is asked on `threads`: as many of them as there are, so many answers
    of a file server are waited for at once.
    """

    def __init__(
        self,
        threads: Threads,
        options: FileOptions,
        *,
        clock: Clock | None = None,
        page_entries: int = PAGE_ROWS,
    ) -> None:
        self._threads = threads
        self._options = options
        self._clock = clock or SystemClock()
        self._page_entries = page_entries

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`. There is nothing that a file system could do without."""
        del without
        _check_moment(uri, as_of)
        folder = str(uri.folder)
        with translated(folder):
            store = await self._threads.run(self._opened, uri, self._options.symlinks)
        record = {"uri": folder, "operation": "scandir", "symlinks": self._options.symlinks}
        return OpenedSource(
            folder=folder,
            store=store,
            record=record,
            opened_at=self._clock.now(),
            notices=store.notices,
        )

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`. Links on the way to the file are followed: the user named it.

        What is no regular file is no object.
        """
        _check_moment(uri, as_of)
        if uri.names_folder:
            return None
        with translated(str(uri)):
            return await self._threads.run(self._lone_object, uri)

    async def credentials(self) -> str:
        """See `protocols.Connection`."""
        return f"the rights of this process (user id {os.getuid()})"

    async def objects(self, uri: SourceUri) -> FileStore:
        """See `protocols.Connection`."""
        # Whoever names a file means what it leads to.
        symlinks = self._options.symlinks if uri.names_folder else "follow"
        return self._store(uri.parent, symlinks)

    def _opened(self, uri: SourceUri, symlinks: Symlinks) -> FileStore:
        store = self._store(uri.folder, symlinks)
        try:
            store.root.check()
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
        return store

    def _store(self, folder: SourceUri, symlinks: Symlinks) -> FileStore:
        left_out = LeftOut()
        root = Root(_path_of(folder), symlinks, left_out)
        return FileStore(
            root, left_out, str(folder), self._threads, page_entries=self._page_entries
        )

    def _lone_object(self, uri: SourceUri) -> LoneObject | None:
        path = _path_of(uri)
        try:
            said = os.stat(path)  # noqa: PTH116 - the path is bytes
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            return None
        if not stat.S_ISREG(said.st_mode):
            return None
        store = self._store(uri.parent, "follow")
        return LoneObject(page_of_heads([(split_key(path)[1], _head_of(said))]), store)


class FileStore:
    """The files below a root, whose canonical URI is `folder`. See `protocols.Store`."""

    def __init__(
        self,
        root: Root,
        left_out: LeftOut,
        folder: str,
        threads: Threads,
        *,
        page_entries: int = PAGE_ROWS,
    ) -> None:
        self.root = root
        self._left_out = left_out
        self._folder = folder
        self._threads = threads
        self._tree = Tree(self._children, page_entries=page_entries)
        self._scanning, self._asking, self._hashing = (
            Lanes(threads, FILE_CALLS_AT_ONCE_MAX) for _ in range(3)
        )
        # Long files need no turns to be hashed: each processor may be busy with one.
        self._hashing_long = Lanes(threads, FILE_CALLS_AT_ONCE_MAX, start=os.cpu_count() or 1)

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return PROPERTIES

    def notices(self) -> tuple[str, ...]:
        """What was left out of the listings so far, in a sentence for each reason."""
        return self._left_out.sentences()

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`. It goes on as long as something follows within `keys`.

        A file that is removed while it is listed has an entry and no row.
        """
        page = await self._tree.list_names(keys, prefix=prefix, token=token)
        rows = _page_of(page.paths, await self._stats(page.paths))
        return ListedPage.of_keys(rows, page.paths, more=page.more, token=page.token)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`; what it knows without reading is in its rows."""
        del checksum
        (said,) = await self._threads.run(self._stats_of, [key])
        if said is None or version_id is not None:
            raise NoSuchObject(f"{uri_below(self._folder, key)}: there is no such file.")
        return _head_of(said)

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        uri = uri_below(self._folder, key)
        reading = FileReading(self.root, key, pin, uri, start=start, end=end)
        try:
            while not reading.is_done:
                with translated(uri):
                    data = await self._threads.run(reading.go_on)
                if data:
                    await sink.write(data)
        finally:
            reading.let_go()

    async def copy(self, key: Key, pin: Pin, descriptor: int) -> None:
        """See `protocols.Copying`."""
        uri = uri_below(self._folder, key)
        copying = FileCopying(self.root, key, pin, uri, descriptor)
        try:
            while not copying.is_done:
                with translated(uri):
                    await self._threads.run(copying.go_on)
                if copying.failure is not None:
                    raise copying.failure
        finally:
            copying.let_go()

    async def digests(
        self, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> list[bytes | IndexerError]:
        """See `protocols.Digesting`. Raises `InvalidSetting` for an unknown algorithm."""
        batches = [
            FileHashing(self.root, self._folder, some, algorithm) for some in hash_batches(objects)
        ]
        waiting = iter(batches)
        with single_error():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(batches), FILE_CALLS_AT_ONCE_MAX)):
                    group.create_task(self._hash_all(waiting))
        return [found for batch in batches for found in batch.found]

    async def _hash_all(self, batches: Iterator[FileHashing]) -> None:
        for batch in batches:
            try:
                while not batch.is_done:
                    if batch.is_of_long_files:
                        await self._hashing_long.run(batch.go_on, is_typical=batch.is_full)
                    else:
                        await self._hashing.run(batch.go_on, is_typical=batch.is_full)
            finally:
                batch.let_go()

    async def _children(self, folder: bytes, start: bytes, names_max: int) -> Window:
        with translated(uri_below(self._folder, folder)):
            return await self._scanning.run(self.root.window, folder, start, names_max)

    async def _stats(self, paths: Sequence[bytes]) -> list[os.stat_result | None]:
        """What is said of each file, asked for on several threads where there are many."""
        starts = range(0, len(paths), FILES_PER_CALL)
        with single_error():
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(
                        self._asking.run(self._stats_of, paths[start : start + FILES_PER_CALL])
                    )
                    for start in starts
                ]
        return [said for task in asked for said in task.result()]

    def _stats_of(self, paths: Sequence[bytes]) -> list[os.stat_result | None]:
        found: list[os.stat_result | None] = []
        for folder, some in groupby(map(split_key, paths), lambda each: each[0]):
            with translated(uri_below(self._folder, folder)):
                found += self.root.stats(folder, [name for _, name in some])
        return found


def _path_of(uri: SourceUri) -> bytes:
    """The absolute path of a file or folder."""
    return b"/" + os.fsencode(uri.key).rstrip(b"/")


def _check_moment(uri: SourceUri, as_of: datetime | None) -> None:
    if as_of is not None:
        raise InvalidSetting(
            f"{uri}: a file system keeps no earlier versions, so it cannot be shown as it was at a "
            f"moment. Ask for it as it is now."
        )


def _head_of(said: os.stat_result) -> Head:
    mtime_ns = mtime_ns_of(said)
    last_modified = _EPOCH + timedelta(milliseconds=mtime_ns // _NS_PER_MS)
    return Head(size=said.st_size, last_modified=last_modified, mtime_ns=mtime_ns)


def _page_of(paths: Sequence[bytes], stats: Sequence[os.stat_result | None]) -> Page:
    rows = [
        (path, said.st_size, mtime_ns_of(said))
        for path, said in zip(paths, stats, strict=True)
        if said is not None
    ]
    if not rows:
        return empty_page()
    names, sizes, times = zip(*rows, strict=True)
    milliseconds = pa.array([time // _NS_PER_MS for time in times], pa.int64())
    return make_page(
        {
            "path": pa.array(names, pa.binary()),
            "size": pa.array(sizes, pa.int64()),
            "mtime_ns": pa.array(times, pa.int64()),
            "last_modified": milliseconds.cast(pa.timestamp("ms", tz="UTC")),
        }
    )
