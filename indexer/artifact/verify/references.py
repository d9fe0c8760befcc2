"""References: whether a version's objects can still be fetched, found out without reading them.

Invariants
  * A listing confirms, it never condemns: whatever it does not show as it was recorded is asked for
    by a HEAD of the recorded version, and that alone decides. So a listing may be out of date,
    incomplete or broken, and costs requests at worst.
  * Shards are gone through in key order, and so is what is told of their entries; some are under
    way at once, of which each is in memory.
  * A server that answers nothing is not asked for every one of a million objects.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from indexer.artifact.entries import Selection, shards_below
from indexer.artifact.found import Finding, what_is_found
from indexer.artifact.originals import Original, Originals, originals_of
from indexer.entries import source_of
from indexer.errors import IndexerError, StoreUnavailable, UsageError
from indexer.keyspace import Key, KeyRange
from indexer.limits import (
    FAULTS_SHOWN_MAX,
    HEADS_AT_ONCE_MAX,
    LISTING_COST_HEADS,
    PAGE_ROWS,
    SHARDS_VERIFIED_AT_ONCE,
)
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.objects import Head
from indexer.page import etag_texts, paths_of
from indexer.protocols import ListedPage, OpenedSource, Store
from indexer.telemetry import Counters
from indexer.workspace import Workspace
from workers.errors import single_error

ARCHIVES: Final = frozenset(("GLACIER", "DEEP_ARCHIVE"))
"""Storage classes whose objects have to be restored before they can be read."""

Tell = Callable[[bytes, Finding], None]
"""Who is told of an entry that cannot be fetched, by its path."""


@dataclass(frozen=True, slots=True, repr=False)
class ReferenceReport:
    """What became of a version's references.

    Of `entries` that were looked at, `kinds` counts those that cannot be fetched, by why; the first
    of them are `findings`, by path. Of the others, `superseded` were overwritten or deleted and are
    kept by version id, as far as a listing told; of `by_size` nothing but the size can be compared
    without reading them; `archived` are in storage classes from which they have to be restored.
    `confirmed` were found in a listing, the others asked for one by one.
    """

    ref: str
    entries: int
    confirmed: int
    superseded: int
    by_size: int
    archived: int
    kinds: Mapping[str, int]
    findings: tuple[tuple[bytes, Finding], ...]

    def __repr__(self) -> str:
        fetchable = self.entries - self.lost
        return f"<ReferenceReport of {self.ref}: {fetchable:,} of {self.entries:,} fetchable>"

    @property
    def lost(self) -> int:
        """How many cannot be fetched."""
        return sum(self.kinds.values())

    @property
    def is_right(self) -> bool:
        """Whether every one can be fetched."""
        return not self.kinds


@dataclass(slots=True)
class _Looked:
    """What became of entries: of those of one shard all, or of all of them the first."""

    entries: int = 0
    confirmed: int = 0
    superseded: int = 0
    by_size: int = 0
    archived: int = 0
    found: list[tuple[bytes, Finding]] = field(default_factory=list)

    def add(self, other: _Looked) -> None:
        """Adds the figures of a shard, and what was found as long as there is room."""
        self.entries += other.entries
        self.confirmed += other.confirmed
        self.superseded += other.superseded
        self.by_size += other.by_size
        self.archived += other.archived
        self.found += other.found[: FAULTS_SHOWN_MAX - len(self.found)]


@dataclass(slots=True)
class _Shown:
    """A source as it can be listed, now or as of a moment; opened once, if at all."""

    as_of: datetime | None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_open: bool = False
    opened: OpenedSource | None = None


@dataclass(slots=True)
class _Source:
    """A source, and what is known of asking its server.

    `spread` objects were listed for each entry. `then` shows it as it was when it was scanned.
    """

    ref: SourceRef
    spread: float
    now: _Shown
    then: _Shown | None
    has_answered: bool = False
    failures: int = 0
    failure: StoreUnavailable | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Entries of one source in one shard. Before the first of them comes the key `after`; beside
    them there are some `span` objects up to the last one.
    """

    source: _Source
    rows: pa.Table
    after: Key | None
    span: int

    def of(self, rows: Sequence[int]) -> _Piece:
        """Some of its entries, by number."""
        return replace(self, rows=self.rows.take(pa.array(rows, pa.int64())))

    def may_be_listed(self, shown: _Shown) -> bool:
        """Whether they lie below a folder, by their paths, and listing it costs less than asking
        for each.
        """
        if not self.source.ref.uri.endswith("/"):
            return False
        names = self.rows.schema.names
        if "uri" in names and self.rows.column("uri").null_count < self.rows.num_rows:
            return False
        pages = (1 if shown.is_open else 2) + self.span * self.source.spread / PAGE_ROWS
        return bool(self.rows.num_rows > LISTING_COST_HEADS * pages)


