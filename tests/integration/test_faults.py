"""Whole snapshots of servers that misbehave: the version is exactly the truth, or there is none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deploy.s3_server import S3Server
from indexer import errors
from indexer.app import App, open_app
from indexer.artifact.entries import read_entries
from indexer.errors import IndexerError, LimitExceeded, NoSuchVersion
from indexer.page import etag_texts
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import S3Options, SourceOptions
from indexer.records import Consistency, Snapshot
from indexer.references import parse_name
from indexer.sources import parse_mounted
from indexer.stores import s3, s3_client, s3_requests
from indexer.testing.buckets import body_of, etag_of, fill
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.testing.synthetic_s3.state import generated_content, version_id
from tests.unit.synthetic_s3_client import client_of
from workers.clock import SystemClock

NAME = parse_name("project/artifact")
KEYS = sorted(
    [b"data/big/%05d.jpg" % number for number in range(700)]
    + [
        b"data/tree/%02d/%02d/%d" % (a, b, c)
        for a in range(10)
        for b in range(10)
        for c in range(5)
    ]
    + [
        f"data/odd/{name}".encode()
        for name in ("a b+c%25", "é", "日本/語", "#?", "\U0001f600", "a&b<")
    ]
    + [b"data/" + b"z" * 200, b"data/one/", b"data/one//two"]
)
PAGES = {"page_keys_max": 100}
"""Small pages, so that few keys make many of them."""

Options = dict[str, Any]


class QuickClock(SystemClock):
    """A clock on which waiting for another attempt takes no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("plain", KEYS)
        server.load("versioned", KEYS, versioned=True)
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticS3) -> None:
    for bucket in ("plain", "versioned"):
        server.faults(bucket)
        server.reset_counters(bucket)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local-server")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-server-secret")


