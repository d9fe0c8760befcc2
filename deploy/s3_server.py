"""Finds an S3 server, runs it on loopback while its owner lives, and leaves nothing behind.

    python deploy/s3_server.py                   runs one until Ctrl-C and prints its environment
    python deploy/s3_server.py -- COMMAND ...    runs COMMAND on one and passes its exit code on

    with S3Server.start() as server: ...         the same from Python

Invariants
  * The server is MinIO wherever it can be had: `MINIO_BIN`, `minio` on PATH, one built before,
    Docker, or built now with Go. Otherwise it is moto's server, and standard error says so; where
    `CI` is set that is an error instead.
  * A keeper process owns the server and holds one end of a pipe, the owner holds the other. However
    the owner ends, `kill -9` included, the pipe closes: the keeper stops the server by its process
    id and removes its folder. A data folder that the caller named is never removed.
  * Every wait has a bound, named below.
  * Only the standard library of a POSIX Python is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import importlib.metadata
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Literal, Self
from uuid import uuid4

Kind = Literal["auto", "minio", "moto"]
Environment = Mapping[str, str]

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
ACCESS_KEY: Final = "local-server"
SECRET_KEY: Final = "local-server-secret"  # noqa: S105 - of a server that only loopback reaches

MINIO_MODULE: Final = "github.com/minio/minio"
MINIO_MODULE_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
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

PROBE_TIMEOUT_S: Final = 20.0
PULL_TIMEOUT_S: Final = 300.0
BUILD_TIMEOUT_S: Final = 900.0
BUILD_POLL_S: Final = 0.5
KEEPER_TIMEOUT_S: Final = 20.0
HEALTH_TIMEOUT_S: Final = 60.0
HEALTH_POLL_S: Final = 0.05
ANSWER_TIMEOUT_S: Final = 2.0
STOP_TIMEOUT_S: Final = 10.0
KEEPER_STOP_TIMEOUT_S: Final = 3 * STOP_TIMEOUT_S
"""The keeper may need the time to ask, to kill, and to clear up after Docker."""
START_ATTEMPTS_MAX: Final = 3
"""A free port may be taken between finding and using it."""
LOG_TAIL_LINES: Final = 12

assert KEEPER_STOP_TIMEOUT_S > 2 * STOP_TIMEOUT_S
assert HEALTH_POLL_S < ANSWER_TIMEOUT_S < HEALTH_TIMEOUT_S


class ServerError(Exception):
    """No S3 server can be had, or the one that was found does not run."""


class PortTaken(ServerError):
    """Another program listens on the port."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; close it with `stop()`, or use it as a context manager."""

    kind: Literal["minio", "moto"]
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
        for attempts_left in reversed(range(START_ATTEMPTS_MAX)):
            try:
                chosen = _free_port(port)
                keeper, pid = _launch(program, chosen, data, environ)
            except PortTaken:
                if port is not None or not attempts_left:
                    raise
            else:
                return cls(program.kind, program.version, program.origin, chosen, pid, keeper)
        raise AssertionError

    @property
    def endpoint_url(self) -> str:
        """Where the server answers."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead any S3 client here, past a proxy if there is one."""
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST]))
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    def wait(self) -> None:
        """Returns when the server has ended, which it does not do by itself."""
        self._keeper.wait()

    def stop(self) -> None:
        """Stops the server and removes what it made; may be called again."""
        _stop_keeper(self._keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


# --- finding a server ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """A server that can be started: what it is, where it is from, and how it is run."""

    kind: Literal["minio", "moto"]
    version: str
    origin: str
    command: Callable[[int, Path], list[str]]
    """From a port and a data folder to the words of a command line."""
    environment: Environment
    health_path: str
    clear_up: tuple[str, ...] = ()
    """A command to run when the server has ended."""


def find_program(kind: Kind, data: Path | None, environ: Environment) -> Program:
    """The best server that this machine has.

    Raises:
        ServerError: there is none of this kind, or `MINIO_BIN` is not one.
    """
    if kind == "moto":
        return _moto()
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
    _say(f"{lack} moto's server takes its place: slower, and not quite like S3.")
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
    program = _minio_at(shutil.which(_built_minio_folder(environ) / "minio"), "the cache folder")
    # A binary that Go installed does not know its own version.
    return program and replace(program, version=MINIO_MODULE_VERSION)


def _minio_in_docker(data: Path | None, environ: Environment) -> Program | None:
    docker = shutil.which("docker", path=environ.get("PATH"))
    if docker is None or not _attempt([docker, "info"], environ, PROBE_TIMEOUT_S)[0]:
        return None
    if not _attempt([docker, "image", "inspect", MINIO_IMAGE], environ, PROBE_TIMEOUT_S)[0]:
        _say(f"Fetching {MINIO_IMAGE} with Docker.")
        if not _attempt([docker, "pull", MINIO_IMAGE], environ, PULL_TIMEOUT_S)[0]:
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


def _minio_built_now(environ: Environment) -> Program | None:
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        return None
    folder = _built_minio_folder(environ)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder.with_name(f"{folder.name}.lock")):
        # Whoever waited for the lock finds it built.
        if (program := _minio_built(environ)) is None:
            _build_minio(go, folder, environ)
            program = _minio_built(environ)
        return program


