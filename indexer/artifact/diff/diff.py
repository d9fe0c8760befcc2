"""diff: what changed from one version to another, below a prefix.

    async with Threads(2) as threads:
        diff = await find_diff(shards, old, new, threads=threads)
    diff.summary; await diff.page(); await diff.folders()

Invariants
  * Only shards are read that one version has and the other has not, and that can hold the prefix.
    The cost follows what changed, not what there is.
  * What is held is bounded: `DIFF_SHARDS_AT_ONCE` shards while they are compared, what changed
    in the last ones of them, and `DIFF_HELD_BYTES_MAX` of changes. Where there are more, what is
    asked for is compared anew.
  * The same two versions give the same answer, whoever asks and in whatever pages.
  * A rename is one within the prefix: what came from or went elsewhere was added or removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.diff.compare import compare_rows, entries_in, in_order
from indexer.artifact.diff.renames import Renames, find_renames
from indexer.artifact.diff.spans import Span, spans_of
from indexer.artifact.diff.tallies import FolderTallies, tallies_of
from indexer.artifact.entries import Shards, within
from indexer.changes import (
    Change,
    ChangedFolder,
    ChangedFolderPage,
    ChangeKind,
    DiffPage,
    DiffSummary,
    Tally,
    no_tallies,
)
from indexer.entries import entries_of
from indexer.keyspace import KeyRange
from indexer.limits import (
    DIFF_HELD_BYTES_MAX,
    DIFF_PAGE_SHARDS_MAX,
    DIFF_SHARDS_AT_ONCE,
    PAGE_RESULTS_DEFAULT,
)
from indexer.manifest import Manifest, ShardRef
from indexer.page import empty_page
from workers.errors import single_error
from workers.threads import Threads

Batch: TypeAlias = tuple[Span, ...]
"""Spans that are read and compared at once."""

_MOVES = [str(ChangeKind.ADDED), str(ChangeKind.REMOVED)]


@dataclass(frozen=True, slots=True)
class DiffLimits:
    """Bounds of a diff; tests have lower ones."""

    shards_at_once: int = DIFF_SHARDS_AT_ONCE
    held_bytes_max: int = DIFF_HELD_BYTES_MAX
    page_shards_max: int = DIFF_PAGE_SHARDS_MAX


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: two manifests, below a prefix, and where their shards are read."""

    shards: Shards
    old: Manifest
    new: Manifest
    prefix: bytes
    threads: Threads
    limits: DiffLimits


async def find_diff(
    shards: Shards,
    old: Manifest,
    new: Manifest,
    *,
    threads: Threads,
    prefix: bytes = b"",
    limits: DiffLimits | None = None,
) -> Diff:
    """What changed from one manifest to another. Raises `CorruptContent`.

    `threads` do the comparing, here and whenever the diff is asked; it is of no use without them.
    """
    sides = Sides(shards, old, new, prefix, threads, limits or DiffLimits())
    spans = list(spans_of(old, new, prefix, sides.limits.shards_at_once))
    batches = list(_batches(spans, sides.limits.shards_at_once))
    tallies, held = no_tallies(), _Held(sides.limits.held_bytes_max)
    for batch in batches:
        changes = pa.concat_tables(await _compare_all(sides, batch))
        for kind, tally in tallies_of(changes).items():
            tallies[kind] += tally
        held.add(changes)
    moves = held.moves()
    renames = Renames()
    if moves is not None:
        renames = await threads.run(find_renames, moves, old.sources, new.sources)
    _take_renames(tallies, renames)
    read = {shard.digest for span in spans for shard in (*span.old, *span.new)}
    summary = DiffSummary(
        before=old.digest,
        after=new.digest,
        tallies=tallies,
        has_renames=moves is not None,
        shards=len(old.shards) + len(new.shards),
        shards_read=len(read),
    )
    return Diff(sides, batches, summary, renames, held.everything())