@pytest.fixture
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets requests to servers that stall end soon."""
    if "stalls" in request.node.name:
        monkeypatch.setattr(s3_client, "REQUEST_TIMEOUT_S", 0.3)
        monkeypatch.setattr(s3_requests, "REQUEST_TIMEOUT_S", 0.3)


@dataclass(frozen=True, slots=True)
class Desk:
    """An open data folder, and the server that its snapshots are of."""

    app: App
    endpoint_url: str

    async def snapshot(
        self, source: str = "s3://plain/data/", *, in_flight: int = 16, **request: Any
    ) -> Snapshot:
        options = S3Options(endpoint_url=self.endpoint_url, region="us-east-1")
        asked = SnapshotRequest((parse_mounted(source),), NAME, **request)
        return await self.app.make_snapshot(asked, SourceOptions(options, in_flight=in_flight))

    async def rows(self) -> list[dict[str, Any]]:
        """The entries of the newest version."""
        latest = await self.app.catalog.reader.version(NAME, "latest")
        return await self.rows_of(latest.digest)

    async def rows_of(self, digest: str) -> list[dict[str, Any]]:
        manifest = await self.app.catalog.tracker.manifest(digest)
        found: list[dict[str, Any]] = []
        async for table in read_entries(self.app.catalog.content, manifest):
            etags = pa.chunked_array(etag_texts(table)).to_pylist()
            found += [
                {
                    "path": row["path"],
                    "size": row["size"],
                    "etag": etag,
                    "version_id": row.get("version_id"),
                }
                for row, etag in zip(table.to_pylist(), etags, strict=True)
            ]
        return found

    async def has_nothing(self) -> bool:
        """Whether there is no version at all."""
        try:
            await self.app.catalog.reader.version(NAME, "latest")
        except NoSuchVersion:
            return not await self.app.catalog.reader.projects(after=None, limit=9)
        return False


@pytest.fixture
def desk(tmp_path: Path, server: SyntheticS3) -> Callable[[], Any]:
    """Opens a data folder of its own."""

    @asynccontextmanager
    async def open_desk(endpoint_url: str = server.endpoint_url) -> AsyncIterator[Desk]:
        async with open_app(tmp_path / "data", clock=QuickClock()) as app:
            yield Desk(app, endpoint_url)

    return open_desk


def truth(*, versions: bool, keys: Sequence[bytes] = KEYS) -> list[dict[str, Any]]:
    """The entries of a source `…/data/` of generated objects."""
    return [
        {
            "path": key.removeprefix(b"data/"),
            "size": len(content),
            "etag": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "version_id": version_id(0, key) if versions else None,
        }
        for key, content in ((key, generated_content(key)) for key in keys)
    ]


# --- faults that cost nothing but requests -------------------------------------------------------

HARMLESS: dict[str, Options] = {
    "none": {},
    "tiny pages": {"page_keys_max": 9},
    "short pages": {**PAGES, "short_pages": True},
    "an empty page every third": {**PAGES, "empty_page_every": 3, "short_pages": True},
    "a key more": {"extra_keys": 1},
    "elements in any order": {**PAGES, "shuffle_elements": True},
    "no url encoding": {**PAGES, "ignore_encoding": True},
    "markers of MinIO": {**PAGES, "minio_markers": True},
    "start-after ignored": {**PAGES, "ignore_start_after": True},
    "pages of 37 that end": {"silent_stop_keys": 37},
    "pages of 100 that end": {"silent_stop_keys": 100},
    "SlowDown at first": {"error_first": 5},
    "SlowDown with Retry-After": {"error_first": 5, "retry_after_s": 1},
    "SlowDownRead at times": {**PAGES, "error_probability": 0.15, "error_code": "SlowDownRead"},
    "TooManyRequests at times": {
        **PAGES,
        "error_probability": 0.15,
        "error_code": "TooManyRequests",
    },
    "InternalError at times": {**PAGES, "error_probability": 0.1, "error_code": "InternalError"},
    "errors in 200": {**PAGES, "error_body_every": 4},
    "bodies cut short": {**PAGES, "truncate_body_every": 4},
    "resets": {**PAGES, "reset_every": 4},
    "stalls": {**PAGES, "stall_every": 20},
    "anonymous denied": {"deny_anonymous": True},
    "another region": {**PAGES, "redirect_region": "eu-central-1"},
}


OF_PAGES = [
    "tiny pages",
    "short pages",
    "an empty page every third",
    "elements in any order",
    "markers of MinIO",
    "start-after ignored",
    "pages of 37 that end",
]
"""Faults that are of another kind for versions than for objects."""

QUIET = {
    "none",
    "small pages",
    "tiny pages",
    "a key more",
    "no url encoding",
    "markers of MinIO",
} | {
    "short pages",
    "anonymous denied",
}
"""Faults that are not counted when they strike, or do not strike who is signed in."""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "bucket"),
    [
        *((fault, "versioned" if fault in OF_PAGES else "plain") for fault in HARMLESS),
        *((fault, "plain") for fault in ("short pages", "start-after ignored")),
    ],
)
async def test_the_version_is_exact(
    fault: str, bucket: str, server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    server.faults(bucket, **HARMLESS[fault])
    async with desk() as opened:
        snapshot = await opened.snapshot(f"s3://{bucket}/data/")
        assert await opened.rows() == truth(versions=bucket == "versioned")
    counters = server.counters(bucket)
    assert snapshot.requests == sum(counters.requests.values())
    assert counters.faults or fault in QUIET
    assert snapshot.listed == snapshot.result.version.objects == len(KEYS)


@pytest.mark.parametrize(
    "fault", ["short pages", "an empty page every third", "start-after ignored"]
)
async def test_a_second_scan_finds_nothing_new_in_slices_of_any_size(
    fault: str, server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    """What the endpoint honours was learned before, and the parent's shards cut the ranges."""
    async with desk() as opened:
        first = await opened.snapshot("s3://versioned/data/")
        server.faults("versioned", **HARMLESS[fault])
        second = await opened.snapshot("s3://versioned/data/", in_flight=4, slice_pages_max=5)
        assert second.result.version.digest == first.result.version.digest
        assert not second.result.created


