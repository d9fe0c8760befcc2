"""What stores are wrapped in: limits that are shared, slots that are given back, and retries."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from indexer.errors import AccessDenied, NoSuchObject, StoreUnavailable
from indexer.keyspace import Key, KeyRange
from indexer.limits import LIMITERS_KEPT_MAX
from indexer.objects import Pin
from indexer.sources import parse_source
from indexer.stores.memory import MemoryConnection
from indexer.stores.wrappers import (
    LimitedStore,
    LimiterPool,
    ResilientConnection,
    RetryingStore,
)
from indexer.telemetry import Counters
from tests.unit.scripted_store import ScriptedStore, made
from workers.caps import Caps
from workers.control import Limits
from workers.retry import Retry
from workers.simulated import VirtualClock, run_simulated

LIMITS = Limits(start=4, lowest=1, highest=64)
KEY = Key(b"key")


def store() -> ScriptedStore:
    return ScriptedStore({bytes(KEY): made(b"body")})


class Wrapped:
    """A store as a job sees it, and what it holds."""

    def __init__(self, inner: ScriptedStore, clock: VirtualClock, in_flight: int = 8) -> None:
        self.pool = LimiterPool(LIMITS, clock)
        self.caps = Caps(in_flight)
        self.counters = Counters()
        with self.pool.lease("bucket") as (limiters, _):
            self.limiters = limiters
        self.limited = LimitedStore(
            inner,
            "memory",
            limiters=limiters,
            caps=self.caps,
            counters=self.counters,
            clock=clock,
        )
        retry = Retry(attempts_max=3, clock=clock, random=Random(0))
        self.store = RetryingStore(self.limited, retry, lambda *_: None)

    def check_holds_nothing(self) -> None:
        for limiter in (self.limiters.listing, self.limiters.heads, self.limiters.reads):
            assert limiter.in_flight == 0
        assert self.caps._slots.in_flight == 0
        assert self.counters.open_requests == 0


def test_sharers_of_a_bucket_count_on_their_part() -> None:
    pool = LimiterPool(LIMITS, VirtualClock())
    with pool.lease("one") as (limiters, share):
        assert share() == 4
        with pool.lease("one") as (same, other_share), pool.lease("two") as (others, _):
            assert same is limiters
            assert others is not limiters
            assert share() == other_share() == 2
            for _ in range(5):
                with pool.lease("one"):
                    assert share() <= 1
        assert share() == 4
    with pool.lease("one") as (again, _):
        assert again is limiters, "what was found out is kept"


def test_buckets_that_were_not_reached_for_long_are_forgotten() -> None:
    pool = LimiterPool(LIMITS, VirtualClock())
    with pool.lease("kept") as (kept, _):
        with pool.lease("first") as (first, _):
            pass
        for number in range(LIMITERS_KEPT_MAX + 10):
            with pool.lease(f"other-{number}"):
                pass
        assert len(pool._kept) <= LIMITERS_KEPT_MAX
        with pool.lease("kept") as (same, _), pool.lease("first") as (other, _):
            assert same is kept
            assert other is not first
    assert set(pool._sharers) <= set(pool._kept)


def test_requests_of_one_kind_do_not_wait_for_those_of_another() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        inner = store()

        async def slow(_: Key) -> None:
            await clock.sleep(100)

        inner.on_head = slow
        wrapped = Wrapped(inner, clock)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(wrapped.store.head(KEY))
            await clock.sleep(1)
            assert wrapped.limiters.heads.free == 0
            await wrapped.store.list_page(KeyRange())
            assert clock.monotonic() == 1
        wrapped.check_holds_nothing()

    run_simulated(program)


def test_a_throttle_is_tried_again_later_and_lowers_the_limit() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        inner = store()
        failures = 1

        async def throttle(_: Key) -> None:
            nonlocal failures
            await clock.sleep(0.01)
            if failures:
                failures -= 1
                raise StoreUnavailable("slow down", is_throttle=True, retry_after_s=30.0)

        inner.on_head = throttle
        wrapped = Wrapped(inner, clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(wrapped.store.head(KEY))
            await clock.sleep(5)
            wrapped.check_holds_nothing()
        assert clock.monotonic() > 30
        assert wrapped.counters.throttles == 1
        assert wrapped.counters.answers == {
            ("memory", "head", "throttled"): 1,
            ("memory", "head", "ok"): 1,
        }
        assert wrapped.limiters.heads.limit < LIMITS.start
        assert wrapped.limiters.reads.limit == LIMITS.start

    run_simulated(program)


@pytest.mark.parametrize("error", [AccessDenied, NoSuchObject])
def test_what_stays_as_it_is_is_not_tried_again(error: type[Exception]) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        inner = store()

        async def fail(_: Key) -> None:
            raise error("no")

        inner.on_head = fail
        wrapped = Wrapped(inner, clock)
        with pytest.raises(error):
            await wrapped.store.head(KEY)
        assert len(inner.heads) == 1
        wrapped.check_holds_nothing()

    run_simulated(program)


@pytest.mark.parametrize("waits_for", ["caps", "limiter", "store"])
@pytest.mark.parametrize("operation", ["list_page", "head", "read"])
def test_who_is_cancelled_holds_nothing(operation: str, waits_for: str) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        inner = store()

        async def hang(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        inner.on_head = inner.on_read = hang
        inner.memory.list_page = hang  # type: ignore[method-assign]
        wrapped = Wrapped(inner, clock, in_flight={"caps": 2, "limiter": 64, "store": 2}[waits_for])
        under_way = {"caps": 6, "limiter": 12, "store": 1}[waits_for]

        async def ask() -> None:
            if operation == "list_page":
                await wrapped.store.list_page(KeyRange())
            elif operation == "head":
                await wrapped.store.head(KEY)
            else:
                await wrapped.store.read(KEY, Pin(4), Nowhere())

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask()) for _ in range(under_way)]
            await clock.sleep(1)
            for task in reversed(tasks):
                task.cancel()
                await clock.sleep(0.1)
        wrapped.check_holds_nothing()
        outcomes = {outcome for _, _, outcome in wrapped.counters.answers}
        assert outcomes == {"cancelled"}

    run_simulated(program)


def test_opening_and_looking_for_an_object_keep_to_the_caps() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        wrapped = Wrapped(store(), clock)
        caps, under_way, most = Caps(2, per_s=4), 0, 0

        class Slow(MemoryConnection):
            async def lone_object(self, *_: Any, **__: Any) -> None:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await clock.sleep(0.1)
                under_way -= 1

        retry = Retry(attempts_max=1, clock=clock)
        connection = ResilientConnection(
            Slow({"bucket": {}}),
            "memory",
            limiters=wrapped.limiters,
            caps=caps,
            retry=retry,
            first_contact=retry,
            on_retry=lambda *_: None,
            counters=wrapped.counters,
            clock=clock,
        )
        uri = parse_source("s3://bucket/a")
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(connection.lone_object(uri))
            await clock.sleep(0.05)
            late = group.create_task(connection.open(uri))
            await clock.sleep(0)
            late.cancel()
        assert most == 2
        assert clock.monotonic() >= (10 - 4) / 4
        assert caps._slots.in_flight == 0
        assert wrapped.counters.answers == {("memory", "head", "ok"): 10}

    run_simulated(program)


class Nowhere:
    """A sink that keeps nothing."""

    async def write(self, data: bytes) -> None: ...

    def restart(self) -> None: ...
