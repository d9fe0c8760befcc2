"""enrich: fills what the listing left out, a page after the other, through bounded pools.

HEADs come first, as what they say is what an object is; then checksums are carried over from the
version before, where the object is the same; the rest are asked for or read.

Invariants
  * A page goes on whole: with the rows it came with, but for objects that are gone by now.
  * What a HEAD says replaces all that was listed of an object, so that a row is of one state.
  * An object that is no longer what was listed is looked at once more; if it changes again while it
    is read, that is an error which names it.
  * Of all pages together, no more objects are worked on at once than requests may be under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import cast

import msgspec

from indexer.errors import IndexerError, NoSuchObject, ObjectChanged, said_of
from indexer.limits import (
    ENRICH_PAGES_MAX,
)
from indexer.objects import Checksum, Head
from indexer.page import Page
from indexer.pipeline.carry import Carry
from indexer.pipeline.digest import Digester
from indexer.pipeline.edited import EditedPage
from indexer.pipeline.listing import ListedRows
from indexer.protocols import Digesting, Store, StoreProperties
from indexer.telemetry import Counters
from workers.channel import Channel
from workers.errors import single_error
from workers.pool import Pool
from workers.slots import Slots


class Wanted(msgspec.Struct, frozen=True):
    """What entries are to have: a checksum, and a version id where the listing tells none.

    With `of_moment` they are of a moment that is past, so that what is there now is no substitute.
    """

    checksum: str = "none"
    heads: bool = False
    of_moment: bool = False

    def is_listed(self, properties: StoreProperties) -> bool:
        """Whether listing such a store tells all of it."""
        return self.checksum == "none" and not self.heads and not properties.needs_head


class Enricher:
    """Enriches the pages of one store, with `in_flight` requests at once.

    `gone` counts objects that vanished, `changed` those that were found in another state than was
    listed, and of which no time after `touched_after` tells as much.
    """

    def __init__(
        self,
        store: Store,
        wanted: Wanted,
        *,
        digester: Digester | None,
        carry: Carry | None,
        path_prefix: bytes,
        in_flight: int,
        counters: Counters,
        uri_of: Callable[[bytes], str],
        touched_after: datetime | None = None,
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._digester = digester
        self._carry = carry
        self._path_prefix = path_prefix
        self._slots = Slots(in_flight)
        self._counters = counters
        self._uri_of = uri_of
        self._touched_after = touched_after
        self.gone = 0
        self.changed = 0

    async def run(self, source: Channel[ListedRows], out: Channel[ListedRows]) -> None:
        """Takes pages and sends them on as they are done. Raises what the store raises."""
        async with out.sending(), source.receiving(), Pool(ENRICH_PAGES_MAX) as pool:
            async for listed in source:
                await pool.submit(self._send, listed, out)

    async def _send(self, listed: ListedRows, out: Channel[ListedRows]) -> None:
        await out.send(ListedRows(listed.keys, await self.enrich(listed.rows)))

    async def enrich(self, page: Page) -> Page:
        """The page with what was wanted."""
        if not page.num_rows:
            return page
        rows = EditedPage(page, of_moment=self._wanted.of_moment)
        unknown: list[int] = []
        if self._store.properties.needs_head or self._wanted.heads:
            unknown = [row for row in range(page.num_rows) if self._needs_head(rows, row)]
            await self._each_row(rows, unknown, self._look)
        if self._wanted.checksum == "store":
            await self._ask_for_checksums(rows, asked=set(unknown))
        elif self._wanted.checksum != "none":
            await self._digest(rows)
        self.gone += len(rows.gone)
        self._counters.objects_enriched += page.num_rows
        return rows.page()

    # --- what a HEAD tells

    def _needs_head(self, rows: EditedPage, row: int) -> bool:
        return self._store.properties.needs_head or not rows.has_version(row)

    async def _look(self, rows: EditedPage, row: int) -> None:
        """Takes what a HEAD says of a row's object for what it is."""
        checksum = self._wanted.checksum == "store"
        try:
            head = await self._store.head(rows.key(row), checksum=checksum)
        except NoSuchObject:
            rows.gone.add(row)
            return
        if rows.is_listed_otherwise(row, head):
            self._count_changed(head)
        rows.heads[row] = head

    def _count_changed(self, head: Head) -> None:
        modified, since = head.last_modified, self._touched_after
        if modified is None or since is None or modified <= since:
            self.changed += 1

    async def _ask_for_checksums(self, rows: EditedPage, asked: set[int]) -> None:
        await self._carry_over(rows)
        missing = [row for row in rows.left() if rows.checksum(row) is None and row not in asked]
        await self._each_row(rows, missing, self._ask_for_checksum)

    async def _ask_for_checksum(self, rows: EditedPage, row: int) -> None:
        pin = rows.pin(row)
        try:
            head = await self._store.head(rows.key(row), version_id=pin.version_id, checksum=True)
        except NoSuchObject:
            rows.gone.add(row)
            return
        if rows.is_listed_otherwise(row, head):
            self._count_changed(head)
            rows.heads[row] = head
        elif head.checksum is not None:
            rows.checksums[row] = head.checksum

    # --- what the bytes tell

    async def _digest(self, rows: EditedPage) -> None:
        await self._carry_over(rows)
        missing = [row for row in rows.left() if not self._is_wanted(rows.checksum(row))]
        if self._store.properties.digests:
            await self._digest_in_place(rows, missing)
        else:
            await self._each_row(rows, missing, self._digest_one)

    async def _carry_over(self, rows: EditedPage) -> None:
        if self._carry is None:
            return
        carried = await self._carry.checksums(rows.settled(), self._path_prefix)
        for row, checksum in carried.items():
            if row not in rows.gone and not self._is_wanted(rows.checksum(row)):
                rows.checksums[row] = checksum
                self._counters.checksums_carried += 1

    def _is_wanted(self, checksum: Checksum | None) -> bool:
        if checksum is None:
            return False
        if self._wanted.checksum == "store":
            return True
        return (checksum.algorithm, checksum.type) == (self._wanted.checksum, "full_object")

    async def _digest_in_place(self, rows: EditedPage, wanted: list[int]) -> None:
        pins = [(rows.key(row), rows.pin(row)) for row in wanted]
        found = await cast("Digesting", self._store).digests(pins, self._wanted.checksum)
        for row, (_, pin), digest in zip(wanted, pins, found, strict=True):
            if isinstance(digest, bytes):
                self._take(rows, row, digest)
                self._counters.bytes_read += pin.size
            else:
                with said_of(self._uri_of(rows.key(row))):
                    await self._after_failure(rows, row, digest)

    async def _digest_one(self, rows: EditedPage, row: int) -> None:
        try:
            self._take(rows, row, await self._read(rows, row))
        except (NoSuchObject, ObjectChanged) as error:
            await self._after_failure(rows, row, error)

    async def _after_failure(self, rows: EditedPage, row: int, error: IndexerError) -> None:
        """Looks once more at an object that is not what it was when it was listed."""
        if isinstance(error, NoSuchObject) and self._wanted.of_moment:
            rows.gone.add(row)
            return
        # What is there now is no substitute for what was there at another moment.
        if self._wanted.of_moment or not isinstance(error, NoSuchObject | ObjectChanged):
            raise error
        try:
            head = await self._store.head(rows.key(row))
            rows.heads[row] = head
            self._take(rows, row, await self._read(rows, row))
        except NoSuchObject:
            rows.gone.add(row)
            return
        except ObjectChanged as again:
            raise ObjectChanged(
                f"{self._uri_of(rows.key(row))} was written again and again while it was read, so "
                f"that no checksum can be had of it. Snapshot again when it rests, or leave it out "
                f"with --exclude."
            ) from again
        self._count_changed(head)

    async def _read(self, rows: EditedPage, row: int) -> bytes:
        key, pin = rows.key(row), rows.pin(row)
        if self._store.properties.digests:
            (digest,) = await cast("Digesting", self._store).digests(
                [(key, pin)], self._wanted.checksum
            )
            if isinstance(digest, IndexerError):
                raise digest
            return digest
        assert self._digester is not None
        return await self._digester.digest(key, pin)

    def _take(self, rows: EditedPage, row: int, digest: bytes) -> None:
        rows.checksums[row] = Checksum(self._wanted.checksum, digest)
        self._counters.checksums_read += 1

    async def _each_row(
        self,
        rows: EditedPage,
        wanted: Sequence[int],
        work: Callable[[EditedPage, int], Awaitable[None]],
    ) -> None:
        """Does the work for each of the rows, for many at once. What it raises names the object."""
        waiting = iter(wanted)

        async def go_on() -> None:
            for row in waiting:
                await self._slots.acquire()
                try:
                    await work(rows, row)
                except IndexerError:
                    with said_of(self._uri_of(rows.key(row))):
                        raise
                finally:
                    self._slots.release()

        with single_error():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(wanted), self._slots.limit)):
                    group.create_task(go_on())
