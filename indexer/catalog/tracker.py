"""The catalog as a `Tracker`: shards go to files, a commit is one transaction.

Invariants
  * Every shard that is taken was read again and has its digest; a manifest that is committed says
    of each what is true.
  * Whatever a transaction names is on the disk before it begins.
  * A commit looks for the files that it names within its transaction: they are there then, and
    nobody deletes files that a version needs after that.
  * What is told to be there is kept for as long as the job runs that is told so, if it has a lease.
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
from indexer.catalog.leases import Leases
from indexer.catalog.lookup import find_artifact, find_manifest, find_newest, require_manifest
from indexer.catalog.records import read_version
from indexer.catalog.runs import Runs
from indexer.commit_rules import check_request, new_run_id
from indexer.content import ContentStore, decode_shard
from indexer.errors import CorruptContent, NoSuchVersion
from indexer.limits import COMMIT_ATTEMPTS_MAX, MANIFESTS_KEPT_MAX
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
        *,
        leases: Leases,
        runs: Runs,
        threads: Threads,
        clock: Clock,
    ) -> None:
        self._database = database
        self._files = files
        self._content = content
        self._indexes = indexes
        self._leases = leases
        self._runs = runs
        self._threads = threads
        self._clock = clock
        self._manifests: dict[str, Manifest] = {}

    async def parent(self, name: ArtifactName, *, partial: bool = False) -> VersionRecord | None:
        parent = await self._database.read(_parent, name, partial)
        for _ in range(COMMIT_ATTEMPTS_MAX):
            if parent is None or await self._keep_shards(parent):
                break
            parent = await self._database.read(_parent, name, partial)
        return parent

    async def _keep_shards(self, parent: VersionRecord) -> bool:
        """Keeps the shards of a version for whoever takes it for a parent, if it still is there."""
        try:
            manifest = await self.manifest(parent.digest)
        except NoSuchVersion:
            return False
        except CorruptContent:
            return True  # whoever reads it says so
        await self._files.keep([_file_of(shard.digest) for shard in manifest.shards])
        # If it was deleted before this, so may be its shards.
        return await self._database.read(find_manifest, parent.digest)

    async def manifest(self, digest: str) -> Manifest:
        await self._database.read(require_manifest, digest)
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
        await self._database.read(require_manifest, digest)
        return await self._content.get(_blob_of(digest))

    async def missing(self, digests: Sequence[str]) -> set[str]:
        files = {_file_of(digest): digest for digest in digests}
        return {files[name] for name in await self._files.keep(list(files))}

    async def put_shard(self, digest: str, data: bytes) -> None:
        if not await self._files.keep([_file_of(digest)]):
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
        with self._leases.hold():
            names = [_file_of(shard.digest) for shard in request.manifest.shards]
            await self._settle(names)
            root = await self._content.put(request.manifest.root)
            evidence = Evidence(
                tiling=await self._content.put(request.scan.tiling),
                wandb=await self._survey(request.manifest),
                run_id=request.run or new_run_id(),
                now=self._clock.now(),
            )
            names += [f"blobs/{root}", f"blobs/{evidence.tiling}"]
            return await self._database.write(self._commit, request, evidence, names)

    def _commit(
        self,
        connection: Connection,
        request: CommitRequest,
        evidence: Evidence,
        names: Sequence[str],
    ) -> CommitResult:
        self._check_kept(connection, names)
        return commit(connection, request, evidence)

    async def outcome(self, request_id: str) -> CommitResult | None:
        return await self._database.read(outcome, request_id)

    async def start_run(self, request: RunRequest) -> RunRecord:
        return await self._runs.start(request)

    async def run(self, run_id: str) -> RunRecord:
        return await self._runs.run(run_id)

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        return await self._runs.finish(run_id, state)

    async def _settle(self, names: Sequence[str]) -> None:
        """Sees to it that files are on the disk for good. Raises `CorruptContent` for lost ones."""
        if await self._files.keep(names):
            # Who collects garbage sets a file aside to look at it, but in no transaction of others.
            await self._database.write(self._check_kept, names)
        await self._files.settle(names)

    def _check_kept(self, _: Connection, names: Sequence[str]) -> None:
        absent = self._files.keep_now(names)
        if absent:
            raise CorruptContent(
                f"{len(absent):,} of the {len(names):,} files that this version needs are not "
                f"here, {min(absent)} being one: they were lost, or deleted by a collection of "
                f"garbage whose grace is shorter than this snapshot took. Nothing was recorded; "
                f"snapshot the source again."
            )

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
