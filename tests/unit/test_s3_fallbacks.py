"""Servers that lack what S3 has: a listing comes out right all the same, or ends in one error."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from indexer.errors import Ability, AccessDenied, BrokenListing, IndexerError, InvalidSetting
from indexer.protocols import OpenedSource, S3Options
from indexer.sources import parse_source
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import S3Connection, connect
from indexer.stores.s3_clients import ClientPool
from indexer.stores.s3_list_requests import ListRequests, Parameters
from indexer.stores.s3_probe import Facts
from indexer.stores.s3_wire import Operation
from indexer.telemetry import Counters
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.unit.listing_runs import list_all
from tests.unit.synthetic_s3_client import client_of, set_versioning
from workers.clock import SystemClock
from workers.turns import Turns

pytestmark = pytest.mark.asyncio(loop_scope="module")

Connected = Callable[..., AbstractAsyncContextManager[S3Connection]]

KEYS = [b"data/%03d" % number for number in range(300)]
ODD_KEYS = sorted(
    text.encode()
    for text in (" ", "+", "a&b", "a<b>c", "a%20b", '"', "a\tb", "a\nb", "\x01", "é", "日本", "%")
)
PAGES = {"page_keys_max": 20}


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("plain", KEYS)
        server.load("odd", ODD_KEYS)
        server.load("lost", [*ODD_KEYS, "\ufffd".encode()])
        s3 = client_of(server)
        s3.create_bucket(Bucket="kept")
        set_versioning(s3, "kept", "Enabled")
        for number in range(60):
            s3.put_object(Bucket="kept", Key=f"{number:02d}", Body=b"1")
            if number % 3 == 0:
                s3.put_object(Bucket="kept", Key=f"{number:02d}", Body=b"22")
            if number % 5 == 0:
                s3.delete_object(Bucket="kept", Key=f"{number:02d}")
        yield server


KEPT = [b"%02d" % number for number in range(60) if number % 5]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients() -> AsyncIterator[ClientPool]:
    """Clients of all tests: to make one takes half a second."""
    async with ClientPool.open(SystemClock(), Turns(1)) as pool:
        yield pool


@pytest.fixture
def connected(server: SyntheticS3, clients: ClientPool) -> Connected:
    """Connections to the server while it has the faults given, its facts not yet known."""

    @asynccontextmanager
    async def open_connection(
        bucket: str, facts: MemoryFacts | None = None, **faults: Any
    ) -> AsyncIterator[S3Connection]:
        server.faults(bucket, **faults)
        server.reset_counters(bucket)
        options = S3Options(endpoint_url=server.endpoint_url, no_sign_request=True)
        counters, facts = Counters(), facts or MemoryFacts()
        async with connect(options, facts, counters, clients=clients) as connection:
            yield connection

    return open_connection


async def listed(
    connected: Connected, bucket: str, *, slots: int, **faults: Any
) -> tuple[list[bytes], OpenedSource]:
    """The keys of a bucket on a server with these faults, and its source.

    As in a job, what the server turns out not to do is done without.
    """
    without: set[Ability] = set()
    async with connected(bucket, **faults) as connection:
        while True:
            source = await connection.open(parse_source(f"s3://{bucket}/"), without=without)
            try:
                found = await list_all(source.store, slots=slots)
            except BrokenListing as error:
                if error.do_without is None or error.do_without in without:
                    raise
                without.add(error.do_without)
            else:
                found.check_tiling()
                return found.keys, source


# --- objects -------------------------------------------------------------------------------------

LACKING: dict[str, dict[str, Any]] = {
    "no second listing": {"lack_v2": True},
    "list-type ignored": {"ignore_list_type": True},
    "no start-after": {"ignore_start_after": True},
    "neither": {"ignore_list_type": True, "ignore_encoding": True},
    "short pages by the first listing": {"lack_v2": True, "short_pages": True},
    "empty pages by the first listing": {"lack_v2": True, "empty_page_every": 3},
    "no encoding": {"ignore_encoding": True},
    "begins with the key": {"inclusive_markers": True},
    "begins with the key of one": {"inclusive_markers": True, "lack_v2": True, "page_keys_max": 2},
}


LACKS_V2 = {"lack_v2", "ignore_list_type", "ignore_start_after"}


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("faults", LACKING.values(), ids=LACKING)
@pytest.mark.parametrize(("bucket", "keys"), [("plain", KEYS), ("odd", ODD_KEYS)])
async def test_what_is_lacking_is_done_without(
    bucket: str, keys: list[bytes], faults: dict[str, Any], slots: int, connected: Connected
) -> None:
    found, source = await listed(connected, bucket, slots=slots, **{**PAGES, **faults})
    assert found == keys
    lacks_v2 = bool(faults.keys() & LACKS_V2)
    assert source.abilities["list_objects_v2"] == ("no" if lacks_v2 else "yes")
    assert source.record["operation"] == ("ListObjects" if lacks_v2 else "ListObjectsV2")
    assert source.abilities["url_encoding"] == ("no" if "ignore_encoding" in faults else "yes")
    # Too few keys were on the first page to tell, where pages are short.
    is_short = faults.keys() & {"short_pages", "page_keys_max"}
    may_be = {"yes", "not known"} if is_short else {"yes"}
    assert source.abilities["starts_after_a_key"] in may_be
    assert source.store.properties.parallel
    assert source.abilities["known_from"] == "its answers"


async def test_the_second_listing_is_asked_for_once(
    server: SyntheticS3, connected: Connected
) -> None:
    facts = MemoryFacts()
    for requests in (1, 0):
        async with connected("plain", facts, lack_v2=True) as connection:
            source = await connection.open(parse_source("s3://plain/"))
            assert (await list_all(source.store, slots=1)).keys == KEYS
        assert server.counters("plain").requests.get("ListObjectsV2", 0) == requests


async def test_a_server_that_begins_nowhere_is_listed_serially(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ListRequests.ask

    async def without_marker(
        self: ListRequests, operation: Operation, uri: str, parameters: Parameters
    ) -> bytes:
        """Makes the server one that ignores the marker of ListObjects."""
        kept = {name: value for name, value in parameters.items() if name != "Marker"}
        return await ask(self, operation, uri, kept)

    monkeypatch.setattr(ListRequests, "ask", without_marker)
    faults = {"ignore_start_after": True, "operations": ("ListObjectsV2",)}
    async with connected("plain", **PAGES, **faults) as connection:
        source = await connection.open(parse_source("s3://plain/"))
        found = await list_all(source.store, slots=8)
    assert found.keys == KEYS
    assert not source.store.properties.parallel
    assert source.abilities["starts_after_a_key"] == "no"
    assert source.abilities["list_objects_v2"] == "yes"


async def test_a_key_that_xml_cannot_hold_is_an_error(connected: Connected) -> None:
    with pytest.raises(BrokenListing, match=r"^s3://lost/: the server does not URL-encode keys"):
        await listed(connected, "lost", slots=1, ignore_encoding=True)
    assert b"\xef\xbf\xbd" in (await listed(connected, "lost", slots=1))[0]


async def test_a_server_that_lists_nothing_says_so_once(
    server: SyntheticS3, connected: Connected
) -> None:
    with pytest.raises(IndexerError, match=r"^s3://plain/: .* ListObjectsV2 with NotImplemented"):
        await listed(
            connected,
            "plain",
            slots=1,
            error_probability=1.0,
            error_code="NotImplemented",
            operations=("ListObjects", "ListObjectsV2"),
        )
    assert set(server.counters("plain").requests) == {
        "GetBucketVersioning",
        "ListObjects",
        "ListObjectsV2",
    }


# --- versions ------------------------------------------------------------------------------------

OUT_OF_ORDER = "listed out of order or in part"
VERSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "as S3": ({}, "newest first"),
    "apart": ({"markers_apart": True}, "newest first, marks of deletion apart"),
    "inclusive": ({"inclusive_markers": True}, "newest first"),
    "both": (
        {"markers_apart": True, "inclusive_markers": True},
        "newest first, marks of deletion apart",
    ),
    "markers of MinIO": ({"minio_markers": True}, "newest first"),
    "no encoding": ({"ignore_encoding": True}, "newest first"),
    "oldest first": ({"versions_oldest_first": True}, OUT_OF_ORDER),
    "shuffled": ({"order": "shuffle", "operations": ("ListObjectVersions",)}, OUT_OF_ORDER),
    "no start-after": ({"ignore_start_after": True}, "newest first"),
}


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("page_keys_max", [3, 20])
@pytest.mark.parametrize(("faults", "order"), VERSIONS.values(), ids=VERSIONS)
async def test_versions_are_listed_or_done_without(
    faults: dict[str, Any], order: str, slots: int, page_keys_max: int, connected: Connected
) -> None:
    found, source = await listed(
        connected, "kept", slots=slots, page_keys_max=page_keys_max, **faults
    )
    assert found == KEPT
    # A page of three rows may not show the order, which the listing then runs into.
    may_be = {order} if page_keys_max > 3 else {order, "in an order not known yet"}
    assert source.abilities["versions"] in may_be
    has_versions = order != OUT_OF_ORDER
    assert source.store.properties.versions is has_versions
    was_told = any("Versions cannot be listed" in warning for warning in source.warnings)
    assert was_told is not has_versions


async def test_the_order_of_versions_is_asked_for_once(
    server: SyntheticS3, connected: Connected
) -> None:
    facts = MemoryFacts()
    await facts.put_facts(server.endpoint_url, Facts("s", "range", *(True,) * 5, 300).document())
    for requests in (2, 0):
        async with connected("kept", facts) as connection:
            source = await connection.open(parse_source("s3://kept/"))
        assert source.abilities["versions"] == "newest first"
        asked = server.counters("kept").requests
        assert asked.get("ListObjectVersions", 0) == requests
        assert "ListObjectsV2" not in asked


@pytest.mark.parametrize("order", ["oldest first", "shuffled", "apart"])
async def test_the_past_is_not_shown_out_of_order(order: str, connected: Connected) -> None:
    async with connected("kept", **VERSIONS[order][0]) as connection:
        with pytest.raises(InvalidSetting, match=r"^s3://kept: .* leave --as-of out\.$"):
            await connection.open(parse_source("s3://kept/"), as_of=datetime.now(UTC))


async def test_the_past_needs_the_right_to_list_versions(connected: Connected) -> None:
    async with connected("kept", deny_versions=True) as connection:
        with pytest.raises(AccessDenied, match=r"^s3://kept/: .*s3:ListBucketVersions") as caught:
            await connection.open(parse_source("s3://kept/"), as_of=datetime.now(UTC))
    assert caught.value.do_without is None
    faults = {
        "error_probability": 1.0,
        "error_code": "AccessDenied",
        "operations": ("GetBucketVersioning",),
    }
    async with connected("kept", **faults) as connection:
        with pytest.raises(AccessDenied, match=r"^s3://kept: .*s3:GetBucketVersioning") as caught:
            await connection.open(parse_source("s3://kept/"), as_of=datetime.now(UTC))
        assert caught.value.do_without is None
        # Without a moment it does not matter.
        assert (await connection.open(parse_source("s3://kept/"))).store.properties.versions


async def test_the_past_cannot_do_without_versions(connected: Connected) -> None:
    async with connected("kept") as connection:
        with pytest.raises(InvalidSetting, match=r"^s3://kept: .*leave --as-of out"):
            await connection.open(
                parse_source("s3://kept/"), without={"versions"}, as_of=datetime.now(UTC)
            )


async def test_a_suspended_bucket_is_shown_with_a_warning(
    server: SyntheticS3, connected: Connected
) -> None:
    s3 = client_of(server)
    s3.create_bucket(Bucket="suspended")
    set_versioning(s3, "suspended", "Suspended")
    async with connected("suspended") as connection:
        source = await connection.open(parse_source("s3://suspended/"), as_of=datetime.now(UTC))
    assert any("suspended" in warning for warning in source.warnings)


async def test_the_time_by_the_servers_clock_is_told(connected: Connected) -> None:
    async with connected("plain") as connection:
        source = await connection.open(parse_source("s3://plain/"))
    assert source.opened_at is not None
    assert abs(source.opened_at.timestamp() - time.time()) < 5
    assert source.opened_at.tzinfo is not None
    assert not source.warnings
