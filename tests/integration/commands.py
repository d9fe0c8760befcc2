"""The command for tests: run in this process, where it is quick, or in one of its own.

Invariants
  * Both ways see the same environment, current folder and arguments, and nothing else of the
    tests' own environment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from indexer.cli import main

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
PYTHON = (sys.executable, "-W", "error::ResourceWarning", "-W", "error::RuntimeWarning")


class Server(Protocol):
    """An S3 server, real or synthetic."""

    @property
    def endpoint_url(self) -> str: ...

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    output: str
    errors: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The JSON objects on standard output, one a line."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object on standard output of a command that went well."""
        assert self.code == 0, self.errors
        (found,) = self.documents
        return found


class Command:
    """`indexer` with a data folder of its own, and the credentials of a server."""

    def __init__(self, folder: Path, server: Server | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._started: list[subprocess.Popen[str]] = []
        self.environment = {
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": str(folder),
            "INDEXER_DATA": str(self.data),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }
        if server is not None:
            self.environment |= {
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_ENDPOINT_URL": server.endpoint_url,
                "AWS_REGION": "us-east-1",
            }

    def __call__(self, *arguments: str, **environment: str | None) -> Ran:
        """Runs the command in this process; a variable that is None is taken away."""
        output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in self._with(environment).items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["indexer", *arguments])
            with (
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(errors),
                pytest.raises(SystemExit) as leaving,
            ):
                main()
        assert isinstance(leaving.value.code, int)
        return Ran(leaving.value.code, _text(output), _text(errors))

    def process(self, *arguments: str, **environment: str | None) -> Ran:
        """Runs the command in a process of its own."""
        done = subprocess.run(
            [*PYTHON, "-m", "indexer", *arguments],
            cwd=self.folder,
            env=self._with(environment),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts the command in a process of its own, which ends with `stop` at the latest."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(
            [*PYTHON, "-m", "indexer", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            **pipes,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """Kills what was started and goes on."""
        for process in self._started:
            with process:
                process.kill()

    def _with(self, environment: Mapping[str, str | None]) -> dict[str, str]:
        merged = {**self.environment, **environment}
        return {name: value for name, value in merged.items() if value is not None}

    def recorded(self) -> dict[str, Any]:
        """All that is recorded in the data folder: files by content, rows of the catalog."""
        files = {
            path.relative_to(self.data).as_posix(): path.read_bytes()
            for kind in ("shards", "blobs")
            for path in (self.data / kind).rglob("*")
            if path.is_file()
        }
        return {"files": files, "rows": rows_of(self.data / "catalog.db")}


def snapshot(command: Command, *arguments: str) -> dict[str, Any]:
    """What a snapshot that goes well comes to."""
    return command("snapshot", *arguments, "--json").document


def failed(ran: Ran, code: int) -> str:
    """The one line that a failed command says."""
    assert ran.code == code, (ran.output, ran.errors)
    assert ran.output == ""
    (line,) = ran.errors.splitlines()
    assert re.match(r"Error: .*\S\.$", line)
    return line


def rows_of(database: Path) -> list[str]:
    """The catalog's rows, but for its own revision and what it has learned of endpoints."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        lines = list(connection.iterdump())
    others = ('INSERT INTO "alembic_version"', 'INSERT INTO "endpoint_facts"')
    return [line for line in lines if line.startswith("INSERT") and not line.startswith(others)]


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
