"""The transaction of a commit, and what became of earlier ones.

Invariants
  * Every function runs inside of the caller's transaction; `commit` in one that nobody else can
    write beside.
  * A commit is recorded by its request, so that repeating it changes nothing.
  * Each commit has a run, which was started before or is made for it: it produced the version, or
    confirmed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, func, insert, select, update

from indexer.catalog.labels import change_labels, move_alias
from indexer.catalog.lookup import find_artifact, find_newest, find_whole
from indexer.catalog.records import read_version
from indexer.catalog.runs import make_finished_run, make_project, require_run
from indexer.catalog.schema import artifact_types, artifacts, manifests, scans
from indexer.catalog.schema import versions as versions_table
from indexer.commit_rules import (
    LATEST,
    change_of,
    check_open,
    check_repeated,
    is_of_the_past,
    is_unchanged,
    type_of,
)
from indexer.protocols import CommitRequest
from indexer.records import CommitResult, Consistency
from indexer.wandb_digest import WandbDigest


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a commit adds to its request: the tiling's blob, the W&B digest, its run, its time.

    `run_id` is the request's run; where it names none, that of the one to make.
    """

    tiling: str
    wandb: WandbDigest
    run_id: str
    now: datetime


def outcome(connection: Connection, request_id: str) -> CommitResult | None:
    """What came of the commit with this request; None when it did not happen."""
    row = connection.execute(
        select(scans.c.version_id, scans.c.created).where(scans.c.request_id == request_id)
    ).first()
    if row is None:
        return None
    return CommitResult(read_version(connection, row.version_id), created=row.created)


def repeated(connection: Connection, request: CommitRequest) -> CommitResult | None:
    """What came of the same request before. Raises `InvalidSetting` if it asked something else."""
    first = outcome(connection, request.request_id)
    if first is not None:
        check_repeated(request, first)
    return first


def find_wandb_digest(connection: Connection, manifest_digest: str) -> WandbDigest | None:
    """The W&B digest that is kept of a version's manifest; None when no version has it."""
    row = connection.execute(
        select(manifests.c.wandb_digest, manifests.c.wandb_reason).where(
            manifests.c.digest == manifest_digest
        )
    ).first()
    return None if row is None else WandbDigest(row.wandb_digest, row.wandb_reason)


def commit(connection: Connection, request: CommitRequest, evidence: Evidence) -> CommitResult:
    """Makes the version or confirms one that is the same, with all that belongs to it.

    Raises `CommitConflict`, `InvalidSetting` for another type than the artifact's, `Protected` for
    an alias that would have to move and must not, `NoSuchRun` and `RunEnded`.
    """
    first = repeated(connection, request)
    if first is not None:
        return first
    now = evidence.now
    if request.run is not None:
        check_open(require_run(connection, request.run))
    project_id, artifact_id = _make_artifact(connection, request, now)
    is_partial = request.scan.consistency is Consistency.PARTIAL
    version_id = find_newest(connection, artifact_id, partial=is_partial)
    newest = None if version_id is None else read_version(connection, version_id)
    is_late = is_of_the_past(request.scan, newest)
    if is_late:
        version_id = find_whole(connection, artifact_id, request.manifest.digest)
        created = version_id is None
    else:
        created = not is_unchanged(request, newest.digest if newest else None)
    if request.run is None:
        started_at = request.scan.started_at
        make_finished_run(connection, evidence.run_id, project_id, started_at, now)
    if created or version_id is None:
        version_id = _make_version(connection, artifact_id, request, evidence)
        if not is_partial and not is_late:
            move_alias(connection, artifact_id, LATEST, version_id, now)
    else:
        _confirm(connection, version_id, request, now)
    change_labels(connection, version_id, change_of(request))
    for alias in request.aliases:
        move_alias(connection, artifact_id, alias, version_id, now)
    _record_scan(connection, version_id, request, evidence, created=created)
    return CommitResult(read_version(connection, version_id), created=created)


def _make_artifact(
    connection: Connection, request: CommitRequest, now: datetime
) -> tuple[int, int]:
    """The ids of the project and the artifact, which are made if they are not there."""
    name = request.name
    project_id = make_project(connection, name.project, now)
    artifact_id = find_artifact(connection, name)
    fixed = connection.execute(
        select(artifact_types.c.name)
        .join(artifacts, artifacts.c.type_id == artifact_types.c.id)
        .where(artifacts.c.id == artifact_id)
    ).scalar()
    type_name = type_of(name, fixed, request.type)
    if artifact_id is not None:
        connection.execute(
            update(artifacts).where(artifacts.c.id == artifact_id).values(updated_at=now)
        )
        return project_id, artifact_id
    type_id = connection.execute(
        select(artifact_types.c.id).where(
            artifact_types.c.project_id == project_id, artifact_types.c.name == type_name
        )
    ).scalar()
    if type_id is None:
        type_id = _insert(connection, artifact_types, project_id=project_id, name=type_name)
    artifact_id = _insert(
        connection,
        artifacts,
        project_id=project_id,
        type_id=type_id,
        name=name.artifact,
        created_at=now,
        updated_at=now,
        description="",
    )
    return project_id, artifact_id


def _make_version(
    connection: Connection, artifact_id: int, request: CommitRequest, evidence: Evidence
) -> int:
    manifest = request.manifest
    if find_wandb_digest(connection, manifest.digest) is None:
        connection.execute(
            insert(manifests).values(
                digest=manifest.digest,
                objects=manifest.rows,
                size_bytes=manifest.size_bytes,
                wandb_digest=evidence.wandb.digest,
                wandb_reason=evidence.wandb.reason,
            )
        )
    last = connection.execute(
        select(func.max(versions_table.c.number)).where(versions_table.c.artifact_id == artifact_id)
    ).scalar()
    return _insert(
        connection,
        versions_table,
        artifact_id=artifact_id,
        number=0 if last is None else last + 1,
        manifest_digest=manifest.digest,
        run_id=evidence.run_id,
        listed=request.scan.listed,
        consistency=request.scan.consistency.value,
        notes="",
        created_at=evidence.now,
        confirmed_at=evidence.now,
        seen_at=request.scan.seen_at,
        as_of=request.scan.as_of,
        checksum=request.scan.checksum,
        touched=request.scan.touched,
        notices=list(request.scan.notices),
        expires_at=None if request.ttl is None else evidence.now + request.ttl,
        description="",
        metadata={},
    )


def _confirm(
    connection: Connection, version_id: int, request: CommitRequest, now: datetime
) -> None:
    version = read_version(connection, version_id)
    seen_at = max(version.seen_at, request.scan.seen_at)
    changes: dict[str, object] = {"confirmed_at": now, "seen_at": seen_at}
    if request.ttl is not None and version.expires_at is not None:
        # What somebody wants for that long from now on does not go before, nor sooner than it was.
        changes["expires_at"] = max(version.expires_at, now + request.ttl)
    connection.execute(
        update(versions_table).where(versions_table.c.id == version_id).values(changes)
    )


def _record_scan(
    connection: Connection,
    version_id: int,
    request: CommitRequest,
    evidence: Evidence,
    *,
    created: bool,
) -> None:
    scan = request.scan
    _insert(
        connection,
        scans,
        request_id=request.request_id,
        version_id=version_id,
        run_id=evidence.run_id,
        created=created,
        started_at=scan.started_at,
        finished_at=scan.finished_at,
        listed=scan.listed,
        consistency=scan.consistency.value,
        tiling=evidence.tiling,
        statistics=scan.statistics,
        sources=scan.sources,
    )


def _insert(connection: Connection, table: Table, **values: object) -> int:
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])
