"""The demo runs to its end and shows what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.s3_server import is_ci
from tests.conftest import MACHINE_ENVIRONMENT

ROOT = Path(__file__).parent.parent.parent
OBJECTS = 2_000
TIMEOUT_S = 180.0
GONE_TIMEOUT_S = 30.0
KIND = "minio" if is_ci(MACHINE_ENVIRONMENT) else "auto"


def demo(scratch: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts the demo among settings of a user's, none of which may have a part in it."""
    scratch.mkdir()
    home = scratch.parent / "home"
    home.mkdir()
    (home / ".curlrc").write_text("output = /dev/full\n")
    (home / ".netrc").write_text("no netrc\n")
    (home / ".netrc").chmod(0o600)
    foreign = {
        "AWS_PROFILE": "not-the-demo's",
        "CURL_HOME": str(home),
        "INDEXER_MAX_OBJECTS": "1",
        "INDEXER_SERVER": "http://127.0.0.1:1",
        "NETRC": str(home / ".netrc"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", f"--objects={OBJECTS}", *arguments],
        cwd=ROOT,
        env={**MACHINE_ENVIRONMENT, **foreign, "TMPDIR": str(scratch), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ran(process: subprocess.Popen[str]) -> str:
    """What the demo shows when it runs to its end."""
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    return shown


def test_it_shows_both_versions(tmp_path: Path) -> None:
    shown = ran(demo(tmp_path / "scratch", "--kind", KIND))
    by_curl, second, third = re.split(r"\$ indexer snapshot .*\n", shown)
    check_first(by_curl)
    assert "demo/objects:v1  created" in second
    assert "1 new, 1 reused" in second
    assert f"objects  {OBJECTS:,} (" in second
    assert "a second, " in second
    known, new = shards(by_curl), shards(second)
    assert sorted(mark for _, mark in new) == ["new", "reused"]
    assert {digest for digest, mark in new if mark == "reused"} < {digest for digest, _ in known}
    assert "demo/objects:v1  unchanged, no new version" in third
    assert "0 new, 2 reused" in third
    assert re.search(r"aliases +latest, reviewed", third)
    assert re.search(r"^demo/objects:v0 ", third, re.MULTILINE)
    assert len(re.findall(r"^[0-9a-f]{16}  succeeded  demo/objects ", third, re.MULTILINE)) == 3
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "Python sends" not in shown


def test_it_does_without_curl(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    proxy = "http://127.0.0.1:1"
    environment = {"PATH": str(empty), "HTTP_PROXY": proxy, "http_proxy": proxy}
    shown = ran(demo(tmp_path / "scratch", "--kind", "moto", **environment))
    check_first(shown)
    commands = re.findall(r"\$ (curl|indexer) ", shown)
    assert commands.count("curl") == shown.count("Python sends the same request") == 5
    assert commands.count("indexer") == 7
    assert list((tmp_path / "scratch").iterdir()) == []


def check_first(shown: str) -> None:
    """The first snapshot is asked for by HTTP, followed, and described."""
    url = re.search(r"\$ indexer serve .* &\n(http://127\.0\.0\.1:\d+)\nListening; ", shown)
    assert url, shown
    for path in ("snapshots ", "jobs/[0-9a-f]{16}/events", "artifacts/demo/objects/versions/v0/"):
        assert re.search(rf"\$ curl -sN? '?{url[1]}/api/v1/{path}", shown), path
    assert f"$ export INDEXER_SERVER={url[1]}\n" in shown
    *_, last = re.findall(r"event +\d+  (\w+) +([\d,]+) objects +[\d,]+ a second", shown)
    assert last == ("succeeded", f"{OBJECTS:,}")
    assert re.search(rf"demo/objects:v0  {OBJECTS:,} objects, \d+\.\d KiB\n", shown)
    assert re.search(r"Listed in \d+\.\d\d s: [\d,]+ objects a second\.", shown)
    assert '{"kind": "folder", "path": "drive/run_0000/lidar/", "objects": 100, ' in shown


def shards(shown: str) -> list[tuple[str, str]]:
    """The beginnings of the shards' digests, each with what is said of it."""
    pattern = r"^  ([0-9a-f]{12}) +[\d,]+ objects  (?:(new|reused) +)?up to "
    return re.findall(pattern, shown, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_can_be_stopped(tmp_path: Path, number: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    process = demo(scratch, "--kind", KIND)
    assert process.stdout is not None
    try:
        shown = ""
        for line in process.stdout:
            shown += line
            if "$ curl -sN" in line:
                break
        ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", shown)}
        assert len(ports) == 2, shown
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while any(map(_listens, ports)) or any(scratch.iterdir()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
