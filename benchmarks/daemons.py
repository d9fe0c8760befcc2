"""Daemons to measure: each a process of its own, with a data folder that is empty before.

Invariants
  * What a daemon took is read from the kernel's account of its process, while it runs.
  * It has ended, and its folder is gone, when its block is left.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.measure import ROOT, Endpoint, RunFailed, environment
from benchmarks.tools import indexer_command

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.02
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon and where it listens."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """User and system CPU that it has taken by now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def memory_peak_bytes(self) -> float:
        """The most memory that it has had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) * 1024


@contextmanager
def running_daemon(
    endpoint: Endpoint,
    *options: str,
    data: Path | None = None,
    command: Sequence[str] = (),
) -> Iterator[RunningDaemon]:
    """`indexer serve`, which finds S3 at the endpoint; `data` is kept. Raises `RunFailed`.

    `command` runs our command in another way than users do.
    """
    with tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-") as name:
        folder = Path(name)
        data = data or folder / "data"
        output, errors = folder / "output", folder / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [*(command or indexer_command()), "serve", "--port=0", f"--data={data}", *options],
                cwd=ROOT,
                env=environment(folder, endpoint),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            url = _url(process, output, errors)
            yield RunningDaemon(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: subprocess.Popen[bytes], output: Path, errors: Path) -> str:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if (text := output.read_text()).endswith("\n"):
            return text.strip()
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    raise RunFailed(f"indexer serve did not start: {errors.read_text(errors='replace')[-2_000:]}")


async def snapshot(
    session: aiohttp.ClientSession, bucket: str, name: str, objects_max: int, **options: Any
) -> dict[str, Any]:
    """Triggers a snapshot over HTTP and follows it to its end. Raises `RunFailed`."""
    order = {"uri": f"s3://{bucket}/", "name": name, "max_objects": objects_max, **options}
    async with session.post("/api/v1/snapshots", json=order) as response:
        if response.status != 202:  # noqa: PLR2004 - accepted
            raise RunFailed(await response.text())
        job: dict[str, Any] = await response.json()
    async with session.get(f"/api/v1/jobs/{job['id']}/events") as response:
        await response.read()
    async with session.get(f"/api/v1/jobs/{job['id']}") as response:
        job = await response.json()
    if job["state"] != "succeeded":
        raise RunFailed(f"the job {job['state']}: {job['problem']}")
    return job
