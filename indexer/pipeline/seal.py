"""seal: one whole run becomes its shards, each told to the tracker unless it is known there.

Invariants
  * The shards of a run depend on its rows alone.
  * A run of any length is sealed in bounded memory: two bytes a row, and one shard.
  * A shard is in the tracker before its name is handed on.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from indexer.content import encode_shard
from indexer.keyspace import RUN_ROWS_MAX, cut_long_run, low_digests
from indexer.manifest import ShardRef
from indexer.page import Page, join_pages, paths_of, rows_digest
from indexer.pipeline.rows import Rows, Waiting
from indexer.protocols import Tracker
from indexer.telemetry import Counters
from workers.threads import Threads


class Sealer:
    """Seals runs for one job. `known` are digests of shards that the tracker surely holds."""

    def __init__(
        self,
        *,
        tracker: Tracker,
        waiting: Waiting,
        threads: Threads,
        counters: Counters,
        known: Collection[str] = (),
    ) -> None:
        self._tracker = tracker
        self._waiting = waiting
        self._threads = threads
        self._counters = counters
        self._known = known
        self._told: set[str] = set()

    async def seal(self, run: Rows) -> list[ShardRef]:
        """The shards of one whole run, in key order. The run's rows are forgotten."""
        lengths = [run.count] if run.count <= RUN_ROWS_MAX else await self._cut(run)
        shards: list[ShardRef] = []
        pages: list[Page] = []
        missing = lengths[0]
        async for page in self._waiting.read(run):
            while page.num_rows >= missing:
                shards.append(await self._seal_shard([*pages, page.slice(0, missing)]))
                page, pages = page.slice(missing), []  # noqa: PLW2901 - the rest of the page
                if len(shards) == len(lengths):
                    break
                missing = lengths[len(shards)]
            if page.num_rows:
                pages.append(page)
                missing -= page.num_rows
        assert len(shards) == len(lengths)
        await self._waiting.forget(run)
        return shards

    async def _cut(self, run: Rows) -> list[int]:
        digests = array("H")
        async for page in self._waiting.read(run):
            digests.extend(low_digests(paths_of(page)))
        return cut_long_run(digests)

    async def _seal_shard(self, pages: list[Page]) -> ShardRef:
        table, shard = await self._threads.run(_name, pages)
        is_known = shard.digest in self._known or shard.digest in self._told
        if is_known or not await self._tracker.missing([shard.digest]):
            self._counters.shards_reused += 1
        else:
            data = await self._threads.run(encode_shard, table)
            await self._tracker.put_shard(shard.digest, data)
            self._counters.shards_new += 1
            self._counters.shard_bytes += len(data)
        self._told.add(shard.digest)
        return shard


def _name(pages: list[Page]) -> tuple[pa.Table, ShardRef]:
    table = join_pages(pages)
    return table, ShardRef(
        max_path=table.column("path")[-1].as_py(),
        digest=rows_digest(table),
        rows=table.num_rows,
        size_bytes=pc.sum(table.column("size")).as_py(),
    )
