"""Finds an S3 server, runs it on loopback while its owner lives, and leaves nothing behind.

    python deploy/s3_server.py                   runs one until Ctrl-C and prints its environment
    python deploy/s3_server.py -- COMMAND ...    runs COMMAND on one and passes its exit code on

    with S3Server.start() as server: ...         the same from Python

Invariants
  * The server is MinIO wherever it can be had: `MINIO_BIN`, `minio` on PATH, one built before,
    Docker, or built now with Go. Otherwise it is moto's server, and standard error says so; where
    `CI` is set that is an error instead. Versity's gateway, which keeps objects as files, runs only
    where it is asked for: `VERSITYGW_BIN`, `versitygw` on PATH, or built with Go.
  * However its owner ends, the server ends and its folder goes, as `processes` sees to.
  * Only the standard library of a POSIX Python is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self, get_args
from uuid import uuid4

if not __package__:
    # A script finds what lies beside it, but not the package that it is a part of.
    sys.path[0] = str(Path(__file__).parent.parent)

from deploy import processes
from deploy.processes import (
    HOST,
    PROBE_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Environment,
    GoProgram,
    KeptServer,
    PortTaken,
    Program,
    ServerError,
    attempt,
    is_ci,
    past_proxies,
    say,
)

__all__ = ["Kind", "PortTaken", "Program", "S3Server", "ServerError", "find_program", "is_ci"]

Kind = Literal["auto", "minio", "moto", "versitygw"]

REGION: Final = "us-east-1"
ACCESS_KEY: Final = "local-server"
SECRET_KEY: Final = "local-server-secret"  # noqa: S105 - of a server that only loopback reaches

MINIO_MODULE: Final = "github.com/minio/minio"
MINIO_MODULE_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
MINIO: Final = GoProgram("minio", MINIO_MODULE, MINIO_MODULE_VERSION)
MINIO_IMAGE: Final = "minio/minio:RELEASE.2025-09-07T16-13-09Z"
MINIO_HEALTH_PATH: Final = "/minio/health/cluster"
MINIO_ENVIRONMENT: Final = {
    "MINIO_ROOT_USER": ACCESS_KEY,
    "MINIO_ROOT_PASSWORD": SECRET_KEY,
    "MINIO_BROWSER": "off",
    "MINIO_UPDATE": "off",
    "MINIO_CALLHOME_ENABLE": "off",
    # Its background scan of the drive would take turns with what is being measured.
    "MINIO_SCANNER_SPEED": "slowest",
}

VERSITYGW: Final = GoProgram("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0")
VERSITYGW_ENVIRONMENT: Final = {
    "ROOT_ACCESS_KEY_ID": ACCESS_KEY,
    "ROOT_SECRET_ACCESS_KEY": SECRET_KEY,
}
VERSITYGW_HEALTH_PATH: Final = "/health"

PULL_TIMEOUT_S: Final = 300.0

FOREIGN: Final = ("AWS_", "MINIO_", "MOTO_", "ROOT_", "VGW_")
"""Variables of whoever starts a server that would change it."""


@dataclass(frozen=True, slots=True)
class S3Server(KeptServer):
    """A running server; close it with `stop()`, or use it as a context manager."""

    kind: str
    version: str
    origin: str
    port: int
    pid: int
    _keeper: subprocess.Popen[str]
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION

    @classmethod
    def start(
        cls,
        kind: Kind = "auto",
        data: Path | str | None = None,
        *,
        port: int | None = None,
        environ: Environment | None = None,
    ) -> Self:
        """Starts a server and returns when it answers.

        `data` is made if it is missing and kept afterwards; without it the data lives in a
        temporary folder. `environ` is where programs and settings are looked up, by default this
        process's own environment.

        Raises:
            ServerError: none can be had, or it does not answer within `HEALTH_TIMEOUT_S`.
            PortTaken: `port` was asked for and is in use.
            OSError: `data` can be no folder.
        """
        environ = dict(os.environ) if environ is None else environ
        if data is not None:
            data = Path(data).resolve()
            data.mkdir(parents=True, exist_ok=True)
        program = find_program(kind, data, environ)
        running = processes.start(program, data, environ, port=port, hidden=FOREIGN)
        return cls(
            *(program.kind, program.version, program.origin),
            *(running.port, running.pid, running.keeper),
        )

    @property
    def endpoint_url(self) -> str:
        """Where the server answers."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead any S3 client here, past a proxy if there is one."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **past_proxies(),
        }


