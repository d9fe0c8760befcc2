"""shard: pages come in from anywhere in the key space; runs between two cuts go out as shards.

What is known of the key space is a set of stretches, each the rows of one range: those up to its
first cut, the runs between its cuts, those after its last one. Two stretches that meet join: what
stood after the last cut of the left one and up to the first of the right one is then a run too.
Joining is associative, so the shards are the same in whatever pieces and order the pages come.

Invariants
  * Stretches never overlap; a range that is told twice is an error of the caller.
  * A run is sealed once, when both of its cuts are known.
  * Rows that wait hold at most `memory_bytes_max` in memory; beyond that the largest waiting
    fragments go to the content store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from indexer.keyspace import Key, KeyRange, cut_rows
from indexer.limits import ROWS_IN_MEMORY_BYTES_MAX
from indexer.manifest import ShardRef
from indexer.page import Page, paths_of
from indexer.pipeline.rows import Rows, Waiting
from indexer.pipeline.seal import Sealer
from workers.pool import Pool


@dataclass(slots=True)
class Run:
    """The rows between two cuts; `shards` once it is sealed."""

    rows: Rows
    shards: list[ShardRef] | None = None


@dataclass(slots=True)
class Stretch:
    """All rows of a range. Without a cut they are all in `head`, and `tail` is None."""

    keys: KeyRange
    head: Rows
    runs: list[Run] = field(default_factory=list)
    tail: Rows | None = None

    @property
    def rows(self) -> int:
        """How many rows the stretch has."""
        sealed = sum(shard.rows for shard in self.shards)
        return sealed + sum(rows.count for rows in self.waiting())

    @property
    def shards(self) -> list[ShardRef]:
        """The shards of the runs that are sealed, in key order."""
        return [shard for run in self.runs for shard in run.shards or ()]

    def waiting(self) -> Iterable[Rows]:
        """Rows that have no shard yet."""
        yield self.head
        yield from (run.rows for run in self.runs if run.shards is None)
        if self.tail is not None:
            yield self.tail


def stretch_of(keys: KeyRange, page: Page) -> Stretch:
    """The stretch of a page that lists all of `keys`."""
    cuts = cut_rows(paths_of(page))
    if not cuts:
        return Stretch(keys, Rows.of(page))
    bounds = [0, *(row + 1 for row in cuts), page.num_rows]
    pieces = [Rows.of(page.slice(start, end - start)) for start, end in pairwise(bounds)]
    return Stretch(keys, pieces[0], [Run(rows) for rows in pieces[1:-1]], pieces[-1])


def join(left: Stretch, right: Stretch) -> tuple[Stretch, Run | None]:
    """Two stretches that meet as one, and the run that became whole by it. Uses up both."""
    assert left.keys.through is not None
    assert left.keys.through == right.keys.after
    keys = KeyRange(left.keys.after, right.keys.through)
    if left.tail is None:
        left.head.extend(right.head)
        return Stretch(keys, left.head, right.runs, right.tail), None
    left.tail.extend(right.head)
    left.keys = keys
    if right.tail is None:
        return left, None
    middle = Run(left.tail)
    left.runs += [middle, *right.runs]
    left.tail = right.tail
    return left, middle


class Assembler:
    """All that is known of one key space so far.

    With `seals` false, runs stay rows until `finish`: for a manifest of the first rows in key
    order, of which only the end of listing shows which they are.
    """

    def __init__(
        self,
        *,
        sealer: Sealer,
        waiting: Waiting,
        pool: Pool,
        seals: bool = True,
        memory_bytes_max: int = ROWS_IN_MEMORY_BYTES_MAX,
    ) -> None:
        self._sealer = sealer
        self._waiting = waiting
        self._pool = pool
        self._seals = seals
        self._memory_bytes_max = memory_bytes_max
        self._memory_bytes = 0
        self._by_after: dict[Key | None, Stretch] = {}
        self._by_through: dict[Key | None, Stretch] = {}

    @property
    def stretches(self) -> list[Stretch]:
        """All stretches in key order. Runs are sealed only after the pool was left."""
        return sorted(self._by_after.values(), key=lambda stretch: stretch.keys.order)

    async def add(self, stretch: Stretch) -> None:
        """Takes in a stretch and joins it to its neighbours; waits while sealing is behind."""
        whole = [run for run in stretch.runs if run.shards is None]
        self._memory_bytes += sum(rows.memory_bytes for rows in stretch.waiting())
        after, through = stretch.keys.after, stretch.keys.through
        if after is not None and after in self._by_through:
            left = self._by_through.pop(after)
            del self._by_after[left.keys.after]
            stretch, run = join(left, stretch)
            whole += [run] if run else []
        if through is not None and through in self._by_after:
            right = self._by_after.pop(through)
            del self._by_through[right.keys.through]
            stretch, run = join(stretch, right)
            whole += [run] if run else []
        assert stretch.keys.after not in self._by_after
        assert stretch.keys.through not in self._by_through
        self._by_after[stretch.keys.after] = stretch
        self._by_through[stretch.keys.through] = stretch
        if self._seals:
            for run in whole:
                await self._start_sealing(run)
        await self._spill()

    async def seal_all(self) -> None:
        """Seals what is known as one whole: the first stretch, which begins at the first key."""
        first = self._whole()
        for run in first.runs:
            if run.shards is not None:
                continue
            if run.rows.count:
                await self._start_sealing(run)
            else:
                run.shards = []

    async def take_first(self, count: int) -> AsyncIterator[Page]:
        """The first `count` rows of what was not sealed, in pages; the others are forgotten."""
        first = self._whole()
        beyond = [rows for stretch in self.stretches[1:] for rows in stretch.waiting()]
        room = count
        for rows in [*first.waiting(), *beyond]:
            if room:
                async for page in self._waiting.read(rows):
                    kept = page.slice(0, room)
                    room -= kept.num_rows
                    if kept.num_rows:
                        yield kept
            self._memory_bytes -= rows.memory_bytes
            await self._waiting.forget(rows)

    def _whole(self) -> Stretch:
        """The first stretch, all of whose rows are in its runs."""
        first = self.stretches[0]
        assert first.keys.after is None
        tail = [Run(first.tail)] if first.tail is not None else []
        first.runs = [Run(first.head), *first.runs, *tail]
        first.head, first.tail = Rows(), Rows()
        return first

    async def _start_sealing(self, run: Run) -> None:
        # What is being sealed is bounded by the pool's slots, and no longer waits.
        rows, run.rows = run.rows, Rows()
        self._memory_bytes -= rows.memory_bytes
        await self._pool.submit(self._seal, run, rows)

    async def _seal(self, run: Run, rows: Rows) -> None:
        run.shards = await self._sealer.seal(rows)

    async def _spill(self) -> None:
        while self._memory_bytes > self._memory_bytes_max:
            largest = max(
                (rows for stretch in self._by_after.values() for rows in stretch.waiting()),
                key=lambda rows: rows.memory_bytes,
            )
            assert largest.memory_bytes > 0
            self._memory_bytes -= largest.memory_bytes
            await self._waiting.spill(largest)
