"""The benchmarks run from beginning to end, with small sizes, on MinIO and the synthetic server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.goals import AIOBOTOCORE_HEAD, OUR_HEAD, OVER_HTTP
from benchmarks.results import read
from benchmarks.tools import OURS, TOOLS
from tests.conftest import MACHINE_ENVIRONMENT

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


def test_the_daemon_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    done = bench("tracking", "folders", "crowd", "--results", str(file))
    assert done.returncode == 0, done.stderr
    found = {(one.benchmark, one.tool): one.figures for one in read(file)}
    assert found["tracking", OURS.name]["objects"] == 5_000
    assert found["tracking", "indexer snapshot --to"]["objects"] == 5_000
    assert found["folders", "GET …/entries?delimiter=/"]["page_s"] > 0
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
