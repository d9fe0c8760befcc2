"""Handle: a version, and what whoever uses it may ask of it; asynchronous.

    async with indexer.connect(url) as client:
        version = await client.open("project/artifact:latest")
        await version.download("out", prefix="train/")

Invariants
  * The verbs, and what they are given, are those of `indexer.Version`, which waits for them.
  * It works on a data folder and on a daemon alike: all that it is told it asks of a `Workspace`.
  * What it says of the version was true when it was opened; what the version holds never changes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pyarrow as pa

from indexer.artifact.diff.diff import Diff, find_diff
from indexer.artifact.download.cache import CacheOptions
from indexer.artifact.download.download import (
    DownloadOptions,
    DownloadResult,
    DownloadTally,
    default_root,
    download,
)
from indexer.artifact.entries import Selection, read_entries
from indexer.artifact.links import EntryLink, check_expiry, links_of
from indexer.artifact.originals import Originals
from indexer.artifact.query.columns import entries_frame, quoted_name
from indexer.artifact.query.results import Comparison, Result
from indexer.artifact.verify.references import ReferenceReport, Tell, verify_references
from indexer.artifact.verify.structure import verify_structure
from indexer.artifact.verify.tiling import read_tiling
from indexer.commit_rules import check_ttl
from indexer.errors import CorruptContent, InvalidSetting
from indexer.label_rules import plain, words
from indexer.limits import LINEAGE_DEPTH_DEFAULT, LINK_EXPIRES_S_DEFAULT
from indexer.manifest import Manifest
from indexer.protocols import ANYWHERE
from indexer.records import Direction, LabelChange, Lineage, StructureReport, VersionRecord
from indexer.references import VersionRef, parse_beside, parse_reference
from indexer.telemetry import Counters
from indexer.texts import path_bytes
from indexer.wire.query import CompareOrder, QueryOrder
from indexer.workspace import Workspace
from workers.threads import Threads

if TYPE_CHECKING:
    import pandas as pd

COMPARING_THREADS: Final = 2
"""Reading and comparing are half of the work each."""

TABLES_SQL: Final = "SELECT path, format, size, uri FROM tables ORDER BY path"


@dataclass(frozen=True, slots=True)
class Handle:
    """A version that was opened."""

    workspace: Workspace
    record: VersionRecord

    @classmethod
    async def open(cls, workspace: Workspace, ref: VersionRef | str) -> Handle:
        """The version that `ref` names. Raises `InvalidReference` and `NoSuchVersion`."""
        wanted = parse_reference(ref) if isinstance(ref, str) else ref
        return cls(workspace, await workspace.version(wanted))

    @property
    def ref(self) -> VersionRef:
        """The version by its number, which never means another one."""
        return VersionRef(self.record.name, f"v{self.record.number}")

    async def manifest(self) -> Manifest:
        """What it holds: its sources and shards."""
        return await self.workspace.manifest(self.record.digest)

    async def entries(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> AsyncGenerator[pa.Table]:
        """The entries whose paths start with `prefix` and that the globs keep, in key order.

        A table holds those of one shard, with the columns of `page.SCHEMA` that have a value.
        Raises `CorruptContent`, and `InvalidSetting` for what is no glob.
        """
        selection = Selection.made(prefix, include, exclude)
        async for table in read_entries(self.workspace, await self.manifest(), selection.prefix):
            rows = pa.array(selection.of(table), pa.int64()) if selection.filters else None
            kept = table if rows is None else table.take(rows)
            if kept.num_rows:
                yield kept

    async def to_pandas(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The same entries as one data frame, with the columns that SQL has.

        Raises what `entries` does, and `UsageError` where pandas is not installed.
        """
        entries = self.entries(prefix, include=include, exclude=exclude)
        tables = [table async for table in entries]
        return entries_frame(tables, (await self.manifest()).sources, str(self.ref))

    async def beside(self, other: Handle | VersionRef | str) -> Handle:
        """Another version, which of the same artifact may be named as `v3`, an alias or digest.

        Raises `InvalidReference` and `NoSuchVersion`.
        """
        if isinstance(other, Handle):
            return other
        wanted = parse_beside(other, self.record.name) if isinstance(other, str) else other
        return await Handle.open(self.workspace, wanted)

    @asynccontextmanager
    async def diff(
        self, other: Handle | VersionRef | str, *, prefix: str | bytes = b""
    ) -> AsyncIterator[Diff]:
        """What changed below a prefix since another version: what is added is in this one.

        `other` is one that `beside` takes. The diff may be asked for as long as the block lasts.
        Raises `InvalidReference`, `NoSuchVersion` and `CorruptContent`.
        """
        old, new = await (await self.beside(other)).manifest(), await self.manifest()
        async with Threads(COMPARING_THREADS) as threads:
            yield await find_diff(
                self.workspace, old, new, threads=threads, prefix=path_bytes(prefix)
            )

    async def lineage(
        self, *, direction: Direction = "both", depth: int = LINEAGE_DEPTH_DEFAULT
    ) -> Lineage:
        """What it came from, and what came from it. See `Workspace.lineage`."""
        if direction not in get_args(Direction):
            raise InvalidSetting(f"{direction!r} is no direction: write up, down or both.")
        return await self.workspace.lineage(self.ref, direction=direction, depth=depth)

    async def change(
        self,
        *,
        notes: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> Handle:
        """Changes what is said of it, and returns it as it is then.

        What is None stays as it is; `tags` take the place of those that it has. Raises
        `InvalidSetting`, and `InvalidReference` for what is no tag.
        """
        change = LabelChange(
            notes=notes,
            description=description,
            metadata=None if metadata is None else plain(metadata),
            tags=None if tags is None else words(tags),
            add_tags=words(add_tags),
            remove_tags=words(remove_tags),
        )
        name, number = self.record.name, self.record.number
        return replace(self, record=await self.workspace.change_version(name, number, change))

    async def set_alias(self, alias: str, *, expect: int | None = ANYWHERE) -> Handle:
        """Lets an alias mean it, and returns it as it is then. See `Workspace.set_alias`."""
        name, number = self.record.name, self.record.number
        record = await self.workspace.set_alias(name, alias, number, expect=expect)
        return replace(self, record=record)

    async def expire_after(self, ttl: timedelta | None) -> Handle:
        """Lets it expire so long from now, or never, and returns it as it is then.

        Raises `InvalidSetting` for more than 100 years.
        """
        if ttl is not None and ttl > timedelta(0):
            check_ttl(ttl)
        expires_at = None if ttl is None else datetime.now(UTC) + ttl
        name, number = self.record.name, self.record.number
        return replace(self, record=await self.workspace.set_expiry(name, number, expires_at))

    async def remove(self) -> None:
        """Deletes it; its number is not given again. Raises `Protected`."""
        await self.workspace.remove_version(self.record.name, self.record.number)

    async def verify_structure(self, counters: Counters | None = None) -> StructureReport:
        """Proves, without asking a store, that what is kept of the version is whole."""
        return await verify_structure(self.workspace, self.record, counters)

    async def verify(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tell: Tell | None = None,
        counters: Counters | None = None,
    ) -> ReferenceReport:
        """Looks whether its objects can still be fetched, without reading them.

        Entries are looked at whose paths start with `prefix` and that the globs keep. `tell` is
        called for each that cannot be fetched, in the order of their paths.
        """
        selection = Selection.made(prefix, include, exclude)
        manifest = await self.manifest()
        created, *_ = await self.workspace.scans(self.ref, limit=1)
        async with self.originals(counters) as originals:
            return await verify_references(
                self.workspace,
                manifest,
                originals,
                ref=str(self.ref),
                selection=selection,
                as_of=self.record.as_of,
                scanned_at=created.finished_at,
                spreads=await self._spreads(created.id, len(manifest.sources)),
                tell=tell,
                counters=counters,
            )

    async def urls(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        expires: timedelta | float = LINK_EXPIRES_S_DEFAULT,
    ) -> AsyncGenerator[EntryLink]:
        """Where the bytes of its entries are fetched from, in the order of their paths.

        What has to be signed holds for as long as `expires` says, in seconds if it is a number; 7
        days at most. To be closed by who does not read to the end. Raises `InvalidSetting`.
        """
        selection = Selection.made(prefix, include, exclude)
        expires_s = check_expiry(
            expires.total_seconds() if isinstance(expires, timedelta) else expires
        )
        async with self.originals() as originals:
            async for link in links_of(
                self.workspace,
                await self.manifest(),
                originals,
                selection=selection,
                of_moment=self.is_of_moment,
                expires_s=expires_s,
            ):
                yield link

    async def _spreads(self, scan_id: int, sources: int) -> list[float]:
        """By source, how many objects were listed for each entry; nothing where it is not known."""
        try:
            return read_tiling(await self.workspace.tiling(self.ref, scan_id)).spreads(sources)
        except CorruptContent:
            return []

    @property
    def is_of_moment(self) -> bool:
        """Whether it is as of a moment that was past when it was made."""
        return self.record.as_of is not None

    async def download(
        self,
        root: str | Path | None = None,
        *,
        prefix: str | bytes = b"",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        allow_missing: bool = False,
        cache: CacheOptions | None = None,
        counters: Counters | None = None,
        tally: DownloadTally | None = None,
    ) -> DownloadResult:
        """Makes files of its objects below a folder, each as it was recorded.

        The folder is `artifacts/{artifact}:v{n}` in the current one unless `root` says otherwise.
        Everything that can be had is downloaded before anything is raised: `Mismatch` for objects
        that were overwritten or deleted, unless `allow_missing`, `AccessDenied`, and
        `StoreUnavailable` for those that may be had when tried again.
        """
        options = DownloadOptions(Selection.made(prefix, include, exclude), cache)
        folder = default_root(self.record) if root is None else Path(root)
        result = await download(self, folder, options, counters=counters, tally=tally)
        error = result.error(allow_missing=allow_missing)
        if error is not None:
            raise error
        return result

    @asynccontextmanager
    async def originals(self, counters: Counters | None = None) -> AsyncIterator[Originals]:
        """The objects that it references, to be read where they are."""
        manifest = await self.manifest()
        created, *_ = await self.workspace.scans(self.ref, limit=1)
        async with (
            self.workspace.servers() as servers,
            Originals.open(
                manifest, servers, records=created.sources, counters=counters
            ) as originals,
        ):
            yield originals

    # --- SQL and tables

    async def query(
        self,
        sql: str,
        *,
        prefix: str | bytes = b"",
        versions: Mapping[str, Handle | str] | None = None,
        rows_max: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """The rows of one SELECT over `entries` and the tables in the version.

        `versions` are others by the names that SQL has them under. `prefix` narrows `entries` down,
        `rows_max` and `timeout_s` are bounds below those of the place. Raises what
        `Workspace.query` does, and `InvalidSetting` for a prefix that is no UTF-8.
        """
        order = QueryOrder(
            sql=sql,
            versions={name: _named(one) for name, one in (versions or {}).items()},
            prefix=_text(prefix),
            rows_max=rows_max,
            timeout_s=timeout_s,
        )
        return Result.read(await self.workspace.query(self.record, order))

    async def tables(self) -> Result:
        """The entries that are tables: path, format, size, URI."""
        return await self.query(TABLES_SQL)

    async def table(
        self, path: str, *, media: str | None = None, of: Handle | str | None = None
    ) -> Result:
        """The rows of the table at a path. Raises what `query` does.

        With `media`, the name of a column of paths or URIs, each with the entry that it names, of
        this version or of `of`.
        """
        address = path if media is None else f"{path}#{media}{'' if of is None else '@media'}"
        versions = {} if of is None else {"media": of}
        return await self.query(f"SELECT * FROM {quoted_name(address)}", versions=versions)  # noqa: S608

    async def compare_table(
        self, path: str, other: Handle | VersionRef | str, *, key: str | Sequence[str]
    ) -> Comparison:
        """What changed of the table at a path since another version, by the columns `key`.

        `other` is one that `beside` takes; what is added is in this one. Raises what `query` does.
        """
        columns = list(words(key))
        order = CompareOrder(path=path, to=self.record.ref, key=columns)
        old = await self.beside(other)
        return Comparison.read(await self.workspace.compare_table(old.record, order))


def _named(version: Handle | str) -> str:
    return str(version.ref) if isinstance(version, Handle) else version


def _text(prefix: str | bytes) -> str:
    try:
        return path_bytes(prefix).decode()
    except UnicodeDecodeError as error:
        raise InvalidSetting(
            f"the prefix {prefix!r} is not UTF-8, which SQL asks for: leave it out, and compare "
            f"raw_path in the query."
        ) from error
