"""scan: one source of a job, from its URI to all that it holds, by slices.

Invariants
  * A source is opened, listed and filled as a whole, or nothing of it is used: when a server turns
    out not to do what it seemed to, it is scanned again without relying on it.
  * What is known of it in the end is one stretch of its own range of paths.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import msgspec

from indexer.errors import Ability, AmbiguousSource, IndexerError, LimitExceeded, said_of
from indexer.globs import Selector
from indexer.keyspace import Key, KeyRange
from indexer.manifest import Manifest, SourceRef
from indexer.page import Page, empty_page, paths_of
from indexer.pipeline.carry import Carry
from indexer.pipeline.enrich import Wanted
from indexer.pipeline.listing import ListedRows, Tile
from indexer.pipeline.shard import Stretch
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import LoneObject, OpenedSource, Reach, Reached, Tracker
from indexer.slice import (
    SliceAnswer,
    SliceContext,
    SliceTools,
    SliceWork,
    assembling,
    listing_of,
    new_channel,
    read_result,
    run_pages,
    run_range,
)
from indexer.sources import Source
from workers.errors import single_error
from workers.local import LocalExecutor


class Look(Protocol):
    """Whoever is shown all pages of a source."""

    def take(self, page: Page) -> None: ...


AnyLook = TypeVar("AnyLook", bound=Look)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Before:
    """The version before: its manifest, and which checksum its entries were to have."""

    manifest: Manifest
    checksum: str | None
    seen_at: datetime

    @cached_property
    def shards(self) -> frozenset[str]:
        """The digests of its shards."""
        return frozenset(shard.digest for shard in self.manifest.shards)

    def carry(self, tracker: Tracker, ref: SourceRef, wanted: str, asked: str) -> Carry | None:
        """Its checksums, for entries of a source that are to have the checksum `wanted`; None where
        there are none to be used.

        By ETags, and times even more, an object is known only at the place where it was before.
        `asked` is what the whole snapshot was asked for. What a store knows is carried over only if
        that was asked for then too: nothing else tells it from what was read.
        """
        if ref not in self.manifest.sources:
            return None
        if wanted == "none" or (wanted == "store" and asked != self.checksum):
            return None
        algorithm = None if wanted == "store" else wanted
        return Carry(self.manifest, tracker.shard, self.seen_at, algorithm=algorithm)

    def seeds(self, path_prefix: bytes) -> list[Key]:
        """Keys of a source at which its listing may well be cut: the ends of shards."""
        ends = [shard.max_path for shard in self.manifest.shards[:-1]]
        inside = [end.removeprefix(path_prefix) for end in ends if end.startswith(path_prefix)]
        return [Key(end) for end in inside if end]


@dataclass(slots=True)
class Scan:
    """What one source holds. `gone` objects vanished between listing and looking at them, `touched`
    were modified meanwhile, None where that cannot be known. `is_one_look` if listing it told all.
    """

    ref: SourceRef
    record: dict[str, Any]
    stretches: list[Stretch] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    gone: int = 0
    touched: int | None = 0
    is_partial: bool = False
    notices: tuple[str, ...] = ()

    is_one_look: bool = False

    @property
    def listed(self) -> int:
        """How many objects were listed."""
        return sum(tile.listed for tile in self.tiles)


class SourceScan:
    """The scan of one source, whose paths have the range `space`."""

    def __init__(
        self,
        request: SnapshotRequest,
        source: Source,
        space: KeyRange,
        *,
        reach: Reach,
        tools: SliceTools,
        before: Before | None,
    ) -> None:
        self._request = request
        self._source = source
        self._space = space
        self._reach = reach
        self._tools = tools
        self._before = before
        self._uri = source.uri
        checksum = request.checksum_of(source)
        self._wanted = Wanted(
            checksum=checksum, heads=request.heads, of_moment=request.as_of is not None
        )

    async def run(self, listed_before: int) -> Scan:
        """Scans the source, of whose snapshot so many objects were listed before."""
        return await self._as_able(
            lambda reached, source: self._scan(reached, source, listed_before), listed_before
        )

    async def look(self, new_look: Callable[[], AnyLook], listed_before: int) -> AnyLook:
        """Lists the source, and gives its pages to a look made for it; records nothing."""
        return await self._as_able(
            lambda reached, source: self._look(reached, source, new_look(), listed_before),
            listed_before,
        )

    async def _as_able(
        self, do: Callable[[Reached, OpenedSource], Awaitable[Result]], listed_before: int
    ) -> Result:
        """Does it with every ability of the store, then without one that it turns out to lack."""
        without: set[Ability] = set()
        while True:
            async with self._reach(self._uri) as reached:
                source = await reached.connection.open(
                    self._uri, without=without, as_of=self._request.as_of
                )
                try:
                    return await do(reached, source)
                except IndexerError as error:
                    missing = error.do_without
                    # Without versions there is no earlier moment.
                    is_vital = missing == "versions" and self._request.as_of is not None
                    if missing is None or missing in without or is_vital:
                        raise
                    without.add(missing)
                    self._tools.counters.start_again(listed_before)

    async def _look(
        self, reached: Reached, source: OpenedSource, look: AnyLook, listed_before: int
    ) -> AnyLook:
        """Lists the folder and looks for the object, as `_scan` does."""
        ref = SourceRef(source.folder, self._source.mount)
        context, channel = self._context(reached, source, ref), new_channel()
        work = msgspec.structs.replace(self._work(source.folder), objects_before=listed_before)
        listing = listing_of(context, work, channel)
        lone: list[LoneObject] = []

        async def take() -> None:
            async with channel.receiving():
                async for listed in channel:
                    look.take(listed.rows)

        with said_of(self._source.shown), single_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(listing.run())
                group.create_task(take())
                if self._may_be_object:
                    group.create_task(self._look_for_object(reached, source, lone))
        if lone:
            if any(tile.listed for tile in listing.tiles):
                raise self._ambiguous(source)
            self._count_object(listed_before)
            look.take(lone[0].row)
        return look

    async def _scan(self, reached: Reached, source: OpenedSource, listed_before: int) -> Scan:
        """Lists the folder that the URI may name while a HEAD looks for the object it may name."""
        scan = Scan(SourceRef(source.folder, self._source.mount), dict(source.record))
        scan.record |= {"mount": self._source.mount, "checksum": self._wanted.checksum}
        lone: list[LoneObject] = []
        with single_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list_folder(reached, source, scan, listed_before))
                if self._may_be_object:
                    group.create_task(self._look_for_object(reached, source, lone))
        if lone:
            if scan.listed:
                raise self._ambiguous(source)
            scan.ref = SourceRef(str(self._uri), self._source.mount)
            scan.record["uri"] = str(self._uri)
            await self._take_object(reached, source, scan, lone[0], listed_before)
        notices = [found.notices for found in lone] or [source.notices]
        scan.notices = (*source.warnings, *notices[0]())
        scan.is_one_look = self._wanted.is_listed(source.store.properties)
        if source.opened_at is None:
            scan.touched = None
        return scan

    @property
    def _may_be_object(self) -> bool:
        return not self._uri.names_folder and not self._uri.is_list

    async def _look_for_object(
        self, reached: Reached, source: OpenedSource, lone: list[LoneObject]
    ) -> None:
        found = await reached.connection.lone_object(self._uri, as_of=self._request.as_of)
        if found is None:
            return
        lone.append(found)
        # A large folder is better found out before all of it is listed.
        page = await source.store.list_page(KeyRange())
        if page.rows.num_rows:
            raise self._ambiguous(source)

    def _ambiguous(self, source: OpenedSource) -> AmbiguousSource:
        return AmbiguousSource(
            f"{self._uri.shown} is both an object and a folder ({source.folder}). Write "
            f"{source.folder} for the folder; an object beside a folder of its name cannot be "
            f"referenced alone."
        )

    async def _list_folder(
        self, reached: Reached, source: OpenedSource, scan: Scan, listed_before: int
    ) -> None:
        if self._request.keeps_first:
            await self._list_first(reached, source, scan, listed_before)
            return
        await self._list(reached, source, scan, listed_before)

    async def _list(
        self, reached: Reached, source: OpenedSource, scan: Scan, listed_before: int
    ) -> None:
        """Lists by slices, until everything is listed."""
        context, work = self._context(reached, source, scan.ref), self._work(source.folder)
        touched = 0
        async for answer in _slices(context, work, lambda: listed_before + scan.listed):
            scan.stretches += answer.stretches
            scan.tiles += answer.tiles
            scan.gone += answer.gone
            touched += answer.touched
        scan.touched = touched

    async def _list_first(
        self, reached: Reached, source: OpenedSource, scan: Scan, listed_before: int
    ) -> None:
        """Lists until the first objects are known that may be kept, and keeps those."""
        context = self._context(reached, source, scan.ref)
        objects_max = max(0, self._request.objects_max - listed_before)
        work = msgspec.structs.replace(
            self._work(source.folder), objects_max=objects_max,
            path_prefix=b"", space=KeyRange(), include=(), exclude=(), keeps_first=True,
        )  # fmt: skip
        async with assembling(self._tools, context.known, seals=False) as assembler:
            # What is kept is chosen here, so that no slice counts what others have listed.
            async for answer in _slices(context, work, lambda: 0):
                for stretch in answer.stretches:
                    await assembler.add(stretch)
                scan.tiles += answer.tiles
                if assembler.stretches[0].rows > objects_max:
                    # What lies beyond the first objects is not wanted.
                    break
            scan.is_partial = assembler.stretches[0].rows > objects_max
            await self._fill(context, source.folder, scan, assembler.take_first(objects_max))

    async def _take_object(
        self,
        reached: Reached,
        source: OpenedSource,
        scan: Scan,
        lone: LoneObject,
        listed_before: int,
    ) -> None:
        scan.is_partial = not self._count_object(listed_before)
        now = self._tools.clock.now()
        scan.tiles = [Tile(KeyRange(), listed=1, kept=0, pages=1, started_at=now, finished_at=now)]
        context = replace(self._context(reached, source, scan.ref), store=lone.store)
        pages = _each_of([] if scan.is_partial else [lone.row])
        await self._fill(context, str(self._uri.parent), scan, pages)

    def _count_object(self, listed_before: int) -> bool:
        """Counts the lone object as listed; whether it is one of those that may be kept.

        Raises `LimitExceeded`.
        """
        self._tools.counters.objects_listed += 1
        objects_max = self._request.objects_max
        if listed_before < objects_max:
            return True
        if not self._request.keeps_first:
            raise LimitExceeded(objects_max, self._request.title)
        return False

    async def _fill(
        self, context: SliceContext, folder: str, scan: Scan, pages: AsyncIterator[Page]
    ) -> None:
        """Filters and enriches pages that are all there is of the source, and counts what is kept
        of its tiles.
        """
        channel = new_channel()
        selector = self._selector()
        scan.tiles.sort(key=lambda tile: tile.keys.order)
        for tile in scan.tiles:
            tile.kept = 0

        async def give() -> None:
            after: Key | None = None
            async with channel.sending():
                async for page in pages:
                    last = Key(paths_of(page)[-1])
                    kept = page if selector is None else selector.select(page)
                    _count_kept(scan.tiles, paths_of(kept))
                    await channel.send(ListedRows(KeyRange(after, last), kept))
                    after = last
                await channel.send(ListedRows(KeyRange(after), empty_page()))

        with said_of(self._source.shown):
            result = await run_pages(context, self._work(folder), channel, give)
        scan.stretches, scan.gone, scan.touched = result.stretches, result.gone, result.touched

    def _selector(self) -> Selector | None:
        filters = self._request.filters
        return filters.selector(self._source.path_prefix) if filters else None

    def _context(self, reached: Reached, source: OpenedSource, ref: SourceRef) -> SliceContext:
        before, carry = self._before, None
        if before is not None:
            asked = self._request.checksum or "default"
            carry = before.carry(self._tools.tracker, ref, self._wanted.checksum, asked)
        return SliceContext(
            tools=self._tools,
            store=source.store,
            slots=reached.slots,
            in_flight=reached.in_flight,
            known=before.shards if before else (),
            carry=carry,
            opened_at=source.opened_at if self._request.as_of is None else None,
        )

    def _work(self, folder: str) -> SliceWork:
        request = self._request
        return SliceWork(
            title=self._source.shown,
            limited=request.title,
            folder=folder,
            ranges=[KeyRange()],
            seeds=self._before.seeds(self._source.path_prefix) if self._before else [],
            pages_max=request.slice_pages_max,
            objects_max=request.objects_max,
            objects_before=0,
            keeps_first=False,
            path_prefix=self._source.path_prefix,
            space=self._space,
            include=request.filters.include,
            exclude=request.filters.exclude,
            wanted=self._wanted,
        )


async def _slices(
    context: SliceContext, work: SliceWork, objects_before: Callable[[], int]
) -> AsyncIterator[SliceAnswer]:
    """What each slice of the work came to, one after the other, until all of it is listed."""
    executor = LocalExecutor(partial(run_range, context), slots=1)
    ranges = work.ranges
    while ranges:
        now = msgspec.structs.replace(work, ranges=ranges, objects_before=objects_before())
        answer = read_result(await executor.submit(msgspec.msgpack.encode(now)))
        yield answer
        ranges = answer.remainders


async def _each_of(pages: Sequence[Page]) -> AsyncIterator[Page]:
    for page in pages:
        yield page


def _count_kept(tiles: Sequence[Tile], paths: Sequence[bytes]) -> None:
    """Counts rows that are kept to the tiles that listed them; both ascend."""
    ends = [tile.keys.through for tile in tiles if tile.keys.through is not None]
    start = 0
    while start < len(paths):
        tile = tiles[bisect_left(ends, paths[start])]
        through = tile.keys.through
        end = len(paths) if through is None else bisect_right(paths, through)
        tile.kept += end - start
        start = end