async def verify_references(
    workspace: Workspace,
    manifest: Manifest,
    originals: Originals,
    *,
    ref: str,
    selection: Selection,
    as_of: datetime | None = None,
    scanned_at: datetime | None = None,
    spreads: Sequence[float] = (),
    tell: Tell | None = None,
    counters: Counters | None = None,
) -> ReferenceReport:
    """What became of the entries that are selected, of the version `ref`.

    `as_of` is the moment that the version is of, `scanned_at` when its scan ended. `spreads` say,
    by source, how many objects were listed for each entry. Raises `CorruptContent`, and what
    reaching a server raises that has to be set right first, such as `MissingCredentials`.
    """
    sources = [
        _Source(
            source,
            spread=spreads[number] if number < len(spreads) else 1.0,
            now=_Shown(as_of),
            then=_Shown(scanned_at) if as_of is None and scanned_at is not None else None,
        )
        for number, source in enumerate(manifest.sources)
    ]
    verifying = _Verifying(
        workspace, manifest, originals, sources, selection=selection, as_of=as_of
    )
    counters = counters or Counters()

    total = _Looked()
    kinds: Counter[str] = Counter()

    def take(looked: _Looked) -> None:
        counters.objects_listed += looked.entries
        total.add(looked)
        for path, finding in looked.found:
            kinds[finding.kind] += 1
            if tell is not None:
                tell(path, finding)

    with single_error():
        async with asyncio.TaskGroup() as group:
            under_way: deque[asyncio.Task[_Looked]] = deque()
            for shard, before in verifying.shards():
                if len(under_way) == SHARDS_VERIFIED_AT_ONCE:
                    take(await under_way.popleft())
                under_way.append(group.create_task(verifying.look_at(shard, before)))
            while under_way:
                take(await under_way.popleft())
    return ReferenceReport(
        ref=ref,
        entries=total.entries,
        confirmed=total.confirmed,
        superseded=total.superseded,
        by_size=total.by_size,
        archived=total.archived,
        kinds=dict(sorted(kinds.items())),
        findings=tuple(total.found),
    )


