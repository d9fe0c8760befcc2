"""Downloads from real servers: what is had, what is told of what is not, and nothing fetched twice.

Invariants
  * What a file has to hold is known from what was put into the store, and from nothing of ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

import indexer
from deploy.gcs_server import GCSServer
from deploy.s3_server import S3Server
from deploy.web_server import Kind as WebKind
from indexer.artifact.download.download import DownloadResult
from indexer.artifact.download.local_paths import OWN_FOLDER, LocalPath, entry_path_of
from indexer.errors import Busy, InvalidSetting, Mismatch
from indexer.testing.store_suite import HOSTILE_KEYS, body_of
from tests.conftest import MakeBucket, WebFolder
from tests.documents import DOWNLOAD, documents, run_code
from tests.gcs_api import GCSApi
from tests.integration.changed_objects import LOST, RECORDED, change
from tests.integration.commands import PYTHON, ROOT, TIMEOUT_S, Command, snapshot
from tests.integration.conftest import MakeVersion
from tests.integration.ranged_server import RangedServer

BODIES = {
    **RECORDED,
    "empty": b"",
    "large": Random(1).randbytes(9_000_000),
    "medium": Random(2).randbytes(2_000_000),
}


LONG_AGO_S = 1_600_000_000


def files(root: Path) -> dict[str, bytes]:
    """What lies below a folder, but for what is ours."""
    return {
        os.fsencode(path.relative_to(root)).decode("utf-8", "surrogateescape"): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and os.fsdecode(OWN_FOLDER) not in path.parts
    }


def local(bodies: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bodies under the names that their files have."""
    return {key.replace("%2F", "%252F"): body for key, body in bodies.items()}


def why(result: DownloadResult) -> dict[str, str]:
    return {path.decode(): finding.kind for path, finding in result.failures}


# --- objects that were changed -------------------------------------------------------------------


def test_what_is_lost_is_named_and_all_else_is_had(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
    tmp_path: Path,
) -> None:
    name, root = bucket(on_minio, BODIES), tmp_path / "out"
    version = version_of(f"s3://{name}/")
    change(s3_client(on_minio), name)
    with pytest.raises(Mismatch, match=f"3 of {len(BODIES)} objects of p/a:v0") as raised:
        version.download(root)
    assert f"s3://{name}/changed" in str(raised.value)
    assert "7 bytes, ETag" in str(raised.value)
    assert "14 bytes, ETag" in str(raised.value)
    assert files(root) == local({key: BODIES[key] for key in BODIES if key not in LOST})

    result = version.download(root, allow_missing=True)
    assert why(result) == {"changed": "changed", "deleted": "gone", "same size": "changed"}
    assert (result.objects_there, result.objects_fetched) == (len(BODIES) - 3, 0)
    # What is uploaded again is the same bytes, and by their ETag the same object.
    s3_client(on_minio).put_object(Bucket=name, Key="deleted", Body=BODIES["deleted"])
    assert why(version.download(root, allow_missing=True)).keys() == {"changed", "same size"}


def test_recorded_versions_are_had_whatever_came_after(
    on_minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
    tmp_path: Path,
) -> None:
    name, client = bucket(on_minio, BODIES, versioned=True), s3_client(on_minio)
    version = version_of(f"s3://{name}/")
    change(client, name)
    assert version.download(tmp_path / "out").failed == 0
    assert files(tmp_path / "out") == local(BODIES)
    (recorded,) = (
        each["VersionId"]
        for each in client.list_object_versions(Bucket=name, Prefix="changed")["Versions"]
        if not each["IsLatest"]
    )
    client.delete_object(Bucket=name, Key="changed", VersionId=recorded)
    with pytest.raises(Mismatch, match=f"not kept any more.*version {recorded}"):
        version.download(tmp_path / "again", prefix="changed", cache="off")


