"""Starting the server from Python, and steering one that runs.

Invariants
  * A server that was started here ends with its `SyntheticS3`, and with the process that made it.
  * Every wait is bounded.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from indexer.testing.keysets import SEED
from indexer.testing.synthetic_s3.control import PATH, Counters, LatencySetting, Load
from indexer.testing.synthetic_s3.faults import Faults
from indexer.testing.synthetic_s3.router import REGION

START_TIMEOUT_S = 120.0
"""Two million keys take some 15 s on an idle machine."""

STOP_TIMEOUT_S = 5.0


class Control:
    """Steers a synthetic server that is running somewhere on this machine."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url

    def load(
        self,
        bucket: str,
        keys: Sequence[bytes] | str = (),
        count: int = 0,
        *,
        seed: int = SEED,
        versioned: bool = False,
    ) -> None:
        """Make or replace a bucket of generated objects.

        `keys` ascend strictly, or name a shape of `keysets.SHAPES` of which `count` are made.
        Raises ValueError if the server does not take them.
        """
        if isinstance(keys, str):
            load = Load(shape=keys, count=count, seed=seed, versioned=versioned)
        else:
            load = Load(keys=tuple(keys), versioned=versioned)
        self._call("PUT", f"buckets/{bucket}", load)

    def faults(self, bucket: str, **options: Any) -> None:
        """Let the bucket misbehave from now on: `options` are the fields of `Faults`, and none of
        them makes it behave. Counts of faults begin again.
        """
        self._call("PUT", f"buckets/{bucket}/faults", Faults(**options))

    def counters(self, bucket: str) -> Counters:
        """What the bucket has seen, such as `counters("b").requests["ListObjectsV2"]`."""
        return msgspec.json.decode(self._call("GET", f"buckets/{bucket}/counters"), type=Counters)

    def reset_counters(self, bucket: str) -> None:
        self._call("DELETE", f"buckets/{bucket}/counters")

    def latency(self, latency_ms: float, *, sigma: float = 0.0, seed: int = SEED) -> None:
        """How long each listing takes from now on: `sigma` spreads it log-normally."""
        setting = LatencySetting(latency_ms=latency_ms, sigma=sigma, seed=seed)
        self._call("PUT", "latency", setting)

    def _call(self, method: str, path: str, value: msgspec.Struct | None = None) -> bytes:
        """Raises ValueError with the server's words, OSError if it does not answer."""
        address = urlsplit(self.endpoint_url)
        assert address.hostname is not None
        connection = HTTPConnection(address.hostname, address.port, timeout=START_TIMEOUT_S)
        try:
            body = msgspec.json.encode(value) if value is not None else None
            connection.request(method, PATH + path, body)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != HTTPStatus.OK:
            raise ValueError(msgspec.json.decode(answer)["error"])
        return answer


class ServerProcess:
    """A server in a process of its own, from `start` (or `with`) to `stop`.

    `module` is run with the arguments, and says where it answers as `server.serve` does.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self.endpoint_url = ""
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Returns once the server listens. Raises RuntimeError if it does not come to that."""
        assert self._process is None
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            self.endpoint_url = _endpoint_url(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server. Does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class SyntheticS3(ServerProcess, Control):
    """The server in a process of its own.

    Credentials are anybody's: signatures are not checked, access keys only if one is given.
    """

    def __init__(
        self,
        *,
        buckets: Mapping[str, str] | None = None,
        versioned: Sequence[str] = (),
        latency_ms: float = 0.0,
        latency_sigma: float = 0.0,
        seed: int = SEED,
        access_key: str | None = None,
    ) -> None:
        """`buckets` maps names to `SHAPE:COUNT`, or to "" for an empty bucket."""
        arguments = [
            *(f"--bucket={name}={content}" for name, content in (buckets or {}).items()),
            *(f"--versioned={name}" for name in versioned),
            f"--latency-ms={latency_ms}",
            f"--latency-sigma={latency_sigma}",
            f"--seed={seed}",
            *([] if access_key is None else [f"--access-key={access_key}"]),
        ]
        super().__init__("indexer.testing.synthetic_s3", arguments)
        self.access_key = access_key or "synthetic"
        self.secret_key = "any"  # noqa: S105 - signatures are not checked
        self.region = REGION


def _endpoint_url(process: subprocess.Popen[bytes]) -> str:
    """What the server announces in its first line."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_TIMEOUT_S) else b""
    if not line:
        raise RuntimeError("the synthetic server did not start")
    url = msgspec.json.decode(line)["endpoint_url"]
    assert isinstance(url, str)
    return url
