"""The tracker in memory: what every other one must do, in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from indexer.commit_rules import (
    LATEST,
    SNAPSHOT_JOB_TYPE,
    change_of,
    check_open,
    check_project,
    check_repeated,
    check_request,
    check_shard,
    has_ended,
    is_of_the_past,
    is_unchanged,
    new_run_id,
    type_of,
)
from indexer.content import decode_shard
from indexer.errors import CorruptContent, NoSuchRun, NoSuchVersion
from indexer.label_rules import check_run_request, check_tags
from indexer.manifest import Manifest
from indexer.protocols import CommitRequest
from indexer.records import (
    CommitResult,
    Consistency,
    LabelChange,
    RunRecord,
    RunRequest,
    RunState,
    VersionRecord,
)
from indexer.references import ArtifactName
from indexer.wandb_digest import WandbDigest, WandbDigester
from workers.clock import Clock


@dataclass(slots=True)
class _Artifact:
    type: str
    versions: list[VersionRecord] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Commit:
    name: ArtifactName
    number: int
    created: bool


class MemoryTracker:
    """A `Tracker` that forgets everything when it goes. No method waits for anything."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shards: dict[str, bytes] = {}
        self._manifests: dict[str, Manifest] = {}
        self._artifacts: dict[ArtifactName, _Artifact] = {}
        self._commits: dict[str, _Commit] = {}
        self._runs: dict[str, RunRecord] = {}

    async def parent(self, name: ArtifactName, *, partial: bool = False) -> VersionRecord | None:
        artifact = self._artifacts.get(name)
        number = _newest(artifact, partial=partial) if artifact else None
        return None if number is None else self._record(name, number)

    async def manifest(self, digest: str) -> Manifest:
        if digest not in self._manifests:
            raise NoSuchVersion(f"there is no version with the digest {digest}.")
        return self._manifests[digest]

    async def missing(self, digests: Sequence[str]) -> set[str]:
        return set(digests) - self._shards.keys()

    async def put_shard(self, digest: str, data: bytes) -> None:
        if digest not in self._shards:
            decode_shard(data, digest)
            self._shards[digest] = data

    async def shard(self, digest: str) -> pa.Table:
        if digest not in self._shards:
            raise CorruptContent(f"there is no shard {digest}.")
        return decode_shard(self._shards[digest], digest)

    async def commit(self, request: CommitRequest) -> CommitResult:
        check_request(request)
        first = await self.outcome(request.request_id)
        if first is not None:
            check_repeated(request, first)
            return first
        wandb = self._wandb_digest(request.manifest)
        if request.run is not None:
            check_open(await self.run(request.run))
        artifact = self._artifacts.get(request.name)
        type_name = type_of(request.name, artifact.type if artifact else None, request.type)
        artifact = artifact or _Artifact(type_name)
        is_partial = request.scan.consistency is Consistency.PARTIAL
        newest = _newest(artifact, partial=is_partial)
        before = None if newest is None else artifact.versions[newest]
        is_late = is_of_the_past(request.scan, before)
        if is_late:
            newest = _with_digest(artifact, request.manifest.digest)
            created = newest is None
        else:
            created = not is_unchanged(request, before.digest if before else None)
        run_id = request.run or new_run_id()
        if created or newest is None:
            number = len(artifact.versions)
            version = self._make_version(request, type_name, number, wandb, run_id)
        else:
            number = newest
            version = self._confirm(artifact.versions[number], request)
        version = _labelled(version, change_of(request))
        # From here on nothing can fail.
        if number == len(artifact.versions):
            artifact.versions.append(version)
            if not is_partial and not is_late:
                artifact.aliases[LATEST] = number
        artifact.versions[number] = version
        if request.run is None:
            self._runs[run_id] = self._finished(request, run_id)
        artifact.aliases.update(dict.fromkeys(request.aliases, number))
        self._artifacts[request.name] = artifact
        self._manifests[request.manifest.digest] = request.manifest
        self._commits[request.request_id] = _Commit(request.name, number, created)
        return CommitResult(self._record(request.name, number), created=created)

    async def outcome(self, request_id: str) -> CommitResult | None:
        commit = self._commits.get(request_id)
        if commit is None:
            return None
        return CommitResult(self._record(commit.name, commit.number), created=commit.created)

    async def start_run(self, request: RunRequest) -> RunRecord:
        check_run_request(request)
        now = self._clock.now()
        run_id = request.id or new_run_id()
        run = self._runs.get(run_id)
        if run is None:
            run = RunRecord(
                id=run_id,
                project=request.project,
                name=run_id,
                job_type="",
                state=RunState.RUNNING,
                config={},
                notes="",
                created_at=now,
                started_at=now,
                finished_at=None,
            )
        check_project(run, request)
        given = {
            name: value
            for name in ("name", "job_type", "config", "notes")
            if (value := getattr(request, name)) is not None
        }
        if run.state is not RunState.RUNNING:
            run = replace(run, state=RunState.RUNNING, started_at=now, finished_at=None)
        self._runs[run_id] = replace(run, **given)
        return self._runs[run_id]

    async def run(self, run_id: str) -> RunRecord:
        if run_id not in self._runs:
            raise NoSuchRun(f"there is no run {run_id[:128]!r}.")
        return self._runs[run_id]

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        run = await self.run(run_id)
        if not has_ended(run, state):
            run = replace(run, state=state, finished_at=self._clock.now())
            self._runs[run_id] = run
        return run

    def _finished(self, request: CommitRequest, run_id: str) -> RunRecord:
        now = self._clock.now()
        return RunRecord(
            id=run_id,
            project=request.name.project,
            name=run_id,
            job_type=SNAPSHOT_JOB_TYPE,
            state=RunState.FINISHED,
            config={},
            notes="",
            created_at=now,
            started_at=min(request.scan.started_at, now),
            finished_at=now,
        )

    def _wandb_digest(self, manifest: Manifest) -> WandbDigest:
        digester = WandbDigester()
        for previous, shard in zip((None, *manifest.shards), manifest.shards, strict=False):
            if shard.digest not in self._shards:
                raise CorruptContent(f"the shard {shard.digest} of this manifest was not put.")
            rows = decode_shard(self._shards[shard.digest], shard.digest)
            check_shard(shard, rows, previous)
            digester.add(rows)
        return digester.finish()

    def _make_version(
        self, request: CommitRequest, type_name: str, number: int, wandb: WandbDigest, run_id: str
    ) -> VersionRecord:
        now = self._clock.now()
        return VersionRecord(
            name=request.name,
            type=type_name,
            number=number,
            digest=request.manifest.digest,
            wandb_digest=wandb.digest,
            wandb_reason=wandb.reason,
            objects=request.manifest.rows,
            size_bytes=request.manifest.size_bytes,
            listed=request.scan.listed,
            consistency=request.scan.consistency,
            aliases=(),
            notes="",
            run_id=run_id,
            created_at=now,
            confirmed_at=now,
            seen_at=request.scan.seen_at,
            as_of=request.scan.as_of,
            checksum=request.scan.checksum,
            touched=request.scan.touched,
            notices=request.scan.notices,
            expires_at=None if request.ttl is None else now + request.ttl,
        )

    def _confirm(self, version: VersionRecord, request: CommitRequest) -> VersionRecord:
        now, expires_at = self._clock.now(), version.expires_at
        if request.ttl is not None and expires_at is not None:
            expires_at = max(expires_at, now + request.ttl)
        return replace(
            version,
            confirmed_at=now,
            expires_at=expires_at,
            seen_at=max(version.seen_at, request.scan.seen_at),
        )

    def _record(self, name: ArtifactName, number: int) -> VersionRecord:
        artifact = self._artifacts[name]
        names = sorted(alias for alias, at in artifact.aliases.items() if at == number)
        return replace(artifact.versions[number], aliases=tuple(names))


def _labelled(version: VersionRecord, change: LabelChange) -> VersionRecord:
    tags = change.tags_of(version.tags)
    check_tags(tags)
    return replace(
        version,
        notes=version.notes if change.notes is None else change.notes,
        description=version.description if change.description is None else change.description,
        metadata=version.metadata if change.metadata is None else change.metadata,
        tags=tags,
    )


def _with_digest(artifact: _Artifact, digest: str) -> int | None:
    found = [
        version.number
        for version in artifact.versions
        if version.digest == digest and version.consistency is not Consistency.PARTIAL
    ]
    return found[-1] if found else None


def _newest(artifact: _Artifact, *, partial: bool) -> int | None:
    if not partial:
        return artifact.aliases.get(LATEST)
    found = [v.number for v in artifact.versions if v.consistency is Consistency.PARTIAL]
    return found[-1] if found else None
