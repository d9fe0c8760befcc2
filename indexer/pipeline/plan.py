"""plan: which ranges of keys are listed side by side, and where they are cut further.

A pure state machine over segments: a page came back for one of them, here are the segments to
start. Whenever requests are free, what is thought to be left of the largest segments is cut into
pieces; `cuts` knows where.

Invariants
  * Segments and what is done tile the ranges given, without gap or overlap, after every call.
  * A segment's range is cut only beyond the keys that the planner knows it has, so a page under way
    may show keys beyond the segment's end: the caller drops them when it comes back.
  * A segment that was cut is not cut again before it has a new page.
  * Not more segments are started than there are requests free, and none before a page was full.
  * Requests that found nothing, or half of what they could have, stay in proportion to the pages
    that are full (`WASTE_FREE`, `WASTE_SHARE`): whatever the keys look like.
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
    next_character,
)
from indexer.pipeline.cuts import Cut, Outlook, Structure

WASTE_FREE = 4.0
WASTE_SHARE = 0.35
"""Requests that may be wasted in all: so many, and this share of the pages. Ten thousand keys take
17 requests at the most, instead of ten."""

WASTE_AT_ONCE = 0.3
"""The share of what may still be wasted that the cuts of one segment may take."""

SPLIT_PAGES_MIN = 3.0
"""Pages that each piece of a segment should hold when all requests are in use; fewer while more
are free, but never less than a quarter of it."""
SPLIT_EAGERNESS = 1.0

ROWS_PER_SEED = 1 << CUT_BITS
"""What lies between two seeds: they are the ends of shards."""

CHILDREN_MAX = 40
"""Distinct characters of a page that are looked at."""

ENTRIES_SAMPLED = 8


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the planner learns of a page. `more`: the segment goes on after it.

    `level` is the first character in which keys of the page differ, `characters` those that stand
    there, `rows_per_child` how many keys share one of them; `turn` are two neighbours that differ
    there. `directory` holds all of the page's keys, and the page `is_flat` if these are about as
    many as the entries of the directory.
    """

    keys: int
    more: bool
    first: Key | None = None
    last: Key | None = None
    level: int = 0
    characters: str = ""
    rows_per_child: float = 0.0
    turn: tuple[bytes, bytes] | None = None
    directory: Key = Key(b"")
    is_flat: bool = False


def page_facts(keys: Sequence[bytes], *, more: bool) -> PageFacts:
    """The facts of a page: its keys within the segment's range, ascending, and whether it goes on.

    Takes some 10 µs: it looks at the first and last key and where the level between them turns.
    """
    if not keys:
        return PageFacts(0, more)
    first, last = keys[0], keys[-1]
    shared = min(common_prefix_length(first, last), len(last) - 1)
    directory = first[: first.rfind(b"/", 0, shared) + 1]
    level, characters, rows_per_child, turn = 0, "", 0.0, None
    try:
        while shared and _continues(last[shared]):
            shared -= 1
        level = len(last[:shared].decode())
        characters, rows_per_child, turn = _children(keys, shared)
    except UnicodeDecodeError:
        characters = ""
    return PageFacts(
        keys=len(keys),
        more=more,
        first=Key(first),
        last=Key(last),
        level=level,
        characters=characters,
        rows_per_child=rows_per_child,
        turn=turn,
        directory=Key(directory),
        is_flat=_is_flat(keys, directory),
    )


@dataclass(slots=True, eq=False)
class Segment:
    """A range that one coroutine lists. The planner alone changes it.

    `range` is what is left of it: it begins after the last page's last key, and its end may move
    to the left at any call of `advance`. With a `prefix` all of it lies below that directory, and
    the server's own cursor is to be followed there.
    """

    range: KeyRange
    number: int
    prefix: Key | None = None
    done: bool = False
    facts: PageFacts | None = field(default=None, repr=False)
    outlook: Outlook | None = field(default=None, repr=False)
    can_be_cut: bool = field(default=False, repr=False)
    cost: float = field(default=0.0, repr=False)


