"""Rows that wait: consecutive entries held in memory or, beyond a bound, in the content store.

Invariants
  * Rows are in key order, and taking over what follows keeps them so.
  * Spilled rows belong to one `Rows` alone; who reads them for good forgets them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pyarrow as pa

from indexer.content import ContentStore, decode_fragment, encode_fragment
from indexer.page import Page, join_pages
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class Spilled:
    """Rows in the content store, by name."""

    name: str
    rows: int


@dataclass(slots=True)
class Rows:
    """Consecutive rows in pieces; `memory_bytes` is what those in memory take."""

    pieces: list[Page | Spilled] = field(default_factory=list)
    count: int = 0
    memory_bytes: int = 0

    @classmethod
    def of(cls, page: Page) -> Rows:
        """The rows of one page."""
        return cls([page], page.num_rows, page.nbytes) if page.num_rows else cls()

    def extend(self, following: Rows) -> None:
        """Takes over the rows that follow."""
        self.pieces += following.pieces
        self.count += following.count
        self.memory_bytes += following.memory_bytes


class Waiting:
    """Where rows wait: moves them to the content store and reads them back."""

    def __init__(self, content: ContentStore, threads: Threads) -> None:
        self._content = content
        self._threads = threads

    async def spill(self, rows: Rows) -> list[Spilled]:
        """Moves what is in memory of the rows to the content store; all of them by name."""
        pieces: list[Spilled] = []
        pages: list[Page] = []
        for piece in [*rows.pieces, None]:
            if isinstance(piece, pa.RecordBatch):
                pages.append(piece)
                continue
            if pages:
                data = await self._threads.run(_encode, pages)
                name = await self._content.put(data)
                pieces.append(Spilled(name, sum(page.num_rows for page in pages)))
                pages = []
            if piece is not None:
                pieces.append(piece)
        rows.pieces, rows.memory_bytes = [*pieces], 0
        return pieces

    async def read(self, rows: Rows) -> AsyncIterator[Page]:
        """The rows as pages, in order; they stay where they are."""
        for piece in rows.pieces:
            if isinstance(piece, Spilled):
                data = await self._content.get(piece.name)
                for page in decode_fragment(data).to_batches():
                    yield page
            else:
                yield piece

    async def forget(self, rows: Rows) -> None:
        """Removes what was spilled of rows that nobody waits for any more."""
        for piece in rows.pieces:
            if isinstance(piece, Spilled):
                await self._content.delete(piece.name)
        rows.pieces, rows.count, rows.memory_bytes = [], 0, 0


def _encode(pages: list[Page]) -> bytes:
    return encode_fragment(join_pages(pages))
