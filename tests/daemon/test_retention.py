"""What goes, by command and over HTTP: on a daemon the same as on a data folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

import indexer
from indexer.errors import NoSuchVersion, Protected
from indexer.places import duration_of
from indexer.references import ArtifactName
from indexer.remote import API
from tests.daemon.daemons import http, running_daemon
from tests.integration.commands import Command, failed, snapshot
from tests.integration.test_serve import serving

HOUR = timedelta(hours=1)
NAME = ArtifactName("p", "a")


@pytest.fixture(params=["folder", "daemon"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Command]:
    """A command on a data folder, or on the daemon of one."""
    command = Command(tmp_path)
    (tmp_path / "source").mkdir()
    if request.param == "folder":
        yield command
        return
    with serving(command) as found:
        command.environment["INDEXER_SERVER"] = found.url
        yield command
    command.stop()


def record(command: Command, text: str, *options: str) -> str:
    """The version of a folder whose one file holds that text."""
    (command.folder / "source" / "file").write_text(text)
    return str(snapshot(command, "source/", "--name", "p/a", *options)["ref"])


def grow_old(data: Path) -> None:
    for place in ("shards", "blobs", "folders"):
        for path in (data / place).rglob("*"):
            if path.is_file():
                os.utime(path, (1, 1))


def test_versions_go_and_their_files_after_them(command: Command) -> None:
    for number, text in enumerate(["one", "two", "three"]):
        assert record(command, text, "--ttl", "1h") == f"p/a:v{number}"
    shown = command("show", "p/a:v0", "--json").document
    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= HOUR
    assert shown["deleted_at"] is None
    assert command("ttl", "p/a:v0", "none", "--json").document["expires_at"] is None
    # A moment that is past, by way of the shortest time to live there is.
    assert command("ttl", "p/a:v1", "0s", "--json").document["expires_at"] is not None
    assert "p/a:v0" in command("rm", "p/a:v0").output
    grow_old(command.data)
    foretold = command("gc", "--dry-run", "--json").document
    done = command("gc", "--json").document
    assert foretold == done | {"dry_run": True}
    assert done["expired"] == ["p/a:v1"]
    assert {kind: amount["files"] for kind, amount in done["deleted"].items()} == {
        "folders": 2,
        "manifests": 2,
        "shards": 2,
        "tilings": 2,
    }
    assert (done["files"], done["grace_s"], done["kept"]["files"]) == (8, 86_400.0, 0)
    assert done["bytes"] == sum(amount["bytes"] for amount in done["deleted"].values())
    assert "p/a:v1 expired, and was deleted at" in failed(command("show", "p/a:v1"), 3)
    assert "p/a:v0 was removed at" in failed(command("ls", "p/a:v0"), 3)
    assert [one["version"] for one in command("ls", "p/a", "--json").documents] == ["v2"]
    gone = command("ls", "p/a", "--deleted", "--json").documents
    assert [one["deleted_because"] for one in gone] == [None, "expired", "removed"]
    assert command("verify", "p/a:v2", "--structure").code == 0
    assert record(command, "one") == "p/a:v3"
    lines = command("gc", "--grace", "30d").output.splitlines()
    assert (lines[0].split(), lines[-1].split()[0]) == (["DELETED", "FILES", "SIZE"], "kept")


def test_protected_aliases_stay(command: Command) -> None:
    record(command, "one", "--alias", "best")
    record(command, "two")
    protected = command("alias", "protect", "p/a", "best", "--json").document
    assert (protected["version"], protected["protected"]) == ("v0", ["best"])
    assert "best (protected)" in command("show", "p/a:best").output
    assert command("alias", "ls", "p/a", "--json").documents[0]["protected"] is True
    for refused in (
        ("alias", "set", "p/a:v1", "best"),
        ("alias", "remove", "p/a", "best"),
        ("rm", "p/a:v0"),
    ):
        assert "indexer alias unprotect p/a best" in failed(command(*refused), 2)
    assert command("ttl", "p/a:v0", "0s").code == 0
    assert command("gc", "--json").document["expired"] == []
    assert command("alias", "unprotect", "p/a", "best", "--json").document["protected"] == []
    assert command("gc", "--json").document["expired"] == ["p/a:v0"]


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["ttl", "p/a:v0", "soon"], "write a number and s, m, h, d or w"),
        (2, ["gc", "--grace", "99999999w"], "100 years at most"),
        (2, ["ls", "--deleted"], "--deleted"),
        (2, ["snapshot", "source/", "--name", "p/a", "--ttl", "0s"], "--ttl"),
        (2, ["alias", "protect", "p/a", "latest"], "latest"),
        (3, ["alias", "protect", "p/a", "best"], "best"),
        (3, ["rm", "p/a:v9"], "v0 alone"),
        (2, ["rm", "p/a"], "as in p/a:v3"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be(code: int, arguments: list[str], words: str, tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "source").mkdir()
    record(command, "one")
    assert words in failed(command(*arguments), code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", timedelta(0)), ("90s", HOUR / 40), ("45m", HOUR * 0.75), ("30d", 720 * HOUR)],
)
def test_times_are_read(text: str, expected: timedelta) -> None:
    assert duration_of(text) == expected
    assert duration_of("2w") == timedelta(weeks=2)


def test_the_library_does_the_same(tmp_path: Path) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    (source / "file").write_text("one")
    version = indexer.snapshot(str(source), name="p/a", data=data, ttl=HOUR)
    assert version.record.expires_at == version.record.created_at + HOUR
    assert version.expire_after(None).record.expires_at is None
    version.remove()
    with pytest.raises(NoSuchVersion, match="was removed"):
        indexer.open("p/a:v0", data=data)


# --- over HTTP


async def test_the_interface_removes_protects_and_collects(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("one")
    version = f"{API}/artifacts/p/a/versions/v0"
    async with (
        running_daemon(tmp_path / "data") as (url, app),
        indexer.connect(url) as client,
        http(url) as session,
    ):
        order = {"uri": (tmp_path / "source").as_uri(), "name": "p/a", "ttl_s": 3600}
        async with session.post(f"{API}/snapshots", json=order) as response:
            job = (await response.json())["id"]
        async for _ in client.follow(job):
            pass
        tag, document = await look(session, version)
        assert document["expires_at"] is not None
        async with session.patch(version, json={"expires_at": None}) as response:
            assert (await response.json())["expires_at"] is None
        async with session.delete(version, headers={"If-Match": tag}) as response:
            assert response.status == 412
        await app.set_alias(NAME, "best", 0)
        best = f"{API}/artifacts/p/a/aliases/best"
        async with session.patch(best, json={"protected": True}) as response:
            assert (await response.json())["protected"] == ["best"]
        async with session.delete(version) as response:
            assert response.status == 409
            assert (await response.json())["code"] == "protected"
        with pytest.raises(Protected):
            await client.remove_version(NAME, 0)
        async with session.patch(best, json={"protected": False}) as response:
            assert response.status == 200
        async with session.delete(version) as response:
            assert (await response.json())["deleted_because"] == "removed"
        grow_old(tmp_path / "data")
        async with session.post(f"{API}/gc", json={}) as response:
            assert (await response.json())["files"] == 4
        async with session.get("/metrics") as response:
            text = await response.text()
    assert 'indexer_garbage_deleted_bytes_total{kind="shards"}' in text
    assert "indexer_versions_expired_total 0.0" in text


async def look(session: aiohttp.ClientSession, path: str) -> tuple[str, dict[str, object]]:
    async with session.get(path) as response:
        return response.headers["ETag"], await response.json()