class Diff:
    """What changed: `summary` in all, and each change by key."""

    def __init__(
        self,
        sides: Sides,
        batches: Sequence[Batch],
        summary: DiffSummary,
        renames: Renames,
        held: pa.Table | None,
    ) -> None:
        self.summary = summary
        self._sides = sides
        self._batches = batches
        self._renames = renames
        self._held = held
        self._last: tuple[Batch, Sequence[pa.Table]] = ((), ())

    def over(self, shards: Shards, threads: Threads) -> Diff:
        """The same diff, reading there from now on what it does not hold."""
        sides = replace(self._sides, shards=shards, threads=threads)
        return Diff(sides, self._batches, self.summary, self._renames, self._held)

    def at_hand(self, kinds: Sequence[ChangeKind] = ()) -> pa.Table | None:
        """The changes of these kinds, or all, as one table; None where they are not held."""
        return None if self._held is None else self._wanted(self._held, kinds, None)

    async def tables(
        self, kinds: Sequence[ChangeKind] = (), after: bytes | None = None
    ) -> AsyncGenerator[pa.Table]:
        """The changes of these kinds, or all, after a path, as tables like `compare.CHANGES`."""
        async with aclosing(self._pieces(kinds, after)) as pieces:
            async for _, table in pieces:
                if table.num_rows:
                    yield table

    async def page(
        self,
        kinds: Sequence[ChangeKind] = (),
        after: bytes | None = None,
        limit: int = PAGE_RESULTS_DEFAULT,
    ) -> DiffPage:
        """At most `limit` of the changes of these kinds, or of all, after a path, by path."""
        assert limit > 0
        found: list[pa.Table] = []
        room, shards_left = limit, self._sides.limits.page_shards_max
        following: bytes | None = None
        if not any(self.summary.tallies[kind].objects for kind in kinds or ChangeKind):
            return DiffPage(self.summary, (), None)
        async with aclosing(self._pieces(kinds, after)) as pieces:
            async for span, table in pieces:
                found.append(table.slice(0, room))
                room -= found[-1].num_rows
                if found[-1].num_rows < table.num_rows:
                    # The piece has more, and there is at least one in what was taken.
                    following = found[-1].column("path")[-1].as_py()
                    break
                if span is None or span is self._batches[-1][-1]:
                    break
                shards_left -= span.shards
                if room <= 0 or shards_left <= 0:
                    following = span.range.through
                    break
        return DiffPage(self.summary, tuple(self._changes_of(found)), following)

    async def folders(
        self, after: bytes | None = None, limit: int = PAGE_RESULTS_DEFAULT
    ) -> ChangedFolderPage:
        """What changed in each folder directly below the prefix, and of each entry there, by path.

        What was renamed from one of them to another was removed from the one and added to the
        other.
        """
        assert limit > 0
        found = FolderTallies(self._sides.prefix, self._renames)
        lowest = None if after is None else _behind(after)
        async with aclosing(self._raw(lowest)) as pieces:
            async for _, table in pieces:
                found.add(_from(table, lowest))
                if found.count > limit:
                    break
        folders = [ChangedFolder(path, tallies) for path, tallies in found.results()]
        following = folders[limit - 1].path if len(folders) > limit else None
        return ChangedFolderPage(self.summary, tuple(folders[:limit]), following)

    async def _pieces(
        self, kinds: Sequence[ChangeKind], after: bytes | None
    ) -> AsyncGenerator[tuple[Span | None, pa.Table]]:
        lowest = None if after is None else after + b"\0"
        async with aclosing(self._raw(lowest)) as pieces:
            async for span, raw in pieces:
                yield span, self._wanted(raw, kinds, lowest)

    def _wanted(self, raw: pa.Table, kinds: Sequence[ChangeKind], lowest: bytes | None) -> pa.Table:
        table = _from(self._renames.apply(raw), lowest)
        if not kinds:
            return table
        wanted = pa.array([str(kind) for kind in kinds])
        return table.filter(pc.is_in(table.column("kind"), value_set=wanted))

    async def _raw(self, lowest: bytes | None) -> AsyncGenerator[tuple[Span | None, pa.Table]]:
        """Changes before renames were found among them; all at once if they are held.

        What lies before `lowest` may be among them, and need not.
        """
        if self._held is not None:
            yield None, self._held
            return
        for batch in self._batches:
            if _is_before(batch[-1], lowest):
                continue
            last, tables = self._last
            if last is not batch:
                tables = await _compare_all(self._sides, batch)
                # Who pages through them comes back for the rest of it.
                self._last = (batch, tables)
            for span, table in zip(batch, tables, strict=True):
                if not _is_before(span, lowest):
                    yield span, table

    def _changes_of(self, tables: Sequence[pa.Table]) -> Iterator[Change]:
        for table in tables:
            sides = [
                iter(entries_of(_valid(table, side), manifest.sources))
                for side, manifest in (("before", self._sides.old), ("after", self._sides.new))
            ]
            for kind in table.column("kind").to_pylist():
                has_before, has_after = kind != ChangeKind.ADDED, kind != ChangeKind.REMOVED
                yield Change(
                    ChangeKind(kind),
                    next(sides[0]) if has_before else None,
                    next(sides[1]) if has_after else None,
                )