def test_gcs_web_servers_and_files(
    fake_gcs: GCSServer,
    web_folder: Callable[[WebKind], WebFolder],
    version_of: MakeVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs.endpoint_url)
    gcs, web = GCSApi(fake_gcs.endpoint_url).make_bucket(), web_folder("nginx")
    folders = {"web": web.folder / "download", "file": tmp_path / "files"}
    bodies = {"a": b"a", "b": b"b", "c": b"c", "large": BODIES["large"]}
    for folder in folders.values():
        folder.mkdir()
    for key, body in bodies.items():
        gcs.put(f"in/{key}".encode(), body)
        for folder in folders.values():
            (folder / key).write_bytes(body)
            os.utime(folder / key, (LONG_AGO_S, LONG_AGO_S))
    version = version_of(
        {
            "gcs": str(gcs.uri("in/")),
            "web": f"{web.server.urls['html']}download/",
            "file": f"file://{folders['file']}/",
        }
    )
    expected = {
        f"{mount}/{key}": body for mount in ("gcs", *folders) for key, body in bodies.items()
    }
    assert version.download(tmp_path / "out").failed == 0
    assert files(tmp_path / "out") == expected

    gcs.put(b"in/a", b"A")
    for folder in folders.values():
        (folder / "a").write_bytes(b"A")
        (folder / "b").unlink()
        (folder / "c").write_bytes(b"changed")
    # By size and time it is the same file, and its bytes are others.
    os.utime(folders["file"] / "a", (LONG_AGO_S, LONG_AGO_S))
    result = version.download(tmp_path / "again", allow_missing=True, cache="off")
    assert why(result) == {
        "file/a": "changed",
        "file/b": "gone",
        "file/c": "changed",
        "gcs/a": "gone",
        "web/a": "changed",
        "web/b": "gone",
        "web/c": "changed",
    }
    assert files(tmp_path / "again") == {
        path: body for path, body in expected.items() if path not in why(result)
    }


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["moto", "minio"])
def test_keys_of_every_kind_come_down_as_they_went_up(
    kind: str,
    request: pytest.FixtureRequest,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    version_of: MakeVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: S3Server = request.getfixturevalue("minio" if kind == "minio" else "moto_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    name, client = bucket(server), s3_client(server)
    climbing = [b"../up", b"in/../../up", b"..", b".", b"/abs", b"C:\\x", b"NUL", b"a%00"]
    put = dict(put_all(client, name, [b"in/" + key for key in (*HOSTILE_KEYS, *climbing)]))
    version = version_of(f"s3://{name}/in/")
    # MinIO keeps objects as files, and does not list those below another one.
    listed = [path for table in version.entries() for path in table.column("path").to_pylist()]
    assert len(listed) == len(put) or kind == "minio"
    expected = {path: put[b"in/" + path] for path in listed}

    result = version.download(tmp_path / "out")
    assert result.failed == 0
    escaped = {one.local: one.path for one in result.escaped}
    found = {}
    for local_name, body in files(tmp_path / "out").items():
        names = tuple(os.fsencode(local_name).split(b"/"))
        path = entry_path_of(LocalPath(names))
        assert escaped.get(b"/".join(names), path) == path
        found[path] = body
    folders = {path for path in expected if not expected[path] and path[-1:] in {b"", b"/"}}
    assert found == {path: body for path, body in expected.items() if path not in folders}
    assert result.folders == len(folders)
    assert not (tmp_path / "up").exists()
    assert version.download(tmp_path / "out").objects_there == len(found)


def put_all(client: Any, bucket: str, keys: Iterable[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Puts what the server takes."""
    from botocore.exceptions import BotoCoreError, ClientError

    for key in keys:
        body = body_of(key[3:])
        try:
            client.put_object(Bucket=bucket, Key=key.decode(), Body=body)
        except (ClientError, BotoCoreError):
            continue
        yield key, body


def test_links_and_what_is_in_the_way_are_no_way_out(
    version_of: MakeVersion, tmp_path: Path
) -> None:
    source, root, outside = tmp_path / "in", tmp_path / "out", tmp_path / "outside"
    for folder in (source / "deep", root, outside, root / "blocked"):
        folder.mkdir(parents=True)
    for name in (
        "deep/a",
        "blocked",
        "linked",
        "plain",
        os.fsdecode(b"\xff"),
    ):
        (source / name).write_bytes(b"new")
    (outside / "linked").write_bytes(b"old")
    (root / "deep").symlink_to(outside)
    (root / "linked").symlink_to(outside / "linked")
    (root / "other").write_bytes(b"of somebody else")
    version = version_of(f"file://{source}/")
    with pytest.raises(indexer.errors.IndexerError, match="something else is in its way"):
        version.download(root)
    assert {path.name for path in outside.iterdir()} == {"linked"}
    assert (outside / "linked").read_bytes() == b"old"
    assert (root / "linked").read_bytes() == b"new"
    assert not (root / "linked").is_symlink()
    assert (root / os.fsdecode(b"\xff")).read_bytes() == b"new"
    assert (root / "other").read_bytes() == b"of somebody else"
    own = root / os.fsdecode(OWN_FOLDER)
    for path in sorted(own.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    own.rmdir()
    own.symlink_to(outside)
    with pytest.raises(InvalidSetting, match="--root"):
        version.download(root)
    assert {path.name for path in outside.iterdir()} == {"linked"}


# --- what is there -------------------------------------------------------------------------------


def test_nothing_is_fetched_twice(
    on_minio: S3Server, bucket: MakeBucket, version_of: MakeVersion, tmp_path: Path
) -> None:
    version, root = version_of(f"s3://{bucket(on_minio, BODIES)}/"), tmp_path / "out"
    first = version.download(root)
    # A HEAD of none: one request an object, and one a range of the large one.
    assert first.requests == len(BODIES) + 1
    (root / "medium").write_bytes(BODIES["medium"][::-1])
    (root / "mine").write_bytes(b"mine")
    (root / "empty").unlink()
    again = version.download(root, cache="off")
    assert (again.objects_fetched, again.objects_there) == (2, len(BODIES) - 2)
    assert (again.others, again.requests) == (1, 2)
    # Without what is remembered of them, files prove what they are by the MD5 that their ETag is.
    for path in (root / os.fsdecode(OWN_FOLDER)).glob("state*"):
        path.unlink()
    proven = version.download(root, cache="off")
    assert (proven.objects_there, proven.requests) == (len(BODIES), 0)
    (root / os.fsdecode(OWN_FOLDER) / "state.sqlite").write_bytes(b"no database" * 1_000)
    assert version.download(root, cache="off").objects_there == len(BODIES)

    elsewhere = version.download(tmp_path / "elsewhere")
    assert (elsewhere.requests, elsewhere.objects_cached) == (0, len(BODIES))
    assert files(tmp_path / "elsewhere") == local(BODIES)
    # A link is the very file in the cache: who writes to it all the same spoils it for nobody else.
    linked = version.download(tmp_path / "linked", cache="link", prefix="many/")
    assert linked.objects_cached == 40
    spoilt = tmp_path / "linked" / "many" / "001"
    assert (spoilt.stat().st_nlink, spoilt.stat().st_mode & 0o222) == (2, 0)
    spoilt.chmod(0o600)
    spoilt.write_bytes(b"?")
    assert version.download(tmp_path / "after", cache="link", prefix="many/").objects_cached == 39
    assert (tmp_path / "after" / "many" / "001").read_bytes() == b"1"
    assert version.download(tmp_path / "linked", cache="link", prefix="many/").objects_there == 39
    assert spoilt.read_bytes() == b"1"
    part = version.download(tmp_path / "part", include=["many/**"], exclude=["**/00*"])
    assert part.objects == 30


def test_bytes_that_are_not_those_recorded_are_never_a_file(
    version_of: MakeVersion, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, size in (("small", 1_000), ("large", 3_000_000)):
        (source / name).write_bytes(b"1" * size)
    # Of a file whose MD5 was recorded neither time nor place is.
    version = version_of(f"file://{source}/")
    for name, size in (("small", 1_000), ("large", 3_000_000)):
        (source / name).write_bytes(b"2" * size)
    result = version.download(tmp_path / "out", allow_missing=True)
    assert why(result) == {"small": "changed", "large": "changed"}
    assert "md5" in (result.failures[0][1].found or "")
    assert files(tmp_path / "out") == {}


# --- killed --------------------------------------------------------------------------------------

SMALL_RANGES = """
import sys
from indexer import limits
limits.DOWNLOAD_RANGE_BYTES = limits.DOWNLOAD_SMALL_BYTES_MAX = 65_536
from indexer.cli import main
main()
"""


def test_a_download_that_was_killed_goes_on(tmp_path: Path) -> None:
    command, root = Command(tmp_path), tmp_path / "out"
    server = RangedServer(Random(3).randbytes(48 * 65_536 - 7))
    with server.running():
        snapshot(command, server.url, "--name", "p/a")
        server.stops_after = 30
        arguments = ("download", "p/a", "--root", str(root), "--json")
        killed = subprocess.Popen(
            [*PYTHON, "-c", SMALL_RANGES, *arguments],
            env=command.environment, cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert server.has_stopped.wait(TIMEOUT_S)
        killed.send_signal(signal.SIGKILL)
        killed.wait(TIMEOUT_S)
        assert files(root) == {}
        (record,) = (root / os.fsdecode(OWN_FOLDER) / "parts").glob("*.ranges")
        done = {int(line) for line in record.read_text().splitlines()[1:]}
        # At most 16 ranges are under way at once, and others are begun when one of them is done.
        assert len(done) >= 30 + 1 - 16

        server.goes_on.set()
        server.stops_after, server.asked = 10**9, []
        again = subprocess.run(
            [*PYTHON, "-c", SMALL_RANGES, *arguments],
            env=command.environment, cwd=ROOT, timeout=TIMEOUT_S, check=True, capture_output=True,
        )  # fmt: skip
        assert b'"fetched": 1' in again.stdout
        assert set(server.asked) == set(range(0, len(server.body), 65_536)) - done
        assert len(server.asked) == len(set(server.asked))
    assert files(root) == {"large.bin": server.body}
    assert not list((root / os.fsdecode(OWN_FOLDER) / "parts").iterdir())


def test_one_download_at_a_time_writes_into_a_folder(
    version_of: MakeVersion, tmp_path: Path
) -> None:
    from indexer.artifact.download.target import Target

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"a")
    version = version_of(f"file://{tmp_path}/in/")
    target = Target(tmp_path / "out")
    with pytest.raises(Busy, match="another download"):
        version.download(tmp_path / "out")
    target.close()
    assert version.download(tmp_path / "out").objects_fetched == 1


def test_what_the_document_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEXER_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in"
    (source / "train").mkdir(parents=True)
    for number in range(4):
        (source / "train" / "number").write_text(str(number))
        indexer.snapshot(f"{source}/", name="vision/images")
    assert run_code(documents()[DOWNLOAD])["result"].objects_fetched == 1
    assert files(tmp_path / "images") == {"train/number": b"3"}


# --- the command ---------------------------------------------------------------------------------


def test_the_command_tells_it_by_its_code(
    minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], tmp_path: Path
) -> None:
    command, name = Command(tmp_path, minio), bucket(minio, {"a": b"a", "b%2F": b"b", "c": b"c"})
    snapshot(command, f"s3://{name}/", "--name", "p/a")
    report = command("download", "p/a", "--root", str(tmp_path / "out"), "--json").document
    assert (report["fetched"], report["failed"], report["others"]) == (3, 0, 0)
    assert report["escaped_first"] == [{"path": "b%2F", "local": "b%252F"}]
    assert (tmp_path / "out" / "b%252F").read_bytes() == b"b"
    s3_client(minio).delete_object(Bucket=name, Key="a")
    arguments = ("download", "p/a", "--root", str(tmp_path / "new"), "--no-cache")
    ran = command(*arguments)
    assert ran.code == Mismatch.exit_code
    assert ran.output.startswith(f"gone         s3://{name}/a: the object is gone")
    assert "1 of 3 objects of p/a:v0 could not be downloaded" in ran.errors
    told = command(*arguments, "--allow-missing", "--json").document
    assert [(one["path"], one["why"]) for one in told["failures"]] == [("a", "gone")]
    shown = command("download", "p/a", "--root", str(tmp_path / "out"))
    assert "3 were there and right" in shown.output
