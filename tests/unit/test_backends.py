"""Backends: which store a URI is reached by, and what all who reach one share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from indexer.backends import Backends
from indexer.protocols import GCSOptions, SourceOptions
from indexer.sources import parse_source
from indexer.stores.gcs import GCSConnection
from indexer.stores.http import HTTPConnection
from indexer.stores.memory import MemoryFacts
from indexer.telemetry import Counters
from workers.clock import SystemClock
from workers.turns import Turns


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    opening = Backends.open(facts=MemoryFacts(), turns=Turns(1), clock=SystemClock())
    async with opening as backends:
        yield backends


def session_of(connection: object) -> object:
    assert isinstance(connection, GCSConnection | HTTPConnection)
    return connection._client._session


async def test_sources_on_gcs_share_connections_and_tokens(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    found = set()
    one, other = parse_source("gs://one/"), parse_source("gs://other/")
    for uri, project in ((one, None), (other, "billed")):
        options = SourceOptions(gcs=GCSOptions(user_project=project))
        async with backends.connect(uri, options, Counters()) as connection:
            found.add(session_of(connection))
    assert len(found) == 1
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:10")
    async with backends.connect(one, SourceOptions(), Counters()) as connection:
        assert session_of(connection) not in found


async def test_web_servers_share_connections_and_not_counters(backends: Backends) -> None:
    one, two = parse_source("http://127.0.0.1:9/"), parse_source("urls+https://127.0.0.1:10/list")
    counters = Counters(), Counters()
    async with (
        backends.connect(one, SourceOptions(), counters[0]) as first,
        backends.connect(two, SourceOptions(), counters[1]) as second,
    ):
        assert session_of(first) is session_of(second)
        assert isinstance(first, HTTPConnection)
        with pytest.raises(Exception, match="cannot be reached"):
            await first.open(one)
    assert [each.requests for each in counters] == [1, 0]
