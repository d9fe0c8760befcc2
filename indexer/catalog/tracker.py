"""The catalog as a `Tracker`: shards go to files, a commit is one transaction.

Invariants
  * Every shard that is taken was read again and has its digest; a manifest that is committed says
    of each what is true.
  * Whatever a transaction names is on the disk before it begins.
  * All commits of one artifact happen one after another, in whatever processes they are made.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from sqlalchemy import Connection

from indexer.catalog.commit import Evidence, commit, find_wandb_digest, outcome, repeated
from indexer.catalog.database import Database
from indexer.catalog.folder import FolderBlobStore
from indexer.catalog.folders import FolderIndexes
from indexer.catalog.lookup import find_artifact, find_newest
from indexer.catalog.records import read_version
from indexer.catalog.runs import Runs
from indexer.commit_rules import check_request, new_run_id
from indexer.content import ContentStore, decode_shard
from indexer.errors import CorruptContent, NoSuchVersion
from indexer.limits import MANIFESTS_KEPT_MAX
from indexer.manifest import Manifest, read_manifest
from indexer.protocols import CommitRequest
from indexer.records import CommitResult, RunRecord, RunRequest, RunState, VersionRecord
from indexer.references import ArtifactName
from indexer.wandb_digest import WandbDigest, WandbDigester
from workers.clock import Clock
from workers.threads import Threads


class CatalogTracker:
    """`Tracker` over a catalog's database and files."""

    def __init__(
        self,
        database: Database,
        files: FolderBlobStore,
        content: ContentStore,
        indexes: FolderIndexes,
        runs: Runs,
        *,
        threads: Threads,
        clock: Clock,
    ) -> None:
        self._database = database
        self._files = files
        self._content = content
        self._indexes = indexes
        self._runs = runs
        self._threads = threads
        self._clock = clock
        self._manifests: dict[str, Manifest] = {}

    async def parent(self, name: ArtifactName, *, partial: bool = False) -> VersionRecord | None:
        return await self._database.read(_parent, name, partial)

    async def manifest(self, digest: str) -> Manifest:
        await self._require(digest)
        manifest = self._manifests.pop(digest, None)
        if manifest is None:
            root = await self._content.get(_blob_of(digest))
            manifest = await self._threads.run(read_manifest, root)
        # The least recently used are forgotten first.
        self._manifests[digest] = manifest
        while len(self._manifests) > MANIFESTS_KEPT_MAX:
            del self._manifests[next(iter(self._manifests))]
        return manifest

    async def root(self, digest: str) -> bytes:
        """The bytes of a manifest as they are on the disk now. Raises `CorruptContent`."""
        await self._require(digest)
        return await self._content.get(_blob_of(digest))

    async def _require(self, digest: str) -> None:
        if not await self._database.read(find_wandb_digest, digest):
            raise NoSuchVersion(f"there is no version with the digest {digest}.")

    async def missing(self, digests: Sequence[str]) -> set[str]:
        files = {_file_of(digest): digest for digest in digests}
        return {files[name] for name in await self._files.absent(list(files))}

    async def put_shard(self, digest: str, data: bytes) -> None:
        if await self._content.has_shard(digest):
            return
        await self._threads.run(decode_shard, data, digest)
        await self._content.put_shard(digest, data)

    async def shard(self, digest: str) -> pa.Table:
        data = await self._content.shard_bytes(digest)
        return await self._threads.run(decode_shard, data, digest)

    async def commit(self, request: CommitRequest) -> CommitResult:
        check_request(request)
        first = await self._database.read(repeated, request)
        if first is not None:
            return first
        await self._settle_shards(request.manifest)
        await self._content.put(request.manifest.root)
        evidence = Evidence(
            tiling=await self._content.put(request.scan.tiling),
            wandb=await self._survey(request.manifest),
            run_id=request.run or new_run_id(),
            now=self._clock.now(),
        )
        return await self._database.write(commit, request, evidence)

    async def outcome(self, request_id: str) -> CommitResult | None:
        return await self._database.read(outcome, request_id)

    async def start_run(self, request: RunRequest) -> RunRecord:
        return await self._runs.start(request)

    async def run(self, run_id: str) -> RunRecord:
        return await self._runs.run(run_id)

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        return await self._runs.finish(run_id, state)

    async def _settle_shards(self, manifest: Manifest) -> None:
        names = [_file_of(shard.digest) for shard in manifest.shards]
        absent = await self._files.absent(names)
        if absent:
            raise CorruptContent(
                f"{len(absent)} of the {len(names)} shards of this manifest are not here, "
                f"{min(absent)} being one. Snapshot the source again."
            )
        await self._files.settle(names)

    async def _survey(self, manifest: Manifest) -> WandbDigest:
        """The manifest's W&B digest; its folder index is there afterwards.

        Both are taken from all of its rows, which are verified, unless they are known already.
        """
        known = await self._database.read(find_wandb_digest, manifest.digest)
        if known is not None and await self._indexes.has(manifest.digest):
            return known
        digester = WandbDigester()
        await self._indexes.build(manifest, digester.add)
        return known or digester.finish()


def _file_of(shard_digest: str) -> str:
    return f"shards/{shard_digest}"


def _blob_of(manifest_digest: str) -> str:
    return manifest_digest.removeprefix("sha256:")


def _parent(
    connection: Connection,
    name: ArtifactName,
    partial: bool,  # noqa: FBT001 - what runs in a transaction takes positions only
) -> VersionRecord | None:
    artifact_id = find_artifact(connection, name)
    if artifact_id is None:
        return None
    version_id = find_newest(connection, artifact_id, partial=partial)
    return None if version_id is None else read_version(connection, version_id)