def _build_minio(go: str, folder: Path, environ: Environment) -> None:
    _say(f"Building MinIO {MINIO_MODULE_VERSION} with Go: about two minutes, once.")
    started_s = time.monotonic()
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    environ = {**environ, "GOBIN": str(building), "GOFLAGS": "-buildvcs=false"}
    install = [go, "install", f"{MINIO_MODULE}@{MINIO_MODULE_VERSION}"]
    done, said = _attempt(install, environ, BUILD_TIMEOUT_S)
    if done:
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
        _say(f"Built in {time.monotonic() - started_s:.0f} s, kept in {folder}")
    else:
        _say(f"Go could not build MinIO:\n{said}")


def _built_minio_folder(environ: Environment) -> Path:
    home = environ.get("HOME") or Path("~").expanduser()
    cache = environ.get("XDG_CACHE_HOME") or Path(home, ".cache")
    return Path(cache, "bucket-indexer", f"minio-{MINIO_MODULE_VERSION}")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a lock between processes; it ends with its process."""
    deadline_s = time.monotonic() + BUILD_TIMEOUT_S
    with path.open("w") as file:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline_s:
                raise ServerError(f"Another process has held {path} for {BUILD_TIMEOUT_S:.0f} s.")
            time.sleep(BUILD_POLL_S)
        yield


def _minio_at(binary: str | None, origin: str) -> Program | None:
    """MinIO's binary as a program, or nothing where it does not run or is another program."""
    if binary is None:
        return None
    _, said = _attempt([binary, "--version"], {"HOME": os.devnull}, PROBE_TIMEOUT_S)
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


def _attempt(command: Sequence[str], environ: Environment, timeout_s: float) -> tuple[bool, str]:
    """Whether a command succeeded, and the end of what it said."""
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, _last_lines(done.stdout)


def is_ci(environ: Environment) -> bool:
    """Whether these variables say that nobody watches, so that nothing may be left out."""
    return environ.get("CI", "").lower() not in {"", "0", "false"}


# --- the owner's end -----------------------------------------------------------------------------


