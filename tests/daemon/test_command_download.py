"""A version of a daemon is downloaded by whoever asks for it: no object passes the daemon."""

from __future__ import annotations

from pathlib import Path

from deploy.s3_server import S3Server
from tests.conftest import MakeBucket
from tests.integration.commands import Command, snapshot
from tests.integration.test_serve import serving


def test_objects_are_read_by_who_asks(minio: S3Server, bucket: MakeBucket, tmp_path: Path) -> None:
    bodies = {"a": b"a", "b/c": b"c" * 100_000}
    for name in ("daemon", "client"):
        (tmp_path / name).mkdir()
    daemon, client = Command(tmp_path / "daemon", minio), Command(tmp_path / "client", minio)
    with serving(daemon) as found:
        client.environment["INDEXER_SERVER"] = found.url
        snapshot(client, f"s3://{bucket(minio, bodies)}/", "--name", "p/a")
        root = tmp_path / "out"
        report = client("download", "p/a:latest", "--root", str(root), "--json").document
        assert (report["ref"], report["fetched"], report["requests"]) == ("p/a:v0", 2, 2)
        assert {key: (root / key).read_bytes() for key in bodies} == bodies
        # Without the right to read the bucket the version is there, and its objects are not.
        client.environment |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        denied = client("download", "p/a", "--root", str(tmp_path / "no"), "--no-cache")
        assert denied.code in (2, 3)
        assert not (tmp_path / "no" / "a").exists()
    daemon.stop()
