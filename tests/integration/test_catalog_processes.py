"""Real processes on one data folder: some commit, some are killed, and nothing is lost.

Run as a program this file is one of those processes: it commits, and says on standard output what
was committed, a line each.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from indexer.catalog.catalog import Catalog
from indexer.errors import CommitConflict
from indexer.protocols import Tracker
from indexer.testing.commits import NAME, Shard, make_shard, put_and_commit
from workers.clock import SystemClock

ROOT = Path(__file__).parents[2]
COMMITTERS = 4
KILLED = 4
LINES_OF_A_LIFE = 12
TIMEOUT_S = 120.0


@dataclass(slots=True)
class Committer:
    """A process that commits, and what it said it had committed."""

    folder: Path
    seed: int
    lines: list[dict[str, object]] = field(default_factory=list)

    async def live(self, *, kill: bool) -> None:
        """Lets the process do all its commits, or kills it at some moment of one of them."""
        random = Random(self.seed)
        last = random.randrange(LINES_OF_A_LIFE) if kill else None
        process = await start(self.folder, self.seed, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self.lines.append(json.loads(line))
                if len(self.lines) - 1 == last:
                    await asyncio.sleep(random.uniform(0, 0.03))
                    kill_hard(process)
        except BaseException:
            kill_hard(process)
            raise
        code = await process.wait()
        # One that is killed at its last line may be done by then.
        assert code == 0 or (kill and code == -signal.SIGKILL)


async def start(folder: Path, seed: int, *, stdout: int) -> asyncio.subprocess.Process:
    """A process that commits to the folder."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", __file__, str(folder), str(seed)),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=stdout,
    )


def kill_hard(process: asyncio.subprocess.Process) -> None:
    """Kills a process that was not waited for (its own `kill` may wait, and then `wait` fails)."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def contents_of(random: Random) -> list[Shard]:
    """What a source may hold: a few shards, often the same ones."""
    chosen = [number for number in range(6) if random.random() < 0.5]
    return [make_shard({f"{number}/{row:04}": row for row in range(2_000)}) for number in chosen]


async def commit_for_ever(folder: Path, seed: int) -> None:
    """What a process does: so many commits, each after whatever is newest then."""
    random = Random(seed)
    async with Catalog.open(folder, SystemClock()) as catalog:
        for _ in range(LINES_OF_A_LIFE):
            await commit_once(catalog.tracker, contents_of(random))


async def commit_once(tracker: Tracker, shards: list[Shard]) -> None:
    request_id = uuid4().hex
    while True:
        try:
            result = await put_and_commit(tracker, *shards, request_id=request_id)
        except CommitConflict:
            continue
        break
    version = result.version
    said = {"request_id": request_id, "number": version.number, "digest": version.digest}
    sys.stdout.write(json.dumps({**said, "created": result.created}) + "\n")
    sys.stdout.flush()


async def test_nothing_is_lost_when_some_are_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    committers = [Committer(folder, seed) for seed in range(COMMITTERS + KILLED)]
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        slots = asyncio.Semaphore(COMMITTERS)

        async def live(committer: Committer, *, kill: bool) -> None:
            async with slots:
                await committer.live(kill=kill)

        for committer in committers:
            group.create_task(live(committer, kill=committer.seed < KILLED))
    said = [line for committer in committers for line in committer.lines]
    assert len(said) >= COMMITTERS * LINES_OF_A_LIFE
    async with Catalog.open(folder, SystemClock()) as catalog:
        await check_versions(catalog, said)
    check_database(folder / "catalog.db")


async def check_versions(catalog: Catalog, said: list[dict[str, object]]) -> None:
    versions = (await catalog.reader.versions(NAME))[::-1]
    assert [version.number for version in versions] == list(range(len(versions)))
    assert versions[-1].aliases == ("latest",)
    digests = [version.digest for version in versions]
    assert not [n for n in range(1, len(digests)) if digests[n - 1] == digests[n]]
    for line in said:
        outcome = await catalog.tracker.outcome(str(line["request_id"]))
        assert outcome is not None
        assert (outcome.version.number, outcome.created) == (line["number"], line["created"])
        assert digests[outcome.version.number] == line["digest"]
    for version in versions:
        manifest = await catalog.tracker.manifest(version.digest)
        for shard in manifest.shards:
            assert (await catalog.content.shard(shard.digest)).num_rows == shard.rows
        scans = await catalog.reader.scans(NAME, f"v{version.number}")
        assert [scan.created for scan in scans] == [True] + [False] * (len(scans) - 1)
        assert all([json.loads(await catalog.content.get(scan.tiling)) for scan in scans])


def check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02])
async def test_a_folder_whose_maker_was_killed_is_made_anew(tmp_path: Path, delay_s: float) -> None:
    folder = tmp_path / "data"
    process = await start(folder, 0, stdout=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(TIMEOUT_S):
        while not (folder / "catalog.db").exists():
            await asyncio.sleep(0.001)
        await asyncio.sleep(delay_s)
        kill_hard(process)
        await process.wait()
    async with Catalog.open(folder, SystemClock()) as catalog:
        result = await put_and_commit(catalog.tracker, make_shard({"a": 1}))
        assert result.created
    check_database(folder / "catalog.db")


if __name__ == "__main__":
    asyncio.run(commit_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
