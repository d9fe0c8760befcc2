"""The indexer beside other tools on a real MinIO: a tree, one flat directory, a versioned tree.

Invariants
  * Each bucket is loaded once and not written to while it is measured.
  * A bucket is listed once before anything is counted, as the first listing reads it from the disk.
  * The tools take turns, so that what changes on the machine meanwhile touches all of them.
  * Every tool has to find every object; W&B, which asks for each one singly, gets the first ones
    only, as its line says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.goals import OVER_HTTP
from benchmarks.macro.trigger import Triggers
from benchmarks.measure import Endpoint, RunFailed, Series
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, TOOLS, Tool
from deploy.s3_server import S3Server

BENCHMARK = "minio"
BUCKETS: Mapping[str, tuple[str, bool]] = {
    "tree": ("tree", False),
    "flat": ("flat", False),
    "versioned": ("tree", True),
}
"""By name: the shape of its keys, and whether it is versioned."""


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Loads MinIO, runs every tool that is installed, and records what they took."""
    missing = [tool.name for tool in TOOLS if not tool.is_installed]
    if missing:
        say(f"not installed, so left out: {', '.join(missing)}")
    installed = [tool for tool in TOOLS if tool.is_installed]
    with S3Server.start("minio") as server:
        say(f"minio {server.version} from {server.origin}")
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        for bucket, (shape, versioned) in BUCKETS.items():
            asyncio.run(
                load_bucket(endpoint, bucket, shape, sizes.minio_objects, versioned=versioned)
            )
        for bucket, (shape, versioned) in BUCKETS.items():
            # What other tools list by default takes no account of versions.
            tools = [OURS] if versioned else installed
            workload = {"server": f"minio {server.version}", "shape": shape, "versioned": versioned}
            Series(OURS.command(bucket, sizes.minio_objects), endpoint, OURS.count).run(
                sizes.minio_objects
            )
            runs = [_Runs(sitting, sizes, tool, bucket, endpoint) for tool in tools]
            triggers = Triggers(endpoint, bucket, sizes.minio_objects)
            for turn in range(sizes.repeats):
                for one in runs:
                    one.take(turn)
                if bucket == TRIGGERED:
                    triggers.run()
                    say(f"{bucket:9} {OVER_HTTP:22} {triggers.runs[-1]['wall_s']:8.2f} s")
                    time.sleep(sizes.settle_s)
            for one in runs:
                one.record(workload)
            if bucket == TRIGGERED:
                sitting.record(
                    BENCHMARK,
                    {**workload, "objects": sizes.minio_objects},
                    OVER_HTTP,
                    triggers.figures(),
                    samples=triggers.samples(),
                    version=OURS.version,
                )


TRIGGERED: Final = "tree"
"""The bucket that a daemon is asked for, too."""


class _Runs:
    """One tool's runs on one bucket."""

    def __init__(
        self, sitting: Sitting, sizes: Sizes, tool: Tool, bucket: str, endpoint: Endpoint
    ) -> None:
        self._sitting = sitting
        self._has_failed = False
        self._tool = tool
        self._bucket = bucket
        self._settle_s = sizes.settle_s
        self._objects = sizes.minio_wandb_objects if tool.is_partial else sizes.minio_objects
        self._series = Series(tool.command(bucket, self._objects), endpoint, tool.count)

    def take(self, turn: int) -> None:
        """Measures the tool's start-up, and runs it if it is its turn."""
        if self._has_failed:
            return
        try:
            self._series.start()
            if turn and self._tool.is_slow:
                return
            self._series.run(self._objects)
        except RunFailed as error:
            self._has_failed = True
            self._sitting.fail(f"{self._bucket}, {self._tool.name}", error)
            return
        say(f"{self._bucket:9} {self._tool.name:22} {self._series.runs[-1].wall_s:8.2f} s")
        time.sleep(self._settle_s)

    def record(self, workload: Mapping[str, Any]) -> None:
        """Keeps what came of it."""
        if self._has_failed:
            return
        part = {"only_the_first": self._objects} if self._tool.is_partial else {}
        self._sitting.record(
            BENCHMARK,
            {**workload, "objects": self._objects, **part},
            self._tool.name,
            self._series.figures(),
            samples=self._series.samples(),
            version=self._tool.version,
        )


async def load_bucket(
    endpoint: Endpoint, bucket: str, shape: str, count: int, *, versioned: bool
) -> None:
    """Makes a bucket of so many objects whose keys have a shape."""
    from aiobotocore.session import get_session

    from indexer.testing.buckets import fill
    from indexer.testing.keysets import keys

    started_s = time.monotonic()
    async with get_session().create_client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name=endpoint.region,
    ) as client:
        await client.create_bucket(Bucket=bucket)
        if versioned:
            await client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            )
        await fill(client, bucket, keys(shape, count), unpacks=True)
    elapsed_s = time.monotonic() - started_s
    say(f"{bucket:9} {count:,} objects loaded in {elapsed_s:.0f} s")