class Planner:
    """Plans the listing of `ranges`, which ascend and do not overlap.

    `seeds` are ascending keys at which ranges are cut before anything is guessed: the ends of an
    earlier manifest's shards. With `resume="directory"` a server reads a directory anew for each
    page that begins within it: then no range begins within a directory that fills whole pages, and
    such a directory is listed by one segment with that `prefix`.
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
        self._rows = 0
        self._page_rows = 1
        self._pages_full = 0.0
        self._waste = 0.0

    def begin(self, slots: int) -> list[Segment]:
        """What to list first, at most `slots` segments."""
        assert slots > 0
        cuts = [seed for seed in self._seeds if any(seed in keys for keys in self._ranges)]
        want = max(0, slots - len(self._ranges))
        cuts = _evenly(cuts, want)
        for keys in self._ranges:
            inside = [cut for cut in cuts if cut in keys and cut != keys.through]
            self._waiting.extend(self._segment(piece) for piece in keys.split(inside))
        return self._start(slots)

    def advance(self, segment: Segment, facts: PageFacts, slots_free: int) -> list[Segment]:
        """Takes note of a page of `segment` and returns the segments to start now.

        `slots_free` is how many requests are free beside that of the segment itself, which is free
        as well if the segment is done after this. Segments that are not done go on.
        """
        assert segment.number in self._running
        assert not segment.done
        self._account(segment, facts)
        if segment.prefix is None:
            self._learn(segment, facts)
        if facts.last is not None:
            segment.range = KeyRange(facts.last, segment.range.through)
            segment.facts, segment.outlook, segment.can_be_cut = facts, None, True
        if not facts.more or segment.range.is_empty:
            segment.done = True
            del self._running[segment.number]
        elif self._by_directory and facts.keys > 1:
            self._follow_directory(segment, facts)
        return self._start(slots_free + segment.done)

    @property
    def open_segments(self) -> int:
        """Segments that are not done, those that wait for a free request among them."""
        return len(self._running) + len(self._waiting)

    def rows_left(self) -> float:
        """How many keys are thought to be left: rough, and often too few."""
        return sum(self._outlook(segment).rows for segment in self._running.values())

    def remainders(self) -> list[KeyRange]:
        """The ranges that are not listed yet, in order."""
        left = sorted(
            (segment.range for segment in (*self._running.values(), *self._waiting)),
            key=lambda keys: keys.after or b"",
        )
        joined: list[KeyRange] = []
        for keys in left:
            if joined and keys.after is not None and joined[-1].through == keys.after:
                joined[-1] = KeyRange(joined[-1].after, keys.through)
            else:
                joined.append(keys)
        return joined

    def _segment(self, keys: KeyRange, prefix: Key | None = None, cost: float = 0.0) -> Segment:
        self._segments_made += 1
        return Segment(keys, self._segments_made, prefix, cost=cost)

    def _start(self, free: int) -> list[Segment]:
        started = [self._waiting.popleft() for _ in range(min(max(0, free), len(self._waiting)))]
        if len(started) < free:
            started += self._split(free - len(started))
        self._running.update((segment.number, segment) for segment in started)
        return started

    # --- what it costs ---------------------------------------------------------------------------

    def _account(self, segment: Segment, facts: PageFacts) -> None:
        segment.cost = 0.0
        self._rows += facts.keys
        self._page_rows = max(self._page_rows, facts.keys)
        full = facts.keys / self._page_rows
        self._pages_full += full
        if not facts.more and (segment.range.through is not None or not facts.keys):
            # What the page showed beyond the end of the segment was for nothing.
            self._waste += 1 - full

    def _allowance(self) -> float:
        """How many requests may be wasted, beyond those that those under way may waste."""
        under_way = sum(segment.cost for segment in self._running.values())
        return WASTE_FREE + WASTE_SHARE * self._pages_full - self._waste - under_way

    # --- where to cut ----------------------------------------------------------------------------

    def _split(self, free: int) -> list[Segment]:
        allowance = self._allowance()
        if allowance < WASTE_AT_ONCE:
            return []
        in_use = len(self._running) / (len(self._running) + free)
        pages_min = self._split_pages_min * min(1.0, max(0.25, SPLIT_EAGERNESS * in_use))
        rows_min = pages_min * self._page_rows
        wide = [
            segment
            for segment in self._running.values()
            if segment.can_be_cut and self._outlook(segment).rows >= rows_min
        ]
        wide.sort(key=lambda segment: -self._outlook(segment).rows)
        total = sum(self._outlook(segment).rows for segment in wide)
        pieces: list[Segment] = []
        for segment in wide:
            want = min(free - len(pieces), math.ceil(free * self._outlook(segment).rows / total))
            cuts = self._cuts(segment, want, rows_min, max(1.0, allowance) * WASTE_AT_ONCE)
            pieces += self._cut(segment, cuts)
            allowance -= sum(cut.cost for cut in cuts)
            if len(pieces) >= free or allowance < WASTE_AT_ONCE:
                break
        return pieces

    def _cut(self, segment: Segment, cuts: Sequence[Cut]) -> list[Segment]:
        if not cuts:
            return []
        own, *others = segment.range.split([cut.at for cut in cuts])
        segment.range, segment.outlook, segment.can_be_cut = own, None, False
        return [
            self._segment(piece, cost=cut.cost) for piece, cut in zip(others, cuts, strict=True)
        ]

    def _cuts(self, segment: Segment, want: int, rows_min: float, allowance: float) -> list[Cut]:
        seeds = self._seeds_within(segment.range)
        if seeds:
            return [Cut(seed, 0.0) for seed in _evenly(seeds, want)]
        return self._outlook(segment).cuts(want=want, rows_min=rows_min, allowance=allowance)

    def _outlook(self, segment: Segment) -> Outlook:
        if segment.outlook is None:
            segment.outlook = self._look_ahead(segment)
        return segment.outlook

    def _look_ahead(self, segment: Segment) -> Outlook:
        nothing = Outlook("", 0.0, 0.0, [], 0)
        facts, keys = segment.facts, segment.range
        if facts is None or segment.prefix is not None:
            return nothing
        seeds = len(self._seeds_within(keys))
        if seeds:
            return Outlook("", seeds * ROWS_PER_SEED, 0.0, [], 0)
        cursor, through = _text(keys.after), _text(keys.through)
        if not cursor or not facts.characters or (through is None and keys.through is not None):
            return nothing
        return self._structure.ahead(
            cursor,
            through,
            level=facts.level,
            level_max=cursor.rfind("/") if self._by_directory else len(cursor),
            rows_per_child=facts.rows_per_child,
            rows_per_page=self._page_rows,
            rows_listed=self._rows,
        )

    def _learn(self, segment: Segment, facts: PageFacts) -> None:
        before, through = _text(segment.range.after), _text(segment.range.through)
        first, last = _text(facts.first), _text(facts.last)
        if before and first:
            self._structure.saw_neighbours(before, first)
        elif before and not facts.keys and not facts.more:
            self._structure.saw_end(before, through)
        if last and facts.characters:
            known = common_prefix_length(before, last) if before and segment.facts else 0
            self._structure.saw_path(last, known, facts.level)
            self._structure.saw_children(last, facts.level, facts.characters)
            turn = [_text(key) for key in facts.turn or ()]
            if turn and turn[0] and turn[1]:
                self._structure.saw_neighbours(turn[0], turn[1])
        if last and through and not facts.more:
            self._structure.saw_end(last, through)

    # --- seeds and directories -------------------------------------------------------------------

    def _usable(self, seeds: Sequence[Key]) -> list[Key]:
        assert all(a < b for a, b in pairwise(seeds))
        usable = [Key(seed) for seed in seeds if _text(seed) and len(seed) <= self._key_bytes_max]
        if self._by_directory:
            directories = dict.fromkeys(seed[: seed.rfind(b"/") + 1] for seed in usable)
            usable = [Key(directory) for directory in directories if directory]
        return usable

    def _seeds_within(self, keys: KeyRange) -> list[Key]:
        start = 0 if keys.after is None else bisect_right(self._seeds, keys.after)
        end = len(self._seeds)
        if keys.through is not None:
            end = bisect_left(self._seeds, keys.through, start)
        return self._seeds[start:end]

    def _follow_directory(self, segment: Segment, facts: PageFacts) -> None:
        """A page that shows one directory alone makes the rest of it a stream of its own.

        A stream that has come to a directory below its own, large enough to fill a page, is an
        ordinary segment again.
        """
        if facts.is_flat and facts.directory != segment.prefix:
            keys = segment.range
            end = keys.through
            if facts.directory:
                end = greatest_key_below(facts.directory, self._key_bytes_max)
                if keys.after is not None and end <= keys.after:
                    return
                if keys.through is None or end < keys.through:
                    segment.range, rest = keys.split([end])
                    self._waiting.append(self._segment(rest))
            segment.prefix = facts.directory
        elif segment.prefix is not None and len(facts.directory) > len(segment.prefix):
            segment.prefix = None


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 belongs to the character that began before it."""
    return byte & 0b1100_0000 == 0b1000_0000


