"""How much each benchmark does: the full sizes, and small ones that only try the harness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.filled import Files


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of objects, repeats and shapes of keys, by benchmark."""

    repeats: int = 3
    in_flight: int = 64
    """On the synthetic server, where not one."""

    is_fair: bool = True
    """Whether start-ups are measured apart, and what needs it is done once before it counts, which
    takes several times as long. `minio` does so in any case."""

    settle_s: float = 2.0
    """Between runs on MinIO, which may go on reading behind a listing."""

    minio_objects: int = 300_000
    minio_wandb_objects: int = 2_000

    margin_shapes: tuple[str, ...] = ("tree", "hex", "runs")
    margin_objects: tuple[int, int] = (10_000, 500_000)

    latency_ms: float = 200.0
    latency_shapes: tuple[str, ...] = ("hex", "deep_counter", "runs")
    latency_objects: int = 1_000_000
    latency_serial_objects: tuple[int, int] = (10_000, 50_000)

    small_objects: int = 10_000
    small_latencies_ms: tuple[float, ...] = (0.0, 20.0)
    small_pairs: int = 7

    memory_shapes: tuple[str, ...] = ("tree", "hex")
    memory_objects: tuple[int, int] = (500_000, 2_000_000)

    crowd_objects: int = 200_000
    crowd_latency_ms: float = 50.0
    crowd_jobs: int = 10
    crowd_clients: int = 200
    crowd_watched_objects: int = 50_000

    tracking_objects: int = 500_000

    folders_objects: int = 1_000_000

    query_objects: int = 2_000_000
    query_labels: int = 10_000

    heads_objects: int = 10_000
    heads_in_flight: int = 64

    checksums_objects: int = 256
    checksums_object_bytes: int = 8 << 20
    checksums_files: tuple[Files, ...] = (
        Files(16, folders=1, size_bytes=64 << 20),
        Files(20_000, folders=200, size_bytes=10_000),
    )

    stores_gcs_objects: int = 200_000
    stores_gcs_latency_ms: float = 20.0
    stores_files: Files = Files(200_000, folders=1_000, size_bytes=10)
    stores_http_files: Files = Files(5_000, folders=50, size_bytes=10)

    enrich_objects: int = 20_000
    enrich_object_bytes: int = 10_000
    enrich_changed: int = 200

    diff_shapes: tuple[str, ...] = ("runs", "hex")
    diff_objects: int = 2_000_000
    diff_changes: int = 1_000

    download_objects: int = 5_000
    download_object_bytes: int = 4_096
    download_large_objects: int = 4
    download_large_object_bytes: int = 256 << 20


FULL: Final = Sizes()
QUICK: Final = Sizes(
    repeats=1,
    is_fair=False,
    settle_s=0.0,
    minio_objects=2_000,
    minio_wandb_objects=20,
    margin_shapes=("hex",),
    margin_objects=(1_000, 20_000),
    latency_ms=20.0,
    latency_shapes=("hex",),
    latency_objects=20_000,
    latency_serial_objects=(1_000, 3_000),
    small_objects=2_000,
    small_latencies_ms=(0.0,),
    small_pairs=1,
    memory_shapes=("hex",),
    memory_objects=(5_000, 20_000),
    crowd_objects=2_000,
    crowd_latency_ms=5.0,
    crowd_jobs=2,
    crowd_clients=5,
    crowd_watched_objects=2_000,
    tracking_objects=5_000,
    folders_objects=2_000,
    query_objects=2_000,
    query_labels=100,
    heads_objects=300,
    heads_in_flight=8,
    checksums_objects=3,
    checksums_object_bytes=1 << 20,
    checksums_files=(Files(100, folders=2, size_bytes=1_000),),
    stores_gcs_objects=2_500,
    stores_gcs_latency_ms=2.0,
    stores_files=Files(300, folders=3, size_bytes=10),
    stores_http_files=Files(30, folders=3, size_bytes=10),
    enrich_objects=300,
    enrich_object_bytes=1_000,
    enrich_changed=3,
    diff_shapes=("runs",),
    diff_objects=40_000,
    diff_changes=100,
    download_objects=100,
    download_large_objects=1,
    download_large_object_bytes=9 << 20,
)
