"""Versions for tests as a workspace keeps them: parts that can be damaged one by one."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from indexer.artifact.verify.structure import verify_structure
from indexer.content import decode_shard, encode_shard
from indexer.errors import CorruptContent
from indexer.keyspace import cut_rows
from indexer.limits import CATALOG_ROWS_MAX
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import rows_digest
from indexer.protocols import CommitRequest
from indexer.records import Consistency, ScanSummary, StructureReport, VersionRecord
from indexer.references import ArtifactName, VersionRef

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = ArtifactName("project", "artifact")
BUCKET = (SourceRef("s3://bucket/data/"),)


@dataclass
class Kept:
    """A version, its root, its shards and the tilings of its scans."""

    manifest: Manifest
    shards: dict[str, bytes]
    tilings: list[bytes]
    record: VersionRecord
    scan: ScanSummary
    roots: dict[str, bytes] = field(default_factory=dict)

    async def verify(self) -> StructureReport:
        workspace: Any = self
        return await verify_structure(workspace, self.record)

    async def wrong(self) -> dict[str, str]:
        """The checks that are not right, by name, with the first of their faults."""
        checks = (await self.verify()).checks
        return {
            check.name: check.faults[0] if check.faults else "not made"
            for check in checks
            if not check.is_right
        }

    async def root(self, digest: str) -> bytes:
        return self.roots.get(digest, self.manifest.root)

    async def shard(self, digest: str) -> pa.Table:
        if digest not in self.shards:
            raise CorruptContent(f"shard {digest} is gone")
        return decode_shard(self.shards[digest], digest)

    async def scans(
        self, ref: VersionRef, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[ScanSummary]:
        return [
            replace(self.scan, id=number, created=number == 0)
            for number in range(len(self.tilings))
        ]

    async def tiling(self, ref: VersionRef, scan_id: int) -> bytes:
        return self.tilings[scan_id]

    def refer(self, *shards: ShardRef) -> None:
        """Makes it a version of these shards, by another digest, which says so."""
        self.manifest = replace(self.manifest, shards=shards)
        self.record = replace(
            self.record,
            digest=self.manifest.digest,
            objects=self.manifest.rows,
            size_bytes=self.manifest.size_bytes,
        )

    def put(self, paths: Sequence[bytes]) -> ShardRef:
        """Keeps the shard of these paths."""
        ref, data = shard_of(paths)
        self.shards[ref.digest] = data
        return ref

    def tile(self, document: dict[str, Any]) -> None:
        """Makes this the tiling of the scan that made the version."""
        self.tilings[0] = json.dumps(document).encode()


def kept(
    paths: Sequence[bytes],
    *,
    ends: Sequence[int] | None = None,
    sources: tuple[SourceRef, ...] = BUCKET,
) -> Kept:
    """A version of these paths, in shards that end after those rows, and listed in four tiles."""
    cut = [row + 1 for row in cut_rows(paths)] if ends is None else ends
    bounds = sorted({0, *cut, len(paths)})
    made = [shard_of(paths[start:end]) for start, end in pairwise(bounds)]
    manifest = Manifest(sources, tuple(ref for ref, _ in made))
    record = version_of(manifest)
    scan = summary_of(len(paths), Consistency.WINDOW)
    tiling = json.dumps(tiling_of(paths)).encode()
    return Kept(manifest, {ref.digest: data for ref, data in made}, [tiling], record, scan)


def shard_of(paths: Sequence[bytes]) -> tuple[ShardRef, bytes]:
    """A shard of objects that each have as many bytes as their paths."""
    sizes = [len(path) for path in paths]
    table = pa.table({"path": pa.array(paths, pa.binary()), "size": pa.array(sizes, pa.int64())})
    ref = ShardRef(paths[-1], rows_digest(table), len(paths), sum(sizes))
    return ref, encode_shard(table)


def tiling_of(paths: Sequence[bytes]) -> dict[str, Any]:
    """Four tiles of one source that holds exactly these objects."""
    rows = [0, *(len(paths) * part // 4 for part in (1, 2, 3)), len(paths)]
    ends = [None, *(paths[row - 1] for row in rows[1:-1]), None]
    return {
        "tiles": [
            {
                "after": text(ends[number]),
                "through": text(ends[number + 1]),
                "listed": rows[number + 1] - rows[number],
                "kept": rows[number + 1] - rows[number],
                "pages": 1,
            }
            for number in range(4)
        ]
    }


def text(key: bytes | None) -> str | None:
    """A bound as a tiling has it."""
    return None if key is None else base64.b64encode(key).decode()


def version_of(manifest: Manifest) -> VersionRecord:
    """A version of a manifest, as a catalog knows it."""
    return VersionRecord(
        name=NAME,
        type="dataset",
        number=0,
        digest=manifest.digest,
        wandb_digest=None,
        wandb_reason=None,
        objects=manifest.rows,
        size_bytes=manifest.size_bytes,
        listed=manifest.rows,
        consistency=Consistency.WINDOW,
        aliases=(),
        notes="",
        run_id="run",
        created_at=NOON,
        confirmed_at=NOON,
        seen_at=NOON,
    )


def kept_of(request: CommitRequest, version: VersionRecord, shards: dict[str, bytes]) -> Kept:
    """What a commit has a workspace keep."""
    scan = request.scan
    summary = summary_of(scan.listed, scan.consistency)
    return Kept(request.manifest, shards, [scan.tiling], version, summary)


def summary_of(listed: int, consistency: Consistency) -> ScanSummary:
    """A scan that made a version."""
    return ScanSummary(
        id=0,
        run_id="run",
        created=True,
        started_at=NOON,
        finished_at=NOON,
        listed=listed,
        consistency=consistency,
        tiling="blob",
        statistics={},
        sources=[],
    )