# --- faults that a snapshot fails of -------------------------------------------------------------

HARMFUL: dict[str, tuple[Options, type[IndexerError]]] = {
    "rows in any order": ({**PAGES, "order": "shuffle"}, errors.BrokenListing),
    "rows traded between pages": ({**PAGES, "order": "swap"}, errors.BrokenListing),
    "the same page for ever": ({**PAGES, "repeat_page": True}, errors.BrokenListing),
    "part of it denied": ({**PAGES, "deny_prefix": "data/tree/"}, errors.AccessDenied),
    "all of it denied": ({"deny_prefix": "data/"}, errors.AccessDenied),
    "SlowDown for ever": ({"error_probability": 1.0}, errors.StoreUnavailable),
    "failures for ever": (
        {"error_probability": 1.0, "error_code": "InternalError"},
        errors.StoreUnavailable,
    ),
    "expired": ({"error_probability": 1.0, "error_code": "ExpiredToken"}, errors.AccessDenied),
    "denied": ({"error_probability": 1.0, "error_code": "AccessDenied"}, errors.AccessDenied),
    "errors in 200 for ever": ({"error_body_every": 1}, errors.StoreUnavailable),
    "bodies cut short for ever": ({"truncate_body_every": 1}, errors.StoreUnavailable),
    "resets for ever": ({"reset_every": 1}, errors.StoreUnavailable),
    "stalls for ever": ({"stall_every": 1}, errors.StoreUnavailable),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "bucket", "is_known"),
    [
        *((fault, "plain", False) for fault in HARMFUL),
        *((fault, "versioned", True) for fault in HARMFUL if "order" in HARMFUL[fault][0]),
        ("the same page for ever", "versioned", True),
        ("part of it denied", "versioned", True),
    ],
)
async def test_nothing_is_committed(
    fault: str, bucket: str, server: SyntheticS3, desk: Callable[[], Any], *, is_known: bool
) -> None:
    options, kind = HARMFUL[fault]
    source = f"s3://{bucket}/data/"
    async with desk() as opened:
        digest = (await opened.snapshot(source)).result.version.digest if is_known else None
        server.faults(bucket, **options)
        with pytest.raises(IndexerError) as caught:
            await opened.snapshot(source)
        if is_known:
            (version,) = await opened.app.catalog.reader.versions(NAME)
            assert version.digest == digest
        else:
            assert await opened.has_nothing()
    error = caught.value
    assert type(error) is kind
    assert f"s3://{bucket}" in str(error)
    assert len(str(error)) < 600
    assert "\n" not in str(error)
    assert error.__cause__ is None or not isinstance(error.__cause__, BaseExceptionGroup)


async def test_a_count_that_lies_is_an_error(server: SyntheticS3, desk: Callable[[], Any]) -> None:
    for offset in (-1, 1):
        server.faults("plain", key_count_offset=offset)
        async with desk() as opened:
            with pytest.raises(errors.BrokenListing, match=r"^s3://plain/data/: the server says"):
                await opened.snapshot()
            assert await opened.has_nothing()


