"""Runs of a listing for its tests: slices of memory stores, and what they handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.page import paths_of
from indexer.pipeline.listing import Limit, ListedRows, Listing, Tile
from indexer.pipeline.plan import Planner
from indexer.protocols import Store, StoreProperties
from indexer.stores.memory import MemoryObject, MemoryStore
from indexer.telemetry import Counters
from workers.channel import Channel
from workers.clock import Clock, SystemClock
from workers.errors import ChannelBroken

KNOWN = StoreProperties(KEY_BYTES_MAX)
UNKNOWN = replace(KNOWN, end_believed_below=100)
TESTED = replace(KNOWN, end_believed_below=0)
SERIAL = replace(TESTED, parallel=False)
BY_DIRECTORY = replace(KNOWN, resume="directory")
BY_DIRECTORY_TESTED = replace(UNKNOWN, resume="directory")
ALL = [KeyRange()]
URI = "s3://bucket/"
SLICES_MAX = 1_000


def objects_of(keys: Sequence[bytes]) -> dict[bytes, MemoryObject | None]:
    return {key: MemoryObject(len(key), "etag") for key in keys}


def memory(
    keys: Sequence[bytes], properties: StoreProperties = KNOWN, page_entries: int = 5
) -> MemoryStore:
    return MemoryStore(objects_of(keys), properties=properties, page_entries=page_entries)


@dataclass
class Listed:
    """What one or more slices have listed."""

    items: list[ListedRows] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    remainders: list[KeyRange] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)

    @property
    def keys(self) -> list[bytes]:
        """All rows' keys, in the order of their ranges; each lies in its range."""
        found: list[bytes] = []
        for item in sorted(self.items, key=lambda item: start_of(item.keys)):
            paths = paths_of(item.rows)
            assert all(path in item.keys for path in paths)
            found += paths
        return found

    def check_tiling(self, ranges: Sequence[KeyRange] = ALL) -> None:
        """What was handed on, and the tiles, cover the ranges without gap or overlap."""
        for pieces in ([item.keys for item in self.items], [tile.keys for tile in self.tiles]):
            assert joined(pieces) == list(ranges)
            assert not any(keys.is_empty for keys in pieces)
        assert sum(tile.listed for tile in self.tiles) == len(self.keys)


def start_of(keys: KeyRange) -> tuple[bool, bytes]:
    return keys.after is not None, keys.after or b""


def joined(pieces: Sequence[KeyRange]) -> list[KeyRange]:
    """Ranges that meet, as one. Asserts that none overlap."""
    ordered = sorted((keys for keys in pieces if not keys.is_empty), key=start_of)
    found: list[KeyRange] = []
    for keys in ordered:
        if found and found[-1].through == keys.after:
            found[-1] = KeyRange(found[-1].after, keys.through)
        else:
            found.append(keys)
    for left, right in pairwise(found):
        assert left.through is not None, "ranges overlap"
        assert right.after is not None, "ranges overlap"
        assert left.through < right.after, "ranges overlap"
    return found


async def list_slice(
    store: Store,
    listed: Listed,
    *,
    ranges: Sequence[KeyRange] = ALL,
    seeds: Sequence[bytes] = (),
    slots: int | Callable[[], int] = 8,
    limit: Limit | None = None,
    pages_max: int = 10_000,
    clock: Clock | None = None,
    receive: Callable[[ListedRows], Awaitable[None]] | None = None,
) -> Listed:
    """Lists one slice and adds what it gives to `listed`."""
    channel: Channel[ListedRows] = Channel(items_max=4, bytes_max=10**6)
    properties = store.properties
    planner = Planner(
        ranges,
        seeds=[Key(seed) for seed in seeds],
        resume=properties.resume,
        key_bytes_max=properties.key_bytes_max,
        split_pages_min=1.0,
    )
    listing = Listing(
        store=store,
        planner=planner,
        slots=slots if callable(slots) else lambda: slots,
        limit=limit or Limit(10**9, URI),
        pages_max=pages_max,
        counters=listed.counters,
        clock=clock or SystemClock(),
        out=channel,
    )

    async def collect() -> None:
        async with channel.receiving():
            async for item in channel:
                listed.items.append(item)
                if receive:
                    await receive(item)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(listing.run())
            group.create_task(collect())
    except BaseExceptionGroup as errors:
        raise next(e for e in errors.exceptions if not isinstance(e, ChannelBroken)) from errors
    listed.tiles += listing.tiles
    listed.remainders = listing.remainders
    return listed


async def list_all(
    store: Store, *, pages_max: int = 10_000, slots: int = 8, seeds: Sequence[bytes] = ()
) -> Listed:
    """Lists slice after slice until nothing remains."""
    listed = Listed(remainders=list(ALL))
    for _ in range(SLICES_MAX):
        if not listed.remainders:
            return listed
        ranges = listed.remainders
        await list_slice(
            store, listed, ranges=ranges, seeds=seeds, slots=slots, pages_max=pages_max
        )
    pytest.fail("the listing comes to no end")


async def list_first(store: Store, count: int, slots: int) -> list[bytes]:
    """The first so many keys, as far as they were listed without a gap from the start on."""
    listed = Listed()
    limit = Limit(count, URI, keeps_first=True)
    await list_slice(store, listed, slots=slots, limit=limit)
    first = joined([item.keys for item in listed.items])[0]
    assert first.after is None
    return [key for key in listed.keys if key in first][:count]