class _Held:
    """Changes, as long as they are few enough: all of them, else those that may be renames."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_left = bytes_max
        self._moves: list[pa.Table] | None = []
        self._others: list[pa.Table] | None = []

    def add(self, changes: pa.Table) -> None:
        """Takes more changes, and lets go of what there is no room for."""
        is_move = pc.is_in(changes.column("kind"), value_set=pa.array(_MOVES))
        for kept, table in (
            (self._moves, changes.filter(is_move)),
            (self._others, changes.filter(pc.invert(is_move))),
        ):
            if kept is not None and table.num_rows:
                kept.append(table)
                self._bytes_left -= table.nbytes
        if self._bytes_left < 0 and self._others is not None:
            self._bytes_left += sum(table.nbytes for table in self._others)
            self._others = None
        if self._bytes_left < 0:
            self._moves = None

    def moves(self) -> pa.Table | None:
        """All that was added and removed, unless it was too much."""
        return None if self._moves is None else in_order(self._moves)

    def everything(self) -> pa.Table | None:
        """All changes, unless they were too many."""
        if self._moves is None or self._others is None:
            return None
        return in_order([*self._moves, *self._others]).combine_chunks()


async def _compare_all(sides: Sides, batch: Batch) -> Sequence[pa.Table]:
    """The changes of each span, side by side."""
    with single_error():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_compare(sides, span)) for span in batch]
    return [task.result() for task in tasks]


def _batches(spans: Sequence[Span], shards_max: int) -> Iterator[Batch]:
    batch: list[Span] = []
    shards = 0
    for span in spans:
        if batch and shards + span.shards > shards_max:
            yield tuple(batch)
            batch, shards = [], 0
        batch.append(span)
        shards += span.shards
    if batch:
        yield tuple(batch)


def _is_before(span: Span, lowest: bytes | None) -> bool:
    through = span.range.through
    return lowest is not None and through is not None and through < lowest


async def _compare(sides: Sides, span: Span) -> pa.Table:
    async def read(shard: ShardRef) -> pa.Table:
        table = await sides.shards.shard(shard.digest)
        return await sides.threads.run(_narrowed, table, span.range, sides.prefix)

    async with asyncio.TaskGroup() as group:
        olds, news = (
            [group.create_task(read(shard)) for shard in shards] for shards in (span.old, span.new)
        )
    old, new = ([task.result() for task in tasks] for tasks in (olds, news))
    return await sides.threads.run(_compare_tables, old, new, sides.old, sides.new)


def _narrowed(table: pa.Table, keys: KeyRange, prefix: bytes) -> pa.Table:
    """The rows in a range whose paths start with the prefix."""
    paths = table.column("path")
    if paths[0].as_py() not in keys or paths[-1].as_py() not in keys:
        is_in = pc.less_equal(paths, keys.through)
        if keys.after is not None:
            is_in = pc.and_(is_in, pc.greater(paths, keys.after))
        table = table.filter(is_in)
    return within(table, prefix)


def _compare_tables(
    old: Sequence[pa.Table], new: Sequence[pa.Table], old_of: Manifest, new_of: Manifest
) -> pa.Table:
    return compare_rows(_joined(old), _joined(new), old_of.sources, new_of.sources)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        return pa.Table.from_batches([empty_page()])
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _take_renames(tallies: dict[ChangeKind, Tally], renames: Renames) -> None:
    """Counts renames, and no more what they are in place of."""
    renamed = tallies_of(renames.changes)[ChangeKind.RENAMED]
    added, removed = tallies[ChangeKind.ADDED], tallies[ChangeKind.REMOVED]
    tallies[ChangeKind.RENAMED] = renamed
    tallies[ChangeKind.ADDED] = Tally(
        added.objects - renamed.objects, 0, added.bytes_after - renamed.bytes_after
    )
    tallies[ChangeKind.REMOVED] = Tally(
        removed.objects - renamed.objects, removed.bytes_before - renamed.bytes_before, 0
    )


def _behind(child: bytes) -> bytes:
    """The first path there may be after a folder and all that is in it, or after an entry."""
    return child[:-1] + b"0" if child.endswith(b"/") else child + b"\0"


def _from(changes: pa.Table, lowest: bytes | None) -> pa.Table:
    if lowest is None:
        return changes
    return changes.filter(pc.greater_equal(changes.column("path"), lowest))


def _valid(changes: pa.Table, side: str) -> pa.Table:
    return entries_in(changes.filter(pc.is_valid(changes.column(side))), side)