class _Verifying:
    """What is looked at in each shard, and by which way."""

    def __init__(
        self,
        workspace: Workspace,
        manifest: Manifest,
        originals: Originals,
        sources: Sequence[_Source],
        *,
        selection: Selection,
        as_of: datetime | None,
    ) -> None:
        self._workspace = workspace
        self._manifest = manifest
        self._originals = originals
        self._sources = {source.ref: source for source in sources}
        self._selection = selection
        self._as_of = as_of

    def shards(self) -> Iterator[tuple[ShardRef, bytes | None]]:
        """The shards that can hold what is selected, each with the last path of the one before."""
        before = None
        wanted = {shard.digest for shard in shards_below(self._manifest, self._selection.prefix)}
        for shard in self._manifest.shards:
            if shard.digest in wanted:
                yield shard, before
            before = shard.max_path

    async def look_at(self, shard: ShardRef, before: bytes | None) -> _Looked:
        table = await self._workspace.shard(shard.digest)
        looked = _Looked()
        for piece in self._pieces(table, before):
            await self._look_at(piece, looked)
        looked.found.sort(key=lambda each: each[0])
        return looked

    def _pieces(self, table: pa.Table, before: bytes | None) -> Iterator[_Piece]:
        """The selected rows of a shard, apart by source."""
        rows, paths = self._selection.of(table), paths_of(table)
        at = 0
        while at < len(rows):
            ref = source_of(self._manifest.sources, paths[rows[at]])
            prefix = ref.path_prefix
            end = at + 1
            while end < len(rows) and paths[rows[end]].startswith(prefix):
                end += 1
            first, last = rows[at], rows[end - 1]
            ahead = paths[first - 1] if first else before
            is_inside = ahead is not None and ahead.startswith(prefix)
            yield _Piece(
                source=self._sources[ref],
                rows=table.take(pa.array(rows[at:end])),
                after=Key(ahead.removeprefix(prefix)) if ahead and is_inside else None,
                span=last - first + 1,
            )
            at = end

    async def _look_at(self, piece: _Piece, looked: _Looked) -> None:
        looked.entries += piece.rows.num_rows
        source = piece.source
        not_shown, unseen = await self._compare(piece, source.now, looked)
        are_versions = source.now.opened is not None and source.now.opened.store.properties.versions
        if not_shown and are_versions and source.then is not None:
            # Others have taken their places; those that were there then may be there still.
            still, unread = await self._compare(piece.of(not_shown), source.then, looked)
            looked.superseded += len(not_shown) - len(still) - len(unread)
            not_shown = [not_shown[row] for row in (*still, *unread)]
        await self._ask_each(piece.of(not_shown), looked, is_superseded=are_versions)
        await self._ask_each(piece.of(unseen), looked, is_superseded=False)

    async def _compare(
        self, piece: _Piece, shown: _Shown, looked: _Looked
    ) -> tuple[Sequence[int], Sequence[int]]:
        """The rows that a listing does not show as they were recorded, and those that it did not
        get to, which are all where there is none.
        """
        if piece.may_be_listed(shown):
            store = await self._opened(piece.source, shown)
            if store is not None and (store.properties.parallel or piece.after is None):
                return await _compare(store, piece, looked)
        return (), range(piece.rows.num_rows)

    async def _opened(self, source: _Source, shown: _Shown) -> Store | None:
        """The source as it can be listed; None where it cannot.

        What is wrong with it is found out by asking for its objects.
        """
        async with shown.opening:
            if not shown.is_open:
                shown.is_open = True
                with suppress(IndexerError):
                    shown.opened = await self._originals.listed(source.ref, as_of=shown.as_of)
        if shown.opened is None or shown.opened.store.properties.needs_head:
            return None
        return shown.opened.store

    async def _ask_each(self, piece: _Piece, looked: _Looked, *, is_superseded: bool) -> None:
        waiting = originals_of(piece.rows, of_moment=self._as_of is not None)
        asking = _Asking(self._originals, piece.source, looked, is_superseded=is_superseded)
        with single_error():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(piece.rows.num_rows, HEADS_AT_ONCE_MAX)):
                    group.create_task(asking.run(waiting))


async def _compare(store: Store, piece: _Piece, looked: _Looked) -> tuple[list[int], Sequence[int]]:
    """The rows that a listing does not show as they were recorded, and those it did not get to."""
    prefix_bytes = len(piece.source.ref.path_prefix)
    keys = [path[prefix_bytes:] for path in paths_of(piece.rows)]
    wanted = _Identities(piece.rows, keys)
    not_shown: list[int] = []
    start = pages = 0
    with suppress(IndexerError):
        asked = KeyRange(piece.after, Key(keys[-1]))
        async with aclosing(_pages(store, asked)) as listing:
            async for page in listing:
                pages += 1
                end = start if page.last is None else bisect_right(keys, page.last, start)
                end = end if page.more else len(keys)
                others = wanted.not_in(page.rows, start, end)
                not_shown += others
                shown = set(range(start, end)).difference(others)
                looked.confirmed += len(shown)
                looked.by_size += sum(wanted.is_by_size(row) for row in shown)
                looked.archived += _archived(page.rows, lambda: {keys[row] for row in shown})  # noqa: B023
                start = end
                if pages * LISTING_COST_HEADS > len(keys):
                    # There is far more than the version's own objects: each is better asked for.
                    break
    return not_shown, range(start, len(keys))


