"""Stores that misbehave, each in one way: a memory store with a fault in front of it.

    FaultyStore(MemoryStore(objects), silent_end(100))

Invariants
  * A fault changes answers, never the objects.
  * The same fault, seed and order of requests give the same answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import TypeAlias

import pyarrow as pa

from indexer.keyspace import Key, KeyRange
from indexer.objects import Head, Pin
from indexer.page import empty_page
from indexer.protocols import ListedPage, Sink, Store, StoreProperties
from indexer.stores.memory import MemoryStore, make_token, read_token


@dataclass(frozen=True, slots=True)
class Question:
    """What a page is asked for: the key that it should begin after, by token or not, the prefix."""

    after: Key | None
    by_token: bool
    prefix: Key

    @property
    def token(self) -> str | None:
        """A token that asks the same again."""
        return None if self.after is None else make_token(self.after, self.prefix)


Fault: TypeAlias = Callable[[MemoryStore, Question], ListedPage]


class FaultyStore:
    """A memory store that answers as its fault has it. See `protocols.Store`."""

    def __init__(self, store: MemoryStore, fault: Fault) -> None:
        self._store = store
        self._fault = fault

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        after = keys.after if token is None else read_token(token, prefix)
        return self._fault(self._store, Question(after, token is not None, prefix))

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        return await self._store.head(key, version_id=version_id, checksum=checksum)

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        await self._store.read(key, pin, sink, start=start, end=end)


class DelayedStore:
    """A store each answer of which is waited for: `delay` is called before it is asked for."""

    def __init__(self, store: Store, delay: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._delay = delay

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        await self._delay()
        return await self._store.list_page(keys, prefix=prefix, token=token)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        await self._delay()
        return await self._store.head(key, version_id=version_id, checksum=checksum)

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        await self._delay()
        await self._store.read(key, pin, sink, start=start, end=end)


# --- what a server may do ------------------------------------------------------------------------


def short_pages(seed: int = 0) -> Fault:
    """Pages of random length, at least one entry."""
    chance = Random(seed)

    def fault(store: MemoryStore, asked: Question) -> ListedPage:
        return store.page_after(asked.after, asked.prefix, chance.randint(1, 10))

    return fault


def empty_pages(every: int) -> Fault:
    """Every so many answers are an empty page with a token that leads on."""
    assert every > 1
    numbers = count(1)

    def fault(store: MemoryStore, asked: Question) -> ListedPage:
        if next(numbers) % every or asked.after is None:
            return store.page_after(asked.after, asked.prefix)
        return ListedPage(empty_page(), 0, None, None, more=True, token=asked.token)

    return fault


def extra_entry(store: MemoryStore, asked: Question) -> ListedPage:
    """One entry more than was asked for."""
    usual = store.page_after(asked.after, asked.prefix)
    return store.page_after(asked.after, asked.prefix, usual.entries + 1)


# --- what none should do -------------------------------------------------------------------------


def ignored_start(store: MemoryStore, asked: Question) -> ListedPage:
    """Where to begin is ignored, but for tokens."""
    return store.page_after(asked.after if asked.by_token else None, asked.prefix)


def same_page(store: MemoryStore, asked: Question) -> ListedPage:
    """Always the first page, wherever it should begin."""
    return store.page_after(None, asked.prefix)


def endless_nothing(store: MemoryStore, asked: Question) -> ListedPage:
    """After the first page, empty pages for ever."""
    if asked.after is None:
        return store.page_after(asked.after, asked.prefix)
    return ListedPage(empty_page(), 0, None, None, more=True, token=asked.token)


def more_without_token(store: MemoryStore, asked: Question) -> ListedPage:
    """The page after the last one is empty, says that there is more, and does not lead there."""
    page = store.page_after(asked.after, asked.prefix)
    return page if page.entries else replace(page, more=True)


def silent_end(entries: int) -> Fault:
    """Pages have no more than so many entries, and each claims to be the last."""

    def fault(store: MemoryStore, asked: Question) -> ListedPage:
        page = store.page_after(asked.after, asked.prefix, entries)
        return replace(page, more=False, token=None)

    return fault


def early_end(last: Key) -> Fault:
    """The page that a key is on claims to be the last, whatever comes after it."""

    def fault(store: MemoryStore, asked: Question) -> ListedPage:
        page = store.page_after(asked.after, asked.prefix)
        if page.first is None or page.last is None or not page.first <= last <= page.last:
            return page
        return replace(page, more=False, token=None)

    return fault


def disorder(seed: int = 0) -> Fault:
    """Two neighbouring rows of a page trade places, on one page in three."""
    chance = Random(seed)

    def fault(store: MemoryStore, asked: Question) -> ListedPage:
        page = store.page_after(asked.after, asked.prefix)
        rows = page.rows.num_rows
        if rows < 2 or chance.random() > 1 / 3:
            return page
        row = chance.randrange(rows - 1)
        order = [*range(row), row + 1, row, *range(row + 2, rows)]
        return replace(page, rows=page.rows.take(pa.array(order)))

    return fault
