"""Rows that wait, in memory or spilled, and runs that are sealed as the cut rule says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from indexer import keyspace
from indexer.content import ContentStore, decode_shard
from indexer.errors import CorruptContent
from indexer.keyspace import cut_long_run, cut_rows, low_digests
from indexer.manifest import ShardRef
from indexer.pipeline.rows import Rows, Spilled, Waiting
from indexer.pipeline.seal import Sealer
from indexer.telemetry import Counters
from indexer.trackers.memory import MemoryTracker
from tests.unit.rows_model import Cuts, Entry, MemoryBlobs, few, page_of, plain, slow_shards
from workers.clock import SystemClock
from workers.threads import Threads


class WatchedTracker(MemoryTracker):
    """A tracker that remembers what it was asked and given."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.asked: list[str] = []
        self.put: list[str] = []

    async def missing(self, digests: Sequence[str]) -> set[str]:
        self.asked += digests
        return await super().missing(digests)

    async def put_shard(self, digest: str, data: bytes) -> None:
        self.put.append(digest)
        await super().put_shard(digest, data)

    def rows(self, shards: Sequence[ShardRef]) -> list[Entry]:
        """The rows of shards that were put, in order."""
        tables = [decode_shard(self._shards[shard.digest], shard.digest) for shard in shards]
        return [row for table in tables for row in table.to_pylist()]


@dataclass
class Bench:
    """What rows and seals need, in memory."""

    threads: Threads
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    tracker: WatchedTracker = field(default_factory=WatchedTracker)
    counters: Counters = field(default_factory=Counters)

    @property
    def waiting(self) -> Waiting:
        return Waiting(ContentStore(self.blobs), self.threads)

    def sealer(self, known: Sequence[str] = ()) -> Sealer:
        return Sealer(
            tracker=self.tracker,
            waiting=self.waiting,
            threads=self.threads,
            counters=self.counters,
            known=known,
        )

    async def rows(self, entries: Sequence[Entry], pieces: Sequence[tuple[int, bool]]) -> Rows:
        """The entries in pieces of so many rows, some of them spilled."""
        rows, start = Rows(), 0
        for size, is_spilled in [*pieces, (len(entries), False)]:
            piece = Rows.of(page_of(entries[start : start + size]))
            start += size
            if is_spilled:
                await self.waiting.spill(piece)
            rows.extend(piece)
        return rows


def on_bench(program: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Threads(2) as threads:
            await program(Bench(threads))

    asyncio.run(run())


def numbered(count: int) -> list[Entry]:
    return plain([b"%05d" % number for number in range(count)])


async def read(bench: Bench, rows: Rows) -> list[Entry]:
    pages = [page async for page in bench.waiting.read(rows)]
    return [row for page in pages for row in page.to_pylist()]


def memory_of(rows: Rows) -> int:
    return sum(piece.nbytes for piece in rows.pieces if isinstance(piece, pa.RecordBatch))


def is_consistent(rows: Rows, bench: Bench) -> bool:
    """Whether counts are true, and exactly what is spilled is in the content store."""
    sizes = [p.rows if isinstance(p, Spilled) else p.num_rows for p in rows.pieces]
    names = {f"blobs/{p.name}" for p in rows.pieces if isinstance(p, Spilled)}
    counted = (rows.count, rows.memory_bytes, names)
    return counted == (sum(sizes), memory_of(rows), set(bench.blobs.data))


pieces_of = st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=6)

# --- rows ----------------------------------------------------------------------------------------


@given(pieces_of, st.integers(0, 40))
def test_rows_come_back_in_order_from_wherever_they_are(
    pieces: list[tuple[int, bool]], count: int
) -> None:
    async def program(bench: Bench) -> None:
        entries = numbered(count)
        rows = await bench.rows(entries, pieces)
        assert is_consistent(rows, bench)
        for _ in range(2):
            assert await read(bench, rows) == entries
        names = await bench.waiting.spill(rows)
        assert is_consistent(rows, bench)
        assert (rows.pieces, rows.memory_bytes) == (names, 0)
        assert await bench.waiting.spill(rows) == names
        assert await read(bench, rows) == entries
        await bench.waiting.forget(rows)
        assert (rows, bench.blobs.data) == (Rows(), {})

    on_bench(program)


def test_neighbours_in_memory_are_spilled_together() -> None:
    async def program(bench: Bench) -> None:
        entries = numbered(9)
        rows = await bench.rows(entries, [(2, False), (2, False), (2, True), (2, False)])
        assert len(await bench.waiting.spill(rows)) == 3
        assert await read(bench, rows) == entries

    on_bench(program)


def test_spilled_rows_that_are_gone_are_an_error() -> None:
    async def program(bench: Bench) -> None:
        rows = await bench.rows(numbered(3), [(3, True)])
        bench.blobs.data.clear()
        with pytest.raises(CorruptContent):
            await read(bench, rows)

    on_bench(program)


def test_the_same_rows_spilled_by_two_are_each_ones_own() -> None:
    async def program(bench: Bench) -> None:
        entries = numbered(5)
        mine, theirs = [await bench.rows(entries, [(5, True)]) for _ in range(2)]
        await bench.waiting.forget(theirs)
        assert await read(bench, mine) == entries

    on_bench(program)


