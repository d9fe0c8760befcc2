"""Digests: the bytes of an object and nothing else, within the budget, whatever goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import IndexerError, NoSuchObject, ObjectChanged, StoreUnavailable
from indexer.keyspace import Key
from indexer.limits import READ_AHEAD_MAX
from indexer.objects import Pin
from indexer.pipeline import digest as digest_module
from indexer.pipeline.digest import Digester, Hashing
from indexer.protocols import Sink
from indexer.stores.wrappers import RetryingStore, is_retryable
from indexer.telemetry import Counters
from tests.unit.scripted_store import DEFAULT, ScriptedStore, made
from workers.budget import Budget
from workers.clock import SystemClock
from workers.retry import Retry
from workers.threads import Threads

KEY = Key(b"key")
RANGE_BYTES = 100_000
BUDGET_BYTES = 4 * RANGE_BYTES


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "READ_RANGE_BYTES", RANGE_BYTES)
    monkeypatch.setattr(digest_module, "READ_CHUNK_BYTES", 20_000)


def body_of(size: int) -> bytes:
    return Random(size).randbytes(size)


def store_of(size: int, *, ranges: bool = True, pieces_bytes: int = 7_000) -> ScriptedStore:
    objects = {bytes(KEY): made(body_of(size))}
    return ScriptedStore(objects, replace(DEFAULT, ranges=ranges), pieces_bytes=pieces_bytes)


def pin_of(size: int) -> Pin:
    return Pin(size, hashlib.md5(body_of(size), usedforsecurity=False).hexdigest())


class Digesting:
    """A digester, and what can be seen of it."""

    def __init__(self, store: ScriptedStore, threads: Threads, *, retries: bool = False) -> None:
        self.threads = threads
        self.budget = Budget(BUDGET_BYTES)
        self.counters = Counters()
        self.retries = 0
        retry = Retry(attempts_max=4, delay_s_min=0.0, delay_s_max=0.001, clock=SystemClock())
        self.digester = Digester(
            RetryingStore(store, retry, self._on_retry) if retries else store,
            "sha256",
            threads=threads,
            budget=self.budget,
            counters=self.counters,
        )

    def _on_retry(self, attempt: int, error: Exception, delay_s: float) -> None:
        assert is_retryable(error)
        self.retries += 1

    def check_holds_nothing(self) -> None:
        statistics = self.budget.statistics()
        assert (statistics.held, statistics.waiting) == (0, 0)
        assert statistics.held_peak <= BUDGET_BYTES
        assert self.threads.statistics().in_flight == 0


@asynccontextmanager
async def digesting(store: ScriptedStore, *, retries: bool = False) -> AsyncIterator[Digesting]:
    async with Threads(2) as threads:
        opened = Digesting(store, threads, retries=retries)
        yield opened
        opened.check_holds_nothing()


SIZES = [0, 1, 16_384, 16_385, 99_999, 100_000, 100_001, 300_000, 1_234_567]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("size", SIZES)
async def test_a_digest_is_that_of_the_bytes(size: int, *, ranges: bool) -> None:
    store = store_of(size, ranges=ranges)
    async with digesting(store) as opened:
        found = await opened.digester.digest(KEY, pin_of(size))
        assert found == hashlib.sha256(body_of(size)).digest()
        assert opened.counters.bytes_read == size
    parts = -(-size // RANGE_BYTES) if ranges else min(size, 1)
    assert len(store.reads) == parts


@given(st.lists(st.binary(max_size=40_000), max_size=8))
def test_bytes_are_hashed_in_order_whatever_pieces_they_come_in(pieces: list[bytes]) -> None:
    async def hashed() -> bytes:
        async with Threads(1) as threads:
            hashing = Hashing("md5", threads, sum(map(len, pieces)))
            for piece in pieces:
                await hashing.write(piece)
            await hashing.flush()
            return hashing.finish()

    assert asyncio.run(hashed()) == hashlib.md5(b"".join(pieces), usedforsecurity=False).digest()


async def test_a_restart_forgets_what_came() -> None:
    async with Threads(1) as threads:
        hashing = Hashing("sha256", threads, 50_000)
        await hashing.write(b"x" * 30_000)
        hashing.restart()
        await hashing.write(b"y" * 50_000)
        await hashing.flush()
        assert hashing.finish() == hashlib.sha256(b"y" * 50_000).digest()


async def test_what_could_be_of_another_state_is_read_in_one_go() -> None:
    store = store_of(300_000)
    async with digesting(store) as opened:
        await opened.digester.digest(KEY, Pin(300_000))
    assert store.reads == [(KEY, 0, None)]


async def test_a_few_ranges_are_read_ahead_and_no_more() -> None:
    store = store_of(20 * RANGE_BYTES)
    under_way = highest = 0

    async def slow(_: Key) -> None:
        nonlocal under_way, highest
        under_way += 1
        highest = max(highest, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1

    store.on_read = slow
    async with digesting(store) as opened:
        await opened.digester.digest(KEY, pin_of(20 * RANGE_BYTES))
        assert 1 < highest <= READ_AHEAD_MAX


async def test_many_large_objects_share_the_budget_and_all_come_to_an_end() -> None:
    store = store_of(7 * RANGE_BYTES + 1)
    async with digesting(store) as opened, asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(opened.digester.digest(KEY, pin_of(7 * RANGE_BYTES + 1)))
                for _ in range(10)
            ]
        assert len({task.result() for task in tasks}) == 1
        assert opened.budget.statistics().held_peak == BUDGET_BYTES


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [50_000, 450_000])
async def test_an_object_that_changed_is_an_error(size: int) -> None:
    store = store_of(size)
    async with digesting(store) as opened:
        with pytest.raises(ObjectChanged):
            await opened.digester.digest(KEY, Pin(size, "0" * 32))
        assert opened.counters.bytes_read == 0


async def test_an_object_that_changes_between_its_ranges_is_an_error() -> None:
    store = store_of(450_000)

    async def change(_: Key) -> None:
        if len(store.reads) == 3:
            store.memory.put(KEY, made(body_of(450_001)))

    store.on_read = change
    async with digesting(store) as opened:
        with pytest.raises(ObjectChanged):
            await opened.digester.digest(KEY, pin_of(450_000))


@pytest.mark.parametrize("found", [30_000, 50_001, 700_000])
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_body_of_another_size_is_no_digest(found: int, *, ranges: bool) -> None:
    """Where a store believes that the object is the same, and its bytes say otherwise."""
    store = store_of(found, ranges=ranges)
    size = 50_000 if found < 100_000 else 450_000

    class Careless(ScriptedStore):
        async def read(
            self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
        ) -> None:
            await store.read(key, pin_of(found), sink, start=start, end=found)

    async with digesting(Careless({}, store.properties)) as opened:
        with pytest.raises(IndexerError) as caught:
            await opened.digester.digest(KEY, pin_of(size))
        assert "bytes" in str(caught.value)
        assert opened.counters.bytes_read == 0


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("size", [60_000, 450_000])
async def test_a_body_that_breaks_off_is_gone_on_with(size: int, *, ranges: bool) -> None:
    store = store_of(size, ranges=ranges)
    pieces = 0

    async def break_off(_: Key) -> None:
        nonlocal pieces
        pieces += 1
        if pieces in (3, 9):
            raise StoreUnavailable("the connection was reset")

    store.on_piece = break_off
    async with digesting(store, retries=True) as opened:
        found = await opened.digester.digest(KEY, pin_of(size))
        assert found == hashlib.sha256(body_of(size)).digest()
        assert opened.retries == 2
    starts = [start for _, start, _ in store.reads]
    # A store that cannot begin in the middle sends it all again, another one what was left.
    assert all(start == 0 for start in starts) is not ranges


async def test_a_body_is_not_gone_on_with_where_nothing_tells_that_it_is_the_same() -> None:
    store = store_of(60_000)
    pieces = 0

    async def change(_: Key) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            store.memory.put(KEY, made(bytes(60_000)))
            raise StoreUnavailable("the connection was reset")

    store.on_piece = change
    async with digesting(store, retries=True) as opened:
        found = await opened.digester.digest(KEY, Pin(60_000))
        assert found == hashlib.sha256(bytes(60_000)).digest()


async def test_a_failure_after_the_last_byte_asks_for_nothing_more() -> None:
    store = store_of(60_000)

    class Resetting(ScriptedStore):
        async def read(
            self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
        ) -> None:
            assert start < pin.size
            await store.read(key, pin, sink, start=start, end=end)
            raise StoreUnavailable("the connection was reset")

    async with digesting(Resetting({}), retries=True) as opened:
        found = await opened.digester.digest(KEY, pin_of(60_000))
        assert found == hashlib.sha256(body_of(60_000)).digest()
    assert len(store.reads) == 1


@pytest.mark.parametrize("size", [60_000, 450_000])
async def test_a_store_that_stays_away_is_an_error(size: int) -> None:
    store = store_of(size)

    async def fail(_: Key) -> None:
        raise StoreUnavailable("refused")

    store.on_read = fail
    async with digesting(store, retries=True) as opened:
        with pytest.raises(StoreUnavailable, match="refused"):
            await opened.digester.digest(KEY, pin_of(size))


async def test_an_object_that_is_gone_is_said() -> None:
    async with digesting(store_of(5)) as opened:
        with pytest.raises(NoSuchObject):
            await opened.digester.digest(Key(b"other"), pin_of(5))


# --- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60_000, 1_450_000])
@pytest.mark.parametrize("point", range(0, 28, 3))
async def test_who_is_cancelled_holds_nothing(size: int, point: int) -> None:
    """Hangs at a read, a piece or the budget, and is cancelled there."""
    store = store_of(size)
    hanging = asyncio.Event()
    reached = 0

    async def hang(_: Key) -> None:
        nonlocal reached
        reached += 1
        if reached > point:
            hanging.set()
            await asyncio.Event().wait()

    store.on_read = store.on_piece = hang
    async with digesting(store) as opened, asyncio.TaskGroup() as group:
        tasks = [group.create_task(opened.digester.digest(KEY, pin_of(size))) for _ in range(3)]
        await hanging.wait()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
