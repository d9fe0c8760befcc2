"""The tracker of a daemon: shards are streamed to it while listing goes on, over HTTP.

Invariants
  * Everything but a commit may be asked twice, and is while the daemon cannot be reached.
  * A commit is sent once. If its answer is lost, that is said, and its outcome can be asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import msgspec
import pyarrow as pa

from indexer.commit_rules import check_request, new_run_id
from indexer.content import decode_shard
from indexer.errors import CommitUnknown, DaemonUnavailable, NotFound
from indexer.label_rules import check_run_request
from indexer.manifest import Manifest, read_manifest
from indexer.protocols import CommitRequest
from indexer.records import CommitResult, RunRecord, RunRequest, RunState, VersionRecord
from indexer.references import ArtifactName
from indexer.remote import Remote
from indexer.wire.runs import RunDocument, RunOrder, RunPatch
from indexer.wire.tracking import CommitDocument, CommitOrder, ParentDocument
from workers.errors import single_error


class RemoteTracker:
    """`Tracker` over a daemon's tracking interface."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def parent(self, name: ArtifactName, *, partial: bool = False) -> VersionRecord | None:
        path = f"/artifacts/{name.project}/{name.artifact}/parent"
        query = {"partial": str(partial).lower()}
        version = (await self._remote.get(path, ParentDocument, query)).version
        return version.record() if version else None

    async def manifest(self, digest: str) -> Manifest:
        return read_manifest(await self._remote.get_bytes(f"/manifests/{digest}"))

    async def missing(self, digests: Sequence[str]) -> set[str]:
        with single_error():
            async with asyncio.TaskGroup() as group:
                asked = {
                    digest: group.create_task(self._remote.has(f"/shards/{digest}"))
                    for digest in digests
                }
        return {digest for digest, answer in asked.items() if not answer.result()}

    async def put_shard(self, digest: str, data: bytes) -> None:
        await self._remote.put_bytes(f"/shards/{digest}", data)

    async def shard(self, digest: str) -> pa.Table:
        data = await self._remote.get_bytes(f"/shards/{digest}")
        return await asyncio.to_thread(decode_shard, data, digest)

    async def commit(self, request: CommitRequest) -> CommitResult:
        # What can be no path of a URL must not become one.
        check_request(request)
        path = f"/artifacts/{request.name.project}/{request.name.artifact}/versions"
        order = CommitOrder.of(request)
        try:
            return (await self._remote.send("POST", path, CommitDocument, order)).record()
        except DaemonUnavailable as error:
            raise CommitUnknown(
                f"{request.name}: the answer to the commit was lost ({error})"
            ) from error

    async def outcome(self, request_id: str) -> CommitResult | None:
        path = f"/commits/{quote(request_id, safe='')}"
        try:
            return (await self._remote.get(path, CommitDocument)).record()
        except NotFound:
            return None

    async def start_run(self, request: RunRequest) -> RunRecord:
        check_run_request(request)
        # With an id it may be asked twice: a run that runs goes on.
        order = RunOrder.of(request, request.id or new_run_id())
        path = f"/projects/{request.project}/runs"
        return await self._repeated("POST", path, order)

    async def run(self, run_id: str) -> RunRecord:
        return (await self._remote.get(_run_path(run_id), RunDocument)).record()

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        assert state is not RunState.RUNNING
        return await self._repeated("PATCH", _run_path(run_id), RunPatch.ending(state))

    async def _repeated(self, method: str, path: str, order: msgspec.Struct) -> RunRecord:
        done = await self._remote.repeated(
            lambda: self._remote.send(method, path, RunDocument, order)
        )
        return done.record()


def _run_path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='', errors='surrogateescape')}"
