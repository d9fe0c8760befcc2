"""Reading all bytes into MD5: of large objects on MinIO, of large files, and of many small ones.

Invariants
  * All read the same bytes, which are in memory, MinIO's too: no disk has a part in it.
  * What `hashlib` does with the same bytes on one core, in memory, is measured beside it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from benchmarks.beside import Work, compare
from benchmarks.filled import Files, Objects, kind_of, quick_folder
from benchmarks.goals import BARE_MD5, ONE_THREAD, TWO_THREADS
from benchmarks.measure import Endpoint
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes
from benchmarks.tools import (
    OURS,
    Tool,
    count_number,
    count_read,
    count_said,
    neighbour,
    snapshot_of,
    wandb,
)
from deploy.s3_server import S3Server

BENCHMARK: Final = "checksums"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records the objects, and files of each size."""
    _measure_objects(sitting, sizes)
    for files in sizes.checksums_files:
        _measure_files(sitting, sizes, files)


def _measure_objects(sitting: Sitting, sizes: Sizes) -> None:
    objects = Objects("checksums", sizes.checksums_objects, sizes.checksums_object_bytes)
    total_bytes = objects.count * objects.size_bytes
    with (
        quick_folder(total_bytes, objects.count) as folder,
        S3Server.start("minio", folder / "minio") as server,
    ):
        endpoint = Endpoint(
            server.endpoint_url, server.access_key, server.secret_key, server.region
        )
        objects.load(endpoint)
        work = Work(
            benchmark=BENCHMARK,
            workload={
                "server": f"minio {server.version}",
                "shape": _size_of("objects", objects.size_bytes),
                "place": kind_of(folder),
                "in_flight": sizes.in_flight,
            },
            source=objects.bucket,
            objects=objects.count,
            endpoint=endpoint,
            is_warmed=True,
        )
        compare(sitting, sizes, work, _object_tools(objects, sizes.in_flight))


def _measure_files(sitting: Sitting, sizes: Sizes, files: Files) -> None:
    with quick_folder(files.bytes, files.count) as folder:
        files.write(folder / "many")
        Files(1, folders=1, size_bytes=1).write(folder / "one")
        work = Work(
            benchmark=BENCHMARK,
            workload={"shape": _size_of("files", files.size_bytes), "place": kind_of(folder)},
            source=str(folder / "many"),
            objects=files.count,
            start_source=str(folder / "one"),
        )
        compare(sitting, sizes, work, FILE_TOOLS)


def _object_tools(objects: Objects, in_flight: int) -> tuple[Tool, ...]:
    def ours(bucket: str, _objects: int) -> list[str]:
        return snapshot_of(f"s3://{bucket}", "--checksum=md5", f"--in-flight={in_flight}")

    def bare(bucket: str, _objects: int) -> list[str]:
        numbers = (str(objects.count), str(objects.size_bytes))
        return [sys.executable, "-m", "benchmarks.macro.bare_md5", bucket, *numbers]

    def with_aiobotocore(bucket: str, objects: int) -> list[str]:
        return [*neighbour("md5_with_aiobotocore")(bucket, objects), str(in_flight)]

    def with_obstore(bucket: str, objects: int) -> list[str]:
        return [*neighbour("md5_with_obstore")(bucket, objects), str(in_flight)]

    def on_threads(bucket: str, objects: int) -> list[str]:
        return [*with_obstore(bucket, objects), "--threads"]

    return (
        replace(OURS, work="list, MD5, commit", command=ours, count=count_read),
        Tool(BARE_MD5, "MD5", "", (), bare, count_said, times_itself=True),
        Tool("aiobotocore get_object", "list, MD5", "aiobotocore", ("aiobotocore",),
             with_aiobotocore, count_said),
        Tool("obstore get_async", "list, MD5", "obstore", ("obstore",), with_obstore, count_said),
        Tool("obstore get, threads", "list, MD5", "obstore", ("obstore",), on_threads, count_said),
    )  # fmt: skip


def _on_threads(count: int) -> Tool:
    def command(folder: str, _objects: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.macro.our_files", folder, str(count)]

    name = {1: ONE_THREAD, 2: TWO_THREADS}[count]
    return replace(
        OURS, name=name, work="MD5", command=command, count=count_said, times_itself=True
    )


FILE_TOOLS: Final = (
    replace(
        OURS,
        work="list, MD5, commit",
        command=lambda folder, _objects: snapshot_of(folder, "--checksum=md5"),
        count=count_read,
    ),
    _on_threads(1),
    _on_threads(2),
    Tool("fsspec file + hashlib", "list, MD5", "fsspec", ("fsspec",),
         neighbour("md5_with_fsspec"), count_said),
    Tool("wandb add_reference", "list, MD5", "wandb", ("wandb",),
         lambda folder, objects: wandb(f"file://{folder}", objects), count_number),
)  # fmt: skip


def _size_of(what: str, size_bytes: int) -> str:
    if size_bytes >= 1 << 20:
        return f"{what} of {size_bytes >> 20} MiB"
    return f"{what} of {size_bytes // 1000} kB"
