"""listing: asks the store for pages where the planner says, checks each, and hands them on.

One coroutine lists one segment, a page at a time; when a page shows that there is much left and
requests are free, the planner makes more segments of what is left.

Invariants
  * Each page is checked before it is believed: its keys ascend strictly, begin after what was
    asked for, and lie below the segment's directory. A server that breaks this raises
    `BrokenListing`; its rows are not used.
  * The end of a listing is never inferred from a short page; and where a server is not known to
    tell the truth about it, its word is tested with one more request.
  * What is handed on covers the ranges asked for without gap or overlap, up to the remainders.
  * Not one object more than `objects_max` is handed on without an error, unless the first ones in
    key order are wanted.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from indexer.errors import BrokenListing, LimitExceeded
from indexer.keyspace import Key, KeyRange
from indexer.limits import EMPTY_PAGES_MAX, OBJECTS_MAX
from indexer.page import Page, is_ascending, paths_of
from indexer.pipeline.plan import Planner, Segment, page_facts
from indexer.protocols import ListedPage, Store
from indexer.telemetry import Counters
from workers.channel import Channel
from workers.clock import Clock
from workers.errors import single_error

ENDED_EARLY: Final = "the server ended a listing before its last key"


@dataclass(frozen=True, slots=True)
class ListedRows:
    """All rows of a range."""

    keys: KeyRange
    rows: Page

    @property
    def nbytes(self) -> int:
        """What the rows take in memory."""
        return int(self.rows.nbytes)


@dataclass(slots=True)
class Tile:
    """What one segment has listed: a piece of the proof that nothing was left out."""

    keys: KeyRange
    listed: int
    kept: int
    pages: int
    started_at: datetime
    finished_at: datetime


class Limit:
    """How many objects may be listed, and what is done about the next one.

    With `keeps_first`, keys after `horizon` are not wanted: one object more than are kept was seen
    up to there, by which it is known that there are more.
    """

    def __init__(
        self, objects_max: int, uri: str, *, counted: int = 0, keeps_first: bool = False
    ) -> None:
        self._objects_max = objects_max
        self._uri = uri
        self._keeps_first = keeps_first
        self._counted = counted
        self._pages: list[tuple[Key, int]] = []
        self.horizon: Key | None = None

    def count(self, rows: int, last: Key) -> None:
        """Counts a page of `rows` objects up to `last`. Raises `LimitExceeded`."""
        self._counted += rows
        if not self._keeps_first:
            if self._counted > self._objects_max:
                raise LimitExceeded(self._objects_max, self._uri)
            return
        # Pages on the right are let go for as long as those on their left hold enough objects.
        insort(self._pages, (last, rows))
        while self._counted - self._pages[-1][1] > self._objects_max:
            self._counted -= self._pages.pop()[1]
        if self._counted > self._objects_max:
            self.horizon = self._pages[-1][0]

    def wants(self, keys: KeyRange) -> bool:
        """Whether objects of the range may be among those that are kept."""
        return self.horizon is None or keys.after is None or keys.after < self.horizon


class Listing:
    """The listing of one slice. `slots` tells how many requests may be under way just now.

    `select` gives those rows of a page that are kept: of all that are listed, and counted, only
    they are handed on.
    """

    def __init__(
        self,
        *,
        store: Store,
        planner: Planner,
        slots: Callable[[], int],
        limit: Limit,
        pages_max: int,
        counters: Counters,
        clock: Clock,
        out: Channel[ListedRows],
        select: Callable[[Page], Page] | None = None,
    ) -> None:
        self._store = store
        self._properties = store.properties
        self._planner = planner
        self._slots = slots if self._properties.parallel else lambda: 1
        self._limit = limit
        # A server that cannot begin in the middle is listed in one go.
        self._pages_left = pages_max if self._properties.parallel else OBJECTS_MAX
        self._counters = counters
        self._clock = clock
        self._out = out
        self._select = select
        self._greatest = Key(b"")
        self._cut_entries_max = 0
        self._ends: list[Key] = []
        self.tiles: list[Tile] = []
        self.remainders: list[KeyRange] = []

    async def run(self) -> None:
        """Lists until everything is listed or the page budget is used up.

        Raises `BrokenListing`, `LimitExceeded` and what the store raises; nothing that was handed
        on may then be used.
        """
        async with self._out.sending():
            with single_error():
                async with asyncio.TaskGroup() as group:
                    for segment in self._planner.begin(self._slots()):
                        self._start(group, segment)
            self.remainders = self._planner.remainders()
            if any(end < self._greatest for end in self._ends):
                raise BrokenListing(ENDED_EARLY, do_without="parallel")

    def _start(self, group: asyncio.TaskGroup, segment: Segment) -> None:
        self._counters.segments += 1
        self._counters.open_segments += 1
        group.create_task(self._list_segment(group, segment))

    async def _list_segment(self, group: asyncio.TaskGroup, segment: Segment) -> None:
        tile = Tile(segment.range, 0, 0, 0, self._clock.now(), self._clock.now())
        prefix: Key | None = None
        token: str | None = None
        empty_pages = 0
        # Between pages without a key only the token knows how far the listing has come.
        while not segment.done and (
            empty_pages or (self._pages_left > 0 and self._limit.wants(segment.range))
        ):
            self._pages_left -= 1
            asked = segment.range
            if segment.prefix != prefix:
                prefix, token = segment.prefix, None
            page = await self._ask(asked, prefix, token)
            is_followed = page.more or await self._is_followed(page, asked, prefix)
            # The end may have been moved to the left while the page was on its way.
            keys = segment.range
            goes_on = is_followed and not _is_at_end(page, keys)
            tile.pages += 1
            if goes_on and (page.last is None or page.last == keys.after):
                token = page.token
                empty_pages += 1
                if token is None or empty_pages > EMPTY_PAGES_MAX:
                    raise BrokenListing("the server says that there is more and does not list it")
                continue
            empty_pages = 0
            uses_cursor = prefix is not None or not self._properties.parallel
            token = page.token if uses_cursor and page.more else None
            rows, seen = _within(page, keys)
            self._counters.objects_listed += rows.num_rows
            tile.listed += rows.num_rows
            if rows.num_rows:
                self._limit.count(rows.num_rows, Key(seen[-1]))
            free = self._slots() - self._counters.open_segments
            for new in self._planner.advance(segment, page_facts(seen, more=goes_on), free):
                self._start(group, new)
            # Done is done for whoever asks what is free, while the last rows wait for their turn.
            self._counters.open_segments -= segment.done
            covered = KeyRange(keys.after, _reached(segment))
            if self._select is not None and rows.num_rows:
                rows = self._select(rows)
            tile.kept += rows.num_rows
            await self._out.send(ListedRows(covered, rows))
        self._counters.open_segments -= not segment.done
        self._finish(segment, tile)

    def _finish(self, segment: Segment, tile: Tile) -> None:
        if tile.pages:
            # `tile.keys` is what the segment began with; parts of it may have been given away.
            tile.keys = KeyRange(tile.keys.after, _reached(segment))
            tile.finished_at = self._clock.now()
            self.tiles.append(tile)

    async def _ask(self, keys: KeyRange, prefix: Key | None, token: str | None) -> ListedPage:
        below = prefix or Key(b"")
        page = await self._store.list_page(keys, prefix=below, token=token)
        check_page(page, keys, below, has_token=token is not None)
        self._greatest = max(self._greatest, page.last or Key(b""))
        if page.more:
            self._cut_entries_max = max(self._cut_entries_max, page.entries)
        return page

    async def _is_followed(self, page: ListedPage, keys: KeyRange, prefix: Key | None) -> bool:
        """Whether there is more after a page that the server calls the last one of `keys`.

        A server that is not known to tell the truth is asked for what comes after the page, unless
        that lies beyond the range or the page is too short to have been cut.
        """
        believed_below = self._properties.end_believed_below
        if believed_below is None or _is_at_end(page, keys):
            return False
        end = page.last or keys.after or Key(b"")
        # The end of a directory says nothing of what lies beyond it.
        is_contradicted = not prefix and end < self._greatest
        if page.last is None and is_contradicted:
            raise BrokenListing(ENDED_EARLY, do_without="parallel")
        if page.last is not None and (is_contradicted or page.entries >= believed_below):
            try:
                following = await self._ask(KeyRange(page.last, keys.through), prefix, None)
            except BrokenListing:
                if self._properties.parallel or page.entries > self._cut_entries_max:
                    raise
                # It cannot begin in the middle; but of longer pages it did say that more follows.
                return False
            if following.entries:
                return True
        if not prefix:
            self._ends.append(end)
        return False


def _reached(segment: Segment) -> Key | None:
    """The last key that the segment has listed for sure."""
    return segment.range.through if segment.done else segment.range.after


def _is_at_end(page: ListedPage, keys: KeyRange) -> bool:
    """Whether a page has shown all of a range, whatever comes after."""
    return page.last is not None and keys.through is not None and page.last >= keys.through


def _is_behind(first: Key | None, after: Key | None) -> bool:
    return first is not None and after is not None and first <= after


def check_page(page: ListedPage, keys: KeyRange, prefix: Key, *, has_token: bool) -> None:
    """All that can be checked of one page by itself. Raises `BrokenListing`.

    `keys` and `prefix` are what was asked for. A page by the server's own cursor may begin with the
    key before it: its older versions, or all of them when the one that was shown is gone.
    """
    paths = paths_of(page.rows)
    if page.first is None or page.last is None:
        if paths:
            raise BrokenListing("the server's page has rows and no keys")
        return
    bounds = [page.first, *paths[:1], *paths[-1:], page.last]
    if not is_ascending(paths) or bounds != sorted(bounds):
        raise BrokenListing("the server lists keys out of order")
    if _is_behind(page.first, keys.after) and not (has_token and page.first == keys.after):
        raise BrokenListing(
            f"the server does not go on after {bytes(keys.after or b'')!r} when asked to",
            do_without="parallel",
        )
    if not (page.first.startswith(prefix) and page.last.startswith(prefix)):
        raise BrokenListing(f"the server lists keys outside of {bytes(prefix)!r}")


def _within(page: ListedPage, keys: KeyRange) -> tuple[Page, list[bytes]]:
    """The rows of a page within a range, and all keys seen there, as far as they are known."""
    paths = paths_of(page.rows)
    start = 0 if keys.after is None else bisect_right(paths, keys.after)
    end = len(paths) if keys.through is None else bisect_right(paths, keys.through)
    paths = paths[start:end]
    rows = page.rows.slice(start, len(paths))
    for key in (page.first, page.last):
        # A page of delete markers has keys and no rows; its last key is where the next one begins.
        if key is not None and key in keys and (not paths or paths[-1] < key):
            paths.append(key)
    return rows, paths