# --- finding a server ----------------------------------------------------------------------------


def find_program(kind: Kind, data: Path | None, environ: Environment) -> Program:
    """The best server that this machine has.

    Raises:
        ServerError: there is none of this kind, or what a variable names is not one.
    """
    if kind == "moto":
        return _moto()
    if kind == "versitygw":
        return _versitygw(environ)
    program = (
        _minio_given(environ)
        or _minio_on_path(environ)
        or _minio_built(environ)
        or _minio_in_docker(data, environ)
        or _minio_built_now(environ)
    )
    if program is not None:
        return program
    lack = (
        "No MinIO can be had here: MINIO_BIN is not set, there is no minio on PATH, Docker does"
        " not answer, and Go is missing or could not build it."
    )
    if kind == "minio" or is_ci(environ):
        raise ServerError(f"{lack} Install Go, start Docker, or set MINIO_BIN.")
    say(f"{lack} moto's server takes its place: slower, and not quite like S3.")
    return _moto()


def _minio_given(environ: Environment) -> Program | None:
    given = environ.get("MINIO_BIN")
    if not given:
        return None
    program = _minio_at(shutil.which(given, path=environ.get("PATH")), "MINIO_BIN")
    if program is None:
        raise ServerError(f"MINIO_BIN is {given}, which is missing, cannot be run or is no MinIO.")
    return program


def _minio_on_path(environ: Environment) -> Program | None:
    return _minio_at(shutil.which("minio", path=environ.get("PATH")), "PATH")


def _minio_built(environ: Environment) -> Program | None:
    return _minio_of_go(MINIO.built(environ))


def _minio_built_now(environ: Environment) -> Program | None:
    return _minio_of_go(MINIO.build(environ))


def _minio_of_go(binary: str | None) -> Program | None:
    program = _minio_at(binary, "the cache folder")
    # A binary that Go installed does not know its own version.
    return program and replace(program, version=MINIO.version)


def _minio_in_docker(data: Path | None, environ: Environment) -> Program | None:
    docker = shutil.which("docker", path=environ.get("PATH"))
    if docker is None or not attempt([docker, "info"], environ, PROBE_TIMEOUT_S)[0]:
        return None
    if not attempt([docker, "image", "inspect", MINIO_IMAGE], environ, PROBE_TIMEOUT_S)[0]:
        say(f"Fetching {MINIO_IMAGE} with Docker.")
        if not attempt([docker, "pull", MINIO_IMAGE], environ, PULL_TIMEOUT_S)[0]:
            return None
    name = f"bucket-indexer-{uuid4().hex[:12]}"
    # A container's own data goes away with it; a named folder has to be written as its owner.
    volume = [f"--volume={data}:/data", f"--user={os.getuid()}:{os.getgid()}"] if data else []
    settings = [f"--env={variable}={value}" for variable, value in MINIO_ENVIRONMENT.items()]

    def command(port: int, _data: Path) -> list[str]:
        publish = f"--publish={HOST}:{port}:9000"
        run = [docker, "run", "--rm", f"--name={name}", publish, *volume, *settings]
        return [*run, MINIO_IMAGE, "server", "--quiet", "--address=:9000", "/data"]

    return Program(
        "minio",
        MINIO_IMAGE.partition(":")[2],
        "Docker",
        command,
        {},
        MINIO_HEALTH_PATH,
        clear_up=(docker, "rm", "--force", name),
    )


