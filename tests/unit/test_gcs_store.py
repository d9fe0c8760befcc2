"""The store of GCS: pages of any length, servers that lie, and the bytes of objects."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from indexer import errors
from indexer.errors import StoreUnavailable
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange, greatest_key_below
from indexer.limits import HANDED_ON_BYTES_MAX
from indexer.objects import Pin
from indexer.page import paths_of
from indexer.protocols import OpenedSource
from indexer.sources import SourceUri
from indexer.stores.gcs import GCSConnection, name_beyond
from indexer.testing.buckets import body_of
from indexer.testing.store_suite import Bytes, read
from indexer.testing.synthetic_gcs import SyntheticGCS
from tests.gcs_api import GCSApi, GCSBucket, connected_to
from tests.unit.listing_runs import list_all

KEYS = [b"data/%04d" % number for number in range(300)]
URI = SourceUri("gs", "bucket", "data/")
ALL = KeyRange()
SLACK = dt.timedelta(seconds=2)

Connected = Callable[..., AbstractAsyncContextManager[GCSConnection]]


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticGCS]:
    with SyntheticGCS() as server:
        server.load("bucket", KEYS)
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticGCS) -> None:
    server.faults("bucket")
    server.reset_counters("bucket")


@pytest.fixture
def connected(server: SyntheticGCS) -> Connected:
    return partial(connected_to, server.endpoint_url)


@pytest.fixture
async def source(connected: Connected) -> AsyncIterator[OpenedSource]:
    async with connected(timeout_s=1.0) as connection:
        yield await connection.open(URI)


async def first_row(source: OpenedSource) -> tuple[Key, Pin]:
    page = await source.store.list_page(ALL)
    row = page.rows.to_pylist()[0]
    return Key(row["path"]), Pin(row["size"], version_id=row["version_id"])


# --- pages that are not as they should be --------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        {"short_pages": True},
        {"empty_page_every": 2},
        {"page_entries_max": 3},
        {"repeat_seam": True, "page_entries_max": 7},
    ],
)
@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("slots", [1, 8])
async def test_pages_of_any_length_are_listed_whole(
    server: SyntheticGCS,
    connected: Connected,
    faults: Mapping[str, Any],
    slots: int,
    *,
    by_token: bool,
) -> None:
    server.faults("bucket", **faults)
    without = {"parallel"} if by_token else set()
    async with connected() as connection:
        source = await connection.open(URI, without=without)  # type: ignore[arg-type]
        assert source.store.properties.parallel != by_token
        listed = await list_all(source.store, slots=slots)
    assert listed.keys == [key.removeprefix(b"data/") for key in KEYS]
    listed.check_tiling()


async def test_a_server_that_ignores_ranges_is_found_out(
    server: SyntheticGCS, connected: Connected
) -> None:
    server.faults("bucket", ignore_start_offset=True)
    async with connected() as connection:
        source = await connection.open(URI)
        with pytest.raises(errors.BrokenListing) as caught:
            await list_all(source.store)
        assert caught.value.do_without == "parallel"
        source = await connection.open(URI, without={"parallel"})
        assert source.warnings
        listed = await list_all(source.store)
    assert listed.keys == [key.removeprefix(b"data/") for key in KEYS]


@pytest.mark.parametrize("by_token", [True, False])
async def test_a_server_that_goes_in_circles_is_found_out(
    server: SyntheticGCS, connected: Connected, *, by_token: bool
) -> None:
    server.faults("bucket", same_token=True, ignore_start_offset=True)
    async with connected() as connection:
        without = {"parallel"} if by_token else set()
        source = await connection.open(URI, without=without)  # type: ignore[arg-type]
        with pytest.raises(errors.BrokenListing):
            async with asyncio.timeout(30):
                await list_all(source.store, slots=1)


async def test_a_token_is_used_with_the_range_it_was_given_for(source: OpenedSource) -> None:
    keys = KeyRange(Key(b"0010"), Key(b"0200"))
    page = await source.store.list_page(keys)
    # The synthetic server refuses a token for other offsets; the planner moves them all the same.
    other = KeyRange(page.last, Key(b"0100"))
    following = await source.store.list_page(other, token=page.token)
    assert following.first == b"0060"


async def test_a_range_ends_on_the_server(source: OpenedSource) -> None:
    page = await source.store.list_page(KeyRange(Key(b"0009"), Key(b"0012")))
    assert paths_of(page.rows) == [b"0010", b"0011", b"0012"]
    assert (page.more, page.token) == (False, None)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", "é", "\U0010ffff", "x" * KEY_BYTES_MAX, "x" * (KEY_BYTES_MAX - 1) + "\x7f",
        "x" * (KEY_BYTES_MAX - 2) + "\u07ff", "x" * (KEY_BYTES_MAX - 3) + "\uffff",
        "x" * (KEY_BYTES_MAX - 3) + "\ud7ff", "x" * (KEY_BYTES_MAX - 4) + "\U0010ffff",
        greatest_key_below(b"").decode(), greatest_key_below(b"dir/").decode(),
        "\x7f" * KEY_BYTES_MAX,
    ],
    ids=lambda name: f"{len(name)}",
)  # fmt: skip
def test_the_end_of_a_range_is_a_name_beyond_it(name: str) -> None:
    beyond = name_beyond(name)
    if beyond is None:
        assert name == greatest_key_below(b"").decode()
        return
    assert beyond.encode() > name.encode()
    assert len(beyond.encode()) <= KEY_BYTES_MAX
    assert "\0" not in beyond


# --- bytes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(server: SyntheticGCS) -> GCSBucket:
    return GCSApi(server.endpoint_url).make_bucket()


@asynccontextmanager
async def opened(connected: Connected, bucket: GCSBucket) -> AsyncIterator[OpenedSource]:
    async with connected() as connection:
        yield await connection.open(bucket.uri())


async def test_large_objects_come_in_parts(connected: Connected, written: GCSBucket) -> None:
    body = bytes(range(256)) * (3 * HANDED_ON_BYTES_MAX // 256) + b"rest"
    written.write(b"large", body)
    parts: list[bytes] = []

    class Parts(Bytes):
        async def write(self, data: bytes) -> None:
            parts.append(data)

    async with opened(connected, written) as source:
        head = await source.store.head(Key(b"large"))
        pin = Pin(head.size, version_id=head.version_id)
        await source.store.read(Key(b"large"), pin, Parts())
        assert b"".join(parts) == body
        assert max(map(len, parts)) == HANDED_ON_BYTES_MAX
        assert await read(source.store, b"large", pin, 5, 2_000_000) == body[5:2_000_000]
        assert await read(source.store, b"large", pin, len(body) - 3) == body[-3:]
        assert await read(source.store, b"large", pin, 7, 10**9) == body[7:]
        # What was read up to the end before is not asked for again.
        assert await read(source.store, b"large", pin, len(body)) == b""


async def test_objects_that_are_stored_packed_come_packed(
    connected: Connected, written: GCSBucket
) -> None:
    body = gzip.compress(b"many words " * 1000, mtime=0)
    said = written.write(b"packed", body, contentEncoding="gzip")
    async with opened(connected, written) as source:
        head = await source.store.head(Key(b"packed"))
        pin = Pin(head.size, version_id=head.version_id)
        assert await read(source.store, b"packed", pin) == body
        assert await read(source.store, b"packed", pin, 3, 20) == body[3:20]
    assert head.checksum is not None
    assert head.checksum.value == base64.b64decode(said["md5Hash"])


async def test_what_is_packed_for_the_way_alone_is_unpacked(
    server: SyntheticGCS, connected: Connected, written: GCSBucket
) -> None:
    body = b"many words " * 200_000
    written.write(b"plain", body)
    server.faults(written.name, pack_for_the_way=True)
    async with opened(connected, written) as source:
        head = await source.store.head(Key(b"plain"))
        assert await read(source.store, b"plain", Pin(head.size)) == body
    server.faults(written.name)


async def test_composite_objects_have_a_crc32c(connected: Connected, written: GCSBucket) -> None:
    written.write(b"part", b"123456789")
    document = json.dumps({"sourceObjects": [{"name": "part"}]}).encode()
    written.api.call("POST", f"/storage/v1/b/{written.name}/o/composite/compose", {}, document)
    async with opened(connected, written) as source:
        head = await source.store.head(Key(b"composite"), checksum=True)
        assert head.checksum is not None
        assert (head.checksum.algorithm, head.checksum.value.hex()) == ("crc32c", "e3069283")


async def test_only_the_generation_that_is_meant_is_read(
    connected: Connected, written: GCSBucket
) -> None:
    written.write(b"moving", b"first")
    async with opened(connected, written) as source:
        head = await source.store.head(Key(b"moving"))
        written.write(b"moving", b"other")
        with pytest.raises(errors.NoSuchObject, match="generation"):
            await read(source.store, b"moving", Pin(5, version_id=head.version_id))
        # Without a generation the size alone tells, and an ETag where one was told.
        assert await read(source.store, b"moving", Pin(5)) == b"other"
        with pytest.raises(errors.ObjectChanged):
            await read(source.store, b"moving", Pin(6))
        with pytest.raises(errors.ObjectChanged):
            await read(source.store, b"moving", Pin(5, etag="before"))
        with pytest.raises(errors.NoSuchObject):
            await source.store.head(Key(b"moving"), version_id="5")


async def test_a_server_that_ignores_the_range_is_found_out(
    server: SyntheticGCS, source: OpenedSource
) -> None:
    key, pin = await first_row(source)
    server.faults("bucket", ignore_range=True)
    for start, end in ((3, None), (0, 4)):
        sink = Bytes()
        with pytest.raises(StoreUnavailable, match="part that was asked for"):
            await source.store.read(key, pin, sink, start=start, end=end)
        assert sink.data == b""


async def test_what_came_before_a_cut_is_the_object(
    server: SyntheticGCS, source: OpenedSource
) -> None:
    key, pin = await first_row(source)
    server.faults("bucket", cut_body_every=1)
    sink = Bytes()
    with pytest.raises(StoreUnavailable):
        await source.store.read(key, pin, sink)
    assert body_of(KEYS[0]).startswith(sink.data)


async def test_an_error_of_the_sink_stays_its_own(source: OpenedSource) -> None:
    class Full(Bytes):
        async def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    key, pin = await first_row(source)
    with pytest.raises(OSError, match="No space left"):
        await source.store.read(key, pin, Full())


async def test_a_page_without_end_is_given_up(
    server: SyntheticGCS, source: OpenedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.stores.gcs.GCS_PAGE_BYTES_MAX", 1000)
    with pytest.raises(errors.BrokenListing, match="longer than 1,000 bytes"):
        await source.store.list_page(ALL)
