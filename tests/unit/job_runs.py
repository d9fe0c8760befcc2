"""Jobs over buckets in memory, for tests: what a user asks for, done and looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from indexer.content import ContentStore
from indexer.entries import entries_of
from indexer.errors import (
    Ability,
)
from indexer.globs import Filters
from indexer.job import run_job
from indexer.keyspace import KEY_BYTES_MAX
from indexer.pipeline.trigger import SnapshotRequest
from indexer.preview import run_preview
from indexer.protocols import (
    CommitRequest,
    LoneObject,
    OpenedSource,
    Reach,
    Reached,
    Store,
    StoreProperties,
)
from indexer.records import CommitResult, Entry, Preview, Snapshot
from indexer.references import ArtifactName
from indexer.slice import SliceTools
from indexer.sources import SourceUri, parse_mounted
from indexer.stores.memory import MemoryConnection, MemoryObject, MemoryStore
from indexer.telemetry import Counters
from indexer.trackers.memory import MemoryTracker
from tests.unit.rows_model import MemoryBlobs
from tests.unit.scripted_store import made
from workers.budget import Budget
from workers.clock import SystemClock
from workers.threads import Threads

CLOCK = SystemClock()
NAME = ArtifactName("project", "artifact")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = StoreProperties(KEY_BYTES_MAX)
numbers = count()


@dataclass
class Connected:
    """A memory connection whose sources were opened at noon, and whose stores are wrapped."""

    memory: MemoryConnection
    wrap: Callable[[MemoryStore], Any]
    opened_at: datetime | None
    opened: list[frozenset[Ability]]
    notices: tuple[str, ...] = ()

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        self.opened.append(frozenset(without))
        source = await self.memory.open(uri, without=without)
        assert isinstance(source.store, MemoryStore)
        return replace(
            source,
            store=self.wrap(source.store),
            opened_at=self.opened_at,
            notices=lambda: self.notices,
        )

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        found = await self.memory.lone_object(uri)
        if found is None:
            return None
        assert isinstance(found.store, MemoryStore)
        return replace(found, store=self.wrap(found.store))

    async def objects(self, uri: SourceUri) -> Store:
        store: Store = self.wrap(await self.memory.objects(uri))
        return store

    async def credentials(self) -> str:
        return "none"


@dataclass
class World:
    """Buckets, a tracker, and jobs over them."""

    buckets: Mapping[str, dict[bytes, MemoryObject | None]]
    properties: StoreProperties = PLAIN
    in_flight: int = 4
    page_entries: int = 5
    wrap: Callable[[MemoryStore], Any] = lambda store: store
    opened_at: datetime | None = NOON
    notices: tuple[str, ...] = ()
    opened: list[frozenset[Ability]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    tracker: MemoryTracker = field(default_factory=lambda: MemoryTracker(CLOCK))

    def reach(self) -> Reach:
        @asynccontextmanager
        async def reach(_: SourceUri) -> AsyncIterator[Reached]:
            memory = MemoryConnection(self.buckets, self.properties, self.page_entries)
            connection = Connected(memory, self.wrap, self.opened_at, self.opened, self.notices)
            yield Reached(connection, lambda: self.in_flight, self.in_flight)

        return reach

    @asynccontextmanager
    async def tools(self) -> AsyncIterator[SliceTools]:
        self.counters = Counters()
        async with Threads(2) as threads:
            budget = Budget(1 << 26)
            yield SliceTools(
                content=ContentStore(MemoryBlobs()),
                tracker=self.tracker,
                threads=threads,
                budget=budget,
                counters=self.counters,
                clock=CLOCK,
            )
            assert budget.statistics().held == 0

    async def snapshot(self, *sources: str, **asked: Any) -> Snapshot:
        request = request_of(*sources, **asked)
        async with self.tools() as tools:
            return await run_job(request, self.reach(), tools, f"request-{next(numbers)}")

    async def preview(self, *sources: str, **asked: Any) -> Preview:
        async with self.tools() as tools:
            return await run_preview(request_of(*sources, **asked), self.reach(), tools)

    async def entries(self, done: Snapshot) -> list[Entry]:
        manifest = await self.tracker.manifest(done.result.version.digest)
        found: list[Entry] = []
        for shard in manifest.shards:
            found += entries_of(await self.tracker.shard(shard.digest), manifest.sources)
        return found

    async def paths(self, done: Snapshot) -> list[bytes]:
        return [entry.path for entry in await self.entries(done)]

    async def has_nothing(self) -> bool:
        return await self.tracker.parent(NAME) is None


def request_of(
    *sources: str, include: Sequence[str] = (), exclude: Sequence[str] = (), **asked: Any
) -> SnapshotRequest:
    return SnapshotRequest(
        sources=tuple(map(parse_mounted, sources)),
        name=NAME,
        filters=Filters(tuple(include), tuple(exclude)),
        **asked,
    )


def bucket(*keys: str) -> dict[bytes, MemoryObject | None]:
    return {key.encode(): made(key.encode()) for key in keys}


def numbered(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{at:03}" for at in range(number)]


def commit_spy(world: World) -> list[CommitRequest]:
    """What is committed from here on."""
    seen: list[CommitRequest] = []
    commit = world.tracker.commit

    async def spy(request: CommitRequest) -> CommitResult:
        seen.append(request)
        return await commit(request)

    world.tracker.commit = spy  # type: ignore[method-assign]
    return seen
