"""One job, from what was asked for to a committed version: open → slices → commit.

Invariants
  * Nothing is committed unless the tiles of what was listed cover the source without gap or
    overlap, and their counts add up to the manifest's.
  * When a server turns out not to do what it seemed to, the job starts again without relying on
    it; nothing of what was listed until then is used.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise

import msgspec

from indexer.commit_rules import type_of
from indexer.errors import Ability, AmbiguousSource, IndexerError, NoSuchSource
from indexer.keyspace import Key, KeyRange
from indexer.limits import SEALS_IN_FLIGHT_MAX
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import Page
from indexer.pipeline.commit import commit, wanted_of
from indexer.pipeline.listing import Tile
from indexer.pipeline.rows import Waiting
from indexer.pipeline.shard import Assembler, stretch_of
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import Connection, OpenedSource, Store, Tracker
from indexer.records import CommitResult, Consistency, ScanRecord, Snapshot
from indexer.slice import SliceContext, SliceWork, read_result, run_range, sealer_of
from indexer.telemetry import Counters
from workers.clock import Clock
from workers.errors import single_error
from workers.local import LocalExecutor
from workers.pool import Pool


@dataclass(frozen=True, slots=True)
class JobParts:
    """What a job works with: `context` gives a slice its own, for a store that was opened."""

    connection: Connection
    tracker: Tracker
    context: Callable[[Store, Sequence[str]], SliceContext]
    clock: Clock
    counters: Counters


@dataclass(slots=True)
class _Scan:
    """One attempt at listing a source."""

    source: OpenedSource
    context: SliceContext
    shards: list[ShardRef] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    lone: Page | None = None
    is_partial: bool = False


async def run_job(request: SnapshotRequest, parts: JobParts, request_id: str) -> Snapshot:
    """Does what was asked for, and commits it by the name of `request_id`.

    Raises everything that `errors` draws; then no version was made.
    """
    started_s, started_at = parts.clock.monotonic(), parts.clock.now()
    parent = await parts.tracker.parent(request.name, partial=False)
    # Asked again by the commit; a listing in vain is spared by asking now.
    type_of(request.name, parent.type if parent else None, request.type)
    before = await parts.tracker.manifest(parent.digest) if parent else None
    scan = await _scan_as_able(request, parts, before)
    manifest = _manifest(request, scan)
    expected = parent
    if scan.is_partial:
        expected = await parts.tracker.parent(request.name, partial=True)
    record = _record(scan, manifest, started_at, parts)
    result = await commit(
        parts.tracker,
        wanted_of(request, manifest, record, request_id, expected.digest if expected else None),
    )
    elapsed_s = parts.clock.monotonic() - started_s
    return snapshot_of(result, record.listed, parts.counters, elapsed_s, scan.source.warnings)


def snapshot_of(
    result: CommitResult,
    listed: int,
    counters: Counters,
    elapsed_s: float,
    warnings: tuple[str, ...] = (),
) -> Snapshot:
    """What a commit and the figures of its job come to."""
    return Snapshot(
        result=result,
        listed=listed,
        shards_new=counters.shards_new,
        shards_reused=counters.shards_reused,
        requests=counters.requests,
        elapsed_s=elapsed_s,
        warnings=warnings,
    )


async def _scan_as_able(
    request: SnapshotRequest, parts: JobParts, before: Manifest | None
) -> _Scan:
    """Scans with every ability of the store, and again without one that it turns out to lack."""
    without: set[Ability] = set()
    while True:
        source = await parts.connection.open(request.uri, without=without)
        try:
            return await _scan(request, parts, source, before)
        except IndexerError as error:
            if error.do_without is None or error.do_without in without:
                raise
            without.add(error.do_without)
            parts.counters.start_again()


async def _scan(
    request: SnapshotRequest, parts: JobParts, source: OpenedSource, before: Manifest | None
) -> _Scan:
    """Lists the folder that the URI may name while a HEAD looks for the object it may name."""
    known = [shard.digest for shard in before.shards] if before else []
    scan = _Scan(source, parts.context(source.store, known))
    seeds = [Key(shard.max_path) for shard in before.shards[:-1]] if before else []
    with single_error():
        async with asyncio.TaskGroup() as group:
            group.create_task(_list_folder(request, scan, seeds))
            if not request.uri.names_folder:
                group.create_task(_look_for_object(request, parts, scan))
    if scan.lone is not None:
        if scan.shards:
            raise _ambiguous(request, scan)
        await _take_object(scan, scan.lone, parts.clock.now())
    return scan


async def _look_for_object(request: SnapshotRequest, parts: JobParts, scan: _Scan) -> None:
    scan.lone = await parts.connection.lone_object(request.uri)
    if scan.lone is None:
        return
    # A large folder is better found out before all of it is listed.
    page = await scan.source.store.list_page(KeyRange())
    if page.rows.num_rows:
        raise _ambiguous(request, scan)


def _ambiguous(request: SnapshotRequest, scan: _Scan) -> AmbiguousSource:
    return AmbiguousSource(
        f"{request.uri} is both an object and a folder ({scan.source.folder}). Write "
        f"{scan.source.folder} for the folder; an object beside a folder of its name cannot "
        f"be referenced alone."
    )


async def _list_folder(request: SnapshotRequest, scan: _Scan, seeds: list[Key]) -> None:
    executor = LocalExecutor(partial(run_range, scan.context), slots=1)
    ranges = [KeyRange()]
    async with _assembling(scan.context, seals=not request.keeps_first) as assembler:
        while ranges:
            work = SliceWork(
                uri=str(request.uri),
                ranges=ranges,
                seeds=seeds,
                pages_max=request.slice_pages_max,
                objects_max=request.objects_max,
                objects_before=0 if request.keeps_first else sum(t.listed for t in scan.tiles),
                keeps_first=request.keeps_first,
            )
            answer = await executor.submit(msgspec.msgpack.encode(work))
            stretches, tiles, ranges = read_result(answer)
            for stretch in stretches:
                await assembler.add(stretch)
            scan.tiles += tiles
            if request.keeps_first and assembler.stretches[0].rows > request.objects_max:
                # What lies beyond the first objects is not wanted.
                break
        first = assembler.stretches[0]
        if request.keeps_first:
            scan.is_partial = first.rows > request.objects_max
            await assembler.seal_all(request.objects_max)
        else:
            assert first.keys == KeyRange()
            await assembler.seal_all()
    scan.shards = first.shards


async def _take_object(scan: _Scan, page: Page, now: datetime) -> None:
    async with _assembling(scan.context, seals=True) as assembler:
        await assembler.add(stretch_of(KeyRange(), page))
        await assembler.seal_all()
    scan.shards = assembler.stretches[0].shards
    scan.tiles = [Tile(KeyRange(), listed=1, pages=1, started_at=now, finished_at=now)]


@asynccontextmanager
async def _assembling(context: SliceContext, *, seals: bool) -> AsyncIterator[Assembler]:
    waiting = Waiting(context.content, context.threads)
    sealer = sealer_of(context, waiting)
    async with Pool(SEALS_IN_FLIGHT_MAX) as pool:
        yield Assembler(sealer=sealer, waiting=waiting, pool=pool, seals=seals)


def _manifest(request: SnapshotRequest, scan: _Scan) -> Manifest:
    """The manifest of what was listed. Raises `NoSuchSource` when that is nothing."""
    uri = str(request.uri) if scan.lone is not None else scan.source.folder
    manifest = Manifest((SourceRef(uri),), tuple(scan.shards))
    if not manifest.rows and not request.allow_empty:
        if request.uri.names_folder:
            what = f"{uri} holds no objects"
        else:
            what = f"there is neither an object {request.uri} nor anything in the folder {uri}"
        raise NoSuchSource(
            f"{what}; nothing was recorded. Check the name, or record an empty version with "
            f"--allow-empty."
        )
    if not scan.is_partial:
        tiles = sorted(scan.tiles, key=_by_start)
        assert [tiles[0].keys.after, tiles[-1].keys.through] == [None, None]
        assert all(a.keys.through == b.keys.after for a, b in pairwise(tiles))
        assert sum(tile.listed for tile in tiles) == manifest.rows
    return manifest


def _record(scan: _Scan, manifest: Manifest, started_at: datetime, parts: JobParts) -> ScanRecord:
    pages = sum(tile.pages for tile in scan.tiles)
    if scan.is_partial:
        consistency = Consistency.PARTIAL
    else:
        # One request sees one moment; more of them see the time from the first to the last.
        consistency = Consistency.INSTANT if pages == 1 else Consistency.WINDOW
    counters = parts.counters
    return ScanRecord(
        started_at=started_at,
        finished_at=parts.clock.now(),
        listed=manifest.rows if scan.is_partial else sum(tile.listed for tile in scan.tiles),
        consistency=consistency,
        tiling=_tiling(scan.tiles),
        statistics={
            "pages": pages,
            "requests": counters.requests,
            "retries": counters.retries,
            "throttles": counters.throttles,
            "segments": counters.segments,
        },
        sources=[dict(scan.source.record)],
    )


def _tiling(tiles: list[Tile]) -> bytes:
    def key(bound: bytes | None) -> str | None:
        return None if bound is None else base64.b64encode(bound).decode()

    documents = [
        {
            "after": key(tile.keys.after),
            "through": key(tile.keys.through),
            "listed": tile.listed,
            "kept": tile.listed,
            "pages": tile.pages,
            "started_at": tile.started_at.isoformat(),
            "finished_at": tile.finished_at.isoformat(),
        }
        for tile in sorted(tiles, key=_by_start)
    ]
    return json.dumps({"tiles": documents}, separators=(",", ":")).encode()


def _by_start(tile: Tile) -> tuple[bool, bytes]:
    return tile.keys.after is not None, tile.keys.after or b""
