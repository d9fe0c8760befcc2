"""The folders of versions: files of folder indexes, and pages from them.

Invariants
  * An index that has its name was whole when it got it: it is built under another name and renamed.
    It is not flushed; what a loss of power leaves of it cannot be read, and is made anew.
  * One that is missing or unreadable is made anew by the first page that needs it, one at a time in
    a process. Other processes may do the same work at the same time, to the same end.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from indexer.catalog.folder import TEMPORARY, FolderBlobStore, usable
from indexer.commit_rules import check_shard
from indexer.content import ContentStore, decode_shard
from indexer.errors import Busy, UnusableDataFolder
from indexer.folders import FolderIndexBuilder, FolderReader, UnreadableIndex
from indexer.limits import CATALOG_ROWS_MAX, FOLDER_INDEX_WAIT_S_MAX
from indexer.manifest import Manifest, ShardRef
from indexer.records import FolderPage
from workers.threads import Threads

Take = Callable[[pa.Table], None]
"""What is given the rows of one shard after another, on a thread."""


class FolderIndexes:
    """The folder indexes in a data folder, by the digests of their manifests."""

    def __init__(self, files: FolderBlobStore, content: ContentStore, threads: Threads) -> None:
        self._files = files
        self._content = content
        self._threads = threads

    async def has(self, digest: str) -> bool:
        """Whether the manifest's index is there, in whatever state."""
        return await self._files.has(_name_of(digest))

    async def build(self, manifest: Manifest, also: Take | None = None) -> None:
        """Makes a manifest's index in one pass over all of its rows, which `also` is given, too.

        What the manifest says is verified. Raises `CorruptContent`, and `UnusableDataFolder` when
        the index cannot be written.
        """
        path = self._files.path_of(_name_of(manifest.digest))
        temporary = path.parent.parent / f"{TEMPORARY}{uuid4().hex}"
        builder = FolderIndexBuilder(temporary)
        previous: ShardRef | None = None
        with _writable(path):
            try:
                await self._threads.run(_make_folder, path.parent)
                for shard in manifest.shards:
                    data = await self._content.shard_bytes(shard.digest)
                    await self._threads.run(_take_shard, shard, data, previous, builder.add, also)
                    previous = shard
                await self._threads.run(_finish, builder, temporary, path)
            finally:
                await self._threads.run(_clean_up, builder, temporary)

    def reader(self, manifest: Manifest) -> FolderReader:
        """Pages from the manifest's index."""
        path = self._files.path_of(_name_of(manifest.digest))
        return FolderReader(path, manifest, self._read_shard, self._threads)

    async def _read_shard(self, digest: str) -> pa.Table:
        data = await self._content.shard_bytes(digest)
        return await self._threads.run(decode_shard, data, digest)


class Folders:
    """Shows folders of versions. `find_manifest` gives a version's manifest by its digest."""

    def __init__(
        self, indexes: FolderIndexes, find_manifest: Callable[[str], Awaitable[Manifest]]
    ) -> None:
        self._indexes = indexes
        self._find_manifest = find_manifest
        self._building = asyncio.Lock()

    async def page(
        self,
        digest: str,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> FolderPage:
        """A page of a folder of the version with that digest; see `FolderReader.children`.

        Raises `NoSuchVersion`, `CorruptContent`, `UnusableDataFolder` when an index has to be made
        and cannot be, and `Busy` when others keep it from that for too long.
        """
        manifest = await self._find_manifest(digest)
        read = partial(self._indexes.reader(manifest).children, prefix, after, limit)
        with suppress(UnreadableIndex):
            return await read()
        async with self._turn():
            # Who had the turn before may have made the same one.
            with suppress(UnreadableIndex):
                return await read()
            await self._indexes.build(manifest)
        try:
            return await read()
        except UnreadableIndex as error:
            raise UnusableDataFolder(
                f"the folder index of {digest} was just made, and cannot be used: {error}. Choose "
                f"another folder with --data."
            ) from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(FOLDER_INDEX_WAIT_S_MAX):
                await self._building.acquire()
        except TimeoutError:
            raise Busy("folder indexes are being made for other requests; ask again.") from None
        try:
            yield
        finally:
            self._building.release()


def _name_of(manifest_digest: str) -> str:
    return f"folders/{manifest_digest.removeprefix('sha256:')}"


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    data_folder = path.parents[2]
    with usable(data_folder):
        try:
            yield
        except sqlite3.Error as error:
            raise UnusableDataFolder(
                f"the folder index {path} cannot be written: {error}. Free some space, or choose "
                f"another folder with --data."
            ) from error


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _take_shard(
    shard: ShardRef, data: bytes, previous: ShardRef | None, take: Take, also: Take | None
) -> None:
    rows = decode_shard(data, shard.digest)
    check_shard(shard, rows, previous)
    take(rows)
    if also is not None:
        also(rows)


def _finish(builder: FolderIndexBuilder, temporary: Path, path: Path) -> None:
    builder.finish()
    temporary.replace(path)


def _clean_up(builder: FolderIndexBuilder, temporary: Path) -> None:
    builder.close()
    temporary.unlink(missing_ok=True)
