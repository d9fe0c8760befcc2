"""Writers, removals and collections of garbage on one real data folder, their steps in any order.

Each actor stops before everything that blocks, which is all that it does to the database and the
files. A seed says who goes on, one at a time, so a failing seed fails again.

Invariants
  * Whoever holds a lease commits, unless the clock is set back while it runs. Others may find that
    a shard was deleted, and then nothing was recorded.
  * Whatever version there is reads whole, at any moment.
  * In the end there is nothing but what versions need.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexer.catalog.catalog import Catalog
from indexer.errors import CommitConflict, CorruptContent, NoSuchVersion
from indexer.manifest import read_manifest
from indexer.protocols import CommitRequest
from indexer.records import CommitResult
from indexer.testing.commits import NAME, Shard, make_request, make_shard, manifest_of
from workers.clock import SystemClock
from workers.threads import Threads

SHARDS = [make_shard({f"{number}/a": number, f"{number}/b": 1}) for number in range(4)]
SEEDS = 12
COMMITS = 3
SWITCHES, TICKS = 0.3, 0.1
GRACES_S = (0.0, 0.0, 5_400.0)
HOUR_NS = 3_600 * 10**9
OLD_NS = 10**9


@dataclass
class Gate:
    """Where an actor waits for its turn."""

    turn: asyncio.Event = field(default_factory=asyncio.Event)
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def park(self) -> None:
        self.waits.set()
        await self.turn.wait()
        self.turn.clear()
        self.waits.clear()


GATE: ContextVar[Gate | None] = ContextVar("gate", default=None)


@dataclass
class World:
    """The actors, and the folder that they share, opened as by so many processes."""

    random: Random
    root: Path
    ages_leases: bool
    gates: list[Gate] = field(default_factory=list)
    committed: int = 0
    lost: list[str] = field(default_factory=list)

    async def run(self, actors: list[Coroutine[Any, Any, None]]) -> None:
        """Lets one actor after another go on to its next step, until all are done."""
        async with asyncio.TaskGroup() as group:
            for actor in actors:
                gate = Gate()
                self.gates.append(gate)
                group.create_task(self._live(gate, actor))
            gate = self.gates[0]
            while self.gates:
                if gate not in self.gates or self.random.random() < SWITCHES:
                    gate = self.random.choice(self.gates)
                await gate.waits.wait()
                if self.random.random() < TICKS:
                    self._let_time_pass()
                    check_whole(self.root)
                gate.waits.clear()
                gate.turn.set()
                await gate.waits.wait()

    async def _live(self, gate: Gate, actor: Coroutine[Any, Any, None]) -> None:
        GATE.set(gate)
        try:
            await gate.park()
            await actor
        finally:
            self.gates.remove(gate)
            gate.waits.set()

    def _let_time_pass(self) -> None:
        """Lets all files be an hour older, and leases too unless their clock was set back."""
        for place in ("shards", "blobs", "folders", *(["leases"] if self.ages_leases else ())):
            for path in (self.root / place).rglob("*"):
                if not path.is_file():
                    continue
                modified_ns = path.stat().st_mtime_ns - HOUR_NS
                os.utime(path, ns=(modified_ns, modified_ns))

    # --- actors

    async def write(self, catalog: Catalog) -> None:
        for _ in range(COMMITS):
            shards = [shard for shard in SHARDS if self.random.random() < 0.5]
            is_leased = self.random.random() < 0.7
            try:
                with catalog.leases.hold() if is_leased else nullcontext():
                    await self._snapshot(catalog, shards)
                self.committed += 1
            except CorruptContent as error:
                if is_leased and self.ages_leases:
                    raise
                self.lost.append(str(error))

    async def _snapshot(self, catalog: Catalog, shards: list[Shard]) -> CommitResult:
        """What a job does to its tracker: shards of the parent are not asked for."""
        tracker, known, parent = catalog.tracker, set[str](), await catalog.tracker.parent(NAME)
        if parent is not None:
            try:
                manifest = await tracker.manifest(parent.digest)
                known = {shard.digest for shard in manifest.shards}
            except NoSuchVersion:
                parent = None
        for shard in shards:
            if shard.ref.digest not in known and await tracker.missing([shard.ref.digest]):
                await tracker.put_shard(shard.ref.digest, shard.data)
        request = make_request(manifest_of(*shards), expect=parent.digest if parent else None)
        return await self._commit(catalog, request)

    async def _commit(self, catalog: Catalog, request: CommitRequest) -> CommitResult:
        while True:
            try:
                return await catalog.tracker.commit(request)
            except CommitConflict:
                parent = await catalog.tracker.parent(NAME)
                request = replace(request, expect=parent.digest if parent else None)

    async def remove(self, catalog: Catalog) -> None:
        for _ in range(2 * COMMITS):
            try:
                found = await catalog.reader.versions(NAME)
                if found:
                    await catalog.retention.remove(NAME, self.random.choice(found).number)
            except NoSuchVersion:
                continue

    async def collect(self, catalog: Catalog) -> None:
        for _ in range(2 * COMMITS):
            await catalog.garbage.collect(self.random.choice(GRACES_S))


def check_whole(root: Path) -> None:
    """Every version that is there has all of its files."""
    assert needed_files(root) <= all_files(root)


def needed_files(root: Path) -> set[Path]:
    with closing(sqlite3.connect(root / "catalog.db")) as connection:
        there = "versions WHERE deleted_at IS NULL"
        digests = connection.execute(f"SELECT manifest_digest FROM {there}").fetchall()  # noqa: S608
        tilings = connection.execute(
            f"SELECT tiling FROM scans WHERE version_id IN (SELECT id FROM {there})"  # noqa: S608
        ).fetchall()
    stems = {digest.removeprefix("sha256:") for (digest,) in digests}
    roots = {root / "blobs" / stem[:2] / stem for stem in stems}
    shards = {shard.digest for path in roots for shard in read_manifest(path.read_bytes()).shards}
    return {
        *roots,
        *(root / "blobs" / name[:2] / name for (name,) in tilings),
        *(root / "shards" / name[:2] / f"{name}.parquet" for name in shards),
    }


def all_files(root: Path) -> set[Path]:
    return {path for place in ("shards", "blobs") for path in (root / place).glob("*/*")}


@asynccontextmanager
async def open_catalogs(root: Path) -> AsyncIterator[list[Catalog]]:
    async with (
        Catalog.open(root, SystemClock()) as first,
        Catalog.open(root, SystemClock()) as second,
    ):
        yield [first, second]


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each actor wait for its turn before each of its calls that block."""
    run = Threads.run

    async def run_in_turn(threads: Threads, *call: Any) -> Any:
        gate = GATE.get()
        if gate is not None:
            await gate.park()
        return await run(threads, *call)

    monkeypatch.setattr(Threads, "run", run_in_turn)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_order_of_steps_loses_anything(tmp_path: Path, seed: int) -> None:
    async with open_catalogs(tmp_path / "data") as catalogs:
        world = World(Random(seed), tmp_path / "data", ages_leases=seed % 3 > 0)
        one, other = catalogs
        await world.run(
            [
                world.write(one),
                world.write(other),
                world.remove(one),
                world.collect(one),
                world.collect(other),
            ]
        )
        assert world.committed + len(world.lost) == 2 * COMMITS
        assert all("snapshot the source again" in said for said in world.lost)
        check_whole(world.root)
        for version in await one.reader.versions(NAME):
            manifest = await one.tracker.manifest(version.digest)
            for shard in manifest.shards:
                assert (await other.tracker.shard(shard.digest)).num_rows == shard.rows
        assert not list((world.root / "leases").iterdir())
        for path in all_files(world.root):
            os.utime(path, ns=(OLD_NS, OLD_NS))
        await other.garbage.collect(0.0)
        assert all_files(world.root) == needed_files(world.root)