@dataclass(frozen=True, slots=True)
class _Asking:
    """Entries of one source that are asked for one by one; what came of it goes into `looked`.

    `is_superseded` if a listing shows other versions in their place.
    """

    originals: Originals
    source: _Source
    looked: _Looked
    is_superseded: bool

    async def run(self, waiting: Iterator[Original]) -> None:
        for original in waiting:
            said = await self._head(original)
            finding = what_is_found(original, said, self.originals.uri_of(original))
            if finding is not None:
                self.looked.found.append((original.path, finding))
                continue
            assert isinstance(said, Head)
            self.looked.superseded += self.is_superseded and original.pin.version_id is not None
            self.looked.by_size += not original.pin.tells_state
            self.looked.archived += said.storage_class in ARCHIVES

    async def _head(self, original: Original) -> Head | IndexerError:
        source = self.source
        if source.failure is not None and source.failures >= HEADS_AT_ONCE_MAX:
            return source.failure
        try:
            head = await self.originals.head(original)
        except UsageError:
            raise
        except StoreUnavailable as error:
            if not source.has_answered:
                source.failures += 1
                source.failure = error
            return error
        except IndexerError as error:
            source.has_answered = True
            return error
        source.has_answered = True
        return head


class _Identities:
    """Rows by what tells their objects apart: the version, else the ETag, else the time, else
    nothing but the size.
    """

    def __init__(self, rows: pa.Table, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._sizes = rows.column("size").to_pylist()
        columns = _identity_columns(rows)
        self._names: list[str | None] = [None] * rows.num_rows
        self._values: list[Any] = [None] * rows.num_rows
        for name, values in columns.items():
            for row, value in enumerate(values):
                is_pinning = value is not None and not (name == "version_id" and value == "null")
                if is_pinning and self._names[row] is None:
                    self._names[row], self._values[row] = name, value

    def is_by_size(self, row: int) -> bool:
        """Whether nothing but the size tells the object apart."""
        return self._names[row] is None

    def not_in(self, listed: pa.RecordBatch, start: int, end: int) -> list[int]:
        """Those rows from `start` up to `end` that are not listed as they are here."""
        if not listed.num_rows:
            return list(range(start, end))
        keys, sizes = paths_of(listed), listed.column("size").to_pylist()
        columns = _identity_columns(pa.Table.from_batches([listed]))
        seen: dict[str | None, set[tuple[bytes, int, Any]]] = {}
        for name in set(self._names[start:end]):
            values = [None] * len(keys) if name is None else columns.get(name, [None] * len(keys))
            seen[name] = set(zip(keys, sizes, values, strict=True))
        return [
            row
            for row in range(start, end)
            if (self._keys[row], self._sizes[row], self._values[row]) not in seen[self._names[row]]
        ]


def _identity_columns(rows: pa.Table) -> dict[str, list[Any]]:
    """The columns that tell objects apart, best first."""
    names = rows.schema.names
    columns: dict[str, list[Any]] = {}
    if "version_id" in names:
        columns["version_id"] = rows.column("version_id").to_pylist()
    columns["etag"] = etag_texts(rows).to_pylist()
    if "mtime_ns" in names:
        columns["mtime_ns"] = rows.column("mtime_ns").to_pylist()
    return columns


async def _pages(store: Store, keys: KeyRange) -> AsyncGenerator[ListedPage]:
    """The pages of a listing of `keys`, for as long as it goes on."""
    token: str | None = None
    while True:
        page = await store.list_page(keys, token=token)
        yield page
        is_at_end = page.last is not None and keys.through is not None and page.last >= keys.through
        if is_at_end or not page.more:
            return
        token = page.token
        if token is None:
            if page.last is None or (keys.after is not None and page.last <= keys.after):
                return
            keys = KeyRange(page.last, keys.through)


def _archived(rows: pa.RecordBatch, keys: Callable[[], set[bytes]]) -> int:
    """How many of the keys are in a storage class from which they have to be restored."""
    classes = (
        rows.column("storage_class").to_pylist() if "storage_class" in rows.schema.names else []
    )
    if ARCHIVES.isdisjoint(classes):
        return 0
    wanted = keys()
    return sum(
        name in ARCHIVES and key in wanted
        for name, key in zip(classes, paths_of(rows), strict=True)
    )
