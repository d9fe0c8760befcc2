"""Links to a version's entries, fetched by whoever speaks HTTP and knows nothing of us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import indexer
from deploy.gcs_server import GCSServer
from deploy.s3_server import S3Server
from deploy.web_server import Kind as WebKind
from indexer.artifact.links import EntryLink
from indexer.errors import InvalidSetting
from indexer.library import Version
from tests.conftest import MakeBucket, WebFolder
from tests.gcs_api import GCSApi
from tests.integration.commands import Command, failed, snapshot

BODIES = {"a.txt": b"a", "empty": b"", "odd/#?%2F+ é~'\t": b"odd", "z": b"z" * 10_000}


def fetched(version: Version, **options: Any) -> dict[str, bytes]:
    return {link.path.decode(): get(link) for link in version.urls(**options)}


def get(link: EntryLink) -> bytes:
    with urlopen(link.url, timeout=30) as answer:  # noqa: S310 - of servers of these tests
        body: bytes = answer.read()
    assert len(body) == link.size
    return body


def test_signed_links_give_the_recorded_version(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], tmp_path: Path
) -> None:
    name, client = bucket(on_minio, BODIES, versioned=True), s3_client(on_minio)
    version = indexer.snapshot(f"s3://{name}/", name="p/a", data=tmp_path / "data")
    for key in BODIES:
        client.put_object(Bucket=name, Key=key, Body=b"overwritten")
    client.delete_object(Bucket=name, Key="z")
    links = list(version.urls(expires=timedelta(minutes=5)))
    assert {(link.access, link.is_pinned) for link in links} == {("signed", True)}
    assert all("X-Amz-Expires=300" in link.url for link in links)
    assert [link.path for link in links] == sorted(key.encode() for key in BODIES)
    assert fetched(version) == BODIES
    assert set(fetched(version, prefix="odd/")) == {"odd/#?%2F+ é~'\t"}
    assert set(fetched(version, include=["*.txt"])) == {"a.txt"}
    first = next(iter(version.urls()))
    with pytest.raises(HTTPError, match="403"):
        get(EntryLink(b"", first.url.replace("a.txt", "z"), 0, is_pinned=True, access="signed"))
    for expires in (0, 7 * 86_400 + 1):
        with pytest.raises(InvalidSetting, match="7 days"):
            next(iter(version.urls(expires=expires)))


def test_links_without_versions_and_without_credentials(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], tmp_path: Path
) -> None:
    name, client = bucket(on_minio, BODIES), s3_client(on_minio)
    version = indexer.snapshot(f"s3://{name}/", name="p/a", data=tmp_path / "data")
    assert {(link.access, link.is_pinned) for link in version.urls()} == {("signed", False)}
    assert fetched(version) == BODIES
    client.put_bucket_policy(
        Bucket=name,
        Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", '
        f'"Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::{name}/*"]}}]}}',
    )
    anybody = indexer.open(version.ref, data=tmp_path / "data", no_sign_request=True)
    assert {link.access for link in anybody.urls()} == {"anybody"}
    assert not any("X-Amz" in link.url for link in anybody.urls())
    assert fetched(anybody) == BODIES


def test_links_of_other_stores(
    fake_gcs: GCSServer,
    web_folder: Callable[[WebKind], WebFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs.endpoint_url)
    gcs, web = GCSApi(fake_gcs.endpoint_url).make_bucket(), web_folder("nginx")
    bodies = {"a": b"a", "b 1%": b"b"}
    (tmp_path / "files").mkdir()
    (web.folder / "links").mkdir()
    for key, body in bodies.items():
        gcs.put(f"in/{key}".encode(), body)
        (tmp_path / "files" / key).write_bytes(body)
        (web.folder / "links" / key).write_bytes(body)
    sources: Mapping[str, str] = {
        "file": f"file://{tmp_path}/files/",
        "gcs": str(gcs.uri("in/")),
        "web": f"{web.server.urls['html']}links/",
    }
    version = indexer.snapshot(sources, name="p/b", data=tmp_path / "data")
    assert fetched(version) == {f"{m}/{key}": body for m in sources for key, body in bodies.items()}
    pinned = {link.path.decode().split("/")[0]: link.is_pinned for link in version.urls()}
    assert pinned == {"file": False, "gcs": True, "web": False}


def test_the_command_prints_them(minio: S3Server, bucket: MakeBucket, tmp_path: Path) -> None:
    command = Command(tmp_path, minio)
    snapshot(command, f"s3://{bucket(minio, BODIES)}/", "--name", "p/a")
    ran = command("urls", "p/a", "--prefix", "a", "--expires", "2m")
    (url,) = ran.output.splitlines()
    assert "X-Amz-Expires=120" in url
    assert "whatever is there" in ran.errors
    with urlopen(url, timeout=30) as answer:  # noqa: S310 - as above
        assert answer.read() == b"a"
    documents = command("urls", "p/a", "--json").documents
    assert [(one["path"], one["size"]) for one in documents] == [
        (key, len(body)) for key, body in sorted(BODIES.items())
    ]
    assert "90s, 30m" in failed(command("urls", "p/a", "--expires", "soon"), 2)
