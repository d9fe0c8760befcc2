"""Versions held against real servers after their objects were overwritten, deleted and restored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import indexer
from deploy.gcs_server import GCSServer
from deploy.s3_server import S3Server
from deploy.web_server import Kind as WebKind
from indexer.artifact.verify.references import ReferenceReport
from indexer.errors import Mismatch
from tests.conftest import MakeBucket, WebFolder
from tests.gcs_api import GCSApi
from tests.integration.changed_objects import LOST, RECORDED, change
from tests.integration.commands import Command, failed, snapshot
from tests.integration.conftest import MakeVersion


@pytest.fixture(params=["listing", "heads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By a listing, however few entries there are, or by a HEAD each, however many."""
    cost = 0 if request.param == "listing" else 10**9
    monkeypatch.setattr("indexer.artifact.verify.references.LISTING_COST_HEADS", cost)
    return str(request.param)


def why(report: ReferenceReport) -> dict[str, str]:
    return {path.decode(): finding.kind for path, finding in report.findings}


def test_without_versions_what_was_overwritten_is_lost(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
    way: str,
) -> None:
    name = bucket(on_minio, RECORDED)
    version = version_of(f"s3://{name}/")
    assert version.verify().is_right
    change(s3_client(on_minio), name)
    report = version.verify()
    assert why(report) == {"changed": "changed", "deleted": "gone", "same size": "changed"}
    assert [path for path, _ in report.findings] == sorted(path.encode() for path in LOST)
    assert report.confirmed == (len(RECORDED) - 3 if way == "listing" else 0)
    (changed, *_) = (finding for _, finding in report.findings)
    assert f"s3://{name}/changed" in changed.sentence
    assert changed.recorded.startswith("7 bytes, ETag")
    assert (changed.found or "").startswith("14 bytes, ETag")
    assert version.verify(prefix="many/").is_right
    assert version.verify(exclude=LOST).entries == len(RECORDED) - 3
    assert why(version.verify(include=["*d"], prefix="ch")) == {"changed": "changed"}


def test_with_versions_only_what_is_not_kept_is_lost(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
    way: str,
) -> None:
    name, client = bucket(on_minio, RECORDED, versioned=True), s3_client(on_minio)
    version = version_of(f"s3://{name}/")
    change(client, name)
    report = version.verify()
    assert report.is_right
    # Restored is a version of its own; by HEADs of the recorded ones nothing is told of others.
    assert report.superseded == (4 if way == "listing" else 0)
    (recorded,) = (
        each["VersionId"]
        for each in client.list_object_versions(Bucket=name, Prefix="changed")["Versions"]
        if not each["IsLatest"]
    )
    client.delete_object(Bucket=name, Key="changed", VersionId=recorded)
    lost = version.verify()
    assert why(lost) == {"changed": "gone"}
    assert "not kept any more" in lost.findings[0][1].sentence
    assert recorded in lost.findings[0][1].recorded


def test_of_old_versions_a_listing_of_their_time_finds_most(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
) -> None:
    bodies = {f"{number:03}": b"old" for number in range(60)}
    name, client = bucket(on_minio, bodies, versioned=True), s3_client(on_minio)
    version = version_of(f"s3://{name}/")
    for key in bodies:
        client.put_object(Bucket=name, Key=key, Body=b"new")
    client.delete_object(Bucket=name, Key="007")
    report = version.verify()
    assert (report.is_right, report.superseded, report.confirmed) == (True, 60, 60)


def test_a_bucket_that_is_gone_and_a_server_that_is_not_there(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    tmp_path: Path,
    version_of: MakeVersion,
    way: str,
) -> None:
    name, client = bucket(on_minio, {"a": b"1"}), s3_client(on_minio)
    version = version_of(f"s3://{name}/")
    stranger = indexer.open(version.ref, data=tmp_path / "data", no_sign_request=True)
    assert why(stranger.verify()) == {"a": "denied"}
    client.delete_object(Bucket=name, Key="a")
    client.delete_bucket(Bucket=name)
    assert why(version.verify()) == {"a": "gone"}


def test_other_stores(
    fake_gcs: GCSServer,
    web_folder: Callable[[WebKind], WebFolder],
    tmp_path: Path,
    version_of: MakeVersion,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs.endpoint_url)
    gcs = GCSApi(fake_gcs.endpoint_url).make_bucket()
    web = web_folder("nginx")
    files = {"web": web.folder / f"verify-{way}", "file": tmp_path / "files"}
    for folder in files.values():
        folder.mkdir()
    for key in ("a", "b", "c"):
        gcs.put(f"in/{key}".encode(), key.encode())
        for folder in files.values():
            (folder / key).write_text(key)
    version = indexer.snapshot(
        {
            "gcs": str(gcs.uri("in/")),
            "web": f"{web.server.urls['html']}verify-{way}/",
            "file": f"file://{files['file']}/",
        },
        name="p/b",
        data=tmp_path / "data",
    )
    report = version.verify()
    assert (report.is_right, report.entries) == (True, 9)
    # Of a file its size and MD5 are recorded, and the latter is not known without reading it.
    assert report.by_size == 3
    gcs.put(b"in/a", b"A")
    for folder in files.values():
        (folder / "b").unlink()
        (folder / "c").write_text("changed")
        os.utime(folder / "c", (1, 1))
    assert why(version.verify()) == {
        "file/b": "gone",
        "file/c": "changed",
        "gcs/a": "gone",
        "web/b": "gone",
        "web/c": "changed",
    }


def test_the_command_says_it_in_lines_and_by_its_code(
    minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], tmp_path: Path
) -> None:
    command = Command(tmp_path, minio)
    name = bucket(minio, RECORDED)
    snapshot(command, f"s3://{name}/", "--name", "p/a")
    assert command("verify", "p/a", "--json").document["fetchable"] == len(RECORDED)
    change(s3_client(minio), name)
    ran = command("verify", "p/a", "--json")
    assert ran.code == Mismatch.exit_code
    *lost, total = ran.documents
    assert [one["path"] for one in lost] == sorted(LOST)
    assert total["lost"] == {"changed": 2, "gone": 1}
    assert total["fetchable"] == len(RECORDED) - 3
    shown = command("verify", "p/a")
    assert shown.code == Mismatch.exit_code
    assert f"{len(RECORDED) - 3:,} of {len(RECORDED):,} fetchable" in shown.output
    assert "cannot be fetched" in shown.errors
    assert command("verify", "p/a", "--prefix", "many/").code == 0


def test_the_structure_of_a_data_folder(tmp_path: Path) -> None:
    command = Command(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    for name in ("a", "b"):
        (files / name).write_text(name)
    snapshot(command, f"{files}/", "--name", "p/a", "--exclude", "b")
    report = command("verify", "p/a", "--structure", "--json").document
    assert report["right"]
    assert "ok        shards" in command("verify", "p/a", "--structure").output
    assert "prefix" in failed(command("verify", "p/a", "--structure", "--prefix", "a"), 2)
    (shard,) = (command.data / "shards").rglob("*.parquet")
    shard.chmod(0o600)
    shard.write_bytes(shard.read_bytes()[:-1])
    ran = command("verify", "p/a", "--structure", "--json")
    assert ran.code == Mismatch.exit_code
    wrong = {check["name"] for check in ran.documents[0]["checks"] if not check["right"]}
    assert wrong == {"shards", "tiles"}
