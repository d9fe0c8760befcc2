"""The planner against a sorted list of keys and a server that answers in any order it likes."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.keyspace import Key, KeyRange, greatest_key_below
from indexer.pipeline.facts import page_facts
from indexer.pipeline.plan import WASTE_FREE, WASTE_SHARE, Planner, Segment
from indexer.testing.keysets import SHAPES
from indexer.testing.keysets import keys as make_keys

KEY_BYTES_MAX = 1024

# --- keys that are hard to cut -------------------------------------------------------------------

CHARACTERS = "ab09/.\x01\x1f\x7f\x80é\u07ff\u0800\ud7ff\ue000\uffff日本😀\U0010fffe\U0010ffff"
NOT_TEXT = [b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f"]

short_texts = st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=6)
any_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
prefixes = st.one_of(
    st.just(""),
    short_texts,
    st.sampled_from(["p" * 900, "a//b//", "x/" * 40, "\U0010ffff" * 20, "日" * 300, "/"]),
)
sizes = st.sampled_from([1, 10, 60, 300])


@st.composite
def counters(draw: st.DrawFn) -> list[bytes]:
    prefix = draw(prefixes)
    width = draw(st.sampled_from([0, 3, 12]))
    start = draw(st.integers(0, 2000))
    step = draw(st.integers(1, 13))
    suffix = draw(st.sampled_from(["", ".jpg", "/meta.json", "/"]))
    numbers = range(start, start + step * draw(sizes), step)
    return [f"{prefix}{number:0{width}d}{suffix}".encode() for number in numbers]


@st.composite
def chains(draw: st.DrawFn) -> list[bytes]:
    """Keys that are prefixes of each other."""
    text = draw(st.sampled_from(["x", "/", "\U0010ffff", "ab", "é"]))
    prefix = draw(prefixes)
    return [(prefix + text * length).encode() for length in range(1, 1 + draw(st.integers(1, 60)))]


@st.composite
def directories(draw: st.DrawFn) -> list[bytes]:
    prefix = draw(prefixes)
    names = draw(st.lists(short_texts, min_size=1, max_size=6))
    files = draw(sizes)
    return [f"{prefix}{name}/{file:04d}".encode() for name in names for file in range(files)]


@st.composite
def longest(draw: st.DrawFn) -> list[bytes]:
    """Keys of 1,024 bytes."""
    unit = draw(st.sampled_from([b"k", "é".encode(), "😀".encode()]))
    tails = draw(st.lists(st.integers(0, 9999), min_size=1, max_size=40))
    body = unit * ((KEY_BYTES_MAX - 4) // len(unit))
    return [body + f"{tail:04d}".encode() for tail in tails]


not_text = st.lists(
    st.builds(
        lambda head, wrong, tail: head.encode() + wrong + tail.encode(),
        st.one_of(st.just(""), short_texts),
        st.sampled_from(NOT_TEXT),
        st.one_of(st.just(""), short_texts),
    ),
    max_size=20,
)
families = st.one_of(
    counters(),
    chains(),
    directories(),
    longest(),
    not_text,
    st.lists(short_texts.map(str.encode), max_size=80),
    st.lists(any_texts.map(str.encode), max_size=80),
    st.just([b""]),
)
key_sets = st.lists(families, max_size=5).map(
    lambda groups: sorted({key[:KEY_BYTES_MAX] for group in groups for key in group})
)


# --- a server and its caller ---------------------------------------------------------------------


@dataclass
class World:
    """Lists `keys` by a planner: answers come in any order, pages are of any length."""

    keys: Sequence[bytes]
    chance: random.Random
    slots: int = 4
    resume: Literal["range", "directory"] = "range"
    seeds: Sequence[Key] = ()
    ranges: Sequence[KeyRange] = (KeyRange(),)
    page_rows_max: int = 8
    is_moody: bool = True
    planner: Planner = field(init=False)
    under_way: list[tuple[Segment, Key | None]] = field(default_factory=list)
    begun: list[tuple[Segment, Key | None]] = field(default_factory=list)
    cut_at: dict[int, int] = field(default_factory=dict)
    listed: list[bytes] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    requests: int = 0
    pages_with_keys: int = 0
    pages_for_nothing: int = 0
    excused: int = 0

    def __post_init__(self) -> None:
        if self.is_moody:
            self.page_rows_max = self.chance.choice([2, 8])
        self.planner = Planner(
            self.ranges,
            seeds=self.seeds,
            resume=self.resume,
            key_bytes_max=KEY_BYTES_MAX,
            split_pages_min=self.chance.choice([0.1, 1.0, 3.0]),
        )

    def run(self) -> None:
        begun = self.planner.begin(self.slots)
        assert len(begun) <= self.slots
        for segment in begun:
            self.ask(segment)
        self.check_tiling()
        while self.under_way:
            self.answer(self.under_way.pop(self.chance.randrange(len(self.under_way))))
            self.check_tiling()
        assert self.planner.open_segments == 0
        assert self.planner.remainders() == []
        self.check_listed()
        self.check_requests()

    def ask(self, segment: Segment) -> None:
        if all(segment is not known for known, _ in self.begun):
            self.begun.append((segment, segment.range.after))
            self.events.append(("begin", segment.number, segment.range, segment.prefix))
        self.requests += 1
        self.under_way.append((segment, segment.range.after))

    def answer(self, asked: tuple[Segment, Key | None]) -> None:
        segment, after = asked
        if self.is_moody and self.chance.random() < 0.05:
            # A page without a key that says there is more: the same is asked for again.
            self.step(segment, [], more=True)
            return
        start = 0 if after is None else bisect_right(self.keys, after)
        end = len(self.keys)
        if segment.prefix:
            while end > start and not self.keys[end - 1].startswith(segment.prefix):
                end -= 1
        rows = self.page_rows_max
        if self.is_moody:
            (rows,) = self.chance.choices([1, self.page_rows_max, 1001], [20, 79, 1])
        page = self.keys[start : min(end, start + rows)]
        assert all(key.startswith(segment.prefix or b"") for key in page)
        more = start + rows < end
        if not more and page and self.is_moody and self.chance.random() < 0.1:
            more = True
            self.excused += 1
        through = segment.range.through
        if through is not None and page and page[-1] >= through:
            page, more = page[: bisect_right(page, through)], False
        self.pages_with_keys += bool(page)
        self.pages_for_nothing += not page
        self.step(segment, page, more=more)

    def step(self, segment: Segment, page: Sequence[bytes], *, more: bool) -> None:
        assert all(key in segment.range for key in page)
        self.listed.extend(page)
        known_to = Key(page[-1]) if page else segment.range.after
        bounds = {id(each): each.range.through for each, _ in self.begun}
        slots_free = self.slots - len(self.under_way) - 1
        begun = self.planner.advance(segment, page_facts(page, more=more), slots_free)
        assert len(begun) <= slots_free + segment.done
        assert segment.done or segment.range.after == known_to
        if page:
            self.cut_at.pop(segment.number, None)
        for each, _ in self.begun:
            if each.range.through != bounds[id(each)] and not each.prefix:
                self.check_cut(each)
        for new in begun:
            self.ask(new)
        if not segment.done:
            self.ask(segment)
        self.events.append((segment.number, segment.range, segment.done))

    def check_cut(self, segment: Segment) -> None:
        assert segment.number not in self.cut_at, "cut twice without a new page"
        self.cut_at[segment.number] = self.requests
        cut = segment.range.through
        assert cut is not None
        assert len(cut) <= KEY_BYTES_MAX
        assert cut.decode()
        assert "\0" not in cut.decode()

    def check_tiling(self) -> None:
        """What is done and what is open are the ranges, without gap or overlap."""
        pieces = self.planner.remainders()
        for segment, start in self.begun:
            end = segment.range.through if segment.done else segment.range.after
            if start != end or (start is None and segment.done):
                pieces.append(KeyRange(start, end))
        pieces.sort(key=lambda keys: (keys.after is not None, keys.after or b""))
        for piece, following in pairwise(pieces):
            assert piece.through is not None
            assert following.after is not None
            is_next_range = piece.through in [keys.through for keys in self.ranges]
            assert piece.through == following.after or (
                is_next_range and following.after in [keys.after for keys in self.ranges]
            )
        assert pieces[0].after == self.ranges[0].after
        assert pieces[-1].through == self.ranges[-1].through

    def check_listed(self) -> None:
        assert sorted(self.listed) == [
            key for key in self.keys if any(key in keys for keys in self.ranges)
        ]

    def check_requests(self) -> None:
        """The bound on wasted requests that `plan` states.

        A segment begins for free at a seed, after a directory, and where a range does; a server
        that says that there is more where there is not is to blame for a request itself.
        """
        free = len(self.seeds) + len(self.ranges) + self.excused
        free += sum(segment.prefix is not None for segment, _ in self.begun)
        if self.resume == "directory":
            free += self.pages_with_keys
        allowed = WASTE_FREE + WASTE_SHARE * self.pages_with_keys + self.slots + free
        assert self.pages_for_nothing <= allowed


# --- properties ----------------------------------------------------------------------------------

relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
chances = st.integers(0, 2**32).map(random.Random)
resumes: st.SearchStrategy[Literal["range", "directory"]] = st.sampled_from(["range", "directory"])


@relaxed
@given(keys=key_sets, chance=chances, slots=st.integers(1, 16), resume=resumes)
def test_lists_every_key_once(
    keys: list[bytes],
    chance: random.Random,
    slots: int,
    resume: Literal["range", "directory"],
) -> None:
    World(keys, chance, slots=slots, resume=resume).run()


@relaxed
@given(
    keys=key_sets,
    others=key_sets,
    chance=chances,
    resume=resumes,
    share=st.sampled_from([0.05, 0.5]),
)
def test_lists_every_key_once_with_seeds_of_what_was_there_before(
    keys: list[bytes],
    others: list[bytes],
    chance: random.Random,
    resume: Literal["range", "directory"],
    share: float,
) -> None:
    known = sorted({*keys, *others})
    seeds = [Key(key) for key in known if chance.random() < share]
    World(keys, chance, resume=resume, seeds=seeds).run()


@relaxed
@given(keys=key_sets, chance=chances, slots=st.integers(1, 5), resume=resumes)
def test_goes_on_with_what_was_left(
    keys: list[bytes],
    chance: random.Random,
    slots: int,
    resume: Literal["range", "directory"],
) -> None:
    bounds = sorted({Key(chance.choice(keys or [b"k"])) for _ in range(6)})
    ranges = [KeyRange(a, b) for a, b in pairwise(bounds)][::2] or [KeyRange()]
    World(keys, chance, slots=slots, resume=resume, ranges=ranges).run()


@pytest.mark.parametrize("resume", ["range", "directory"])
@pytest.mark.parametrize("shape", SHAPES)
def test_lists_every_shape_once(shape: str, resume: Literal["range", "directory"]) -> None:
    World(make_keys(shape, 1_500), random.Random(4), slots=16, resume=resume).run()


@relaxed
@given(keys=key_sets, chance_seed=st.integers(0, 1000))
def test_is_deterministic(keys: list[bytes], chance_seed: int) -> None:
    worlds = [World(keys, random.Random(chance_seed)) for _ in range(2)]
    for world in worlds:
        world.run()
    assert worlds[0].events == worlds[1].events


@relaxed
@given(keys=key_sets, chance=chances)
def test_facts_of_a_page(keys: list[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(keys) or 1)
    page = keys[start : start + chance.choice([1, 5, 1000])] or [b"k"]
    facts = page_facts(page, more=True)
    assert (facts.first, facts.last, facts.keys) == (page[0], page[-1], len(page))
    assert all(key.startswith(facts.directory) for key in page)
    assert facts.directory in (b"", *(key[: key.rfind(b"/") + 1] for key in page)) or (
        page[0].startswith(facts.directory) and facts.directory.endswith(b"/")
    )
    if facts.characters:
        texts = [key.decode(errors="replace") for key in page]
        assert len({text[: facts.level] for text in texts}) == 1
        assert list(facts.characters) == sorted(set(facts.characters))
        assert facts.rows_per_child <= 2 * len(page)
    if facts.turn:
        left, right = facts.turn
        assert page.index(right) == page.index(left) + 1


# --- examples ------------------------------------------------------------------------------------


def numbered(count: int, form: str = "a/{:06d}") -> list[bytes]:
    return [form.format(number).encode() for number in range(count)]


def test_a_listing_of_one_page_takes_one_request() -> None:
    world = World(numbered(5), random.Random(1), slots=64, is_moody=False)
    world.run()
    assert world.requests == 1


def test_nothing_is_listed_with_one_request() -> None:
    world = World([], random.Random(1), slots=64, is_moody=False)
    world.run()
    assert world.requests == 1


def test_an_empty_range_takes_no_request() -> None:
    key = Key(b"a")
    assert Planner([KeyRange(key, key)]).begin(4) == []


def test_one_slot_lists_serially() -> None:
    world = World(numbered(80), random.Random(1), slots=1, is_moody=False)
    world.run()
    assert world.requests == 10
    assert len(world.begun) == 1


def test_begins_at_evenly_spaced_seeds_and_goes_on_to_the_others() -> None:
    seeds = [Key(key) for key in numbered(10_000)[100::100]]
    planner = Planner(seeds=seeds)
    begun = planner.begin(10)
    assert len(begun) == 10
    assert all(segment.range.through in seeds for segment in begun[:-1])
    page = numbered(10_000)[:10]
    (new,) = planner.advance(begun[0], page_facts(page, more=True), 1)
    assert new.range.after in seeds
    assert begun[0].range == KeyRange(Key(page[-1]), new.range.after)


def test_seeds_outside_of_the_ranges_are_left_alone() -> None:
    inside = KeyRange(Key(b"b"), Key(b"d"))
    planner = Planner([inside], seeds=[Key(b"a"), Key(b"b"), Key(b"c"), Key(b"d"), Key(b"e")])
    assert [segment.range for segment in planner.begin(8)] == inside.split([Key(b"c")])


def test_a_segment_is_cut_while_its_page_is_under_way() -> None:
    keys = numbered(10_000)
    planner = Planner(seeds=[Key(b"b")])
    wide, other = planner.begin(2)
    assert planner.advance(wide, page_facts(keys[:100], more=True), 0) == []
    # The next page of `wide` has been asked for, after the last key of the first.
    (new,) = planner.advance(other, page_facts([], more=False), 0)
    assert wide.range == KeyRange(Key(keys[99]), new.range.after)
    assert new.range.through == b"b"
    assert planner.advance(wide, page_facts([], more=False), 0) != [wide]
    assert wide.done


def test_cuts_begin_beyond_the_last_key_known() -> None:
    keys = numbered(5_000, "deep/prefix/of/all/{:09d}")
    world = World(keys, random.Random(5), slots=16, is_moody=False)
    world.run()
    assert len(world.begun) > 16


def test_keys_that_are_not_text_are_listed_serially() -> None:
    keys = [b"\xff" + key for key in numbered(400)]
    world = World(keys, random.Random(2), slots=8, is_moody=False)
    world.run()
    assert world.requests == 50
    assert len(world.begun) == 1


def test_a_directory_that_fills_pages_is_listed_by_its_own_cursor() -> None:
    keys = numbered(300, "d/{:06d}") + numbered(300, "e/{:06d}") + numbered(3, "f/{:06d}")
    world = World(keys, random.Random(3), slots=8, resume="directory", is_moody=False)
    world.run()
    streams = [(segment.prefix, start) for segment, start in world.begun if segment.prefix]
    assert [prefix for prefix, _ in sorted(streams)] == [b"d/", b"e/"]
    for segment, _ in world.begun:
        if segment.prefix:
            assert segment.range.through == greatest_key_below(segment.prefix, KEY_BYTES_MAX)


def test_a_directory_of_many_small_ones_counts_as_filled() -> None:
    keys = numbered(400, "s/{:06d}/meta.json")
    world = World(keys, random.Random(3), slots=8, resume="directory", is_moody=False)
    world.run()
    assert {segment.prefix for segment, _ in world.begun} <= {b"s/", None}
    assert any(segment.prefix == b"s/" for segment, _ in world.begun)
    assert world.requests <= 53


def test_a_stream_that_comes_to_a_large_directory_below_is_split_again() -> None:
    keys = numbered(30, "d/{:03d}.txt") + [
        key for run in range(40) for key in numbered(20, f"d/runs/{run:03d}/{{:03d}}")
    ]
    world = World(keys, random.Random(3), slots=8, resume="directory", is_moody=False)
    world.run()
    assert len([1 for _, start in world.begun if start and start.startswith(b"d/runs/")]) > 2


def test_no_two_segments_begin_at_seeds_of_one_directory() -> None:
    seeds = [Key(key) for key in numbered(50, "a/{:03d}") + numbered(50, "b/{:03d}")]
    begun = Planner(seeds=seeds, resume="directory").begin(64)
    assert [segment.range.after for segment in begun] == [None, b"a/", b"b/"]


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_segments_wait_for_a_free_request(slots: int) -> None:
    ranges = [KeyRange(Key(b"%03d" % start), Key(b"%03d5" % start)) for start in range(10)]
    planner = Planner(ranges)
    begun = planner.begin(slots)
    assert len(begun) == min(slots, 10)
    assert planner.open_segments == 10
    assert planner.remainders() == ranges
    for _ in range(10):
        begun += planner.advance(begun.pop(0), page_facts([], more=False), 0)
    assert begun == []
    assert planner.open_segments == 0


def test_tells_how_much_is_left() -> None:
    planner = Planner()
    (first,) = planner.begin(1)
    assert planner.rows_left() == 0
    planner.advance(first, page_facts(numbered(1000), more=True), 0)
    assert planner.rows_left() > 1000
