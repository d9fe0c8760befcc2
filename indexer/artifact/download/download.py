"""download: the objects of a version become files below a folder, each as it was recorded.

    entries → where they lie → what is there → [ cache | fetch ] → files

Invariants
  * A file that is there and right is not fetched again. One that is there under an entry's name and
    is not right is replaced; whatever else is there is left alone, and counted.
  * What cannot be had any more is told of each object, with what was recorded and what was found.
    All others are downloaded all the same.
  * Killed at any moment, it goes on where it was: files are whole or not there, and ranges of large
    ones that were done are not fetched again.
  * Memory does not grow with the number of entries.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from indexer.artifact.download.cache import Cache, CacheOptions
from indexer.artifact.download.fetch import Desk, Fetcher
from indexer.artifact.download.local_paths import Ancestors, folders_of, is_folder, local_path
from indexer.artifact.download.sameness import content_key, is_lasting
from indexer.artifact.download.target import Look, Target, Wanted
from indexer.artifact.entries import Selection
from indexer.artifact.found import Finding, what_is_found
from indexer.artifact.originals import originals_of
from indexer.console import bytes_shown
from indexer.errors import (
    AccessDenied,
    IndexerError,
    Mismatch,
    NotFound,
    ObjectChanged,
    StoreUnavailable,
    UsageError,
)
from indexer.limits import (
    DOWNLOAD_BATCH_ENTRIES,
    DOWNLOAD_OBJECTS_MAX,
    DOWNLOAD_THREADS_MAX,
    DOWNLOAD_TOLD_MAX,
    DOWNLOAD_UNAVAILABLE_MAX,
)
from indexer.records import VersionRecord
from indexer.telemetry import Counters
from indexer.wire.artifacts import path_fields
from workers.pool import Pool
from workers.threads import Threads

if TYPE_CHECKING:
    from indexer.artifact.handle import Handle

ESCAPED: Final = "escaped.jsonl"
"""Our file of all entries whose files are not named as they are."""

_FAILURES_SHOWN: Final = 3

_LOST: Final = ("changed", "gone")


@dataclass(frozen=True, slots=True)
class Escaped:
    """An entry whose file is not named as it is."""

    path: bytes
    local: bytes


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """Which entries of a version are downloaded, and by which cache, if any."""

    selection: Selection = field(default_factory=Selection)
    cache: CacheOptions | None = None


@dataclass(slots=True)
class DownloadTally:
    """How far a download has come; `cached` are had from the cache, `there` were there before.

    Whoever watches reads when it likes.
    """

    objects: int = 0
    size_bytes: int = 0
    objects_fetched: int = 0
    bytes_fetched: int = 0
    objects_cached: int = 0
    bytes_cached: int = 0
    objects_there: int = 0
    bytes_there: int = 0
    folders: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def objects_done(self) -> int:
        """Objects whose files are there."""
        return self.objects_fetched + self.objects_cached + self.objects_there

    @property
    def bytes_done(self) -> int:
        """Of the files that are there."""
        return self.bytes_fetched + self.bytes_cached + self.bytes_there

    def figures(self, objects: int, size_bytes: int) -> Callable[[float], str]:
        """How far it has come, of so many objects and bytes where that is known, for people."""

        def said(elapsed_s: float) -> str:
            of_objects, of_bytes = "", ""
            if objects:
                of_objects, of_bytes = f"/{objects:,}", f"/{bytes_shown(size_bytes)}"
            rate = bytes_shown(int(self.bytes_done / elapsed_s))
            failed = f"  {self.failed.total():,} failed" if self.failed else ""
            return (
                f"{self.objects_done:,}{of_objects} objects  {bytes_shown(self.bytes_done)}"
                f"{of_bytes}  {rate}/s{failed}"
            )

        return said


@dataclass(frozen=True, slots=True, repr=False)
class DownloadResult:
    """What a download came to.

    `objects` and `size_bytes` are what was asked for; `there` were there and right before. `others`
    are files below the root that are none of them. `failures`, each with its entry's path, and
    `escaped` are the first of those that `failed` and `escaped_total` count; `escaped_file` has all
    of the latter.
    """

    ref: str
    root: Path
    objects: int
    size_bytes: int
    objects_fetched: int
    bytes_fetched: int
    objects_cached: int
    objects_there: int
    folders: int
    others: int
    failed_by_kind: Mapping[str, int]
    failures: tuple[tuple[bytes, Finding], ...]
    escaped_total: int
    escaped: tuple[Escaped, ...]
    escaped_file: Path | None
    requests: int
    elapsed_s: float

    def __repr__(self) -> str:
        return (
            f"<DownloadResult of {self.ref}: {self.objects - self.failed:,} of {self.objects:,} "
            f"objects in {self.root}, {self.objects_fetched:,} fetched>"
        )

    @property
    def failed(self) -> int:
        """How many objects could not be had."""
        return sum(self.failed_by_kind.values())

    def error(self, *, allow_missing: bool = False) -> IndexerError | None:
        """What to raise of it: of what is lost for good before what may work when tried again.

        With `allow_missing`, objects that were overwritten or deleted are none.
        """
        kinds = {kind for kind in self.failed_by_kind if not (allow_missing and kind in _LOST)}
        if not kinds:
            return None
        left = [one for _, one in self.failures if one.kind in kinds]
        error: type[IndexerError] = StoreUnavailable
        if kinds & set(_LOST):
            error = Mismatch
        elif "denied" in kinds:
            error = AccessDenied
        elif "failed" in kinds:
            error = IndexerError
        told = " ".join(one.sentence for one in left[:_FAILURES_SHOWN])
        count = sum(self.failed_by_kind[kind] for kind in kinds)
        more = count - len(left[:_FAILURES_SHOWN])
        rest = f" … and {more:,} more." if more > 0 else ""
        return error(
            f"{count:,} of {self.objects:,} objects of {self.ref} could not be downloaded; "
            f"the others are in {self.root}. {told}{rest}"
        )


def default_root(version: VersionRecord) -> Path:
    """The folder that a version is downloaded to unless somebody says so, in the current one."""
    return Path("artifacts") / f"{version.name.artifact}:v{version.number}"


async def download(
    handle: Handle,
    root: Path,
    options: DownloadOptions | None = None,
    *,
    counters: Counters | None = None,
    tally: DownloadTally | None = None,
) -> DownloadResult:
    """Downloads a version's objects into a folder.

    What became of each is in the result; what could not be had is no exception here. Raises for
    what concerns all of them: a folder that cannot be written into, credentials that are missing, a
    server that is gone, a catalog that is damaged.
    """
    options = options or DownloadOptions()
    counters, tally = counters or Counters(), tally or DownloadTally()
    started_s = time.monotonic()
    async with (
        Threads(DOWNLOAD_THREADS_MAX) as threads,
        _opened(threads, root) as target,
        _cache(threads, options.cache) as cache,
        handle.originals(counters) as originals,
    ):
        desk = Desk(target, originals, threads, counters, cache)
        run = _Download(handle, desk, options, tally)
        await run.run()
        others = max(0, await threads.run(target.files) - tally.objects_done)
        if not run.failures and not options.selection:
            await threads.run(target.sweep)
        escaped_file = run.escaped.close()
    return DownloadResult(
        ref=str(handle.ref),
        root=root,
        objects=tally.objects,
        size_bytes=tally.size_bytes,
        objects_fetched=tally.objects_fetched,
        bytes_fetched=tally.bytes_fetched,
        objects_cached=tally.objects_cached,
        objects_there=tally.objects_there,
        folders=tally.folders,
        others=others,
        failed_by_kind=dict(tally.failed),
        failures=tuple(run.failures),
        escaped_total=run.escaped.total,
        escaped=tuple(run.escaped.first),
        escaped_file=escaped_file,
        requests=counters.requests,
        elapsed_s=time.monotonic() - started_s,
    )


@asynccontextmanager
async def _opened(threads: Threads, root: Path) -> AsyncIterator[Target]:
    target = await threads.run(Target, root)
    try:
        yield target
    finally:
        target.close()


@asynccontextmanager
async def _cache(threads: Threads, options: CacheOptions | None) -> AsyncIterator[Cache | None]:
    cache = None if options is None else await threads.run(options.opened)
    try:
        yield cache
    finally:
        if cache is not None:
            await threads.run(cache.close)


class _Download:
    """One download."""

    def __init__(
        self, handle: Handle, desk: Desk, options: DownloadOptions, tally: DownloadTally
    ) -> None:
        self._handle = handle
        self._desk = desk
        self._options = options
        self._tally = tally
        self._fetcher = Fetcher(desk)
        self._unavailable = 0
        self.failures: list[tuple[bytes, Finding]] = []
        self.escaped = _EscapedFile(desk.target)

    async def run(self) -> None:
        """Downloads everything."""
        prefix, filters = self._options.selection.prefix, self._options.selection.filters
        ancestors = Ancestors([path async for path in self._objects_above(prefix)])
        selector = filters.selector()
        in_flight = self._desk.originals.in_flight
        async with Pool(in_flight + DOWNLOAD_OBJECTS_MAX) as pool:
            async for table in self._handle.entries(prefix):
                for start in range(0, table.num_rows, DOWNLOAD_BATCH_ENTRIES):
                    rows = table.slice(start, DOWNLOAD_BATCH_ENTRIES)
                    kept = selector.keeps(rows).to_pylist() if filters else None
                    await self._begin(pool, rows, kept, ancestors)

    async def _objects_above(self, prefix: bytes) -> AsyncIterator[bytes]:
        """The objects whose paths are folders of the prefix."""
        for path in folders_of(prefix):
            async for table in self._handle.entries(path):
                first, size = table.column("path")[0].as_py(), table.column("size")[0].as_py()
                if first == path and not is_folder(first, size):
                    yield path
                break

    def _wanted(
        self, rows: pa.Table, kept: Sequence[bool] | None, ancestors: Ancestors
    ) -> Iterator[Wanted]:
        target, originals = self._desk.target, self._desk.originals
        for place, original in enumerate(originals_of(rows, of_moment=self._handle.is_of_moment)):
            # What an entry's file is called does not depend on what is left out beside it.
            apart = ancestors.of(original.path, original.pin.size)
            if kept is not None and not kept[place]:
                continue
            local = local_path(original.path, original.pin.size, target.rules, apart=apart)
            local = target.placed(original.path, local)
            uri = originals.uri_of(original)
            yield Wanted(original, uri, local, content_key(original, uri))

    async def _begin(
        self, pool: Pool, rows: pa.Table, kept: Sequence[bool] | None, ancestors: Ancestors
    ) -> None:
        """Starts with a batch of entries."""
        tally = self._tally
        looked = await self._desk.threads.run(self._look, rows, kept, ancestors)
        for one, look, is_cached in looked:
            if one.local.is_folder:
                tally.folders += 1
            else:
                tally.objects += 1
                tally.size_bytes += one.size
            if look == "right":
                self._is_there(one)
            else:
                await pool.submit(self._have, one, look, is_cached)

    def _look(
        self, rows: pa.Table, kept: Sequence[bool] | None, ancestors: Ancestors
    ) -> list[tuple[Wanted, Look, bool]]:
        """Where entries lie, what is there, and whether the cache has what is not. Blocks."""
        target, cache = self._desk.target, self._desk.cache
        wanted = list(self._wanted(rows, kept, ancestors))
        if not wanted:
            return []
        self.escaped.note(wanted)
        return [
            (one, look, look != "right" and _is_cached(cache, one))
            for one, look in zip(wanted, target.look(wanted), strict=True)
        ]

    def _is_there(self, wanted: Wanted) -> None:
        if not wanted.local.is_folder:
            self._tally.objects_there += 1
            self._tally.bytes_there += wanted.size

    async def _have(self, wanted: Wanted, look: Look, is_cached: bool) -> None:  # noqa: FBT001 - a pool takes no keywords
        """Makes the file of an entry, by the way that takes least."""
        tally = self._tally
        if look == "unknown" and await self._fetcher.check(wanted):
            self._is_there(wanted)
            return
        if look == "blocked":
            self._fail(wanted, what_is_found(wanted.original, self._blocked(wanted), wanted.uri))
            return
        if is_cached and await self._fetcher.hand_out(wanted):
            tally.objects_cached += 1
            tally.bytes_cached += wanted.size
            return
        try:
            finding = await self._fetcher.fetch(wanted)
        except UsageError:
            raise
        except IndexerError as error:
            finding = await self._finding(wanted, error)
            self._check_is_there(error)
        else:
            self._unavailable = 0
        if finding is not None:
            self._fail(wanted, finding)
            return
        tally.objects_fetched += 1
        tally.bytes_fetched += wanted.size

    def _blocked(self, wanted: Wanted) -> IndexerError:
        return IndexerError(f"{wanted.uri}: {self._desk.target.in_the_way(wanted.local)}.")

    async def _finding(self, wanted: Wanted, error: IndexerError) -> Finding | None:
        """What is wrong with an object that could not be read. The store is asked what is there."""
        original = wanted.original
        if isinstance(error, (NotFound, ObjectChanged)):
            try:
                said = await self._desk.originals.head(original)
            except IndexerError as asked:
                error = asked if isinstance(asked, NotFound) else error
            else:
                finding = what_is_found(original, said, wanted.uri)
                if finding is not None:
                    return finding
        return what_is_found(original, error, wanted.uri)

    def _check_is_there(self, error: IndexerError) -> None:
        """Raises when the server has not given anything for long."""
        self._unavailable = self._unavailable + 1 if isinstance(error, StoreUnavailable) else 0
        if self._unavailable >= DOWNLOAD_UNAVAILABLE_MAX:
            raise error

    def _fail(self, wanted: Wanted, finding: Finding | None) -> None:
        assert finding is not None
        self._tally.failed[finding.kind] += 1
        if len(self.failures) < DOWNLOAD_TOLD_MAX:
            self.failures.append((wanted.original.path, finding))


def _is_cached(cache: Cache | None, wanted: Wanted) -> bool:
    if cache is None or wanted.content is None or not is_lasting(wanted.original):
        return False
    return cache.has(wanted.content, wanted.size)


class _EscapedFile:
    """The entries whose files are not named as they are: the first ones, and a file of all."""

    def __init__(self, target: Target) -> None:
        self.total = 0
        self.first: list[Escaped] = []
        self._target = target
        self._file: BufferedWriter | None = None

    def note(self, wanted: Sequence[Wanted]) -> None:
        """Notes those of a batch. There are few, if any."""
        for one in wanted:
            path, local = one.original.path, one.local.path
            if path == local or (one.local.is_folder and not path):
                continue
            self.total += 1
            if len(self.first) < DOWNLOAD_TOLD_MAX:
                self.first.append(Escaped(path, local))
            if self._file is None:
                self._file = self._target.own_file(ESCAPED)
            self._file.write(_line_of(path, local))

    def close(self) -> Path | None:
        """Where the file is, if there is one."""
        if self._file is None:
            return None
        self._file.close()
        return self._target.own_path(ESCAPED)


def _line_of(path: bytes, local: bytes) -> bytes:
    said = {**path_fields(path), **path_fields(local, "local")}
    return json.dumps(said).encode() + b"\n"