def _minio_at(binary: str | None, origin: str) -> Program | None:
    """MinIO's binary as a program, or nothing where it does not run or is another program."""
    if binary is None:
        return None
    _, said = attempt([binary, "--version"], {"HOME": os.devnull}, PROBE_TIMEOUT_S)
    version = re.match(r"minio version (\S+)", said)
    if version is None:
        return None
    path = str(Path(binary).absolute())

    def command(port: int, data: Path) -> list[str]:
        return [path, "server", "--quiet", f"--address={HOST}:{port}", str(data)]

    # At home, which is the keeper's folder here, a user's certificates would switch it to TLS.
    environment = {**MINIO_ENVIRONMENT, "HOME": "."}
    return Program("minio", version[1], origin, command, environment, MINIO_HEALTH_PATH)


def _moto() -> Program:
    try:
        version = importlib.metadata.version("moto")
    except importlib.metadata.PackageNotFoundError:
        raise ServerError(
            f"{sys.executable} has no moto; `make install` makes one that has."
        ) from None

    def command(port: int, _data: Path) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]

    return Program("moto", version, sys.prefix, command, {}, "/moto-api/data.json")


def _versitygw(environ: Environment) -> Program:
    given = environ.get("VERSITYGW_BIN")
    on_path = shutil.which(given or "versitygw", path=environ.get("PATH"))
    if on_path is not None:
        return _versitygw_at(on_path, "unknown", "VERSITYGW_BIN" if given else "PATH")
    if given:
        raise ServerError(f"VERSITYGW_BIN is {given}, which is missing or cannot be run.")
    built = VERSITYGW.built(environ) or VERSITYGW.build(environ)
    if built is None:
        raise ServerError(
            "No versitygw can be had here: VERSITYGW_BIN is not set, there is none on PATH, and Go"
            " is missing or could not build it. Install Go, or set VERSITYGW_BIN."
        )
    return _versitygw_at(built, VERSITYGW.version, "the cache folder")


def _versitygw_at(binary: str, version: str, origin: str) -> Program:
    path = str(Path(binary).absolute())

    def command(port: int, data: Path) -> list[str]:
        server = [path, "--quiet", "--keep-alive", f"--port={HOST}:{port}"]
        health = f"--health={VERSITYGW_HEALTH_PATH}"
        # What it knows of objects it keeps with the files. Where it keeps that beside them, it
        # forgets to list what was written again after it was deleted.
        versions = f"--versioning-dir={data / 'versions'}"
        return [*server, health, "posix", versions, str(data / "objects")]

    return Program(
        *("versitygw", version, origin, command, VERSITYGW_ENVIRONMENT, VERSITYGW_HEALTH_PATH),
        folders=("objects", "versions"),
    )


# --- the command line ----------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Runs the script and returns its exit code."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with S3Server.start(options.kind, options.data, port=options.port) as server:
            say(f"{server.kind} {server.version} from {server.origin}: {server.endpoint_url}")
            return _run(options.command, server) if options.command else _serve(server)
    except (ServerError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _serve(server: S3Server) -> int:
    print("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3")
    for name, value in server.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    say(f"Process {server.pid}. Ctrl-C stops it.")
    server.wait()
    raise ServerError(f"{server.kind} ended by itself.")


def _run(command: Sequence[str], server: S3Server) -> int:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    try:
        child = subprocess.Popen(command, env={**environ, **server.environment()})
    except OSError as error:
        raise ServerError(f"{command[0]} cannot be run: {error.strerror}.") from error
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        # The terminal has told the command too, which may want to finish in its own way.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_TIMEOUT_S)
        raise
    finally:
        processes.end(child)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] [-- COMMAND ...]",
        description="Runs an S3 server on loopback: until Ctrl-C, or as long as a command takes.",
    )
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=get_args(Kind), default="auto")
    parser.add_argument("--port", type=int, help="the port to listen on (default: a free one)")
    parser.add_argument(
        "--data", metavar="DIR", help="keep the data in this folder (default: a temporary one)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
