"""The library: the command's verbs for scripts and notebooks.

Invariants
  * Every function may be called where an event loop runs (a notebook) and where none does.
  * A `Version` is a value: what it says was true when it was read; what it holds never changes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, overload

from indexer.artifact.download.cache import CacheMode
from indexer.artifact.download.download import DownloadOptions, DownloadResult, DownloadTally
from indexer.artifact.handle import Handle
from indexer.artifact.links import EntryLink, check_expiry
from indexer.artifact.query.results import Comparison
from indexer.artifact.query.results import Result as RowsResult
from indexer.artifact.selection import Selection
from indexer.artifact.verify.references import ReferenceReport
from indexer.console import Console
from indexer.errors import InvalidSetting
from indexer.globs import Filters
from indexer.label_rules import plain
from indexer.library_diff import COMPARING_THREADS, VersionDiff
from indexer.limits import LINEAGE_DEPTH_DEFAULT, LINK_EXPIRES_S_DEFAULT
from indexer.places import (
    Place,
    cache_of,
    download_folder_of,
    open_workspace,
    order_of,
    place_of,
    settings_of,
)
from indexer.protocols import ANYWHERE
from indexer.records import Direction, LabelChange, Lineage, StructureReport, VersionRecord
from indexer.references import parse_reference
from indexer.runner import Portal
from indexer.sources import located, parse_source
from indexer.telemetry import Counters, new_logger
from indexer.texts import path_bytes
from workers.threads import Threads

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from fsspec import AbstractFileSystem


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an artifact: `record` says what is known of it, `place` where it is kept."""

    record: VersionRecord
    place: Place
    created: bool = False

    @property
    def ref(self) -> str:
        """The version's reference, such as `project/artifact:v3`."""
        return self.record.ref

    @property
    def digest(self) -> str:
        """The version's identity, `sha256:` and 64 hexadecimal digits."""
        return self.record.digest

    def entries(self, prefix: str | bytes = b"") -> Iterator[pa.Table]:
        """The entries whose paths start with `prefix`, in key order, as Arrow tables.

        A table is read, and verified, when it is asked for; columns are those of `page.SCHEMA`
        that have a value. Raises `CorruptContent`.
        """
        wanted = _encoded(prefix)
        with self._opened() as portal:
            tables: AsyncIterator[pa.Table] | None = None

            async def following(handle: Handle) -> pa.Table | None:
                nonlocal tables
                tables = tables or handle.entries(wanted)
                return await anext(tables, None)

            while (table := portal.run(following)) is not None:
                yield table

    def to_pandas(self, prefix: str | bytes = b"") -> pd.DataFrame:
        """The entries whose paths start with `prefix` as a data frame, with the columns of SQL."""
        from indexer.artifact.query.columns import entries_frame

        sources = self._run(Handle.manifest).sources
        return entries_frame(self.entries(prefix), sources, self.ref)

    def query(
        self,
        sql: str,
        *,
        versions: Mapping[str, str | Version] | None = None,
        prefix: str = "",
        rows_max: int | None = None,
        timeout_s: float | None = None,
    ) -> RowsResult:
        """The rows of one SELECT over `entries` and over the tables in the version by their paths.

        `versions` are others by the names that SQL has them under, `prefix` narrows `entries` down.
        Raises `QueryRefused`, `QueryLimitExceeded`, and what reading a table does.
        """
        named = {name: str(getattr(one, "ref", one)) for name, one in (versions or {}).items()}
        return self._run(
            lambda handle: handle.query(
                sql, versions=named, prefix=prefix, rows_max=rows_max, timeout_s=timeout_s
            )
        )

    def tables(self) -> RowsResult:
        """The entries that are tables: path, format, size, URI."""
        return self._run(Handle.tables)

    def table(
        self, path: str, *, media: str | None = None, of: str | Version | None = None
    ) -> RowsResult:
        """The rows of the table at a path.

        With `media`, the name of a column of paths or URIs, each with the entry that it names, of
        this version or of `of`. Raises what `query` does.
        """
        other = None if of is None else str(getattr(of, "ref", of))
        return self._run(lambda handle: handle.table(path, media=media, of=other))

    def compare_table(
        self, path: str, other: str | Version, *, key: str | Sequence[str]
    ) -> Comparison:
        """What changed of the table at a path since another version, by the columns `key`.

        `other` is written as in `diff`. Raises what `query` does.
        """
        ref, columns = str(getattr(other, "ref", other)), [key] if isinstance(key, str) else key

        async def compare(handle: Handle) -> Comparison:
            return await handle.compare_table(path, await handle.beside(ref), key=columns)

        return self._run(compare)

    def diff(self, other: str | Version, prefix: str | bytes = b"") -> VersionDiff:
        """What changed since another version: what is added is here and was not there.

        `other` is a version, a reference, or of the same artifact `v0`, an alias or a digest.
        Raises `InvalidReference`, `NoSuchVersion` and `CorruptContent`.
        """
        named = other.record.ref if isinstance(other, Version) else other
        below = _encoded(prefix)

        async def find(handle: Handle) -> VersionDiff:
            old = await handle.beside(named)
            async with Threads(COMPARING_THREADS) as threads:
                found = await handle.diff(old, below, threads=threads)
            return VersionDiff(old.record, self.record, below, self.place, found)

        return self._run(find)

    def download(
        self,
        root: str | Path | None = None,
        *,
        prefix: str | bytes = b"",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        allow_missing: bool = False,
        cache: CacheMode | None = None,
        progress: bool | None = None,
    ) -> DownloadResult:
        """Makes files of the objects below a folder, each as it was recorded.

        The folder is `artifacts/{artifact}:v{n}` in the current one unless `root` says otherwise.
        What is there and right is not fetched again. `cache` says how the local cache is used:
        `copy`, `link` or `off`. A `progress` bar is shown on a terminal, unless it says otherwise.

        Everything that can be had is downloaded before anything is raised: `Mismatch` for objects
        that were overwritten or deleted, unless `allow_missing`, `AccessDenied`, and
        `StoreUnavailable` for those that may be had when tried again.
        """
        settings = settings_of({"cache": cache})
        selection = _selection(prefix, include, exclude)
        options = DownloadOptions(selection, cache_of(settings))
        target = download_folder_of(self.record) if root is None else Path(root)
        counters, tally = Counters(), DownloadTally()
        console = Console(is_quiet=not (sys.stderr.isatty() if progress is None else progress))
        figures = tally.figures(0 if selection else self.record.objects, self.record.size_bytes)

        async def run(handle: Handle) -> DownloadResult:
            async with console.progress(counters, self.ref, figures):
                return await handle.download(target, options, counters=counters, tally=tally)

        result = self._run(run)
        error = result.error(allow_missing=allow_missing)
        if error is not None:
            raise error
        return result

    def lineage(
        self, *, direction: Direction = "both", depth: int = LINEAGE_DEPTH_DEFAULT
    ) -> Lineage:
        """What the version came from, and what came from it, at most `depth` runs away."""
        return self._run(lambda handle: handle.lineage(direction=direction, depth=depth))

    def change(
        self,
        *,
        notes: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> Version:
        """Changes what is said of the version, and returns it as it is then.

        What is None stays as it is; `tags` take the place of those that it has. Raises
        `InvalidSetting`, and `InvalidReference` for what is no tag.
        """
        change = LabelChange(
            notes=notes,
            description=description,
            metadata=None if metadata is None else plain(metadata),
            tags=None if tags is None else tuple(tags),
            add_tags=tuple(add_tags),
            remove_tags=tuple(remove_tags),
        )
        return replace(self, record=self._run(lambda handle: handle.change(change)))

    def set_alias(self, alias: str, *, expect: int | None = ANYWHERE) -> Version:
        """Lets `alias` mean this version, and returns it as it is then.

        With `expect`, only while the alias is at the version of that number, or None: at no
        version. Else raises `CommitConflict`.
        """
        return replace(
            self, record=self._run(lambda handle: handle.set_alias(alias, expect=expect))
        )

    def expire_after(self, ttl: timedelta | None) -> Version:
        """Lets the version expire so long from now, or never; as it is then."""
        expires_at = None if ttl is None else datetime.now(UTC) + ttl
        return replace(self, record=self._run(lambda handle: handle.expire_at(expires_at)))

    def remove(self) -> None:
        """Deletes the version. Its number is not given again. Raises `Protected`."""
        self._run(lambda handle: handle.remove())

    @overload
    def verify(self, *, structure: Literal[True]) -> StructureReport: ...

    @overload
    def verify(
        self,
        *,
        structure: Literal[False] = False,
        prefix: str | bytes = b"",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> ReferenceReport: ...

    def verify(
        self,
        *,
        structure: bool = False,
        prefix: str | bytes = b"",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> StructureReport | ReferenceReport:
        """Whether its objects can still be fetched, found out without reading them.

        With `structure`, whether what is kept of it is whole; then no store is asked. The report's
        `is_right` says it in one word. Entries are looked at whose paths start with `prefix` and
        that the globs keep.
        """
        if structure:
            return self._run(lambda handle: handle.verify_structure())
        selection = _selection(prefix, include, exclude)
        return self._run(lambda handle: handle.verify(selection))

    def urls(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        expires: timedelta | float = LINK_EXPIRES_S_DEFAULT,
    ) -> Iterator[EntryLink]:
        """Where the bytes of its entries are fetched from by plain HTTP, in the order of paths.

        A link to S3 or GCS names the recorded version where one was recorded, and is signed by the
        credentials in use, for as long as `expires` says, in seconds if it is a number; 7 days at
        most. Links to web servers and files are their URIs.
        """
        expires_s = expires.total_seconds() if isinstance(expires, timedelta) else expires
        selection = _selection(prefix, include, exclude)
        whole_s = check_expiry(expires_s)
        with self._opened() as portal:
            links: AsyncGenerator[EntryLink] | None = None

            async def following(handle: Handle) -> EntryLink | None:
                nonlocal links
                links = links or handle.links(selection, expires_s=whole_s)
                return await anext(links, None)

            async def close(_: Handle) -> None:
                if links is not None:
                    await links.aclose()

            try:
                while (link := portal.run(following)) is not None:
                    yield link
            finally:
                portal.run(close)

    def filesystem(self) -> AbstractFileSystem:
        """Its entries as a read-only file system of fsspec, whose root is the version.

        What is read are the original objects as they were recorded. Raises `InvalidSetting` where
        fsspec is not installed.
        """
        try:
            from fsspec.implementations.dirfs import DirFileSystem
        except ImportError as error:
            raise InvalidSetting(
                "a file system needs one more package: install bucket-indexer[fsspec]."
            ) from error
        from indexer.filesystem import IndexerFileSystem

        versions = IndexerFileSystem(place=self.place)
        return DirFileSystem(path=self.ref, fs=versions, skip_instance_cache=True)

    @contextmanager
    def _opened(self) -> Iterator[Portal[Handle]]:
        """The version on a thread of its own, where its asynchronous verbs run."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Handle]:
            async with open_workspace(self.place, creates=False) as workspace:
                yield Handle(workspace, self.record)

        with Portal(opened()) as portal:
            yield portal

    def _run(self, verb: Callable[[Handle], Coroutine[Any, Any, Result]]) -> Result:
        """What a verb of the version comes to."""
        with self._opened() as portal:
            return portal.run(verb)


class ReachSettings(TypedDict, total=False):
    """Settings of how sources are reached, and of what queries may take, that may be given as
    arguments, by the names of the command's options.

    What is left out, or None, comes from the environment, `indexer.toml` and the defaults.
    """

    in_flight: int | None
    requests_per_s: int | None
    profile: str | None
    region: str | None
    endpoint_url: str | None
    no_sign_request: bool | None
    request_payer: str | None
    user_project: str | None
    symlinks: str | None
    query_timeout_s: int | None
    query_memory_mib: int | None
    query_rows: int | None


class SnapshotSettings(ReachSettings, total=False):
    """… and those of a snapshot."""

    max_objects: int | None
    on_limit: str | None
    checksum: str | None


def snapshot(
    uri: str | Path | Mapping[str, str | Path],
    *,
    name: str,
    type: str | None = None,  # noqa: A002 - W&B's word, which users know
    aliases: Sequence[str] = (),
    notes: str | None = None,
    allow_empty: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    heads: bool = False,
    as_of: datetime | None = None,
    ttl: timedelta | None = None,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    run: str | None = None,
    data: str | Path | None = None,
    server: str | None = None,
    to: str | None = None,
    **given: Unpack[SnapshotSettings],
) -> Version:
    """References everything below `uri` as a version of the artifact `name` (`project/artifact`).

    `uri` is a URI or a path; several sources are a mapping of mounts to them. Objects are read only
    for a `checksum` that was asked for, of files for their MD5 unless that is `none`. When nothing
    changed since the newest version, that one is returned, with `created` false. It is of the run
    with the id `run`, or of one of its own. A new one expires `ttl` after that. `data` or `server`
    say where it is made; `to` is the URL of a daemon that is told of what is listed here. Raises
    what `indexer.errors` draws; then nothing was recorded.
    """
    settings = settings_of({**_where(data, server), **given})
    order = order_of(
        settings,
        [str(uri)] if isinstance(uri, (str, Path)) else [_mounted(*pair) for pair in uri.items()],
        name=name,
        type=type,
        aliases=list(aliases),
        notes=notes,
        allow_empty=allow_empty,
        include=list(include),
        exclude=list(exclude),
        heads=heads,
        as_of=as_of,
        ttl_s=None if ttl is None else math.ceil(ttl.total_seconds()),
        description=description,
        metadata=None if metadata is None else plain(metadata),
        tags=list(tags),
        run=run,
    )
    place = place_of(settings)
    log = new_logger(settings["log_level"], settings["log_format"])
    with Portal(open_workspace(place, to=to, log=log)) as portal:
        done = portal.run(lambda workspace: workspace.snapshot(order))
    return Version(
        done.result.version,
        place if to is None else replace(place, server=to),
        done.result.created,
    )


def open(  # noqa: A001 - as in `io.open`
    ref: str,
    *,
    data: str | Path | None = None,
    server: str | None = None,
    **given: Unpack[ReachSettings],
) -> Version:
    """The version that `ref` names: `project/artifact:v3`, `:latest`, an alias, `@sha256:…`.

    The settings say how its objects are reached when they are read; what they leave open is as it
    was when the version was made. Raises `InvalidReference` and `NoSuchVersion`.
    """
    wanted = parse_reference(ref)
    place = place_of(settings_of({**_where(data, server), **given}))
    with Portal(open_workspace(place, creates=False)) as portal:
        record = portal.run(lambda workspace: workspace.version(wanted))
    return Version(record, place)


def _selection(prefix: str | bytes, include: Sequence[str], exclude: Sequence[str]) -> Selection:
    return Selection(_encoded(prefix), Filters(tuple(include), tuple(exclude)))


def _encoded(path: str | bytes) -> bytes:
    return path_bytes(path) if isinstance(path, str) else path


def _mounted(mount: str, source: str | Path) -> str:
    # A path needs its scheme: without one, the whole of it would be a path with `=` in it.
    return f"{mount}={parse_source(located(str(source)))}"


def _where(data: str | Path | None, server: str | None) -> dict[str, object]:
    return {"data": None if data is None else str(data), "server": server}
