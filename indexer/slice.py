"""One slice of a job: a set of ranges, listed and sharded, as bytes in and bytes out.

This is the only code that may run in another process than the job's.

Invariants
  * A slice depends on its work and on what its context opens, and on nothing of the job.
  * What it answers is about its ranges exactly: stretches and remainders tile them.
  * Rows that still wait when it ends are in the content store; the answer holds their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pyarrow.compute as pc

from indexer.checksums import ALGORITHMS
from indexer.content import ContentStore
from indexer.errors import said_of
from indexer.globs import Filters
from indexer.keyspace import Key, KeyRange
from indexer.limits import (
    IN_FLIGHT_DEFAULT,
    PAGES_BUFFERED_BYTES_MAX,
    PAGES_BUFFERED_MAX,
    SEALS_IN_FLIGHT_MAX,
    TOUCHED_SLACK_S,
)
from indexer.manifest import ShardRef
from indexer.page import Page, with_prefix, without_needless_times
from indexer.pipeline.carry import Carry
from indexer.pipeline.digest import Digester
from indexer.pipeline.enrich import Enricher, Wanted
from indexer.pipeline.listing import Limit, ListedRows, Listing, Tile
from indexer.pipeline.plan import Planner
from indexer.pipeline.rows import Rows, Spilled, Waiting
from indexer.pipeline.seal import Sealer
from indexer.pipeline.shard import Assembler, Run, Stretch, stretch_of
from indexer.protocols import Store, Tracker
from indexer.sources import uri_below
from indexer.telemetry import Counters
from workers.budget import Budget
from workers.channel import Channel
from workers.clock import Clock
from workers.errors import single_error
from workers.pool import Pool
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class SliceTools:
    """What all slices of a job work with."""

    content: ContentStore
    tracker: Tracker
    threads: Threads
    budget: Budget
    counters: Counters
    clock: Clock


@dataclass(frozen=True, slots=True)
class SliceContext:
    """What a slice works with. `slots` tells how many list requests may be under way just now,
    `in_flight` how many requests there may ever be.

    `known` are digests of shards that the tracker surely holds. `carry` has the checksums of the
    version before; what was modified after `opened_at`, by the server's clock, was touched while it
    was scanned.
    """

    tools: SliceTools
    store: Store
    slots: Callable[[], int]
    in_flight: int = IN_FLIGHT_DEFAULT
    known: Collection[str] = ()
    carry: Carry | None = None
    opened_at: datetime | None = None

    @property
    def touched_after(self) -> datetime | None:
        """What was modified after this was touched while it was scanned."""
        return self.opened_at and self.opened_at + timedelta(seconds=TOUCHED_SLACK_S)


class SliceWork(msgspec.Struct, frozen=True):
    """What a slice is to do: list `ranges` of the source `title`, at most `pages_max` pages.

    `seeds` are keys at which the ranges may well be cut. Not more than `objects_max` objects may be
    listed of the sources that `limited` names, of which `objects_before` were listed before.
    With `keeps_first`, the first so many of these ranges are wanted, and one more, just as they are
    listed; else the rows that `filters` keep are filled as `wanted`.

    Ranges and seeds are keys of the source; everything in the answer but tiles and remainders is in
    the space of paths, where the source has the range `space` and begins with `path_prefix`.
    `folder` is the source's URI.
    """

    title: str
    limited: str
    folder: str
    ranges: list[KeyRange]
    seeds: list[Key]
    pages_max: int
    objects_max: int
    objects_before: int
    keeps_first: bool
    path_prefix: bytes = b""
    space: KeyRange = KeyRange()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    wanted: Wanted = Wanted()


class StretchRecord(msgspec.Struct, frozen=True):
    """A stretch whose waiting rows are all spilled: each run is rows, or shards."""

    keys: KeyRange
    head: list[Spilled]
    runs: list[tuple[list[Spilled], list[ShardRef] | None]]
    tail: list[Spilled] | None


class SliceResult(msgspec.Struct, frozen=True):
    """What became of a slice: `gone` objects vanished between listing and looking at them,
    `touched` were modified meanwhile.
    """

    stretches: list[StretchRecord]
    tiles: list[Tile]
    remainders: list[KeyRange]
    gone: int = 0
    touched: int = 0


@dataclass(frozen=True, slots=True)
class SliceAnswer:
    """A `SliceResult`, read."""

    stretches: list[Stretch]
    tiles: list[Tile]
    remainders: list[KeyRange]
    gone: int
    touched: int


async def run_range(context: SliceContext, work: bytes) -> bytes:
    """Does a slice: an encoded `SliceWork` in, an encoded `SliceResult` out.

    Raises `BrokenListing`, `LimitExceeded`, and what store and tracker raise; what it has told the
    tracker by then stays there and does no harm.
    """
    task = msgspec.msgpack.decode(work, type=SliceWork)
    tools = context.tools
    filters = Filters(task.include, task.exclude)
    listed = new_channel()
    select = filters.selector(task.path_prefix).select if filters else None
    listing = listing_of(context, task, listed, select)
    with said_of(task.title):
        finished = await run_pages(context, task, listed, listing.run)
    records = await _records(finished.stretches, Waiting(tools.content, tools.threads))
    return msgspec.msgpack.encode(
        SliceResult(records, listing.tiles, listing.remainders, finished.gone, finished.touched)
    )


def listing_of(
    context: SliceContext,
    task: SliceWork,
    out: Channel[ListedRows],
    select: Callable[[Page], Page] | None = None,
) -> Listing:
    """The listing that a slice is to do; see `Listing` for `select`."""
    properties = context.store.properties
    return Listing(
        store=context.store,
        planner=Planner(
            task.ranges,
            seeds=task.seeds,
            resume=properties.resume,
            key_bytes_max=properties.key_bytes_max,
        ),
        slots=context.slots,
        limit=Limit(
            task.objects_max,
            task.limited,
            counted=task.objects_before,
            keeps_first=task.keeps_first,
        ),
        pages_max=task.pages_max,
        counters=context.tools.counters,
        clock=context.tools.clock,
        out=out,
        select=select,
    )


async def run_pages(
    context: SliceContext,
    task: SliceWork,
    listed: Channel[ListedRows],
    give: Callable[[], Coroutine[Any, Any, None]],
) -> PagesResult:
    """Enriches and assembles the pages that `give` sends into `listed`."""
    tools = context.tools
    placing = Placing(task.path_prefix, task.space, context.touched_after)
    enricher, enriched = None, listed
    if not task.keeps_first and not task.wanted.is_listed(context.store.properties):
        enricher, enriched = enricher_of(context, task), new_channel()
    with single_error():
        async with (
            assembling(tools, context.known, seals=not task.keeps_first) as assembler,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(give())
            if enricher is not None:
                group.create_task(enricher.run(listed, enriched))
            group.create_task(_assemble(enriched, assembler, placing))
    gone, changed = (enricher.gone, enricher.changed) if enricher else (0, 0)
    return PagesResult(assembler.stretches, gone, placing.touched + gone + changed)


@dataclass(frozen=True, slots=True)
class PagesResult:
    """What became of pages: see `SliceResult`."""

    stretches: list[Stretch]
    gone: int
    touched: int


def enricher_of(context: SliceContext, task: SliceWork) -> Enricher:
    """What fills the pages of a slice."""
    tools, wanted = context.tools, task.wanted
    digester = None
    if wanted.checksum in ALGORITHMS:
        digester = Digester(
            context.store,
            wanted.checksum,
            threads=tools.threads,
            budget=tools.budget,
            counters=tools.counters,
        )
    return Enricher(
        context.store,
        wanted,
        digester=digester,
        carry=context.carry,
        path_prefix=task.path_prefix,
        in_flight=context.in_flight,
        counters=tools.counters,
        touched_after=context.touched_after,
        uri_of=partial(uri_below, task.folder),
    )


@asynccontextmanager
async def assembling(
    tools: SliceTools, known: Collection[str], *, seals: bool = True
) -> AsyncIterator[Assembler]:
    """An assembler, whose runs are all sealed when the block is left. `known` is the sealer's."""
    waiting = Waiting(tools.content, tools.threads)
    sealer = Sealer(
        tracker=tools.tracker,
        waiting=waiting,
        threads=tools.threads,
        counters=tools.counters,
        known=known,
    )
    with single_error():
        async with Pool(SEALS_IN_FLIGHT_MAX) as pool:
            yield Assembler(sealer=sealer, waiting=waiting, pool=pool, seals=seals)


