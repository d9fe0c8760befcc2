"""The script that finds, starts and stops fake-gcs-server: where it looks, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy import gcs_server
from deploy.gcs_server import FAKE_GCS, GCSServer, find_program
from deploy.processes import ServerError
from indexer.protocols import GCSOptions
from indexer.stores.gcs import connect
from indexer.telemetry import Counters
from tests.conftest import MACHINE_ENVIRONMENT
from tests.gcs_api import GCSApi

SCRIPT = Path(gcs_server.__file__)
GONE_TIMEOUT_S = 15.0


def script(path: Path) -> Path:
    """A program that does nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


async def test_its_environment_is_all_a_client_needs(
    fake_gcs: GCSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = GCSApi(fake_gcs.endpoint_url).make_bucket()
    bucket.write(b"a/b", b"12345")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name, value in fake_gcs.environment().items():
        monkeypatch.setenv(name, value)
    async with connect(GCSOptions(), Counters()) as connection:
        source = await connection.open(bucket.uri("a/"))
        head = await source.store.head(b"b")  # type: ignore[arg-type]
    assert head.size == 5
    assert source.record["endpoint_from"] == "STORAGE_EMULATOR_HOST"


def test_a_program_that_is_named_comes_first(tmp_path: Path) -> None:
    given, on_path = script(tmp_path / "given/fake"), script(tmp_path / "bin/fake-gcs-server")
    built = script(FAKE_GCS.folder({"XDG_CACHE_HOME": str(tmp_path)}) / FAKE_GCS.name)
    environ = {"PATH": str(on_path.parent), "XDG_CACHE_HOME": str(tmp_path)}
    for more, path, origin in (
        ({"FAKE_GCS_SERVER_BIN": str(given)}, given, "FAKE_GCS_SERVER_BIN"),
        ({}, on_path, "PATH"),
        ({"PATH": str(tmp_path / "nothing")}, built, "the cache folder"),
    ):
        program = find_program({**environ, **more})
        assert program.origin == origin
        assert program.command(1234, tmp_path)[0] == str(path)


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(ServerError, match="Install Go, or set FAKE_GCS_SERVER_BIN"):
        find_program(environ)
    with pytest.raises(ServerError, match="missing or cannot be run"):
        find_program({**environ, "FAKE_GCS_SERVER_BIN": str(tmp_path / "nothing")})


def test_the_script_runs_one_until_it_is_told_to_stop(fake_gcs: GCSServer) -> None:
    environ = {
        **os.environ,
        "FAKE_GCS_SERVER_BIN": find_program(MACHINE_ENVIRONMENT).command(0, Path())[0],
    }
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("export STORAGE_EMULATOR_HOST=http://127.0.0.1:")
        url = line.strip().partition("=")[2]
        GCSApi(url).make_bucket()
        running.send_signal(signal.SIGTERM)
        assert running.wait(GONE_TIMEOUT_S) == 128 + signal.SIGTERM
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while True:
        try:
            GCSApi(url).make_bucket()
        except OSError:
            break
        assert time.monotonic() < deadline_s, "the server is still there"
        time.sleep(0.05)