def _launch(
    program: Program, port: int, data: Path | None, environ: Environment
) -> tuple[subprocess.Popen[str], int]:
    """Returns the keeper of a server that answers, and the server's process id."""
    folder = Path(tempfile.mkdtemp(prefix="bucket-indexer-s3-"))
    command = program.command(port, data or folder / "data")
    order = {"command": command, "clear_up": program.clear_up, "folder": str(folder)}
    foreign = ("AWS_", "MINIO_", "MOTO_")
    environ = {key: value for key, value in environ.items() if not key.startswith(foreign)}
    keeper = subprocess.Popen(
        [sys.executable, "-I", __file__, KEEP, json.dumps(order)],
        env={**environ, **program.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Ctrl-C is for the owner, who lets go of the pipe when it has finished.
        start_new_session=True,
    )
    try:
        assert keeper.stdout is not None
        readable, _, _ = select.select([keeper.stdout], [], [], KEEPER_TIMEOUT_S)
        pid = keeper.stdout.readline().strip() if readable else ""
        if not pid.isdigit():
            raise ServerError(f"{command[0]} could not be started. {pid}")
        _wait_for_health(keeper, program, port)
    except BaseException:
        _stop_keeper(keeper)
        raise
    return keeper, int(pid)


def _wait_for_health(keeper: subprocess.Popen[str], program: Program, port: int) -> None:
    name = f"{program.kind} from {program.origin}"
    deadline_s = time.monotonic() + HEALTH_TIMEOUT_S
    while True:
        answers = _answers(port, program.health_path)
        if keeper.poll() is not None:  # then whoever answered was a stranger
            assert keeper.stdout is not None
            last_words = keeper.stdout.read().strip()
            if re.search(r"(already|is) in use", last_words):
                raise PortTaken(f"Port {port} is in use by another program.")
            raise ServerError(f"{name} ended at once:\n{last_words}")
        if answers:
            return
        if time.monotonic() > deadline_s:
            raise ServerError(f"{name} did not answer on {port} in {HEALTH_TIMEOUT_S:.0f} s.")
        time.sleep(HEALTH_POLL_S)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop_keeper(keeper: subprocess.Popen[str]) -> None:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.close()
    # A fork of this process may hold a copy of the pipe, so the keeper is told as well.
    keeper.terminate()
    try:
        keeper.wait(KEEPER_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)  # the server is in its group
        keeper.wait()
    finally:
        keeper.stdout.close()


def _free_port(wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise PortTaken(f"Port {wanted} cannot be used: {error.strerror}.") from error
        port: int = probe.getsockname()[1]
        return port


# --- the keeper ----------------------------------------------------------------------------------

KEEP: Final = "--keep"


def keep(command: Sequence[str], clear_up: Sequence[str], folder: Path) -> None:
    """Runs a server until standard input ends, SIGTERM comes or the server ends; then clears up.

    Standard output gets the server's process id, and the end of its log if it ended by itself.
    """
    over = SimpleQueue[None]()  # which a signal handler may use
    signal.signal(signal.SIGTERM, lambda *_: over.put(None))
    log = folder / "server.log"
    try:
        with log.open("wb") as output:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )
        _tell(server.pid)
        for end in (server.wait, sys.stdin.buffer.read):
            threading.Thread(target=_then_put, args=(end, over), daemon=True).start()
        over.get()
        ended_by_itself = server.poll() is not None
        _end(server)
        if clear_up:
            _attempt(clear_up, os.environ, STOP_TIMEOUT_S)
        if ended_by_itself:
            _tell(_last_lines(log.read_text(errors="replace")))
    except OSError as error:
        _tell(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _then_put(wait: Callable[[], object], over: SimpleQueue[None]) -> None:
    wait()
    over.put(None)


def _tell(words: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(words, flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and ends it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])


# --- the command line ----------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Runs the script and returns its exit code."""
    if arguments[:1] == [KEEP]:
        order = json.loads(arguments[1])
        keep(order["command"], order["clear_up"], Path(order["folder"]))
        return 0
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with S3Server.start(options.kind, options.data, port=options.port) as server:
            _say(f"{server.kind} {server.version} from {server.origin}: {server.endpoint_url}")
            return _run(options.command, server) if options.command else _serve(server)
    except (ServerError, OSError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _serve(server: S3Server) -> int:
    print("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3")
    for name, value in server.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    _say(f"Process {server.pid}. Ctrl-C stops it.")
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
        _end(child)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] [-- COMMAND ...]",
        description="Runs an S3 server on loopback: until Ctrl-C, or as long as a command takes.",
    )
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["auto", "minio", "moto"], default="auto")
    parser.add_argument("--port", type=int, help="the port to listen on (default: a free one)")
    parser.add_argument(
        "--data", metavar="DIR", help="keep the data in this folder (default: a temporary one)"
    )
    return parser


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
