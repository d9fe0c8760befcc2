"""Starts a server on loopback that ends with its owner and leaves nothing behind.

    python -I deploy/processes.py ORDER          is a keeper; see `keeper_command`

Invariants
  * A keeper process owns the server and holds one end of a pipe, the owner holds the other. However
    the owner ends, `kill -9` included, the pipe closes: the keeper stops the server by its process
    id and removes its folder. A data folder that the caller named is never removed.
  * What Go builds is built once, kept in the user's cache folder under its version, and built by
    one process at a time.
  * Every wait has a bound, named below.
  * Only the standard library of a POSIX Python is needed, and no other module of this folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Self

Environment = Mapping[str, str]

HOST: Final = "127.0.0.1"

PROBE_TIMEOUT_S: Final = 20.0
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
LOG: Final = "server.log"
"""What a server writes, in the folder that its keeper removes in the end."""

assert KEEPER_STOP_TIMEOUT_S > 2 * STOP_TIMEOUT_S
assert HEALTH_POLL_S < ANSWER_TIMEOUT_S < HEALTH_TIMEOUT_S


class ServerError(Exception):
    """No server can be had, or the one that was found does not run."""


class PortTaken(ServerError):
    """Another program listens on the port."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server that can be started: what it is, where it is from, and how it is run."""

    kind: str
    version: str
    origin: str
    command: Callable[[int, Path], list[str]]
    """From a port and a data folder to the words of a command line."""
    environment: Environment
    health_path: str
    clear_up: tuple[str, ...] = ()
    """A command to run when the server has ended."""
    folders: tuple[str, ...] = ()
    """What must be there in its data folder before it starts."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers; `pid` is its process, `keeper` the one that ends it."""

    program: Program
    port: int
    pid: int
    keeper: subprocess.Popen[str]


def start(
    program: Program,
    data: Path | None,
    environ: Environment,
    *,
    port: int | None = None,
    hidden: tuple[str, ...] = (),
) -> Running:
    """Starts a server and returns when it answers.

    Without `data` its data lives in a temporary folder. It sees the variables of `environ` but
    those that begin with one of `hidden`.

    Raises:
        ServerError: it does not answer within `HEALTH_TIMEOUT_S`.
        PortTaken: `port` was asked for and is in use.
    """
    environ = {key: value for key, value in environ.items() if not key.startswith(hidden)}
    for attempts_left in reversed(range(START_ATTEMPTS_MAX)):
        try:
            return _launch(program, _free_port(port), data, environ)
        except PortTaken:
            if port is not None or not attempts_left:
                raise
    raise AssertionError


class KeptServer:
    """A running server, and whoever keeps it; closed by `stop()`, or as a context manager."""

    __slots__ = ()

    _keeper: subprocess.Popen[str]

    def wait(self) -> None:
        """Returns when the server has ended, which it does not do by itself."""
        self._keeper.wait()

    def stop(self) -> None:
        """Stops the server and removes what it made; may be called again."""
        stop(self._keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def past_proxies() -> dict[str, str]:
    """The variables that lead clients to a server on loopback past a proxy, if there is one."""
    hosts = ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def stop(keeper: subprocess.Popen[str]) -> None:
    """Ends a server with its keeper; may be called again."""
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


def keeper_command(
    command: Sequence[str], folder: Path, *, clear_up: Sequence[str] = ()
) -> list[str]:
    """What to run, in a session of its own with its standard input a pipe, to have a keeper.

    It runs `command` within `folder` and says its process id; at the end it removes the folder.
    """
    order = {"command": list(command), "clear_up": list(clear_up), "folder": str(folder)}
    return [sys.executable, "-I", __file__, json.dumps(order)]


def attempt(command: Sequence[str], environ: Environment, timeout_s: float) -> tuple[bool, str]:
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


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and ends it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def say(words: str) -> None:
    """Tells the user, on standard error."""
    print(words, file=sys.stderr, flush=True)


# --- what Go builds ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program that Go builds: `package` at `version` becomes the binary `name`."""

    name: str
    package: str
    version: str

    def folder(self, environ: Environment) -> Path:
        """Where it is kept once it was built."""
        home = environ.get("HOME") or Path("~").expanduser()
        cache = environ.get("XDG_CACHE_HOME") or Path(home, ".cache")
        return Path(cache, "bucket-indexer", f"{self.name}-{self.version}")

    def built(self, environ: Environment) -> str | None:
        """The binary, if it was built before."""
        return shutil.which(self.folder(environ) / self.name)

    def build(self, environ: Environment) -> str | None:
        """The binary, built now if it was not before; None where that cannot be done."""
        go = shutil.which("go", path=environ.get("PATH"))
        if go is None:
            return None
        folder = self.folder(environ)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_name(f"{folder.name}.lock")):
            # Whoever waited for the lock finds it built.
            return self.built(environ) or self._build(go, folder, environ)

    def _build(self, go: str, folder: Path, environ: Environment) -> str | None:
        say(f"Building {self.name} {self.version} with Go: about two minutes, once.")
        started_s = time.monotonic()
        building = folder.with_name(f"{folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        environ = {**environ, "GOBIN": str(building), "GOFLAGS": "-buildvcs=false"}
        install = [go, "install", f"{self.package}@{self.version}"]
        done, said = attempt(install, environ, BUILD_TIMEOUT_S)
        if not done:
            say(f"Go could not build {self.name}:\n{said}")
            return None
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
        say(f"Built in {time.monotonic() - started_s:.0f} s, kept in {folder}")
        return self.built(environ)


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


# --- the owner's end -----------------------------------------------------------------------------


def _launch(program: Program, port: int, data: Path | None, environ: Environment) -> Running:
    """Returns a server when it answers."""
    folder = Path(tempfile.mkdtemp(prefix=f"bucket-indexer-{program.kind}-"))
    data = data or folder / "data"
    for name in program.folders:
        (data / name).mkdir(parents=True, exist_ok=True)
    command = program.command(port, data)
    keeper = subprocess.Popen(
        keeper_command(command, folder, clear_up=program.clear_up),
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
        stop(keeper)
        raise
    return Running(program, port, int(pid), keeper)


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


def keep(command: Sequence[str], clear_up: Sequence[str], folder: Path) -> None:
    """Runs a server until standard input ends, SIGTERM comes or the server ends; then clears up.

    Standard output gets the server's process id, and the end of its log if it ended by itself.
    """
    over = SimpleQueue[None]()  # which a signal handler may use
    signal.signal(signal.SIGTERM, lambda *_: over.put(None))
    log = folder / LOG
    try:
        with log.open("wb") as output:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )
        _tell(server.pid)
        for ending in (server.wait, sys.stdin.buffer.read):
            threading.Thread(target=_then_put, args=(ending, over), daemon=True).start()
        over.get()
        ended_by_itself = server.poll() is not None
        end(server)
        if clear_up:
            attempt(clear_up, os.environ, STOP_TIMEOUT_S)
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


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])


if __name__ == "__main__":
    ORDER: Final = json.loads(sys.argv[1])
    keep(ORDER["command"], ORDER["clear_up"], Path(ORDER["folder"]))