def _text(key: bytes | None) -> str | None:
    """A key as text, or None if it is none: such a key is listed and never cut at."""
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


def _children(keys: Sequence[bytes], start: int) -> tuple[str, float, tuple[bytes, bytes] | None]:
    """The characters that stand at byte `start`, keys for each of them, and the first turn."""
    characters: list[str] = []
    turn = None
    row = 0
    while row < len(keys) and len(characters) < CHILDREN_MAX:
        key = keys[row]
        if len(key) > start:
            character = key[start : start + 4].decode(errors="ignore")[:1]
            if not character or not key.startswith(character.encode(), start):
                raise UnicodeDecodeError("utf-8", key, start, start + 1, "not a character")
            characters.append(character)
            following = next_character(character)
            end = len(keys)
            if following is not None:
                end = bisect_left(keys, key[:start] + following.encode(), row + 1)
            if turn is None and end < len(keys):
                turn = (keys[end - 1], keys[end])
            row = end
        else:
            row += 1
    return "".join(characters), row / max(1.0, len(characters) - 0.5), turn


def _is_flat(keys: Sequence[bytes], directory: bytes) -> bool:
    """Whether most of the keys are each the only one of its entry of the directory."""
    start = len(directory)
    if keys[0].find(b"/", start) < 0 and keys[-1].find(b"/", start) < 0:
        return True
    step = max(1, (len(keys) - 1) // ENTRIES_SAMPLED)
    sampled = range(0, len(keys) - 1, step)
    entries = sum(
        common_prefix_length(keys[row], keys[row + 1]) <= keys[row].find(b"/", start)
        for row in sampled
    )
    return 2 * entries > len(sampled) > 1