# --- the cut rule --------------------------------------------------------------------------------


def paths_with(zeros: Sequence[int]) -> list[bytes]:
    """Ascending paths of which each has exactly so many low bits zero."""
    paths: list[bytes] = []
    for number, wanted in enumerate(zeros):
        low = (1 << wanted + 1) - 1
        candidates = (b"%05d/%d" % (number, n) for n in range(1 << 20))
        paths.append(next(p for p in candidates if xxh3_64_intdigest(p) & low == 1 << wanted))
    return paths


def test_a_row_with_fourteen_zero_bits_ends_a_run() -> None:
    paths = paths_with([13, 14, 3, 15, 0])
    assert cut_rows(paths) == [1, 3]
    lowest_bits = [digest & -digest for digest in low_digests(paths)]
    assert lowest_bits == [1 << 13, 0, 1 << 3, 0, 1]
    assert max(low_digests(paths)) < 1 << 14


def test_a_long_run_is_cut_where_fewer_bits_are_zero() -> None:
    odd, twelve, ten, two = 1, 1 << 12, 1 << 10, 1 << 2
    size = keyspace.RUN_ROWS_MAX
    assert cut_long_run([odd] * 10 + [twelve] + [odd] * size) == [11, size]
    # A piece that is short enough stays whole, whatever it holds of the next level.
    assert cut_long_run([ten] * 10 + [twelve] + [odd] * size) == [11, size]
    # One that is still too long is cut again, and the others are not.
    too_long = [odd] * 3 + [ten] + [odd] * size
    assert cut_long_run([*too_long, twelve, *[ten] * 4]) == [4, size, 1, 4]
    # Where nothing else cuts it, so many rows from its own start do.
    assert cut_long_run([odd] * (2 * size + 1)) == [size, size, 1]
    assert cut_long_run([odd] * size + [two] + [odd] * 9) == [size, 1, 9]


@given(st.integers(13, 200), st.integers(0, 10**6), st.sampled_from((2, 4, 6)))
def test_the_cuts_of_a_long_run_are_those_of_the_model(count: int, first: int, bits: int) -> None:
    cuts = Cuts(bits=bits, run_rows_max=12)
    entries = uncut(cuts, count, first)
    with cuts.used():
        lengths = cut_long_run(low_digests([entry["path"] for entry in entries]))
    assert lengths == [len(group) for group in cuts.groups(entries)]
    assert max(lengths) <= 12


def uncut(cuts: Cuts, count: int, first: int = 0) -> list[Entry]:
    """Entries of one run: none but the last may end it."""
    found: list[bytes] = []
    number = first
    while len(found) < count:
        path = b"%09d" % number
        if xxh3_64_intdigest(path) & ((1 << cuts.bits) - 1) or len(found) == count - 1:
            found.append(path)
        number += 1
    return plain(found)


# --- sealing -------------------------------------------------------------------------------------

CUTS = Cuts()


@few
@given(pieces_of, st.integers(1, 60), st.integers(0, 10**6))
def test_a_run_becomes_the_shards_of_its_rows(
    pieces: list[tuple[int, bool]], count: int, first: int
) -> None:
    entries = uncut(CUTS, count, first)

    async def program(bench: Bench) -> None:
        run = await bench.rows(entries, pieces)
        shards = await bench.sealer().seal(run)
        assert shards == slow_shards(entries, CUTS)
        stored = bench.tracker.rows(shards)
        assert [(row["path"], row["size"]) for row in stored] == [
            (entry["path"], entry["size"]) for entry in entries
        ]
        assert bench.tracker.put == [shard.digest for shard in shards]
        assert (bench.counters.shards_new, bench.counters.shards_reused) == (len(shards), 0)
        assert (run, bench.blobs.data) == (Rows(), {})

    with CUTS.used():
        on_bench(program)


def test_what_the_tracker_holds_is_not_put_again() -> None:
    entries = uncut(CUTS, 40)

    async def program(bench: Bench) -> None:
        shards = await bench.sealer().seal(await bench.rows(entries, []))
        digests = [shard.digest for shard in shards]
        assert len(digests) > 2
        bench.tracker.put.clear()
        bench.tracker.asked.clear()
        known = digests[1:]
        sealer = bench.sealer(known)
        for _ in range(2):
            assert await sealer.seal(await bench.rows(entries, [])) == shards
        # Those that are known are not asked for; the other one is once.
        assert (bench.tracker.put, bench.tracker.asked) == ([], digests[:1])
        counted = (bench.counters.shards_new, bench.counters.shards_reused)
        assert counted == (len(digests), 2 * len(digests))

    with CUTS.used():
        on_bench(program)


def test_a_shard_that_could_not_be_put_is_not_named() -> None:
    class FullTracker(WatchedTracker):
        async def put_shard(self, digest: str, data: bytes) -> None:
            raise OSError

    async def program(bench: Bench) -> None:
        entries = numbered(3)
        bench.tracker, works = FullTracker(), bench.tracker
        sealer = bench.sealer()
        with pytest.raises(OSError):
            await sealer.seal(await bench.rows(entries, [(2, True)]))
        bench.tracker = works
        assert await bench.sealer().seal(await bench.rows(entries, []))
        assert len(works.put) == 1

    on_bench(program)
