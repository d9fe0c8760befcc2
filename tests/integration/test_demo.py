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
GONE_TIMEOUT_S = 15.0


def demo(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    scratch.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", f"--objects={OBJECTS}", *arguments],
        cwd=ROOT,
        env={**MACHINE_ENVIRONMENT, "TMPDIR": str(scratch), "AWS_PROFILE": "not-the-demo's"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_it_shows_both_versions(tmp_path: Path) -> None:
    kind = "minio" if is_ci(MACHINE_ENVIRONMENT) else "auto"
    process = demo(tmp_path / "scratch", "--kind", kind)
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    first, second, third = re.split(r"\$ indexer snapshot .*\n", shown)[1:]
    assert "demo/objects:v0  created" in first
    assert f"objects  {OBJECTS:,} (" in first
    assert "2 new, 0 reused" in first
    assert "a second, " in first
    assert "demo/objects:v1  created" in second
    assert "1 new, 1 reused" in second
    assert "demo/objects:v1  unchanged, no new version" in third
    assert "0 new, 2 reused" in third
    assert re.search(r"aliases +latest, reviewed", third)
    assert re.search(r"^demo/objects:v0 ", third, re.MULTILINE)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped(tmp_path: Path, number: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    process = demo(scratch, "--kind", "moto")
    assert process.stdout is not None
    try:
        shown = ""
        for line in process.stdout:
            shown += line
            if "$ indexer snapshot" in line:
                break
        port = re.search(r"127\.0\.0\.1:(\d+)", shown)
        assert port, shown
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while _listens(int(port[1])) or any(scratch.iterdir()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
