"""Shards and commits to tell a tracker, for tests of trackers.

Invariants
  * Each request has an id of its own, until a test gives it another.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.content import encode_shard
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import make_page, pack_etags, rows_digest
from indexer.protocols import CommitRequest, Tracker
from indexer.records import CommitResult, Consistency, ScanRecord
from indexer.references import ArtifactName

NAME = ArtifactName("project", "artifact")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
HOUR = timedelta(hours=1)
_request_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard to put, and what a manifest says of it."""

    ref: ShardRef
    data: bytes


def make_shard(sizes: Mapping[str, int]) -> Shard:
    """A shard of these paths and sizes, each with the MD5 of its path for an ETag."""
    paths = sorted(path.encode() for path in sizes)
    return shard_of(
        {
            "path": pa.array(paths, pa.binary()),
            "size": pa.array([sizes[path.decode()] for path in paths], pa.int64()),
            **pack_etags([hashlib.md5(path).hexdigest().encode() for path in paths]),  # noqa: S324
        }
    )


def shard_of(columns: dict[str, pa.Array]) -> Shard:
    """A shard of these columns, in whatever order they are."""
    table = pa.Table.from_batches([make_page(columns)])
    ref = ShardRef(
        max_path=table.column("path")[-1].as_py(),
        digest=rows_digest(table),
        rows=table.num_rows,
        size_bytes=pc.sum(table.column("size")).as_py(),
    )
    return Shard(ref, encode_shard(table))


def manifest_of(*shards: Shard) -> Manifest:
    """The manifest of these shards, of one source."""
    return Manifest((SourceRef("s3://bucket/prefix/"),), tuple(shard.ref for shard in shards))


def make_scan(consistency: Consistency = Consistency.WINDOW) -> ScanRecord:
    """A scan that found three objects."""
    return ScanRecord(
        started_at=MOMENT,
        finished_at=datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        listed=3,
        consistency=consistency,
        tiling=b'[{"after":null,"through":null,"listed":3}]',
        statistics={"requests": 7, "elapsed_s": 0.5},
        sources=[{"uri": "s3://bucket/prefix/", "region": "eu-west-1"}],
    )


def started(moment: datetime) -> ScanRecord:
    """A scan that began at a moment."""
    return replace(make_scan(), started_at=moment, finished_at=moment + HOUR)


def of_moment(moment: datetime) -> ScanRecord:
    """A scan of the state at a moment, done long after."""
    return replace(make_scan(Consistency.INSTANT), started_at=MOMENT + 99 * HOUR, as_of=moment)


def make_request(manifest: Manifest, **changes: Any) -> CommitRequest:
    """A commit of a manifest, with an id of its own; `changes` are fields of the request."""
    request = CommitRequest(
        request_id=f"request-{next(_request_numbers)}",
        name=NAME,
        type=None,
        manifest=manifest,
        scan=make_scan(),
    )
    return replace(request, **changes)


async def put_and_commit(tracker: Tracker, *shards: Shard, **changes: Any) -> CommitResult:
    """Puts shards and commits a manifest of them after the newest version there is."""
    for shard in shards:
        await tracker.put_shard(shard.ref.digest, shard.data)
    request = make_request(manifest_of(*shards), **changes)
    is_partial = request.scan.consistency is Consistency.PARTIAL
    if "expect" not in changes:
        parent = await tracker.parent(request.name, partial=is_partial)
        request = replace(request, expect=parent.digest if parent else None)
    return await tracker.commit(request)


FIRST = make_shard({"a": 1, "b": 2})
SECOND = make_shard({"a": 1, "b": 2, "c": 3})
THIRD = make_shard({"d": 4})
PARTIAL = make_scan(Consistency.PARTIAL)
