"""Real processes on one data folder: two snapshot and remove, one collects garbage without grace.

Run as a program this file is one of those processes. It says what it did on standard output, a line
each, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexer.app import App, open_app
from indexer.artifact.handle import Handle
from indexer.catalog import garbage
from indexer.errors import NoSuchVersion
from indexer.references import ArtifactName
from indexer.wire.jobs import SnapshotOrder
from indexer.wire.retention import GarbageOrder

ROOT = Path(__file__).parents[2]
NAME = ArtifactName("project", "artifact")
SNAPSHOTS_MIN, DELETED_MIN, KILLS = 5, 20, 1
TIMEOUT_S = 120.0
AT_ONCE = GarbageOrder(grace_s=0.0)


# --- the processes


async def live(data: Path, task: str) -> None:
    # Nobody sets the clock back here, and a test has no minute to wait.
    garbage.CLOCK_SLACK_S = 0.0  # type: ignore[attr-defined]
    random, told = Random(task), asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with open_app(data) as app:
        while not told.done():
            if task == "collect":
                report = await app.collect_garbage(AT_ONCE)
                say({"deleted": report.total.files})
            else:
                say({"ref": await snapshot_and_remove(app, data.parent / task, random)})


def change(source: Path, random: Random) -> None:
    """Lets a folder have one of a few states."""
    source.mkdir(exist_ok=True)
    for number in range(6):
        path = source / f"{number}.txt"
        path.write_text("x" * random.choice((1, 2)))
        os.utime(path, (1, 1))


async def snapshot_and_remove(app: App, source: Path, random: Random) -> str:
    """Records a folder, and removes some version."""
    change(source, random)
    done = await app.snapshot(SnapshotOrder(uri=source.as_uri(), name=str(NAME), checksum="none"))
    with suppress(NoSuchVersion):
        found = await app.versions(NAME, limit=5)
        await app.remove_version(NAME, random.choice(found).number)
    return done.result.version.ref


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


# --- the test


class Process:
    """One of them, and what it has said."""

    def __init__(self, data: Path, task: str) -> None:
        self._call = (sys.executable, "-W", "error", __file__, str(data), task)
        self._process: asyncio.subprocess.Process
        self.said: list[dict[str, Any]] = []
        self.is_in_last_life = False

    async def live(self, changed: asyncio.Event, *, kills: int = 0) -> None:
        """Runs it, and kills and starts it anew so many times."""
        for life in range(kills + 1):
            self._process = process = await asyncio.create_subprocess_exec(
                *self._call,
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            try:
                while line := await process.stdout.readline():
                    self.said.append(json.loads(line))
                    self.is_in_last_life = life == kills
                    changed.set()
                    if life < kills and self.said[-1].get("deleted"):
                        os.kill(process.pid, signal.SIGKILL)
                        break
                code = await process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                raise
            assert code == (-signal.SIGKILL if life < kills else 0)

    def tell_to_end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def test_every_snapshot_is_made_and_reads_whole(data: Path) -> None:
    async with open_app(data):
        pass
    writers, collector = [Process(data, "one"), Process(data, "two")], Process(data, "collect")
    changed = asyncio.Event()

    def is_enough() -> bool:
        deleted = sum(line["deleted"] for line in collector.said)
        return (
            collector.is_in_last_life
            and deleted >= DELETED_MIN
            and all(len(writer.said) >= SNAPSHOTS_MIN for writer in writers)
        )

    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        group.create_task(collector.live(changed, kills=KILLS))
        for writer in writers:
            group.create_task(writer.live(changed))
        while not is_enough():
            await changed.wait()
            changed.clear()
        for process in (*writers, collector):
            process.tell_to_end()
    async with open_app(data) as app:
        for version in await app.versions(NAME):
            report = await Handle(app, version).verify_structure()
            assert report.is_right, report
        for version in await app.versions(NAME):
            await app.remove_version(NAME, version.number)
        # What was put within one tick of the clock is too new to be told from now.
        while (await app.collect_garbage(AT_ONCE)).kept.files:
            continue
    assert not files_left(data)


def files_left(data: Path) -> list[Path]:
    places = [data / name for name in ("shards", "blobs", "folders", "leases")]
    return [path for place in places for path in place.rglob("[!.]*") if path.is_file()]


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2]))
