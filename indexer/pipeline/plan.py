"""plan: which ranges of keys are listed side by side, and where they are cut further.

A pure state machine over segments: a page came back for one of them, here are the segments to
start now. Whenever requests are free, the segments that are thought to have most left are cut into
pieces; `structure` has learned where keys may be, `cuts` finds the best places.

Invariants
  * After every call, open segments and what is done tile the given ranges without gap or overlap.
  * A segment is cut beyond the keys that the planner knows of. So the page under way may show keys
    beyond its new end, which the caller leaves to the segment that now has them.
  * A segment that was cut is not cut again before it has a new page.
  * No more segments are started than requests are free, and none while no page was full.
  * Requests that find nothing, or less than they could, stay in proportion: `slots` requests at
    once and full pages take no more than 1.35 requests a page, plus 5 and `slots`; what seeds and
    directories that are gone or at their end cost comes on top.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from indexer.keyspace import (
    CUT_BITS,
    KEY_BYTES_MAX,
    Key,
    KeyRange,
    common_prefix_length,
    greatest_key_below,
)
from indexer.pipeline.cuts import COST_MIN, Cut, Outlook
from indexer.pipeline.facts import PageFacts, page_facts
from indexer.pipeline.structure import Structure

__all__ = ["PageFacts", "Planner", "Segment", "page_facts"]

WASTE_FREE = 4.0
WASTE_SHARE = 0.35
"""Requests that may be wasted: so many, and this share of the full pages seen."""

WASTE_AT_ONCE = 0.35
"""The share of what may be wasted that the cuts of one segment may take."""

SPLIT_PAGES_MIN = 3.0
"""Pages that a piece should hold. Where most requests are free it is less, down to a quarter."""

ROWS_PER_SEED = 1 << CUT_BITS
"""Seeds are ends of shards, which have so many rows in the mean."""

assert COST_MIN >= WASTE_AT_ONCE, "one cut at a time keeps to the bound on waste"

_NOTHING = Outlook("", [], 0.0, 0.0, 0)


@dataclass(slots=True, eq=False)
class Segment:
    """A range that one coroutine lists, page after page. The planner alone changes it.

    `range` is what is left of it: it begins after the last key of the last page, and its end may
    move to the left in any call of `Planner.advance`. With a `prefix`, all of it lies below that
    directory, and pages after the first are asked for by the server's own cursor.
    """

    range: KeyRange
    number: int
    prefix: Key | None = None
    done: bool = False
    facts: PageFacts | None = field(default=None, repr=False)
    outlook: Outlook | None = field(default=None, repr=False)
    may_be_cut: bool = field(default=False, repr=False)
    cost: float = field(default=0.0, repr=False)


class Planner:
    """Plans the listing of `ranges`, which ascend and do not overlap.

    `seeds` ascend; ranges are cut there before anything is guessed: the ends of an earlier
    manifest's shards. `resume="directory"` is for a server that reads a directory anew for each
    page that begins inside of it: there, a directory that fills a page is listed by one segment
    with that `prefix`, and nothing is cut inside of the directory that a cursor is in.
    """

    def __init__(
        self,
        ranges: Sequence[KeyRange] = (KeyRange(),),
        *,
        seeds: Sequence[Key] = (),
        resume: Literal["range", "directory"] = "range",
        key_bytes_max: int = KEY_BYTES_MAX,
        split_pages_min: float = SPLIT_PAGES_MIN,
    ) -> None:
        self._by_directory = resume == "directory"
        self._key_bytes_max = key_bytes_max
        self._split_pages_min = split_pages_min
        self._structure = Structure(key_bytes_max)
        self._seeds = self._usable(seeds)
        self._ranges = [keys for keys in ranges if not keys.is_empty]
        self._waiting: deque[Segment] = deque()
        self._running: dict[int, Segment] = {}
        self._segments_made = 0
        self._rows_listed = 0
        self._page_rows = 1
        self._pages_full = 0.0
        self._waste = 0.0

    def begin(self, slots: int) -> list[Segment]:
        """What to list first: at most `slots` segments."""
        assert slots > 0
        assert not self._segments_made, "a planner begins once"
        inside = [seed for keys in self._ranges for seed in self._seeds_within(keys)]
        cuts = _evenly(inside, slots - len(self._ranges))
        for keys in self._ranges:
            pieces = keys.split([cut for cut in cuts if cut in keys])
            self._waiting.extend(self._segment(piece) for piece in pieces)
        return self._start(slots)

    def advance(self, segment: Segment, facts: PageFacts, slots_free: int) -> list[Segment]:
        """Takes note of a page of `segment`, and returns the segments to start now.

        `facts` are of the keys within `segment.range` as it is now. `slots_free` requests are free
        beside the segment's own, which is free too if the segment is done by this page; if it is
        not, it goes on.
        """
        assert self._running.get(segment.number) is segment
        self._account(segment, facts)
        if segment.prefix is None:
            self._learn(segment, facts)
        before = segment.facts
        if facts.last is not None:
            assert facts.last in segment.range
            segment.range = KeyRange(facts.last, segment.range.through)
            segment.facts, segment.outlook, segment.may_be_cut = facts, None, True
        if not facts.more or segment.range.is_empty:
            segment.done = True
            del self._running[segment.number]
        elif self._by_directory and facts.keys > 1:
            self._follow_directory(segment, before, facts)
        return self._start(slots_free + segment.done)

    @property
    def open_segments(self) -> int:
        """Segments that are not done, those among them that wait for a free request."""
        return len(self._running) + len(self._waiting)

    def rows_left(self) -> float:
        """How many keys may be left: a rough guess, and in the beginning far too low."""
        return math.fsum(self._outlook(segment).rows for segment in self._running.values())

    def remainders(self) -> list[KeyRange]:
        """The ranges that are not listed yet, ascending, those that touch as one."""
        ranges = [segment.range for segment in (*self._running.values(), *self._waiting)]
        joined: list[KeyRange] = []
        for keys in sorted(ranges, key=lambda keys: keys.order):
            if joined and joined[-1].through == keys.after:
                joined[-1] = KeyRange(joined[-1].after, keys.through)
            else:
                joined.append(keys)
        return joined

    def _segment(self, keys: KeyRange, *, cost: float = 0.0) -> Segment:
        self._segments_made += 1
        return Segment(keys, self._segments_made, cost=cost)

    def _start(self, slots_free: int) -> list[Segment]:
        started: list[Segment] = []
        while self._waiting and len(started) < slots_free:
            started.append(self._waiting.popleft())
        self._running.update((segment.number, segment) for segment in started)
        if len(started) < slots_free and self._running:
            made = self._split(slots_free - len(started))
            self._running.update((segment.number, segment) for segment in made)
            started += made
        return started

    def _split(self, slots_free: int) -> list[Segment]:
        """Cuts the segments that have most left, into no more new ones than are free."""
        allowance = self._allowance()
        if allowance < COST_MIN:
            return []
        use = len(self._running) / (len(self._running) + slots_free)
        rows_min = self._split_pages_min * self._page_rows * max(0.25, use)
        wide = [
            (self._outlook(segment).rows, segment)
            for segment in self._running.values()
            if segment.may_be_cut and self._outlook(segment).rows >= rows_min
        ]
        wide.sort(key=lambda each: -each[0])
        rows_wide = math.fsum(rows for rows, _ in wide)
        made: list[Segment] = []
        for rows, segment in wide:
            share = math.ceil(slots_free * rows / rows_wide)
            cuts = self._cuts(
                segment,
                want=min(share, slots_free - len(made)),
                rows_min=rows_min,
                allowance=max(1.0, allowance) * WASTE_AT_ONCE,
            )
            if cuts:
                made += self._cut(segment, cuts)
                allowance -= math.fsum(cut.cost for cut in cuts)
            if len(made) == slots_free or allowance < COST_MIN:
                break
        return made

    def _cut(self, segment: Segment, cuts: Sequence[Cut]) -> list[Segment]:
        segment.range, *pieces = segment.range.split([cut.at for cut in cuts])
        segment.outlook, segment.may_be_cut = None, False
        return [
            self._segment(piece, cost=cut.cost) for piece, cut in zip(pieces, cuts, strict=True)
        ]

    def _cuts(self, segment: Segment, *, want: int, rows_min: float, allowance: float) -> list[Cut]:
        seeds = self._seeds_within(segment.range)
        if seeds:
            return [Cut(seed, 0.0) for seed in _evenly(seeds, want)]
        return self._outlook(segment).cuts(want=want, rows_min=rows_min, allowance=allowance)

    # --- what is known ---------------------------------------------------------------------------

    def _account(self, segment: Segment, facts: PageFacts) -> None:
        segment.cost = 0.0
        self._rows_listed += facts.keys
        self._page_rows = max(self._page_rows, facts.keys)
        full = facts.keys / self._page_rows
        self._pages_full += full
        is_guess = segment.prefix is None
        if is_guess and not facts.more and (segment.range.through is not None or not facts.keys):
            # The rest of the page showed keys beyond the segment's end, or there were none.
            self._waste += 1 - full

    def _allowance(self) -> float:
        """How many requests may be wasted beside those that those under way may waste."""
        under_way = math.fsum(segment.cost for segment in self._running.values())
        return WASTE_FREE + WASTE_SHARE * self._pages_full - self._waste - under_way

    def _outlook(self, segment: Segment) -> Outlook:
        if segment.outlook is None:
            segment.outlook = self._look_ahead(segment)
        return segment.outlook

    def _look_ahead(self, segment: Segment) -> Outlook:
        facts, keys = segment.facts, segment.range
        if facts is None or segment.prefix is not None:
            return _NOTHING
        seeds = len(self._seeds_within(keys))
        if seeds:
            return Outlook("", [], float(seeds * ROWS_PER_SEED), 0.0, 0)
        cursor, through = _text(keys.after), _text(keys.through)
        if not cursor or not facts.characters or (through is None and keys.through is not None):
            return _NOTHING
        return self._structure.ahead(
            cursor,
            through,
            level=facts.level,
            level_max=cursor.rfind("/") if self._by_directory else len(cursor),
            rows_per_child=facts.rows_per_child,
            rows_per_page=self._page_rows,
            rows_listed=self._rows_listed,
        )

    def _learn(self, segment: Segment, facts: PageFacts) -> None:
        """Tells `structure` what the page says, before the segment moves on."""
        before, through = _text(segment.range.after), _text(segment.range.through)
        first, last = _text(facts.first), _text(facts.last)
        if before and first:
            self._structure.saw_neighbours(before, first)
        elif before and not facts.keys and not facts.more:
            self._structure.saw_end(before, through)
        if last and facts.characters:
            known = common_prefix_length(before, last) if before else 0
            self._structure.saw_path(last, known, facts.level)
            self._structure.saw_children(last, facts.level, facts.characters)
        turn = [text for key in facts.turn or () if (text := _text(key))]
        if len(turn) > 1:
            self._structure.saw_neighbours(*turn)
        if last and through and not facts.more:
            self._structure.saw_end(last, through)

    # --- seeds and directories -------------------------------------------------------------------

    def _usable(self, seeds: Sequence[Key]) -> list[Key]:
        assert all(a < b for a, b in pairwise(seeds))
        usable = [seed for seed in seeds if _text(seed) and len(seed) <= self._key_bytes_max]
        if self._by_directory:
            # Of all ranges at most one is to begin inside of a directory.
            directories = dict.fromkeys(seed[: seed.rfind(b"/") + 1] for seed in usable)
            usable = [Key(directory) for directory in sorted(directories) if directory]
        return usable

    def _seeds_within(self, keys: KeyRange) -> list[Key]:
        start = 0 if keys.after is None else bisect_right(self._seeds, keys.after)
        end = len(self._seeds)
        if keys.through is not None:
            end = bisect_left(self._seeds, keys.through, start)
        return self._seeds[start:end]

    def _follow_directory(
        self, segment: Segment, before: PageFacts | None, facts: PageFacts
    ) -> None:
        """Makes a segment whose pages showed a single directory a listing of its rest alone.

        Two pages in a row must show it: a directory of about one page is better left as it is
        (measured on MinIO with 1,000 and 1,300 files a directory: 40 % fewer requests, and 10 to 25
        % faster, than beginning at once). What comes after the directory is another segment. A
        listing of one directory that has come to a large directory below it is an ordinary segment
        again.
        """
        keys, directory = segment.range, facts.directory
        is_long = facts.is_flat and before is not None and before.directory == directory
        if is_long and directory != segment.prefix:
            if directory:
                end = greatest_key_below(directory, self._key_bytes_max)
                if keys.after is not None and end <= keys.after:
                    return  # Names that are not UTF-8 come last in it.
                if end in keys and end != keys.through:
                    segment.range, after = keys.split([end])
                    rest = self._segment(after)
                    rest.facts, rest.may_be_cut = facts, True
                    self._waiting.append(rest)
            segment.prefix = directory
        elif segment.prefix is not None and len(directory) > len(segment.prefix):
            segment.prefix = None


def _text(key: bytes | None) -> str | None:
    """A key as text. One that is none, as its bytes are not UTF-8, is listed and not cut at."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _evenly(keys: Sequence[Key], want: int) -> list[Key]:
    """At most `want` of the keys, evenly spaced."""
    if len(keys) <= want:
        return list(keys)
    return [keys[(2 * index + 1) * len(keys) // (2 * want)] for index in range(want)]
