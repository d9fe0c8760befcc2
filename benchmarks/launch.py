"""Runs one program and says what it took; a small process, as a child's peak counts its parent's.

    python -I -S benchmarks/launch.py ORDER

ORDER is JSON: `command` (words), `timeout_s`, `output` and `errors` (files to write), and
`is_until_request`: then the program is led to a port of ours, and killed when it asks there for the
first time, so that what it took is its start-up. Standard output gets one JSON object: `exit_code`,
`wall_s`, `cpu_s` (user and system, of all its threads and the children it waited for) and
`memory_peak_bytes`.

Invariants
  * Only the standard library is imported.
  * The program and what it started are gone when this ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

ENDPOINT_VARIABLES: Final = (
    "AWS_ENDPOINT_URL",
    "AWS_S3_ENDPOINT_URL",
    "S3_ENDPOINT_URL",
    "STORAGE_EMULATOR_HOST",
)
"""How boto3 and those built on it, W&B, s5cmd, and clients of GCS are told where to ask."""

HOST: Final = "127.0.0.1"
POLL_S: Final = 0.2
"""How often it is looked whether a program that made no request yet is still there."""

MEMORY_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024
"""Of `ru_maxrss`."""


def main(order: dict[str, Any]) -> None:
    """Carries the order out and prints the figures."""
    carry_out = until_request if order["is_until_request"] else to_the_end
    print(json.dumps(carry_out(order)))


def to_the_end(order: dict[str, Any]) -> dict[str, float]:
    """What the program takes until it ends by itself."""
    started_s = time.perf_counter()
    child = _start(order, os.environ)
    clock = threading.Timer(order["timeout_s"], _kill, (child.pid,))
    clock.start()
    try:
        return _figures(child, lambda: time.perf_counter() - started_s)
    finally:
        clock.cancel()
        _kill(child.pid)


def until_request(order: dict[str, Any]) -> dict[str, float]:
    """What the program takes until its first request arrives. Raises TimeoutError if none does,
    RuntimeError if it ends before.
    """
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(POLL_S)
        endpoint = f"http://{HOST}:{listener.getsockname()[1]}"
        started_s = time.perf_counter()
        child = _start(order, {**os.environ, **dict.fromkeys(ENDPOINT_VARIABLES, endpoint)})
        try:
            with _accepted(listener, child, order["timeout_s"]) as connection:
                connection.settimeout(order["timeout_s"])
                connection.recv(1)
                wall_s = time.perf_counter() - started_s
        finally:
            _kill(child.pid)
        return _figures(child, lambda: wall_s)


def _accepted(
    listener: socket.socket, child: subprocess.Popen[bytes], timeout_s: float
) -> socket.socket:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if child.poll() is not None:
            raise RuntimeError("it ended without a request")
    raise TimeoutError("it made no request")


def _start(order: dict[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with open(order["output"], "wb") as output, open(order["errors"], "wb") as errors:  # noqa: PTH123
        return subprocess.Popen(
            order["command"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )


def _figures(child: subprocess.Popen[bytes], wall_s: Callable[[], float]) -> dict[str, float]:
    _, status, usage = os.wait4(child.pid, 0)
    taken_s = wall_s()
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit_code": child.returncode,
        "wall_s": taken_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_peak_bytes": usage.ru_maxrss * MEMORY_UNIT_BYTES,
    }


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
