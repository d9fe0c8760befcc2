"""One job, from what was asked for to a committed version: open → slices → commit.

Invariants
  * Nothing is committed unless the tiles of what was listed cover every source without gap or
    overlap, and their counts add up to the manifest's.
  * Sources are scanned in the order of their mounts, which is that of their entries.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any

from indexer.commit_rules import check_open, type_of
from indexer.errors import CommitConflict, NoSuchSource, NoSuchVersion
from indexer.keyspace import Key, KeyRange
from indexer.limits import COMMIT_ATTEMPTS_MAX
from indexer.manifest import Manifest, ShardRef
from indexer.pipeline.commit import commit, wanted_of
from indexer.pipeline.listing import Tile
from indexer.pipeline.rows import Rows
from indexer.pipeline.shard import Stretch
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import Reach, Tracker
from indexer.records import CommitResult, Consistency, ScanRecord, Snapshot, VersionRecord
from indexer.references import ArtifactName
from indexer.scan import Before, Scan, SourceScan
from indexer.slice import SliceTools, assembling
from indexer.sources import FILE_SCHEME, Source
from indexer.telemetry import Counters


async def run_job(
    request: SnapshotRequest, reach: Reach, tools: SliceTools, request_id: str
) -> Snapshot:
    """Does what was asked for, and commits it by the name of `request_id`.

    Raises everything that `errors` draws; then no version was made.
    """
    started_s, started_at = tools.clock.monotonic(), tools.clock.now()
    tracker = tools.tracker
    parent, before = await _find_before(tracker, request.name)
    # Asked again by the commit; a listing in vain is spared by asking now.
    type_of(request.name, parent.type if parent else None, request.type)
    if request.run is not None:
        check_open(await tracker.run(request.run))
    scans, shards = await _scan_all(request, reach, tools, before)
    manifest = _manifest(request, scans, shards)
    record = _record(request, scans, started_at, tools)
    expected = parent
    if record.consistency is Consistency.PARTIAL:
        expected = await tracker.parent(request.name, partial=True)
    result = await commit(
        tracker,
        wanted_of(request, manifest, record, request_id, expected.digest if expected else None),
    )
    elapsed_s = tools.clock.monotonic() - started_s
    return snapshot_of(result, record.listed, tools.counters, elapsed_s, record.notices)


def snapshot_of(
    result: CommitResult,
    listed: int,
    counters: Counters,
    elapsed_s: float,
    warnings: Sequence[str] = (),
) -> Snapshot:
    """What a commit and the figures of its job come to."""
    return Snapshot(
        result=result,
        listed=listed,
        shards_new=counters.shards_new,
        shards_reused=counters.shards_reused,
        requests=counters.requests,
        elapsed_s=elapsed_s,
        warnings=tuple(warnings),
    )


async def _find_before(
    tracker: Tracker, name: ArtifactName
) -> tuple[VersionRecord | None, Before | None]:
    """The version before, and what is used of it. One that is deleted meanwhile was none."""
    for _ in range(COMMIT_ATTEMPTS_MAX):
        parent = await tracker.parent(name, partial=False)
        if parent is None:
            return None, None
        with suppress(NoSuchVersion):
            manifest = await _without_lost(tracker, await tracker.manifest(parent.digest))
            return parent, Before(manifest, parent.checksum, parent.seen_at)
    raise CommitConflict(
        f"the newest version of {name} was deleted {COMMIT_ATTEMPTS_MAX} times in a row while it "
        f"was looked at. Try again."
    )


async def _without_lost(tracker: Tracker, manifest: Manifest) -> Manifest:
    """The manifest without shards that are gone from where they were kept: they are made again."""
    lost = await tracker.missing([shard.digest for shard in manifest.shards])
    kept = (shard for shard in manifest.shards if shard.digest not in lost)
    return Manifest(manifest.sources, tuple(kept)) if lost else manifest


async def _scan_all(
    request: SnapshotRequest, reach: Reach, tools: SliceTools, before: Before | None
) -> tuple[list[Scan], list[ShardRef]]:
    """Scans one source after the other, and puts together what they hold."""
    scans: list[Scan] = []
    known = before.shards if before else ()
    async with assembling(tools, known) as assembler:
        for source, space in places(request.sources):
            if scans and scans[-1].is_partial:
                # All that may be kept is known; what follows is not looked at.
                await assembler.add(Stretch(space, Rows()))
                continue
            scan = SourceScan(request, source, space, reach=reach, tools=tools, before=before)
            scans.append(await scan.run(sum(one.listed for one in scans)))
            for stretch in scans[-1].stretches:
                await assembler.add(stretch)
        await assembler.seal_all()
    (whole,) = assembler.stretches
    assert whole.keys == KeyRange()
    return scans, whole.shards


def places(sources: Sequence[Source]) -> list[tuple[Source, KeyRange]]:
    """The sources, each with the range of paths that is its own; the ranges meet."""
    # What follows a slash ends all that stands below a mount, and begins nothing that is beside it.
    ends = [Key(source.path_prefix[:-1] + b"0") for source in sources[:-1]]
    return list(zip(sources, KeyRange().split(ends), strict=True))


def _manifest(
    request: SnapshotRequest, scans: Sequence[Scan], shards: Sequence[ShardRef]
) -> Manifest:
    """The manifest of what was scanned. Raises `NoSuchSource` when that is nothing."""
    manifest = Manifest(tuple(scan.ref for scan in scans), tuple(shards))
    if not manifest.rows and not request.allow_empty:
        raise NoSuchSource(
            f"{_nothing(request, scans)}; nothing was recorded. Check the name, or record an empty "
            f"version with --allow-empty."
        )
    if not any(scan.is_partial for scan in scans):
        for scan in scans:
            tiles = sorted(scan.tiles, key=lambda tile: tile.keys.order)
            assert [tiles[0].keys.after, tiles[-1].keys.through] == [None, None]
            assert all(a.keys.through == b.keys.after for a, b in pairwise(tiles))
    kept = sum(tile.kept for scan in scans for tile in scan.tiles)
    assert kept - sum(scan.gone for scan in scans) == manifest.rows
    return manifest


def _nothing(request: SnapshotRequest, scans: Sequence[Scan]) -> str:
    listed = _listed(request, scans)
    if listed:
        first = "first " if any(scan.is_partial for scan in scans) else ""
        return f"none of the {first}{listed:,} objects of {request.title} is kept by the filters"
    if len(scans) > 1:
        return f"{request.title} hold no objects"
    uri = request.sources[0].uri
    if uri.scheme == FILE_SCHEME and not uri.names_folder:
        return (
            f"there is neither a file nor a folder {uri} with anything in it; a bucket is written "
            f"s3://bucket/prefix/"
        )
    if uri.names_folder or uri.is_list:
        return f"{uri.shown} holds no objects"
    return f"there is neither an object {uri.shown} nor anything in the folder {uri.folder.shown}"


def _record(
    request: SnapshotRequest,
    scans: Sequence[Scan],
    started_at: datetime,
    tools: SliceTools,
) -> ScanRecord:
    counters = tools.counters
    pages = sum(tile.pages for scan in scans for tile in scan.tiles)
    consistency = _consistency(request, scans, pages)
    touched = _touched(scans) if consistency is Consistency.WINDOW else None
    gone = sum(scan.gone for scan in scans)
    return ScanRecord(
        started_at=started_at,
        finished_at=tools.clock.now(),
        listed=_listed(request, scans),
        consistency=consistency,
        tiling=_tiling(request, scans),
        as_of=request.as_of,
        checksum=request.checksum or "default",
        touched=touched,
        notices=_notices(scans, touched, gone),
        statistics={
            "pages": pages,
            "requests": counters.requests,
            "retries": counters.retries,
            "throttles": counters.throttles,
            "segments": counters.segments,
            "gone": gone,
            "checksums_read": counters.checksums_read,
            "checksums_carried": counters.checksums_carried,
            "bytes_read": counters.bytes_read,
        },
        sources=[scan.record for scan in scans],
    )


def _consistency(request: SnapshotRequest, scans: Sequence[Scan], pages: int) -> Consistency:
    if any(scan.is_partial for scan in scans):
        return Consistency.PARTIAL
    # One request sees one moment; more of them see the time from the first to the last.
    is_one_look = pages == 1 and all(scan.is_one_look for scan in scans)
    return Consistency.INSTANT if request.as_of or is_one_look else Consistency.WINDOW


def _listed(request: SnapshotRequest, scans: Sequence[Scan]) -> int:
    """How many objects the version is of, before filters. How many more were listed when it was
    found out that there are too many depends on what was under way, and says nothing.
    """
    if any(scan.is_partial for scan in scans):
        return request.objects_max
    return sum(scan.listed for scan in scans)


def _touched(scans: Sequence[Scan]) -> int | None:
    """How many objects were written during the scan; None where that cannot be known."""
    counts = [scan.touched for scan in scans]
    return None if None in counts else sum(filter(None, counts))


def _notices(scans: Sequence[Scan], touched: int | None, gone: int) -> tuple[str, ...]:
    """What whoever uses the version should know of it."""
    said = [notice for scan in scans for notice in scan.notices]
    if len(scans) > 1:
        said += [f"{scan.ref.uri} holds no objects." for scan in scans if not scan.listed]
    if touched:
        of_them = f", {gone:,} of which are gone" if gone else ""
        said.append(
            f"{touched:,} objects were written while they were listed{of_them}: the version is of "
            f"no single moment."
        )
    elif gone:
        said.append(
            f"{gone:,} objects that were listed were gone when they were looked at, and are left "
            f"out."
        )
    return tuple(dict.fromkeys(said))


def _tiling(request: SnapshotRequest, scans: Sequence[Scan]) -> bytes:
    """What was listed, by source and range, and the filters by which entries were kept."""
    document: dict[str, Any] = {
        "tiles": [
            {"source": number, **_tile(tile)} if len(scans) > 1 else _tile(tile)
            for number, scan in enumerate(scans)
            for tile in sorted(scan.tiles, key=lambda tile: tile.keys.order)
        ]
    }
    if request.filters:
        document["include"] = request.filters.include
        document["exclude"] = request.filters.exclude
    if gone := sum(scan.gone for scan in scans):
        document["gone"] = gone
    return json.dumps(document, separators=(",", ":")).encode()


def _tile(tile: Tile) -> dict[str, Any]:
    def key(bound: bytes | None) -> str | None:
        return None if bound is None else base64.b64encode(bound).decode()

    return {
        "after": key(tile.keys.after),
        "through": key(tile.keys.through),
        "listed": tile.listed,
        "kept": tile.kept,
        "pages": tile.pages,
        "started_at": tile.started_at.isoformat(),
        "finished_at": tile.finished_at.isoformat(),
    }