async def test_an_error_in_the_middle_commits_nothing(
    server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    async with desk() as opened:
        server.faults("plain", **PAGES, deny_prefix="data/tree/05/")
        with pytest.raises(errors.AccessDenied, match="s3:ListBucket"):
            await opened.snapshot(slice_pages_max=3)
        assert await opened.has_nothing()
        server.faults("plain")
        await opened.snapshot()
        assert await opened.rows() == truth(versions=False)


# --- versions ------------------------------------------------------------------------------------


async def test_versions_denied_are_done_without(
    server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    server.faults("versioned", deny_versions=True)
    async with desk() as opened:
        snapshot = await opened.snapshot("s3://versioned/data/")
        assert await opened.rows() == truth(versions=False)
    (warning,) = snapshot.warnings
    assert "s3:ListBucketVersions" in warning
    assert "ETag" in warning


@pytest.fixture(scope="module")
def history(server: SyntheticS3) -> list[bytes]:
    """A bucket `history` of many versions and delete markers; the keys that live."""
    keys = [b"data/%03d" % number for number in range(300)]
    server.load("history", keys, versioned=True)
    client = client_of(server)
    for key in keys[10:60]:
        client.put_object(Bucket="history", Key=key.decode(), Body=b"newer")
    for key in [*keys[50:90], *keys[200:260]]:
        client.delete_object(Bucket="history", Key=key.decode())
    return [*keys[:50], *keys[90:200], *keys[260:]]


@pytest.mark.parametrize(
    ("options", "has_versions"),
    [
        ({"page_keys_max": 7}, True),
        ({"page_keys_max": 7, "short_pages": True, "empty_page_every": 3}, True),
        ({"page_keys_max": 7, "ignore_start_after": True, "minio_markers": True}, True),
        ({"silent_stop_keys": 37, "operations": ("ListObjectVersions",)}, True),
        ({"versions_oldest_first": True}, False),
        ({"order": "shuffle", "operations": ("ListObjectVersions",)}, False),
    ],
    ids=str,
)
async def test_the_newest_versions_are_kept(
    options: Options,
    server: SyntheticS3,
    history: list[bytes],
    desk: Callable[[], Any],
    *,
    has_versions: bool,
) -> None:
    server.faults("history", **options)
    async with desk() as opened:
        snapshot = await opened.snapshot("s3://history/data/")
        rows = await opened.rows()
    assert [row["path"] for row in rows] == [key.removeprefix(b"data/") for key in history]
    assert {row["version_id"] is not None for row in rows} == {has_versions}
    assert rows[20]["size"] == len(b"newer")
    assert any("Versions cannot be listed" in said for said in snapshot.warnings) != has_versions


async def test_an_object_beside_a_folder_of_its_name_is_ambiguous(
    server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    server.load("both", [b"name", *(b"name/%02d" % number for number in range(20))], versioned=True)
    client = client_of(server)
    for number in range(10):
        client.delete_object(Bucket="both", Key=f"name/{number:02d}")
    server.faults("both", page_keys_max=7)
    async with desk() as opened:
        # The folder's first page shows nothing but what was deleted.
        with pytest.raises(errors.AmbiguousSource, match="both an object and a folder"):
            await opened.snapshot("s3://both/name")
        assert await opened.has_nothing()
        for number in range(10, 20):
            client.delete_object(Bucket="both", Key=f"name/{number:02d}")
        alone = await opened.snapshot("s3://both/name")
        assert [row["path"] for row in await opened.rows()] == [b"name"]
        assert alone.result.version.objects == 1


# --- the limit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_flight", "slice_pages_max"), [(1, 1000), (64, 4)], ids=str)
async def test_the_limit_is_exact(
    in_flight: int, slice_pages_max: int, server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    server.faults("plain", page_keys_max=80)
    scan = {"in_flight": in_flight, "slice_pages_max": slice_pages_max}
    async with desk() as opened:
        with pytest.raises(LimitExceeded, match=rf"more than {len(KEYS) - 1:,} objects") as caught:
            await opened.snapshot(objects_max=len(KEYS) - 1, **scan)
        assert caught.value.exit_code == 4
        assert await opened.has_nothing()
        for objects_max in (len(KEYS), len(KEYS) + 1):
            snapshot = await opened.snapshot(objects_max=objects_max, **scan)
            assert snapshot.result.version.objects == len(KEYS)
        assert await opened.rows() == truth(versions=False)


@pytest.mark.parametrize(("in_flight", "slice_pages_max"), [(1, 1000), (64, 4)], ids=str)
async def test_a_partial_version_has_the_first_objects(
    in_flight: int, slice_pages_max: int, server: SyntheticS3, desk: Callable[[], Any]
) -> None:
    server.faults("plain", page_keys_max=80)
    expected = truth(versions=False)
    scan = {"in_flight": in_flight, "slice_pages_max": slice_pages_max, "on_limit": "partial"}
    async with desk() as opened:
        for objects_max in (1, 777, len(KEYS) - 1):
            snapshot = await opened.snapshot(objects_max=objects_max, **scan)
            version = snapshot.result.version
            assert version.consistency is Consistency.PARTIAL
            assert "latest" not in version.aliases
            assert await opened.rows_of(version.digest) == expected[:objects_max]
        whole = await opened.snapshot(objects_max=len(KEYS), **scan)
        assert whole.result.version.consistency is Consistency.WINDOW
        assert await opened.rows() == expected


async def test_requests_are_made_side_by_side(server: SyntheticS3, desk: Callable[[], Any]) -> None:
    server.latency(20)
    server.faults("plain", page_keys_max=20)
    try:
        async with desk() as opened:
            await opened.snapshot(in_flight=64)
            assert await opened.rows() == truth(versions=False)
            assert 4 < server.counters("plain").max_in_flight <= 64
            server.reset_counters("plain")
            await opened.snapshot(in_flight=3)
            assert server.counters("plain").max_in_flight <= 3
    finally:
        server.latency(0)


# --- MinIO ---------------------------------------------------------------------------------------


async def test_a_small_prefix_takes_one_listing_on_minio(
    minio: S3Server, bucket: Callable[..., str], desk: Callable[..., Any]
) -> None:
    name = bucket(minio, {f"data/{number}": b"x" for number in range(9)})
    versioned = bucket(minio, {"data/a": b"x"}, versioned=True)
    async with desk(minio.endpoint_url) as opened:
        for source in (f"s3://{name}/data/", f"s3://{name}/", f"s3://{versioned}/data/"):
            snapshot = await opened.snapshot(source)
            # One request asks whether the bucket keeps versions.
            assert snapshot.requests == 1 + 1
            assert snapshot.result.version.consistency is Consistency.INSTANT


@pytest.mark.parametrize(("in_flight", "versioned"), [(1, False), (16, True)])
async def test_directories_of_any_size_on_minio(
    minio: S3Server,
    bucket: Callable[..., str],
    desk: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    in_flight: int,
    *,
    versioned: bool,
) -> None:
    if in_flight == 16:
        # A proxy may put its own name for the server's.
        monkeypatch.setattr(s3, "known_facts", lambda _: None)
    keys = sorted(
        [b"data/%03d/%02d" % (n // 10, n % 10) for n in range(500)]
        + [b"data/flat/%05d" % n for n in range(2600)]
        + [b"data/flat/sub/%d" % n for n in range(3)]
        # Where it is to begin within `run/`, this server walks `run-1/` first, until it is tired.
        + [b"data/run-1/%02d/%02d" % (n // 30, n % 30) for n in range(1200)]
        + [b"data/run/%02d/%02d" % (n // 30, n % 30) for n in range(1500)]
        + [b"data/z.txt", b"other/a"]
    )
    name = bucket(minio, versioned=versioned)
    await put_all(minio, name, keys)
    async with desk(minio.endpoint_url) as opened:
        snapshot = await opened.snapshot(f"s3://{name}/data", in_flight=in_flight)
        rows = await opened.rows()
    inside = [key for key in keys if key.startswith(b"data/")]
    assert [row["path"] for row in rows] == [key.removeprefix(b"data/") for key in inside]
    assert [row["etag"] for row in rows] == [etag_of(key) for key in inside]
    assert [row["size"] for row in rows] == [len(body_of(key)) for key in inside]
    assert all(bool(row["version_id"]) is versioned for row in rows)
    assert snapshot.warnings == ()


async def put_all(minio: S3Server, name: str, keys: Sequence[bytes]) -> None:
    options = S3Options(endpoint_url=minio.endpoint_url, region=minio.region)
    session = s3_client.new_session(options)
    async with s3_client.open_client(session, options) as client:
        await fill(client, name, keys, unpacks=True)
