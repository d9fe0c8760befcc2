"""A store for tests of what asks for objects and reads them: it does as told, and notes it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa

from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.objects import SIZE_UNKNOWN, Checksum, Head, Pin
from indexer.page import Page, make_page
from indexer.pipeline.carry import Carry
from indexer.pipeline.digest import Digester
from indexer.pipeline.enrich import Enricher, Wanted
from indexer.protocols import ListedPage, Sink, StoreProperties
from indexer.stores.memory import MemoryObject, MemoryStore, page_of
from indexer.telemetry import Counters
from workers.budget import Budget
from workers.threads import Threads

Hook = Callable[[Key], Awaitable[None]]


def made(body: bytes, version_id: str | None = None) -> MemoryObject:
    """An object with these bytes."""
    return MemoryObject(len(body), hashlib.md5(body).hexdigest(), None, version_id, body=body)  # noqa: S324


async def do_nothing(_: Key) -> None:
    """The hook of a store that behaves."""


class ScriptedStore:
    """A memory store in front of which hooks are awaited. See `protocols.Store`.

    `told` are checksums that a HEAD tells when asked. With `pieces_bytes`, bodies come in pieces.
    """

    def __init__(
        self,
        objects: Mapping[bytes, MemoryObject | None],
        properties: StoreProperties | None = None,
        *,
        pieces_bytes: int = 1 << 30,
    ) -> None:
        self.memory = MemoryStore(objects, properties=properties, page_entries=5)
        self.told: dict[bytes, Checksum] = {}
        self.heads: list[bytes] = []
        self.reads: list[tuple[bytes, int, int | None]] = []
        self.on_head: Hook = do_nothing
        self.on_read: Hook = do_nothing
        self.on_piece: Hook = do_nothing
        self._pieces_bytes = pieces_bytes

    @property
    def properties(self) -> StoreProperties:
        return self.memory.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        return await self.memory.list_page(keys, prefix=prefix, token=token)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        self.heads.append(key)
        await self.on_head(key)
        head = await self.memory.head(key, version_id=version_id)
        return replace(head, checksum=self.told.get(key)) if checksum else head

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        self.reads.append((key, start, end))
        await self.on_read(key)
        store = self

        class Pieces:
            def restart(self) -> None:
                sink.restart()

            async def write(self, data: bytes) -> None:
                for at in range(0, len(data), store._pieces_bytes):
                    await store.on_piece(key)
                    await sink.write(data[at : at + store._pieces_bytes])

        await self.memory.read(key, pin, Pieces(), start=start, end=end)


DEFAULT = StoreProperties(KEY_BYTES_MAX)
NAMES_ALONE = replace(DEFAULT, needs_head=True)
VERSIONED = replace(DEFAULT, versions=True)


def listed(store: ScriptedStore) -> Page:
    """All objects of the store, as it lists them."""
    objects = {bytes(key): store.memory._objects[key] for key in store.memory._keys}
    if not store.properties.needs_head:
        return page_of(objects.items())
    return make_page(
        {
            "path": pa.array(list(objects), pa.binary()),
            "size": pa.array([SIZE_UNKNOWN] * len(objects), pa.int64()),
        }
    )


@dataclass
class Run:
    """An enricher, and what can be seen of it."""

    enricher: Enricher
    counters: Counters
    budget: Budget
    threads: Threads

    def holds_nothing(self) -> bool:
        """Whether all that was taken was given back."""
        return (
            self.budget.statistics().held == self.budget.statistics().waiting == 0
            and self.enricher._slots.in_flight == 0
            and self.threads.statistics().in_flight == 0
        )


@dataclass
class Enriching:
    """How pages are to be enriched."""

    store: ScriptedStore
    wanted: Wanted
    carry: Carry | None = None
    in_flight: int = 8
    path_prefix: bytes = b""
    budget: Budget = field(default_factory=lambda: Budget(1 << 26))

    @asynccontextmanager
    async def run(self, **more: object) -> AsyncIterator[Run]:
        counters = Counters()
        async with Threads(2) as threads:
            digester = Digester(
                self.store,
                self.wanted.checksum,
                threads=threads,
                budget=self.budget,
                counters=counters,
            )
            enricher = Enricher(
                self.store,
                self.wanted,
                digester=digester,
                carry=self.carry,
                path_prefix=self.path_prefix,
                in_flight=self.in_flight,
                counters=counters,
                uri_of=lambda path: f"s3://bucket/{path.decode()}",
                **more,  # type: ignore[arg-type]
            )
            yield Run(enricher, counters, self.budget, threads)
