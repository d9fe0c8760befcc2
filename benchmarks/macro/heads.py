"""Asking for objects one by one, on a real MinIO: our store beside aiobotocore and obstore.

Invariants
  * All ask for the same objects, as many at once, on a bucket that is not written to meanwhile.
  * Only the asking is timed, in each program's own process; the tools take turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.asking import SHAPE
from benchmarks.goals import AIOBOTOCORE_HEAD, OBSTORE_HEAD, OUR_HEAD
from benchmarks.macro.minio import load_bucket
from benchmarks.measure import Endpoint, run
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, TOOLS, Tool
from deploy.s3_server import S3Server

BENCHMARK = "heads"
OBSTORE_HEAD_THREADS: Final = "obstore head, threads"

_BUCKET: Final = "heads"
_ROUNDS_A_PROCESS: Final = 2


@dataclass(slots=True)
class _Asker:
    """A way to ask, and what its rounds took."""

    name: str
    tool: Tool
    module: str
    words: Sequence[str] = ()
    walls_s: list[float] = field(default_factory=list)
    cpus_s: list[float] = field(default_factory=list)

    def ask(self, endpoint: Endpoint, objects: int, in_flight: int) -> None:
        """Asks for all objects, a few times."""
        numbers = map(str, (objects, in_flight, _ROUNDS_A_PROCESS))
        command = [sys.executable, "-m", self.module, _BUCKET, *numbers, *self.words]
        for wall_s, cpu_s in json.loads(run(command, endpoint).output.splitlines()[-1]):
            self.walls_s.append(wall_s)
            self.cpus_s.append(cpu_s)
            say(f"{BENCHMARK:8} {self.name:24} {objects / wall_s:8.0f} a second")


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Loads MinIO, lets everyone who is installed ask, and records what that took."""
    tools = {tool.distribution: tool for tool in TOOLS}
    askers = [
        _Asker(OUR_HEAD, OURS, "benchmarks.macro.our_heads"),
        _Asker(
            AIOBOTOCORE_HEAD, tools["aiobotocore"], "benchmarks.neighbours.heads_with_aiobotocore"
        ),
        _Asker(OBSTORE_HEAD, tools["obstore"], "benchmarks.neighbours.heads_with_obstore"),
        _Asker(
            *(OBSTORE_HEAD_THREADS, tools["obstore"], "benchmarks.neighbours.heads_with_obstore"),
            ("--threads",),
        ),
    ]
    objects, in_flight = sizes.heads_objects, sizes.heads_in_flight
    with S3Server.start("minio") as server:
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        asyncio.run(load_bucket(endpoint, _BUCKET, SHAPE, objects, versioned=False))
        for _ in range(sizes.repeats):
            for asker in askers:
                if asker.tool.is_installed:
                    asker.ask(endpoint, objects, in_flight)
                    time.sleep(sizes.settle_s)
        for asker in askers:
            if not asker.walls_s:
                say(f"not installed, so left out: {asker.name}")
                continue
            sitting.record(
                BENCHMARK,
                {
                    "server": f"minio {server.version}",
                    "shape": SHAPE,
                    "objects": objects,
                    "in_flight": in_flight,
                },
                asker.name,
                {
                    "objects": objects,
                    "wall_s": median(asker.walls_s),
                    "cpu_s": median(asker.cpus_s),
                },
                samples={
                    "wall_s": [round(wall_s, 4) for wall_s in asker.walls_s],
                    "cpu_s": [round(cpu_s, 4) for cpu_s in asker.cpus_s],
                },
                version=asker.tool.version,
            )
