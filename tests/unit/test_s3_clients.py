"""Clients of S3 are shared by who reaches it in the same way, and closed when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.errors import InvalidSetting
from indexer.limits import CLIENT_AGE_S_MAX
from indexer.protocols import S3Options
from indexer.stores import s3_clients
from indexer.stores.s3_clients import ClientPool, CountedClient
from indexer.telemetry import Counters
from indexer.testing.synthetic_s3 import SyntheticS3
from workers.turns import Turns

ONE, OTHER = S3Options(region="eu-west-1"), S3Options(region="eu-west-2")


class Time:
    """A clock that goes when it is told to."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def s3() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("bucket", [b"a", b"b"])
        yield server


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened to clients, in order: `+` opened, `-` closed, each with its region."""
    events: list[str] = []

    @asynccontextmanager
    async def open_client(session: Any, options: S3Options) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        if options.profile:
            raise InvalidSetting("there is no such profile")
        events.append(f"+{options.region}")
        try:
            yield Client(len(events))
        finally:
            events.append(f"-{options.region}")

    @dataclass(frozen=True)
    class Client:
        number: int
        meta: Any = field(
            default_factory=lambda: SimpleNamespace(
                events=SimpleNamespace(register=lambda *_: None)
            ),
            compare=False,
        )

    class Session:
        def get_component(self, name: str) -> str:
            return name

        def register_component(self, name: str, component: object) -> None:
            assert component == name

    monkeypatch.setattr(s3_clients, "open_client", open_client)
    monkeypatch.setattr(s3_clients, "new_session", lambda options: Session())
    return events


async def test_who_reaches_s3_in_the_same_way_shares_a_client(opened: list[str]) -> None:
    async with ClientPool.open(Time(), Turns(1)) as pool:

        async def use(options: S3Options) -> Any:
            async with pool.lease(options) as shared:
                await asyncio.sleep(0.01)
                return shared.client

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(use(options)) for options in (ONE, ONE, OTHER, ONE)]
        first, second, third, fourth = (task.result() for task in tasks)
        assert first == second == fourth != third
        assert await use(ONE) == first
        assert opened == ["+eu-west-1", "+eu-west-2"]
    assert sorted(opened[2:]) == ["-eu-west-1", "-eu-west-2"]


async def test_a_new_job_gets_no_old_client(opened: list[str]) -> None:
    time = Time()
    async with ClientPool.open(time, Turns(1)) as pool, pool.lease(ONE) as old:
        time.now_s = CLIENT_AGE_S_MAX + 1
        async with pool.lease(ONE) as new:
            assert new.client != old.client
            assert opened == ["+eu-west-1", "+eu-west-1"]
        async with pool.lease(ONE) as again:
            assert again.client == new.client
    assert opened == ["+eu-west-1", "+eu-west-1", "-eu-west-1", "-eu-west-1"]


async def test_an_old_client_is_closed_by_its_last_user(opened: list[str]) -> None:
    time = Time()
    async with ClientPool.open(time, Turns(1)) as pool:
        async with pool.lease(ONE):
            pass
        time.now_s = CLIENT_AGE_S_MAX + 1
        async with pool.lease(ONE):
            assert opened == ["+eu-west-1", "-eu-west-1", "+eu-west-1"]


async def test_one_that_cannot_be_opened_is_tried_again(opened: list[str]) -> None:
    bad = S3Options(profile="nobody")
    async with ClientPool.open(Time(), Turns(1)) as pool:
        for _ in range(2):
            with pytest.raises(InvalidSetting):
                async with pool.lease(bad):
                    pass
        async with pool.lease(ONE):
            assert opened == ["+eu-west-1"]


async def test_only_so_many_are_kept(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_clients, "CLIENTS_MAX", 2)
    in_use = S3Options(region="in-use")
    async with ClientPool.open(Time(), Turns(1)) as pool, pool.lease(in_use):
        for number in range(4):
            async with pool.lease(S3Options(region=f"r{number}")):
                pass
        assert opened == ["+in-use", "+r0", "+r1", "-r0", "+r2", "-r1", "+r3", "-r2"]


async def test_what_is_read_is_read_ahead(opened: list[str]) -> None:
    """With the real botocore: a session that comes later finds what `load` has read."""
    async with ClientPool.open(Time(), Turns(1)) as pool:
        pool.load()
        loader = pool._loader
        assert loader.load_service_model("s3", "service-2") is loader.load_service_model(
            "s3", "service-2"
        )


async def test_requests_count_as_a_jobs_own(s3: SyntheticS3) -> None:
    options = S3Options(endpoint_url=s3.endpoint_url, no_sign_request=True)
    one, other = Counters(), Counters()
    async with ClientPool.open(Time(), Turns(9)) as pool, pool.lease(options) as shared:

        async def ask(counters: Counters, times: int) -> None:
            client = CountedClient(shared.client, counters)
            assert client.meta is shared.client.meta
            for _ in range(times):
                await client.get_bucket_versioning(Bucket="bucket")

        async with asyncio.TaskGroup() as group:
            group.create_task(ask(one, 3))
            group.create_task(ask(other, 5))
        await shared.client.get_bucket_versioning(Bucket="bucket")
    assert (one.requests, other.requests) == (3, 5)
    assert sum(s3.counters("bucket").requests.values()) == 9
