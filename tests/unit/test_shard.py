"""Assembling: whatever the pieces, their order, the memory and the slices, the same shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from indexer import slice as slices
from indexer.content import ContentStore
from indexer.keyspace import Key, KeyRange
from indexer.manifest import ShardRef
from indexer.page import empty_page, paths_of
from indexer.pipeline.listing import Tile
from indexer.pipeline.rows import Rows, Waiting
from indexer.pipeline.seal import Sealer
from indexer.pipeline.shard import Assembler, Run, Stretch, join, stretch_of
from indexer.telemetry import Counters
from indexer.trackers.memory import MemoryTracker
from tests.unit.rows_model import Cuts, Entry, MemoryBlobs, few, page_of, plain, slow_shards
from workers.clock import SystemClock
from workers.pool import Pool
from workers.threads import Threads

CUTS = Cuts()
AMPLE = 1 << 30


@dataclass
class Bench:
    """What assembling needs, in memory."""

    threads: Threads
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    counters: Counters = field(default_factory=Counters)
    tracker: MemoryTracker = field(default_factory=lambda: MemoryTracker(SystemClock()))

    def __post_init__(self) -> None:
        self.content = ContentStore(self.blobs)
        self.waiting = Waiting(self.content, self.threads)

    @asynccontextmanager
    async def assembling(self, *, seals: bool = True, memory_bytes_max: int = AMPLE) -> Any:
        sealer = Sealer(
            tracker=self.tracker,
            waiting=self.waiting,
            threads=self.threads,
            counters=self.counters,
        )
        async with Pool(3) as pool:
            yield Assembler(
                sealer=sealer,
                waiting=self.waiting,
                pool=pool,
                seals=seals,
                memory_bytes_max=memory_bytes_max,
            )


def on_bench(program: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Threads(2) as threads:
            await program(Bench(threads))

    with CUTS.used():
        asyncio.run(run())


# --- a key space in pieces -----------------------------------------------------------------------


@dataclass(frozen=True)
class Pieces:
    """All entries of a key space, and ranges that tile it in the order in which they come."""

    entries: list[Entry]
    ranges: list[KeyRange]
    slices: list[int]
    """For each range, the slice that lists it."""

    def stretch(self, keys: KeyRange) -> Stretch:
        rows = [entry for entry in self.entries if entry["path"] in keys]
        return stretch_of(keys, page_of(rows) if rows else empty_page())


@st.composite
def pieces(draw: st.DrawFn) -> Pieces:
    random = Random(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from((0, 1, 2, 10, 60, 200)))
    paths = {b"%06d" % random.randrange(10**6) for _ in range(count)}
    if draw(st.booleans()):
        # One run that has to be cut again, among others.
        paths = {path for path in paths if not 2e5 < int(path) < 7e5 or _is_inside_a_run(path)}
    entries = plain(sorted(paths))
    bounds = random.sample(sorted(paths), random.randint(0, min(len(paths), 30)))
    bounds += [b"%06d" % random.randrange(10**6) for _ in range(random.randint(0, 6))]
    ranges = KeyRange().split(sorted({Key(bound) for bound in bounds}))
    random.shuffle(ranges)
    slice_count = draw(st.sampled_from((1, 1, 2, 3, 7)))
    return Pieces(entries, ranges, [random.randrange(slice_count) for _ in ranges])


def _is_inside_a_run(path: bytes) -> bool:
    return bool(xxh3_64_intdigest(path) & ((1 << CUTS.bits) - 1))


memory = st.sampled_from((0, 300, 2_000, AMPLE))


async def in_one_slice(bench: Bench, given_: Pieces, assembler: Assembler, most: int) -> None:
    for keys in given_.ranges:
        await assembler.add(given_.stretch(keys))
        check_memory(assembler, most)


async def in_slices(bench: Bench, given_: Pieces, assembler: Assembler, most: int) -> None:
    """Each slice assembles what is its own; the job puts together what they answer."""
    for number in sorted(set(given_.slices)):
        own = [r for r, n in zip(given_.ranges, given_.slices, strict=True) if n == number]
        async with bench.assembling(memory_bytes_max=most, seals=assembler._seals) as part:
            for keys in own:
                await part.add(given_.stretch(keys))
                check_memory(part, most)
        records = await slices._records(part.stretches, bench.waiting)
        tile = Tile(KeyRange(), 3, 2, 1, datetime(2026, 1, 2, tzinfo=UTC), datetime.now(UTC))
        result = slices.SliceResult(records, [tile], own, gone=4, touched=5)
        answer = slices.read_result(msgspec.msgpack.encode(result))
        assert (answer.tiles, answer.remainders) == ([tile], own)
        assert (answer.gone, answer.touched) == (4, 5)
        stretches = answer.stretches
        assert [stretch.keys for stretch in stretches] == [s.keys for s in part.stretches]
        for stretch in stretches:
            await assembler.add(stretch)
            check_memory(assembler, most)


def check_memory(assembler: Assembler, most: int) -> None:
    """The bound holds, and what is counted is what waits in memory."""
    waiting = [rows for stretch in assembler.stretches for rows in stretch.waiting()]
    assert assembler._memory_bytes == sum(rows.memory_bytes for rows in waiting) <= most
    for rows in waiting:
        pages = [piece for piece in rows.pieces if hasattr(piece, "nbytes")]
        assert rows.memory_bytes == sum(page.nbytes for page in pages)


async def check_sealed(bench: Bench, shards: Sequence[ShardRef], rows: Sequence[Entry]) -> None:
    assert list(shards) == slow_shards(rows, CUTS)
    assert await bench.tracker.missing([shard.digest for shard in shards]) == set()
    assert bench.blobs.data == {}


# --- the same shards, always ---------------------------------------------------------------------


@few
@given(pieces(), memory)
def test_shards_depend_on_the_entries_alone(given_: Pieces, most: int) -> None:
    async def program(bench: Bench) -> None:
        way = in_one_slice if max(given_.slices) == 0 else in_slices
        async with bench.assembling(memory_bytes_max=most) as assembler:
            await way(bench, given_, assembler, most)
            (whole,) = assembler.stretches
            assert whole.keys == KeyRange()
            await assembler.seal_all()
            assert assembler._memory_bytes == 0
        assert whole.rows == len(given_.entries)
        await check_sealed(bench, whole.shards, given_.entries)
        assert bench.counters.shards_new == len(whole.shards)

    on_bench(program)


@few
@given(pieces(), memory, st.data())
def test_the_first_entries_can_be_taken(given_: Pieces, most: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(given_.entries) + 2))

    async def program(bench: Bench) -> None:
        way = in_one_slice if max(given_.slices) == 0 else in_slices
        async with bench.assembling(memory_bytes_max=most, seals=False) as assembler:
            await way(bench, given_, assembler, most)
            assert assembler.stretches[0].rows == len(given_.entries)
            taken = [page async for page in assembler.take_first(count)]
            assert assembler._memory_bytes == 0
        assert [path for page in taken for path in paths_of(page)] == [
            entry["path"] for entry in given_.entries[:count]
        ]
        assert not bench.blobs.data

    on_bench(program)


@few
@given(pieces(), memory, st.data())
def test_the_first_entries_are_found_beside_stretches_that_do_not_meet(
    given_: Pieces, most: int, data: st.DataObject
) -> None:
    ordered = sorted(given_.ranges, key=lambda r: (r.after is not None, r.after or b""))
    gap = ordered[data.draw(st.integers(0, len(ordered) - 1))]
    first = [entry for entry in given_.entries if gap.after and entry["path"] <= gap.after]
    if not first:
        return
    count = data.draw(st.integers(1, len(first)))

    async def program(bench: Bench) -> None:
        async with bench.assembling(memory_bytes_max=most, seals=False) as assembler:
            for keys in given_.ranges:
                if keys != gap:
                    await assembler.add(given_.stretch(keys))
            taken = [page async for page in assembler.take_first(count)]
            assert assembler._memory_bytes == 0
        paths = [path for page in taken for path in paths_of(page)]
        assert paths == [entry["path"] for entry in first[:count]]
        assert not bench.blobs.data

    on_bench(program)


def test_little_memory_makes_it_spill() -> None:
    entries = plain([b"%06d" % number for number in range(500)])
    given_ = Pieces(entries, KeyRange().split([Key(b"%06d" % n) for n in range(7, 500, 7)]), [])

    async def program(bench: Bench) -> None:
        most = 3_000
        async with bench.assembling(memory_bytes_max=most) as assembler:
            for keys in given_.ranges[::2]:
                await assembler.add(given_.stretch(keys))
                check_memory(assembler, most)
            assert bench.blobs.data
            for keys in given_.ranges[1::2]:
                await assembler.add(given_.stretch(keys))
            await assembler.seal_all()
        await check_sealed(bench, assembler.stretches[0].shards, entries)

    on_bench(program)


def test_runs_are_sealed_while_more_is_listed() -> None:
    entries = plain([b"%06d" % number for number in range(300)])

    async def program(bench: Bench) -> None:
        async with bench.assembling() as assembler:
            await assembler.add(stretch_of(KeyRange(None, Key(b"000299")), page_of(entries)))
        (stretch,) = assembler.stretches
        assert stretch.tail is not None
        expected = slow_shards(entries, CUTS)
        first = expected.index(stretch.shards[0])
        last = expected.index(stretch.shards[-1])
        assert stretch.shards == expected[first : last + 1]
        assert stretch.head.count == sum(shard.rows for shard in expected[:first])
        assert stretch.tail.count == sum(shard.rows for shard in expected[last + 1 :])
        assert stretch.rows == 300

    on_bench(program)


def test_a_range_that_is_told_twice_is_an_error() -> None:
    keys = KeyRange(Key(b"a"), Key(b"b"))

    async def program(bench: Bench) -> None:
        async with bench.assembling() as assembler:
            await assembler.add(Stretch(keys, Rows()))
            with pytest.raises(AssertionError):
                await assembler.add(Stretch(keys, Rows()))

    on_bench(program)


def test_an_error_of_the_tracker_ends_it() -> None:
    class FullTracker(MemoryTracker):
        async def put_shard(self, digest: str, data: bytes) -> None:
            raise OSError("full")

    entries = plain([b"%06d" % number for number in range(200)])

    async def program(bench: Bench) -> None:
        bench.tracker = FullTracker(SystemClock())
        with pytest.raises(OSError, match="full"):
            async with bench.assembling() as assembler:
                await assembler.add(stretch_of(KeyRange(), page_of(entries)))
                await assembler.seal_all()

    on_bench(program)


# --- stretches -----------------------------------------------------------------------------------


def test_joining_is_associative() -> None:
    entries = plain([b"%06d" % number for number in range(120)])

    def parts() -> tuple[Stretch, Stretch, Stretch]:
        bounds = [Key(b"000040"), Key(b"000041")]
        one, two, three = (
            stretch_of(keys, page_of([e for e in entries if e["path"] in keys]))
            for keys in KeyRange().split(bounds)
        )
        return one, two, three

    def sizes(stretch: Stretch) -> list[int]:
        tail = [] if stretch.tail is None else [stretch.tail.count]
        return [stretch.head.count, *(run.rows.count for run in stretch.runs), *tail]

    with CUTS.used():
        one, two, three = parts()
        left, _ = join(join(one, two)[0], three)
        one, two, three = parts()
        right, _ = join(one, join(two, three)[0])
        alone = stretch_of(KeyRange(), page_of(entries))
    assert sizes(left) == sizes(right) == sizes(alone)
    assert left.keys == right.keys == KeyRange()


def test_a_stretch_without_a_cut_is_all_head() -> None:
    page = page_of(plain([b"a", b"b"]))
    assert stretch_of(KeyRange(), page) == Stretch(KeyRange(), Rows.of(page))
    assert stretch_of(KeyRange(), empty_page()).rows == 0


def test_a_sealed_run_counts_its_shards() -> None:
    shard = ShardRef(b"b", "ab" * 32, rows=7, size_bytes=1)
    rows = Rows.of(page_of(plain([b"c"])))
    stretch = Stretch(KeyRange(), Rows(), [Run(Rows(), [shard])], rows)
    assert (stretch.rows, stretch.shards) == (8, [shard])
    assert list(stretch.waiting()) == [stretch.head, rows]
