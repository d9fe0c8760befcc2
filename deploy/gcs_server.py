"""Finds a fake-gcs-server, runs it on loopback while its owner lives, and leaves nothing behind.

    python deploy/gcs_server.py                  runs one until Ctrl-C and prints its environment

    with GCSServer.start() as server: ...        the same from Python

Invariants
  * The server is `FAKE_GCS_SERVER_BIN`, `fake-gcs-server` on PATH, one built before, or built now
    with Go. It keeps its objects in memory.
  * However its owner ends, the server ends and its folder goes, as `processes` sees to.
  * Only the standard library of a POSIX Python is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

if not __package__:
    # A script finds what lies beside it, but not the package that it is a part of.
    sys.path[0] = str(Path(__file__).parent.parent)

from deploy import processes
from deploy.processes import (
    HOST,
    Environment,
    GoProgram,
    KeptServer,
    Program,
    ServerError,
    past_proxies,
    say,
)

BINARY_VARIABLE: Final = "FAKE_GCS_SERVER_BIN"
FAKE_GCS: Final = GoProgram("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1")
HEALTH_PATH: Final = "/_internal/healthcheck"

FOREIGN: Final = ("FAKE_GCS_", "GCLOUD_", "GOOGLE_", "STORAGE_")
"""Variables of whoever starts a server that would change it; its flags may be given by some."""


@dataclass(frozen=True, slots=True)
class GCSServer(KeptServer):
    """A running server; close it with `stop()`, or use it as a context manager."""

    version: str
    origin: str
    port: int
    pid: int
    _keeper: subprocess.Popen[str]

    @classmethod
    def start(cls, *, port: int | None = None, environ: Environment | None = None) -> Self:
        """Starts a server and returns when it answers.

        `environ` is where programs and settings are looked up, by default this process's own
        environment.

        Raises:
            ServerError: none can be had, or it does not answer in time.
            PortTaken: `port` was asked for and is in use.
        """
        environ = dict(os.environ) if environ is None else environ
        program = find_program(environ)
        running = processes.start(program, None, environ, port=port, hidden=FOREIGN)
        return cls(program.version, program.origin, running.port, running.pid, running.keeper)

    @property
    def endpoint_url(self) -> str:
        """Where the server answers."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead any client of GCS here, past a proxy if there is one."""
        return {
            "STORAGE_EMULATOR_HOST": self.endpoint_url,
            **past_proxies(),
        }


def find_program(environ: Environment) -> Program:
    """The server that this machine has. Raises `ServerError` where there is none."""
    given = environ.get(BINARY_VARIABLE)
    on_path = shutil.which(given or FAKE_GCS.name, path=environ.get("PATH"))
    if on_path is not None:
        return _program(on_path, "unknown", BINARY_VARIABLE if given else "PATH")
    if given:
        raise ServerError(f"{BINARY_VARIABLE} is {given}, which is missing or cannot be run.")
    built = FAKE_GCS.built(environ) or FAKE_GCS.build(environ)
    if built is None:
        raise ServerError(
            f"No fake-gcs-server can be had here: {BINARY_VARIABLE} is not set, there is none on "
            f"PATH, and Go is missing or could not build it. Install Go, or set {BINARY_VARIABLE}."
        )
    return _program(built, FAKE_GCS.version, "the cache folder")


def _program(binary: str, version: str, origin: str) -> Program:
    path = str(Path(binary).absolute())

    def command(port: int, _data: Path) -> list[str]:
        address = ["-scheme=http", f"-host={HOST}", f"-port={port}"]
        return [path, *address, "-backend=memory", f"-public-host={HOST}:{port}"]

    return Program("fake-gcs-server", version, origin, command, {}, HEALTH_PATH)


def main(arguments: Sequence[str]) -> int:
    """Runs the script and returns its exit code."""
    if arguments:
        say("usage: python deploy/gcs_server.py")
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with GCSServer.start() as server:
            say(f"fake-gcs-server {server.version} from {server.origin}: {server.endpoint_url}")
            for name, value in server.environment().items():
                print(f"export {name}={value}")
            sys.stdout.flush()
            say(f"Process {server.pid}. Ctrl-C stops it.")
            server.wait()
            raise ServerError("fake-gcs-server ended by itself.")
    except (ServerError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
