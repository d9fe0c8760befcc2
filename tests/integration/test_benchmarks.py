"""The benchmarks run from beginning to end, with small sizes, on MinIO and the synthetic server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.goals import (
    AIOBOTOCORE_HEAD,
    BARE_MD5,
    FIRST,
    ONE_THREAD,
    OUR_DIFF,
    OUR_HEAD,
    OVER_HTTP,
    OVER_HTTP_QUERY,
    SECOND,
    TWO_THREADS,
)
from benchmarks.results import read
from benchmarks.tools import OURS, TOOLS
from deploy.web_server import Kind
from tests.conftest import MACHINE_ENVIRONMENT, WebFolder

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 300.0


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *arguments],
        cwd=ROOT,
        env=dict(MACHINE_ENVIRONMENT),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_the_synthetic_server_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("margin", "small", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.benchmark, one.tool, one.workload.get("objects")): one for one in read(file)}
    large = found["margin", OURS.name, 20_000]
    small = found["margin", OURS.name, 1_000]
    for one, objects in ((large, 20_000), (small, 1_000)):
        assert one.figures["objects"] == objects
        assert one.figures["requests"] >= objects / 1_000
        assert min(one.figures[name] for name in ("wall_s", "cpu_s", "start_cpu_s")) > 0
    assert ("margin", "indexer --help", None) in found
    assert ("small", "indexer.snapshot()", 2_000) in found
    assert "indexer.snapshot()" in done.stdout


def test_diffs_are_measured_beside_joins(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("diff", "--results", str(file))
    assert done.returncode == 0, done.stderr
    ours = [one for one in read(file) if one.tool == OUR_DIFF]
    assert [one.workload["place"] for one in ours] == ["100 in one folder", "100 scattered"]
    for one in ours:
        assert one.figures["changes"] == 100
        assert 0 < one.figures["shards_read"] <= one.figures["shards"]


@pytest.mark.usefixtures("minio")
def test_every_tool_that_is_here_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("minio", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.workload["shape"], one.workload["versioned"], one.tool) for one in read(file)}
    here = [tool.name for tool in TOOLS if tool.is_installed]
    assert found == {
        *(("tree", False, name) for name in here),
        *(("flat", False, name) for name in here),
        ("tree", False, OVER_HTTP),
        ("tree", True, OURS.name),
    }
    for tool in TOOLS:
        assert tool.is_installed or tool.name in done.stderr


@pytest.mark.usefixtures("minio")
def test_checksums_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("checksums", "enrich", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.workload["shape"], one.tool): one.figures for one in read(file)}
    objects, files = "objects of 1 MiB", "files of 1 kB"
    for tool in (OURS.name, BARE_MD5):
        assert found[objects, tool]["bytes"] == 3 << 20
    for tool in (OURS.name, ONE_THREAD, TWO_THREADS):
        assert found[files, tool]["bytes"] == 100_000
    assert all(figures["wall_s"] > 0 for figures in found.values())
    first, second = found["objects of 1 kB", FIRST], found["objects of 1 kB", SECOND]
    assert (first["checksums_read"], first["bytes_read"]) == (300, 300_000)
    assert (second["checksums_read"], second["bytes_read"]) == (3, second["bytes_changed"])
    assert second["checksums_carried"] == 297


def test_other_stores_are_measured(tmp_path: Path, web_folder: Callable[[Kind], WebFolder]) -> None:
    web_folder("nginx")  # else it is skipped
    file = tmp_path / "results.jsonl"
    done = bench("stores", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.workload["shape"], one.tool): one.figures for one in read(file)}
    for shape, objects in (("gs", 2_500), ("file", 300), ("http", 30)):
        assert found[shape, OURS.name]["objects"] == objects
    assert found["file", "os.walk + os.stat"]["objects"] == 300


def test_the_daemon_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("tracking", "folders", "query", "crowd", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.benchmark, one.tool): one.figures for one in read(file)}
    assert found["tracking", OURS.name]["objects"] == 5_000
    assert found["tracking", "indexer snapshot --to"]["objects"] == 5_000
    assert found["folders", "GET …/entries?delimiter=/"]["page_s"] > 0
    for tool in (OVER_HTTP_QUERY, "pandas"):
        assert found["query", tool]["objects"] == 2_000
    crowd = found["crowd", "indexer serve"]
    assert crowd["objects"] == 4_000
    assert 0 < crowd["status_p50_s"] <= crowd["status_p95_s"] <= crowd["status_p99_s"]


@pytest.mark.usefixtures("minio")
def test_asking_for_objects_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("heads", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {one.tool: one.figures for one in read(file)}
    assert found[OUR_HEAD]["objects"] == 300
    assert found[OUR_HEAD]["cpu_s"] > 0
    assert found[AIOBOTOCORE_HEAD]["wall_s"] > 0
