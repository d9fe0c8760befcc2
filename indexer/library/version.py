"""Version: what whoever has opened a version may ask of it, in scripts and notebooks.

Invariants
  * Every verb is one of `artifact.handle.Handle`, waited for; it may be called where an event loop
    runs (a notebook) and where none does.
  * A `Version` is a value: what it says was true when it was read; what it holds never changes.
  * To be shown it asks nothing: no data folder, no daemon and no store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from indexer.artifact.download.cache import CacheMode
from indexer.artifact.download.download import DownloadResult, DownloadTally
from indexer.artifact.handle import Handle
from indexer.artifact.links import EntryLink
from indexer.artifact.query.results import Comparison
from indexer.artifact.query.results import Result as Rows
from indexer.artifact.verify.references import ReferenceReport
from indexer.console import bytes_shown, shown
from indexer.errors import InvalidSetting
from indexer.library.diff import VersionDiff
from indexer.library.portals import console_for, streamed
from indexer.limits import LINEAGE_DEPTH_DEFAULT, LINK_EXPIRES_S_DEFAULT
from indexer.places import Place, cache_of, open_workspace, settings_of
from indexer.protocols import ANYWHERE
from indexer.records import Direction, Lineage, StructureReport, VersionRecord
from indexer.runner import Portal
from indexer.telemetry import Counters
from indexer.texts import path_bytes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

WORDS_SHOWN: Final = 8
"""Of aliases and tags, of which a version may have many."""


@dataclass(frozen=True, slots=True, repr=False)
class Version:
    """A version of an artifact: `record` says what is known of it, `place` where it is kept.

    `created` says of the result of a snapshot whether there was something new. Of its entries,
    verbs take those whose paths start with `prefix` and that `include` and `exclude` keep: globs
    with `**` of whole paths, of which the latter win. Text stands for paths as UTF-8; bytes do for
    others. Every error is an `indexer.IndexerError`, which says what to do.
    """

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

    def entries(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        """The entries, in key order, as Arrow tables of some 16,000 rows.

        A table is read, and verified, when it is asked for; columns are those of `page.SCHEMA`
        that have a value. Raises `CorruptContent`, and `InvalidSetting` for what is no glob.
        """
        return streamed(
            self._opened(),
            lambda handle: handle.entries(prefix, include=include, exclude=exclude),
        )

    def to_pandas(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The entries as a data frame, with the columns that SQL has; all are in memory at once.

        Raises what `entries` does, and `UsageError` where pandas is not installed.
        """
        return self._run(lambda handle: handle.to_pandas(prefix, include=include, exclude=exclude))

    def query(
        self,
        sql: str,
        *,
        prefix: str | bytes = b"",
        versions: Mapping[str, str | Version] | None = None,
        rows_max: int | None = None,
        timeout_s: float | None = None,
    ) -> Rows:
        """The rows of one SELECT over `entries` and over the tables in the version by their paths.

        `prefix` narrows `entries` down, `versions` are others by the names that SQL has them under.
        `rows_max` and `timeout_s` are bounds below those of the settings. Raises `QueryRefused`,
        `QueryLimitExceeded`, and what reading a table does.
        """
        named = {name: _ref(one) for name, one in (versions or {}).items()}
        return self._run(
            lambda handle: handle.query(
                sql, prefix=prefix, versions=named, rows_max=rows_max, timeout_s=timeout_s
            )
        )

    def tables(self) -> Rows:
        """The entries that are tables: path, format, size, URI."""
        return self._run(Handle.tables)

    def table(
        self, path: str, *, media: str | None = None, of: str | Version | None = None
    ) -> Rows:
        """The rows of the table at a path.

        With `media`, the name of a column of paths or URIs, each with the entry that it names, of
        this version or of `of`. Raises what `query` does.
        """
        other = None if of is None else _ref(of)
        return self._run(lambda handle: handle.table(path, media=media, of=other))

    def compare_table(
        self, path: str, other: str | Version, *, key: str | Sequence[str]
    ) -> Comparison:
        """What changed of the table at a path since another version, by the columns `key`.

        `other` is written as in `diff`. Raises what `query` does.
        """
        ref = _ref(other)
        return self._run(lambda handle: handle.compare_table(path, ref, key=key))

    def diff(self, other: str | Version, *, prefix: str | bytes = b"") -> VersionDiff:
        """What changed since another version: what is added is here and was not there.

        `other` is a version, a reference, or of the same artifact `v0`, an alias or a digest.
        Raises `InvalidReference`, `NoSuchVersion` and `CorruptContent`.
        """
        named, below = _ref(other), path_bytes(prefix)

        async def find(handle: Handle) -> VersionDiff:
            old = await handle.beside(named)
            async with handle.diff(old, prefix=below) as found:
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
        `copy`, `link` or `off`. How far it has come is shown on a terminal and in a notebook,
        unless `progress` says otherwise.

        Everything that can be had is downloaded before anything is raised: `Mismatch` for objects
        that were overwritten or deleted, unless `allow_missing`, `AccessDenied`, and
        `StoreUnavailable` for those that may be had when tried again.
        """
        options = cache_of(settings_of({"cache": cache}))
        console, counters, tally = console_for(progress), Counters(), DownloadTally()
        is_whole = not (prefix or include or exclude)
        figures = tally.figures(self.record.objects if is_whole else 0, self.record.size_bytes)

        async def run(handle: Handle) -> DownloadResult:
            async with console.progress(counters, self.ref, figures):
                return await handle.download(
                    root,
                    prefix=prefix,
                    include=include,
                    exclude=exclude,
                    allow_missing=allow_missing,
                    cache=options,
                    counters=counters,
                    tally=tally,
                )

        return self._run(run)

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
        return self._changed(
            lambda handle: handle.change(
                notes=notes,
                description=description,
                metadata=metadata,
                tags=tags,
                add_tags=add_tags,
                remove_tags=remove_tags,
            )
        )

    def set_alias(self, alias: str, *, expect: int | None = ANYWHERE) -> Version:
        """Lets `alias` mean this version, and returns it as it is then.

        With `expect`, only while the alias is at the version of that number, or None: at no
        version. Else raises `CommitConflict`.
        """
        return self._changed(lambda handle: handle.set_alias(alias, expect=expect))

    def expire_after(self, ttl: timedelta | None) -> Version:
        """Lets the version expire so long from now, or never, and returns it as it is then."""
        return self._changed(lambda handle: handle.expire_after(ttl))

    def remove(self) -> None:
        """Deletes the version. Its number is not given again. Raises `Protected`."""
        self._run(Handle.remove)

    @overload
    def verify(
        self, *, structure: Literal[True], progress: bool | None = None
    ) -> StructureReport: ...

    @overload
    def verify(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        structure: Literal[False] = False,
        progress: bool | None = None,
    ) -> ReferenceReport: ...

    def verify(
        self,
        prefix: str | bytes = b"",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        structure: bool = False,
        progress: bool | None = None,
    ) -> StructureReport | ReferenceReport:
        """Whether its objects can still be fetched, found out without reading them.

        With `structure`, whether what is kept of it is whole: all of it, and no store is asked. The
        report's `is_right` says it in one word. How far it has come is shown as in `download`.
        Raises `InvalidSetting` for entries that are chosen with `structure`.
        """
        if structure and (prefix or include or exclude):
            raise InvalidSetting(
                "structure proves all of a version: leave out prefix, include and exclude."
            )
        console, counters = console_for(progress), Counters()

        async def run(handle: Handle) -> StructureReport | ReferenceReport:
            async with console.progress(counters, self.ref):
                if structure:
                    return await handle.verify_structure(counters)
                return await handle.verify(
                    prefix, include=include, exclude=exclude, counters=counters
                )

        return self._run(run)

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
        most. Links to web servers and files are their URIs. Raises `InvalidSetting`.
        """
        return streamed(
            self._opened(),
            lambda handle: handle.urls(prefix, include=include, exclude=exclude, expires=expires),
        )

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

    def __repr__(self) -> str:
        size = bytes_shown(self.record.size_bytes)
        return f"<Version {self.ref}: {self.record.objects:,} objects, {size}>"

    def _repr_html_(self) -> str:
        return version_html(self.record)

    def _opened(self) -> Portal[Handle]:
        """The version on a thread of its own, where its asynchronous verbs run."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Handle]:
            async with open_workspace(self.place, creates=False) as workspace:
                yield Handle(workspace, self.record)

        return Portal(opened())

    def _run(self, verb: Callable[[Handle], Coroutine[Any, Any, Result]]) -> Result:
        """What a verb of the version comes to."""
        with self._opened() as portal:
            return portal.run(verb)

    def _changed(self, verb: Callable[[Handle], Coroutine[Any, Any, Handle]]) -> Version:
        """The version as it is after a verb that changes what is said of it."""
        return replace(self, record=self._run(verb).record)


def _ref(version: str | Version) -> str:
    return version.ref if isinstance(version, Version) else version


def version_html(version: VersionRecord) -> str:
    """What is known of a version, as a short table."""
    consistency = str(version.consistency)
    if version.as_of is not None:
        consistency += f", as of {shown(version.as_of)}"
    said = {
        "type": version.type,
        "digest": version.digest,
        "objects": f"{version.objects:,}",
        "size": bytes_shown(version.size_bytes),
        "consistency": consistency,
        "aliases": _first(version.aliases),
        "tags": _first(version.tags),
        "created": shown(version.created_at),
    }
    rows = "".join(
        f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in said.items() if value
    )
    return f"<table><caption>{escape(version.ref)}</caption>{rows}</table>"


def _first(words: Sequence[str]) -> str:
    more = len(words) - WORDS_SHOWN
    said = ", ".join(words[:WORDS_SHOWN])
    return f"{said} and {more:,} more" if more > 0 else said