def read_result(result: bytes) -> SliceAnswer:
    """An encoded `SliceResult` as the parts that it describes."""
    decoded = msgspec.msgpack.decode(result, type=SliceResult)
    stretches = [
        Stretch(
            record.keys,
            _rows(record.head),
            [Run(_rows(rows), shards) for rows, shards in record.runs],
            None if record.tail is None else _rows(record.tail),
        )
        for record in decoded.stretches
    ]
    return SliceAnswer(stretches, decoded.tiles, decoded.remainders, decoded.gone, decoded.touched)


class Placing:
    """Where pages of a source stand in the space of paths; `touched` counts rows that were modified
    after `touched_after`.
    """

    def __init__(self, path_prefix: bytes, space: KeyRange, touched_after: datetime | None) -> None:
        self._prefix = path_prefix
        self._space = space
        self._touched_after = touched_after
        self.touched = 0

    def place(self, listed: ListedRows) -> Stretch:
        """The stretch of a page."""
        page = listed.rows
        if self._touched_after is not None and "last_modified" in page.schema.names:
            is_touched = pc.greater(page.column("last_modified"), self._touched_after)
            self.touched += pc.sum(is_touched).as_py() or 0
        page = without_needless_times(page)
        if self._prefix:
            page = with_prefix(page, self._prefix)
        return stretch_of(self._range(listed.keys), page)

    def _range(self, keys: KeyRange) -> KeyRange:
        after, through = keys.after, keys.through
        return KeyRange(
            self._space.after if after is None else Key(self._prefix + after),
            self._space.through if through is None else Key(self._prefix + through),
        )


def new_channel() -> Channel[ListedRows]:
    """A channel for pages on their way from one stage to the next."""
    return Channel(items_max=PAGES_BUFFERED_MAX, bytes_max=PAGES_BUFFERED_BYTES_MAX)


async def _assemble(channel: Channel[ListedRows], assembler: Assembler, placing: Placing) -> None:
    async with channel.receiving():
        async for listed in channel:
            await assembler.add(placing.place(listed))


async def _records(stretches: list[Stretch], waiting: Waiting) -> list[StretchRecord]:
    return [
        StretchRecord(
            keys=stretch.keys,
            head=await waiting.spill(stretch.head),
            runs=[(await waiting.spill(run.rows), run.shards) for run in stretch.runs],
            tail=None if stretch.tail is None else await waiting.spill(stretch.tail),
        )
        for stretch in stretches
    ]


def _rows(pieces: list[Spilled]) -> Rows:
    return Rows(list(pieces), sum(piece.rows for piece in pieces))
