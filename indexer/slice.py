"""One slice of a job: a set of ranges, listed and sharded, as bytes in and bytes out.

This is the only code that may run in another process than the job's.

Invariants
  * A slice depends on its work and on what its context opens, and on nothing of the job.
  * What it answers is about its ranges exactly: stretches and remainders tile them.
  * Rows that still wait when it ends are in the content store; the answer holds their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from indexer.content import ContentStore
from indexer.errors import said_of
from indexer.keyspace import Key, KeyRange
from indexer.limits import PAGES_BUFFERED_BYTES_MAX, PAGES_BUFFERED_MAX, SEALS_IN_FLIGHT_MAX
from indexer.manifest import ShardRef
from indexer.pipeline.listing import Limit, ListedRows, Listing, Tile
from indexer.pipeline.plan import Planner
from indexer.pipeline.rows import Rows, Spilled, Waiting
from indexer.pipeline.seal import Sealer
from indexer.pipeline.shard import Assembler, Run, Stretch, stretch_of
from indexer.protocols import Store, Tracker
from indexer.telemetry import Counters
from workers.channel import Channel
from workers.clock import Clock
from workers.errors import single_error
from workers.pool import Pool
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class SliceContext:
    """What a slice works with. `slots` tells how many requests may be under way just now."""

    store: Store
    content: ContentStore
    tracker: Tracker
    threads: Threads
    slots: Callable[[], int]
    counters: Counters
    clock: Clock
    known: Collection[str] = ()


class SliceWork(msgspec.Struct, frozen=True):
    """What a slice is to do: list `ranges`, at most `pages_max` pages of them.

    `seeds` are keys at which the ranges may well be cut. Not more than `objects_max` objects may be
    listed of the source that `uri` names, of which earlier slices have listed `objects_before`;
    with `keeps_first`, the first so many of these ranges are wanted, and one more.
    """

    uri: str
    ranges: list[KeyRange]
    seeds: list[Key]
    pages_max: int
    objects_max: int
    objects_before: int
    keeps_first: bool


class StretchRecord(msgspec.Struct, frozen=True):
    """A stretch whose waiting rows are all spilled: each run is rows, or shards."""

    keys: KeyRange
    head: list[Spilled]
    runs: list[tuple[list[Spilled], list[ShardRef] | None]]
    tail: list[Spilled] | None


class SliceResult(msgspec.Struct, frozen=True):
    """What became of a slice."""

    stretches: list[StretchRecord]
    tiles: list[Tile]
    remainders: list[KeyRange]


async def run_range(context: SliceContext, work: bytes) -> bytes:
    """Does a slice: an encoded `SliceWork` in, an encoded `SliceResult` out.

    Raises `BrokenListing`, `LimitExceeded`, and what store and tracker raise; what it has told the
    tracker by then stays there and does no harm.
    """
    task = msgspec.msgpack.decode(work, type=SliceWork)
    channel: Channel[ListedRows] = Channel(
        items_max=PAGES_BUFFERED_MAX, bytes_max=PAGES_BUFFERED_BYTES_MAX
    )
    properties = context.store.properties
    listing = Listing(
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
            task.uri,
            counted=task.objects_before,
            keeps_first=task.keeps_first,
        ),
        pages_max=task.pages_max,
        counters=context.counters,
        clock=context.clock,
        out=channel,
    )
    waiting = Waiting(context.content, context.threads)
    with said_of(task.uri), single_error():
        async with Pool(SEALS_IN_FLIGHT_MAX) as pool:
            assembler = Assembler(
                sealer=sealer_of(context, waiting),
                waiting=waiting,
                pool=pool,
                seals=not task.keeps_first,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(listing.run())
                group.create_task(_assemble(channel, assembler))
    records = [await _record(stretch, waiting) for stretch in assembler.stretches]
    return msgspec.msgpack.encode(SliceResult(records, listing.tiles, listing.remainders))


def sealer_of(context: SliceContext, waiting: Waiting) -> Sealer:
    """The sealer of a slice, or of the job that puts slices together."""
    return Sealer(
        tracker=context.tracker,
        waiting=waiting,
        threads=context.threads,
        counters=context.counters,
        known=context.known,
    )


def read_result(result: bytes) -> tuple[list[Stretch], list[Tile], list[KeyRange]]:
    """The stretches, tiles and remainders of an encoded `SliceResult`."""
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
    return stretches, decoded.tiles, decoded.remainders


async def _assemble(channel: Channel[ListedRows], assembler: Assembler) -> None:
    async with channel.receiving():
        async for listed in channel:
            await assembler.add(stretch_of(listed.keys, listed.rows))


async def _record(stretch: Stretch, waiting: Waiting) -> StretchRecord:
    return StretchRecord(
        keys=stretch.keys,
        head=await waiting.spill(stretch.head),
        runs=[(await waiting.spill(run.rows), run.shards) for run in stretch.runs],
        tail=None if stretch.tail is None else await waiting.spill(stretch.tail),
    )


def _rows(pieces: list[Spilled]) -> Rows:
    return Rows(list(pieces), sum(piece.rows for piece in pieces))
