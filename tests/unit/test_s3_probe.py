"""What is found out about an S3 server before its listings are relied on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.s3_server import S3Server
from indexer.errors import BrokenListing
from indexer.limits import SMALL_PAGE_ENTRIES
from indexer.protocols import S3Options, StoreProperties
from indexer.sources import parse_source
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import S3Connection, connect
from indexer.stores.s3_list_requests import ListRequests
from indexer.stores.s3_lister import S3Lister
from indexer.stores.s3_probe import Facts, known_facts, probe, read_facts
from indexer.telemetry import Counters
from indexer.testing.synthetic_s3 import SyntheticS3
from workers.turns import Turns

KEYS = [b"data/%03d" % number for number in range(300)]
SOURCE = parse_source("s3://bucket/data/")


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("bucket", KEYS)
        server.load("versioned", KEYS, versioned=True)
        server.load("small", KEYS[:3])
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticS3) -> None:
    for bucket in ("bucket", "small", "versioned"):
        server.faults(bucket)
        server.reset_counters(bucket)


@asynccontextmanager
async def connected(
    server: SyntheticS3, facts: MemoryFacts | None = None
) -> AsyncIterator[S3Connection]:
    options = S3Options(endpoint_url=server.endpoint_url, no_sign_request=True)
    async with connect(options, facts or MemoryFacts(), Counters()) as connection:
        yield connection


async def probed(server: SyntheticS3, bucket: str = "bucket", **faults: Any) -> Facts:
    """The facts of the synthetic server while it has the given faults."""
    server.faults(bucket, **faults)
    async with connected(server) as connection:
        return await probe(
            S3Lister(ListRequests(connection._caller, bucket), bucket, "data/", Turns(1)),
            "Synthetic",
        )


async def opened(
    server: SyntheticS3, bucket: str = "bucket", *, facts: MemoryFacts | None = None, **faults: Any
) -> StoreProperties:
    """The properties of a source on a server with the given faults."""
    server.faults(bucket, **faults)
    async with connected(server, facts) as connection:
        source = await connection.open(parse_source(f"s3://{bucket}/data/"))
        return source.store.properties


# --- servers that are known ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "resume"),
    [("AmazonS3", "range"), ("MinIO", "directory"), ("MinIO/2026", "directory")],
)
def test_known_servers_are_not_asked(name: str, resume: str) -> None:
    facts = known_facts(name)
    assert facts is not None
    assert facts.resume == resume
    assert facts.is_conclusive
    assert facts.resumes(versions=False)
    assert facts.resumes(versions=True)
    assert facts.end_believed_below(versions=True, parallel=True) is None


@pytest.mark.parametrize("name", ["unknown", "", "minio", "AmazonS3-like", "SyntheticS3", "Ceph"])
def test_others_are(name: str) -> None:
    assert known_facts(name) is None


# --- what is found out ---------------------------------------------------------------------------


async def test_a_server_that_honours_everything(server: SyntheticS3) -> None:
    facts = await probed(server)
    assert facts == Facts(
        "Synthetic",
        starts_after=True,
        encodes_urls=True,
        says_more=True,
        is_ordered=True,
        caps_pages=True,
        page_entries=300,
        has_v2=True,
    )
    assert facts.is_conclusive
    assert server.counters("bucket").requests == {"ListObjectsV2": 2}


@pytest.mark.parametrize(
    ("faults", "fact", "value"),
    [
        ({"ignore_start_after": True}, "starts_after", True),
        ({"ignore_start_after": True}, "has_v2", False),
        ({"repeat_page": True}, "starts_after", False),
        ({"repeat_page": True}, "has_v2", True),
        ({"lack_v2": True}, "has_v2", False),
        ({"lack_v2": True}, "starts_after", True),
        ({"ignore_list_type": True}, "has_v2", False),
        ({"empty_page_every": 2}, "starts_after", True),
        ({"ignore_encoding": True}, "encodes_urls", False),
        ({"silent_stop_keys": 50}, "says_more", False),
        ({"silent_stop_keys": 50}, "page_entries", 50),
        ({"order": "shuffle"}, "is_ordered", False),
        ({"extra_keys": 1}, "caps_pages", False),
        ({"page_keys_max": 20}, "page_entries", 20),
        ({"page_keys_max": 20}, "says_more", True),
        ({"shuffle_elements": True}, "starts_after", True),
    ],
)
async def test_what_is_not_honoured_is_seen(
    faults: dict[str, Any], fact: str, value: object, server: SyntheticS3
) -> None:
    facts = await probed(server, **faults)
    assert getattr(facts, fact) == value
    assert facts.is_conclusive


async def test_minio_behind_a_proxy_is_known_by_its_tokens(
    minio: S3Server, bucket: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    name = bucket(minio, {f"data/{number}": b"x" for number in range(6)})
    async with connect(S3Options(), MemoryFacts(), Counters()) as connection:
        facts = await probe(
            S3Lister(ListRequests(connection._caller, name), name, "data/", Turns(1)), "nginx"
        )
    assert facts.resume == "directory"
    assert facts.is_conclusive


async def test_of_three_keys_nothing_can_be_learned(server: SyntheticS3) -> None:
    facts = await probed(server, "small")
    assert not facts.is_conclusive
    assert facts.starts_after is None
    assert facts.encodes_urls
    assert facts.resumes(versions=False)
    assert facts.end_believed_below(versions=False, parallel=True) == 0
    assert server.counters("small").requests == {"ListObjectsV2": 1}


async def test_a_listing_that_cannot_be_believed_is_an_error(server: SyntheticS3) -> None:
    with pytest.raises(BrokenListing, match="s3://bucket/data/: the server says"):
        await probed(server, key_count_offset=1)


# --- what follows from it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "versions", "parallel", "entries"),
    [
        (Facts("s", says_more=True, page_entries=1000), False, True, SMALL_PAGE_ENTRIES),
        (Facts("s", says_more=True, page_entries=20), False, True, 20),
        (Facts("s", says_more=False, page_entries=1000), False, True, 0),
        (Facts("s", says_more=None, page_entries=1000), False, True, 0),
        # What holds of objects was not asked of versions.
        (Facts("s", says_more=True, page_entries=1000), True, True, 0),
        (Facts("s", says_more=True, page_entries=1000), False, False, 0),
        (Facts("s", is_known=True), False, False, 0),
        (Facts("s", is_known=True), False, True, None),
    ],
)
def test_how_far_the_end_of_a_listing_is_believed(
    facts: Facts, entries: int | None, *, versions: bool, parallel: bool
) -> None:
    assert facts.end_believed_below(versions=versions, parallel=parallel) == entries


async def test_a_source_has_the_properties_of_its_server(server: SyntheticS3) -> None:
    usual = await opened(server)
    assert (usual.parallel, usual.resume, usual.versions) == (True, "range", False)
    assert usual.end_believed_below == SMALL_PAGE_ENTRIES
    assert usual.key_bytes_max == 1024 - len(b"data/")
    versioned = await opened(server, "versioned")
    assert (versioned.versions, versioned.end_believed_below) == (True, 0)
    serial = await opened(server, repeat_page=True)
    assert not serial.parallel
    silent = await opened(server, silent_stop_keys=100)
    assert silent.end_believed_below == 0


async def test_what_was_learned_is_kept_for_the_endpoint(server: SyntheticS3) -> None:
    facts = MemoryFacts()
    first = await opened(server, facts=facts)
    assert server.counters("bucket").requests["ListObjectsV2"] == 2
    again = await opened(server, facts=facts)
    assert again == first
    assert server.counters("bucket").requests["ListObjectsV2"] == 2
    await opened(server, "versioned", facts=facts)
    assert "ListObjectsV2" not in server.counters("versioned").requests


async def test_what_was_not_learned_is_not_kept(server: SyntheticS3) -> None:
    facts = MemoryFacts()
    await opened(server, "small", facts=facts)
    assert await facts.get_facts(server.endpoint_url) is None
    await opened(server, facts=facts)
    assert await facts.get_facts(server.endpoint_url) is not None


@pytest.mark.parametrize(
    "facts", [Facts("s"), Facts("s", "directory", *(True,) * 5, 1000, is_known=True)]
)
def test_facts_are_read_as_they_were_written(facts: Facts) -> None:
    assert read_facts(facts.document()) == facts
