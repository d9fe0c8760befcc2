"""Several `indexer snapshot` processes on one data folder, some killed: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexer.app import open_app
from indexer.records import ScanSummary
from indexer.references import parse_name
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.integration.commands import TIMEOUT_S, Command, snapshot

OBJECTS = 20_000
LATENCY_MS = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    """Two buckets whose listings take as long as each other's."""
    buckets = {"one": f"tree:{OBJECTS}", "two": f"flat:{OBJECTS}"}
    with SyntheticS3(buckets=buckets, latency_ms=LATENCY_MS) as running:
        yield running


@pytest.fixture
def indexer(tmp_path: Path, server: SyntheticS3) -> Iterator[Command]:
    command = Command(tmp_path, server)
    yield command
    command.stop()


def begin(indexer: Command, uri: str, name: str, *options: str) -> subprocess.Popen[str]:
    given = ("--name", name, "--max-objects", str(OBJECTS), "--json", *options)
    return indexer.start("snapshot", uri, *given)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a snapshot said that went well."""
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    document: dict[str, Any] = json.loads(output)
    return document


def check_folder(data: Path) -> None:
    """Every version is there with all its rows, numbers have no gaps, the database is whole."""
    asyncio.run(check_versions(data))
    with closing(sqlite3.connect(data / "catalog.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def check_versions(data: Path) -> None:
    async with open_app(data, creates=False) as app:
        catalog = app.catalog
        for project in await catalog.reader.projects():
            for artifact in await catalog.reader.artifacts(project.name):
                versions = (await catalog.reader.versions(artifact.name))[::-1]
                assert [version.number for version in versions] == list(range(len(versions)))
                for version in versions:
                    manifest = await catalog.tracker.manifest(version.digest)
                    tables = [await catalog.content.shard(s.digest) for s in manifest.shards]
                    assert sum(table.num_rows for table in tables) == version.objects


async def scans_of(data: Path, name: str) -> list[ScanSummary]:
    async with open_app(data, creates=False) as app:
        return await app.catalog.reader.scans(parse_name(name), "v0")


def test_the_same_source_at_once_makes_one_version(indexer: Command) -> None:
    processes = [begin(indexer, "s3://one/", "p/a", "--alias", f"a{n}") for n in range(3)]
    done = [finish(process) for process in processes]
    assert sorted(d["created"] for d in done) == [False, False, True]
    assert {(d["ref"], d["objects"]) for d in done} == {("p/a:v0", OBJECTS)}
    assert len({d["digest"] for d in done}) == 1
    version = indexer("show", "p/a", "--json").document
    assert version["aliases"] == ["a0", "a1", "a2", "latest"]
    scans = asyncio.run(scans_of(indexer.data, "p/a"))
    assert [scan.created for scan in scans] == [True, False, False]
    check_folder(indexer.data)
    left = [path for path in (indexer.data / "blobs").rglob("*") if path.is_file()]
    # The root, and a tiling for each scan: what waited for its neighbours is gone.
    assert len(left) == 1 + len({scan.tiling for scan in scans})


def test_different_sources_at_once_make_a_version_each(indexer: Command) -> None:
    named = [("one", "p/same"), ("two", "p/same"), ("one", "q/own")]
    done = [finish(p) for p in [begin(indexer, f"s3://{b}/", name) for b, name in named]]
    assert [d["created"] for d in done] == [True] * 3
    assert sorted(d["ref"] for d in done) == ["p/same:v0", "p/same:v1", "q/own:v0"]
    newest = indexer("show", "p/same:latest", "--json").document
    assert newest["version"] == "v1"
    assert {d["digest"] for d in done[:2]} == {
        indexer("show", f"p/same:v{n}", "--json").document["digest"] for n in range(2)
    }
    check_folder(indexer.data)


def test_some_are_killed_and_the_others_lose_nothing(indexer: Command) -> None:
    random = Random(7)
    first = finish(begin(indexer, "s3://one/", "p/a"))
    lasting: list[dict[str, Any]] = []
    for number, bucket in enumerate(["two", "one"]):
        doomed = [begin(indexer, f"s3://{b}/", "p/a") for b in ("one", "two")]
        process = begin(indexer, f"s3://{bucket}/", f"p/{number}")
        # From before the first page to after the commit.
        time.sleep(random.uniform(0.8, 2.2))
        for other in doomed:
            other.kill()
        lasting.append(finish(process))
        for other in doomed:
            other.communicate(timeout=TIMEOUT_S)
            assert other.returncode in (0, -signal.SIGKILL)
    assert [d["created"] for d in lasting] == [True] * 2
    check_folder(indexer.data)
    versions = indexer("ls", "p/a", "--json").documents
    assert first["digest"] in {version["digest"] for version in versions}
    again = snapshot(indexer, "s3://one/", "--name", "p/a", "--max-objects", str(OBJECTS))
    assert again["digest"] == first["digest"]
    check_folder(indexer.data)


def test_the_first_ones_of_a_folder_may_be_killed(indexer: Command) -> None:
    random = Random(8)
    for _ in range(2):
        doomed = [begin(indexer, "s3://one/", "p/a") for _ in range(2)]
        time.sleep(random.uniform(0.6, 1.6))
        for process in doomed:
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
    done = finish(begin(indexer, "s3://one/", "p/a"))
    assert (done["objects"], done["version"]) == (OBJECTS, "v0")
    check_folder(indexer.data)
