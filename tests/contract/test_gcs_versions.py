"""What a bucket of GCS held at a moment, on a real fake-gcs-server and on the synthetic one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from deploy.gcs_server import GCSServer
from indexer.errors import BrokenListing, InvalidSetting, NoSuchObject
from indexer.keyspace import Key, KeyRange
from indexer.objects import Pin
from indexer.protocols import OpenedSource
from indexer.testing.store_suite import keys_on, read, walk
from indexer.testing.synthetic_gcs import SyntheticGCS
from tests.gcs_api import GCSApi, GCSBucket, connected_to
from tests.unit.listing_runs import list_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

State = Mapping[bytes, bytes]

GENERATIONS_MAX = 6
KEYS = [b"data/%02d" % number for number in range(12)] + [b"data/a/b", b"data/a", b"other"]


@dataclass
class History:
    """A versioned bucket that was written to, and what it held after each write."""

    bucket: GCSBucket
    states: list[tuple[datetime, State]] = field(default_factory=list)
    now: dict[bytes, bytes] = field(default_factory=dict)

    def put(self, key: bytes, body: bytes) -> None:
        said = self.bucket.write(key, body)
        self.now = {**self.now, key: body}
        self.states.append((datetime.fromisoformat(said["timeCreated"]), self.now))

    def delete(self, key: bytes) -> None:
        self.bucket.delete(key)
        self.now = {name: body for name, body in self.now.items() if name != key}


def write_history(api: GCSApi) -> History:
    """Writes, writes over and deletes at random, no key too often."""
    chance = random.Random(7)
    history = History(api.make_bucket(versioned=True))
    writes = dict.fromkeys(KEYS, 0)
    for number in range(90):
        key = chance.choice(KEYS)
        if key in history.now and chance.random() < 0.3:
            history.delete(key)
        elif writes[key] < GENERATIONS_MAX:
            writes[key] += 1
            history.put(key, b"%d" % number)
    assert len(history.states) > 40
    assert set(KEYS) - set(history.now), "some are gone in the end"
    return history


@pytest.fixture(scope="module")
def synthetic() -> Iterator[SyntheticGCS]:
    with SyntheticGCS() as server:
        yield server


@pytest.fixture(scope="module", params=["fake-gcs-server", "synthetic"])
def history(request: pytest.FixtureRequest) -> History:
    name = "fake_gcs" if request.param == "fake-gcs-server" else "synthetic"
    server: GCSServer | SyntheticGCS = request.getfixturevalue(name)
    return write_history(GCSApi(server.endpoint_url))


@asynccontextmanager
async def opened(
    history: History, as_of: datetime | None, *, page_rows: int = GENERATIONS_MAX + 1
) -> AsyncIterator[OpenedSource]:
    async with connected_to(history.bucket.api.endpoint_url, page_rows=page_rows) as connection:
        yield await connection.open(history.bucket.uri("data/"), as_of=as_of)


def below(state: State) -> list[bytes]:
    return sorted(key.removeprefix(b"data/") for key in state if key.startswith(b"data/"))


async def test_a_moment_shows_what_there_was(history: History) -> None:
    for moment, state in history.states[::10]:
        async with opened(history, moment) as source:
            assert source.record["versioning"] == "on"
            for by_token in (False, True):
                pages = await walk(source.store, by_token=by_token)
                assert keys_on(pages) == below(state)
            listed = await list_all(source.store)
            assert listed.keys == below(state)
            listed.check_tiling()


async def test_its_objects_are_those_of_then(history: History) -> None:
    for moment, state in history.states[::12]:
        async with opened(history, moment) as source:
            for page in await walk(source.store):
                for row in page.rows.to_pylist():
                    body = state[b"data/" + row["path"]]
                    head = await source.store.head(Key(row["path"]))
                    assert head.version_id == row["version_id"]
                    pin = Pin(row["size"], version_id=row["version_id"])
                    assert await read(source.store, row["path"], pin) == body
                    assert await read(source.store, row["path"], Pin(row["size"])) == body
            for key in set(KEYS[:-1]) - set(state):
                with pytest.raises(NoSuchObject, match="at that time"):
                    await source.store.head(Key(key.removeprefix(b"data/")))


async def test_ranges_and_prefixes_of_a_moment(history: History) -> None:
    moment, state = history.states[len(history.states) // 2]
    expected = below(state)
    async with opened(history, moment) as source:
        for after in (b"", b"03", b"05x", b"a", b"zz"):
            for through in (None, Key(b"07"), Key(b"a")):
                if through is not None and through < after:
                    continue
                keys = KeyRange(Key(after), through)
                found = keys_on(await walk(source.store, keys), keys)
                assert found == [key for key in expected if key in keys]
        pages = await walk(source.store, prefix=b"a/")
        assert keys_on(pages) == [key for key in expected if key.startswith(b"a/")]


async def test_a_lone_object_of_a_moment(history: History) -> None:
    for moment, state in history.states[::20]:
        async with connected_to(history.bucket.api.endpoint_url) as connection:
            for key in KEYS:
                found = await connection.lone_object(history.bucket.uri(key.decode()), as_of=moment)
                assert (found is not None) == (key in state)
                if found is not None:
                    (row,) = found.row.to_pylist()
                    pin = Pin(row["size"], version_id=row["version_id"])
                    assert await read(found.store, row["path"], pin) == state[key]


async def test_before_the_first_write_there_was_nothing(history: History) -> None:
    before = history.states[0][0] - timedelta(seconds=5)
    async with opened(history, before) as source:
        page = await source.store.list_page(KeyRange())
        assert page.rows.num_rows == 0
        assert (await list_all(source.store)).keys == []


async def test_now_shows_what_is_live(history: History) -> None:
    for as_of in (None, datetime.now(UTC) + timedelta(hours=1)):
        async with opened(history, as_of) as source:
            assert (await list_all(source.store)).keys == below(history.now)


@pytest.mark.parametrize("page_rows", [1, 3])
async def test_pages_cut_between_generations_lose_and_repeat_nothing(
    synthetic: SyntheticGCS, page_rows: int
) -> None:
    history = write_history(GCSApi(synthetic.endpoint_url))
    for faults in ({}, {"short_pages": True}, {"empty_page_every": 2}, {"repeat_seam": True}):
        if faults.get("repeat_seam") and page_rows == 1:
            continue  # such a server never gets anywhere
        synthetic.faults(history.bucket.name, **faults)
        for moment, state in history.states[5::25]:
            async with opened(history, moment, page_rows=page_rows) as source:
                for by_token in (False, True):
                    pages = await walk(source.store, by_token=by_token)
                    assert keys_on(pages) == below(state), (moment, faults)


async def test_a_server_that_repeats_a_key_for_ever_is_found_out(fake_gcs: GCSServer) -> None:
    history = write_history(GCSApi(fake_gcs.endpoint_url))
    # Its page tokens are names, so that a page of one key's generations leads to itself.
    async with opened(history, history.states[-1][0], page_rows=1) as source:
        with pytest.raises(BrokenListing, match="same key for ever"):
            await list_all(source.store)


async def test_a_bucket_without_versions_has_no_past(history: History) -> None:
    bucket = history.bucket.api.make_bucket()
    bucket.write(b"a", b"1")
    moment = datetime.now(UTC)
    async with connected_to(bucket.api.endpoint_url) as connection:
        for uri in (bucket.uri(), bucket.uri("a")):
            with pytest.raises(InvalidSetting, match="keeps no versions"):
                await connection.open(uri, as_of=moment)
        with pytest.raises(InvalidSetting, match="keeps no versions"):
            await connection.lone_object(bucket.uri("a"), as_of=moment)


async def test_what_is_not_known_of_a_past_is_said(synthetic: SyntheticGCS) -> None:
    history = write_history(GCSApi(synthetic.endpoint_url))
    synthetic.faults(history.bucket.name, deny=("bucket",))
    moment, state = history.states[20]
    async with opened(history, moment) as source:
        assert "storage.buckets.get" in " ".join(source.warnings)
        assert keys_on(await walk(source.store)) == below(state)
