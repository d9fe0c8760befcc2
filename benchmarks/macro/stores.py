"""Listing what is no S3, and nothing else: a bucket of GCS, a folder, a web server's index pages.

Invariants
  * No bytes of objects are read. Who needs it asks a web server for each file; all others are told
    all that they want by listings.
  * What stands for GCS is synthetic, and takes a time for each page as GCS does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from benchmarks.beside import Work, compare
from benchmarks.filled import Files, kind_of, quick_folder
from benchmarks.measure import Endpoint
from benchmarks.results import Sitting
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, Tool, count_number, neighbour, snapshot_of
from deploy.web_server import WebServer
from indexer.testing.synthetic_gcs import SyntheticGCS

BENCHMARK: Final = "stores"
SHAPE: Final = "tree"
BUCKET: Final = "objects"


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records all three."""
    _measure_gcs(sitting, sizes)
    _measure_files(sitting, sizes)
    _measure_http(sitting, sizes)


def _measure_gcs(sitting: Sitting, sizes: Sizes) -> None:
    count, latency_ms = sizes.stores_gcs_objects, sizes.stores_gcs_latency_ms
    with SyntheticGCS(buckets={BUCKET: f"{SHAPE}:{count}"}, latency_ms=latency_ms) as server:
        work = Work(
            benchmark=BENCHMARK,
            workload={
                "server": "synthetic GCS",
                "shape": "gs",
                "latency_ms": latency_ms,
                "in_flight": sizes.in_flight,
            },
            source=BUCKET,
            objects=count,
            endpoint=Endpoint(server.endpoint_url, "none", "none", "none"),
            # It renders an entry when it is first asked for, in each selection of fields.
            is_warmed=True,
        )
        compare(sitting, sizes, work, _gcs_tools(sizes.in_flight))


def _measure_files(sitting: Sitting, sizes: Sizes) -> None:
    files = sizes.stores_files
    with quick_folder(files.bytes, files.count) as folder:
        files.write(folder / "many")
        Files(1, folders=1, size_bytes=1).write(folder / "one")
        work = Work(
            benchmark=BENCHMARK,
            workload={"shape": "file", "place": kind_of(folder)},
            source=str(folder / "many"),
            objects=files.count,
            start_source=str(folder / "one"),
            is_warmed=True,
        )
        compare(sitting, sizes, work, FILE_TOOLS)


def _measure_http(sitting: Sitting, sizes: Sizes) -> None:
    files = sizes.stores_http_files
    with quick_folder(files.bytes, files.count) as folder:
        files.write(folder / "many")
        Files(1, folders=1, size_bytes=1).write(folder / "one")
        with WebServer.start("nginx", folder) as server:
            root = server.urls["html"]
            work = Work(
                benchmark=BENCHMARK,
                workload={"server": server.kind, "shape": "http", "in_flight": sizes.in_flight},
                source=f"{root}many/",
                objects=files.count,
                start_source=f"{root}one/",
            )
            compare(sitting, sizes, work, _http_tools(sizes.in_flight))


def _gcs_tools(in_flight: int) -> tuple[Tool, ...]:
    return (
        _ours(lambda bucket: f"gs://{bucket}", f"--in-flight={in_flight}"),
        Tool("gcsfs find", "list", "gcsfs", ("gcsfs",),
             neighbour("with_gcsfs"), count_number, is_slow=True),
        Tool("gcloud-aio-storage pages", "list", "gcloud-aio-storage", _GCLOUD,
             neighbour("with_gcloud_aio"), count_number, is_slow=True),
    )  # fmt: skip


def _http_tools(in_flight: int) -> tuple[Tool, ...]:
    return (
        _ours(lambda url: url, f"--in-flight={in_flight}"),
        Tool("fsspec http find + info", "list, a HEAD each", "fsspec", ("fsspec", "aiohttp"),
             neighbour("with_fsspec_http"), count_number, is_slow=True),
    )  # fmt: skip


def _ours(uri_of: Callable[[str], str], *options: str) -> Tool:
    return replace(OURS, command=lambda source, _objects: snapshot_of(uri_of(source), *options))


_GCLOUD: Final = ("gcloud", "gcloud.aio", "gcloud.aio.storage")

FILE_TOOLS: Final = (
    _ours(lambda folder: folder, "--checksum=none"),
    Tool("fsspec file find", "list", "fsspec", ("fsspec",),
         neighbour("with_fsspec_file"), count_number),
    Tool("os.walk + os.stat", "list", "", (), neighbour("with_walk"), count_number),
)  # fmt: skip
