"""Snapshots of every kind of store on real servers: what is recorded, and what it took."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from deploy.gcs_server import GCSServer
from deploy.s3_server import S3Server
from deploy.web_server import Kind as WebKind
from indexer.app import App, open_app
from indexer.artifact.entries import read_entries
from indexer.checksums import new_hash
from indexer.entries import entries_of
from indexer.errors import AccessDenied, InvalidSetting, LimitExceeded, NoSuchSource, NoSuchVersion
from indexer.records import Consistency, Entry, Preview, Snapshot
from indexer.references import parse_name
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.wire.jobs import SnapshotOrder, SourceOrder
from tests.conftest import MakeBucket, WebFolder
from tests.gcs_api import GCSApi

NAME = parse_name("p/a")

LONG_AGO_S = 1_600_000_000

BODIES = {
    "a.txt": b"a",
    "empty": b"",
    "sub/b 1%.bin": Random(1).randbytes(300_000),
    "sub/deeper/c": b"c" * 5_000,
    "sub0": b"0",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """An open data folder."""

    app: App

    async def snapshot(self, *sources: str, **order: Any) -> Snapshot:
        return await self.app.snapshot(self.order(*sources, **order))

    async def preview(self, *sources: str, **order: Any) -> Preview:
        return await self.app.preview(self.order(*sources, **order))

    @staticmethod
    def order(*sources: str, **order: Any) -> SnapshotOrder:
        if len(sources) == 1:
            return SnapshotOrder(uri=sources[0], name=str(NAME), **order)
        pairs = [source.split("=", 1) for source in sources]
        mounted = [SourceOrder(mount=mount, uri=uri) for mount, uri in pairs]
        return SnapshotOrder(sources=mounted, name=str(NAME), **order)

    async def entries(self, selector: str = "latest") -> dict[str, Entry]:
        version = await self.app.catalog.reader.version(NAME, selector)
        manifest = await self.app.manifest(version.digest)
        return {
            entry.path.decode(): entry
            async for table in read_entries(self.app, manifest)
            for entry in entries_of(table, manifest.sources)
        }

    async def figures(self, selector: str = "latest") -> dict[str, Any]:
        """The statistics of the version's last scan."""
        return (await self.app.catalog.reader.scans(NAME, selector))[-1].statistics

    async def has_nothing(self) -> bool:
        try:
            await self.app.catalog.reader.version(NAME, "v0")
        except NoSuchVersion:
            return True
        return False


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_app(tmp_path / "data") as app:
        yield Desk(app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the bodies."""
    return write(tmp_path / "folder")


def write(folder: Path) -> Path:
    for name, body in BODIES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        # What was written just now may be written once more within the same tick of the clock, and
        # is therefore read again by the next snapshot.
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return folder


def hexes(algorithm: str) -> dict[str, str]:
    return {name: hashlib.new(algorithm, body).hexdigest() for name, body in BODIES.items()}


# --- checksums -----------------------------------------------------------------------------------


async def test_checksums_on_minio_are_read_once(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], desk: Desk
) -> None:
    bodies = {**BODIES, "large": Random(2).randbytes(20_000_000)}
    uri = f"s3://{bucket(on_minio, bodies)}/"
    await desk.snapshot(uri, checksum="md5")
    expected = {name: hashlib.md5(body).hexdigest() for name, body in bodies.items()}  # noqa: S324
    entries = await desk.entries()
    assert {name: entry.checksum for name, entry in entries.items()} == expected
    assert {entry.checksum_algorithm for entry in entries.values()} == {"md5"}
    first = await desk.figures()
    assert (first["checksums_read"], first["checksums_carried"]) == (6, 0)
    assert first["bytes_read"] == sum(map(len, bodies.values()))

    again = await desk.snapshot(uri, checksum="md5")
    assert not again.result.created
    second = await desk.figures()
    assert (second["checksums_read"], second["checksums_carried"]) == (0, 6)
    assert second["bytes_read"] == 0

    client, name = s3_client(on_minio), uri.split("/")[2]
    client.put_object(Bucket=name, Key="a.txt", Body=b"changed")
    client.put_object(Bucket=name, Key="new", Body=b"new")
    changed = await desk.snapshot(uri, checksum="md5")
    assert changed.result.created
    third = await desk.figures()
    assert (third["checksums_read"], third["checksums_carried"]) == (2, 5)
    assert third["bytes_read"] == len(b"changed") + len(b"new")

    other = await desk.snapshot(uri, checksum="sha256")
    assert other.result.created
    assert (await desk.figures())["checksums_carried"] == 0


async def test_what_s3_knows_is_asked_for(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], desk: Desk
) -> None:
    name, client = bucket(on_minio), s3_client(on_minio)
    for key, body in BODIES.items():
        client.put_object(Bucket=name, Key=key, Body=body, ChecksumAlgorithm="SHA256")
    await desk.snapshot(f"s3://{name}/", checksum="store")
    entries = await desk.entries()
    assert {key: entry.checksum for key, entry in entries.items()} == hexes("sha256")
    assert {entry.checksum_type for entry in entries.values()} == {"full_object"}
    figures = await desk.figures()
    assert (figures["bytes_read"], figures["checksums_read"]) == (0, 0)
    assert figures["requests"] >= len(BODIES)
    await desk.snapshot(f"s3://{name}/", checksum="store")
    assert (await desk.figures())["requests"] < len(BODIES)


@pytest.mark.parametrize("checksum", ["sha256", "crc32c", "crc64nvme", "blake3", "md5"])
async def test_files_have_the_checksum_that_is_asked_for(
    checksum: str, folder: Path, desk: Desk
) -> None:
    await desk.snapshot(f"{folder}/", checksum=checksum)
    for name, entry in (await desk.entries()).items():
        expected = new_hash(checksum)
        expected.update(BODIES[name])
        assert entry.checksum == expected.digest().hex()
        assert entry.mtime_ns is None


async def test_a_file_that_was_only_touched_makes_no_version(folder: Path, desk: Desk) -> None:
    first = await desk.snapshot(f"{folder}/")
    assert {n: e.checksum for n, e in (await desk.entries()).items()} == hexes("md5")
    assert first.result.version.wandb_digest is not None
    await desk.snapshot(f"{folder}/")
    assert (await desk.figures())["checksums_read"] == 0
    (folder / "a.txt").touch()
    again = await desk.snapshot(f"{folder}/")
    assert not again.result.created
    assert (await desk.figures())["checksums_read"] == 1
    without = await desk.snapshot(f"{folder}/", checksum="none")
    assert without.result.created
    assert {e.mtime_ns is not None for e in (await desk.entries()).values()} == {True}


async def test_what_may_not_be_read_is_named_and_nothing_recorded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SyntheticS3() as server:
        server.load("denied", [b"data/%05d" % number for number in range(50)])
        server.faults("denied", deny_objects="data/00017")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        with pytest.raises(AccessDenied, match="00017"):
            await desk.snapshot("s3://denied/data/", checksum="md5")
        assert await desk.has_nothing()
        await desk.snapshot("s3://denied/data/", checksum="md5", exclude=["00017"])
        assert len(await desk.entries()) == 49


# --- moments -------------------------------------------------------------------------------------


async def test_the_state_of_a_moment(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], desk: Desk
) -> None:
    name, client = bucket(on_minio, BODIES, versioned=True), s3_client(on_minio)
    await asyncio.sleep(1.1)
    moment = datetime.now(UTC)
    await asyncio.sleep(1.1)
    client.put_object(Bucket=name, Key="a.txt", Body=b"later")
    client.delete_object(Bucket=name, Key="empty")
    client.put_object(Bucket=name, Key="new", Body=b"n")
    now = await desk.snapshot(f"s3://{name}/")
    assert set(await desk.entries()) == set(BODIES) - {"empty"} | {"new"}

    then = await desk.snapshot(f"s3://{name}/", as_of=moment, checksum="md5")
    version = then.result.version
    assert (version.consistency, version.as_of) == (Consistency.INSTANT, moment)
    assert version.notices
    assert set(version.notices) == set(then.warnings)
    entries = await desk.entries("v1")
    assert {key: entry.checksum for key, entry in entries.items()} == hexes("md5")
    assert (await desk.app.catalog.reader.aliases(NAME)) == {"latest": 0}

    again = await desk.snapshot(f"s3://{name}/", as_of=moment, checksum="md5")
    assert (again.result.created, again.result.version.number) == (False, 1)
    assert now.result.version.number == 0
    with pytest.raises(InvalidSetting, match=r"future|ahead|not yet"):
        await desk.snapshot(f"s3://{name}/", as_of=datetime(2199, 1, 1, tzinfo=UTC))
    plain = bucket(on_minio, {"x": b"x"})
    with pytest.raises(InvalidSetting, match="keeps no versions"):
        await desk.snapshot(f"s3://{plain}/", as_of=moment)


# --- many sources --------------------------------------------------------------------------------


async def test_every_store_in_one_version(
    on_minio: S3Server,
    bucket: MakeBucket,
    fake_gcs: GCSServer,
    web_folder: Callable[[WebKind], WebFolder],
    folder: Path,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs.endpoint_url)
    gcs = GCSApi(fake_gcs.endpoint_url).make_bucket()
    for key, body in BODIES.items():
        gcs.put(f"in/{key}".encode(), body)
    web = web_folder("nginx")
    write(web.folder / "every-store")
    sources = [
        f"s3=s3://{bucket(on_minio, BODIES)}/",
        f"g.cs={gcs.uri('in/')}",
        f"web/one={web.server.urls['html']}every-store/",
        f"file=file://{folder}/",
    ]
    done = await desk.snapshot(*sources, checksum="sha256")
    entries = await desk.entries()
    assert set(entries) == {
        f"{mount}/{name}" for mount in ("s3", "g.cs", "web/one", "file") for name in BODIES
    }
    expected = hexes("sha256")
    for path, entry in entries.items():
        mount = next(m for m in ("s3", "g.cs", "web/one", "file") if path.startswith(f"{m}/"))
        name = path.removeprefix(f"{mount}/")
        assert (entry.checksum, entry.size) == (expected[name], len(BODIES[name]))
        uri = dict(source.split("=", 1) for source in sources)[mount]
        assert entry.uri.startswith(uri)
    assert done.result.version.listed == 4 * len(BODIES)

    # Neither the order of sources nor how many requests are under way changes what it is.
    again = await desk.snapshot(*reversed(sources), checksum="sha256", in_flight=1)
    assert again.result.version.digest == done.result.version.digest
    assert (await desk.figures())["checksums_read"] == 0


async def test_the_limit_counts_over_all_sources_before_filters(folder: Path, desk: Desk) -> None:
    write(folder.parent / "other")
    sources = (f"a=file://{folder}/", f"b=file://{folder.parent}/other/")
    with pytest.raises(LimitExceeded, match="9"):
        await desk.snapshot(*sources, max_objects=9, include=["a/a.txt"])
    assert await desk.has_nothing()
    await desk.snapshot(*sources, max_objects=10, include=["a/a.txt", "b/sub/**"])
    assert set(await desk.entries()) == {"a/a.txt", "b/sub/b 1%.bin", "b/sub/deeper/c"}
    typo = (sources[0], f"c=file://{folder}-typo/")
    told = await desk.snapshot(*typo)
    assert told.warnings == (f"file://{folder}-typo/ holds no objects.",)
    with pytest.raises(NoSuchSource, match="filters"):
        await desk.snapshot(*sources, include=["nothing"])


@pytest.mark.parametrize("in_flight", [1, 16])
async def test_the_first_objects_of_several_sources(
    in_flight: int, folder: Path, desk: Desk
) -> None:
    write(folder.parent / "other")
    sources = (f"a=file://{folder}/", f"b=file://{folder.parent}/other/")
    for count, expected in ((3, 3), (5, 5), (7, 7), (10, 10)):
        done = await desk.snapshot(
            *sources, max_objects=count, on_limit="partial", in_flight=in_flight
        )
        version = done.result.version
        assert version.objects == expected
        is_whole = count == 10
        assert (version.consistency is Consistency.PARTIAL) == (not is_whole)
    names = sorted(BODIES, key=str.encode)
    paths = [f"{mount}/{name}" for mount in "ab" for name in names]
    assert list(await desk.entries("v2")) == paths[:7]


async def test_a_dry_run_shows_and_records_nothing(folder: Path, desk: Desk) -> None:
    preview = await desk.preview(f"{folder}/", exclude=["sub/"])
    (source,) = preview.sources
    assert (source.listed, source.kept, source.size_bytes) == (5, 3, 2)
    assert preview.kept == (b"a.txt", b"empty", b"sub0")
    assert preview.left_out == (b"sub/b 1%.bin", b"sub/deeper/c")
    assert await desk.has_nothing()
