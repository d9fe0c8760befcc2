"""What every tracker asks of a commit, and what it makes of it: pure decisions over values.

Invariants
  * Nothing here reads or writes; a tracker calls these inside of its own transaction.
  * A tracker that follows them, and makes what they decided at once or not at all, is correct.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import (
    CommitConflict,
    CorruptContent,
    InvalidReference,
    InvalidSetting,
    RunEnded,
)
from indexer.label_rules import check_change
from indexer.limits import DURATION_S_MAX, REQUEST_ID_CHARACTERS_MAX
from indexer.manifest import ShardRef
from indexer.protocols import CommitRequest
from indexer.records import (
    CommitResult,
    Consistency,
    LabelChange,
    RunRecord,
    RunRequest,
    RunState,
    ScanRecord,
    VersionRecord,
)
from indexer.references import NAME_PATTERN, ArtifactName, parse_alias, parse_run

TYPE_DEFAULT: Final = "dataset"
"""An artifact's type where its first commit names none."""

LATEST: Final = "latest"
"""The alias of the newest complete version; it moves by itself."""

RUN_ID_BYTES: Final = 8

SNAPSHOT_JOB_TYPE: Final = "snapshot"
"""The kind of job of a run that is made for a commit which names none."""


def check_request(request: CommitRequest) -> None:
    """Checks what a commit names, before anything is done for it.

    Raises `InvalidReference` for a name, alias, tag or run that cannot be, `InvalidSetting` for
    labels that are too long.
    """
    assert 0 < len(request.request_id) <= REQUEST_ID_CHARACTERS_MAX
    check_name("project", request.name.project)
    check_name("artifact", request.name.artifact)
    if request.type is not None:
        check_name("type", request.type)
    for alias in request.aliases:
        parse_alias(alias)
    if request.ttl is not None:
        check_ttl(request.ttl)
    check_change(change_of(request))
    if request.run is not None:
        parse_run(request.run)


def change_of(request: CommitRequest) -> LabelChange:
    """What a commit changes of the labels of the version that it makes or confirms."""
    return LabelChange(
        notes=request.notes,
        description=request.description,
        metadata=request.metadata,
        add_tags=tuple(request.tags),
    )


def check_labels(version: VersionRecord, expect: VersionRecord) -> None:
    """Raises `CommitConflict` unless what is said of a version is what it was when it was read."""
    if _labels(version) != _labels(expect):
        raise CommitConflict(
            f"what is said of {version.ref} was changed meanwhile. Look again, and repeat."
        )


def _labels(version: VersionRecord) -> tuple[object, ...]:
    return version.notes, version.description, version.metadata, version.tags


def new_run_id() -> str:
    """An id for a run that was given none; no two are the same."""
    return secrets.token_hex(RUN_ID_BYTES)


def check_open(run: RunRecord) -> None:
    """Raises `RunEnded` for a run that takes nothing more."""
    if run.state is not RunState.RUNNING:
        raise RunEnded(
            f"the run {run.id} has ended ({run.state}) and takes nothing more. Start a new one, or "
            f"go on with it by starting it with its id."
        )


def has_ended(run: RunRecord, state: RunState) -> bool:
    """Whether a run that is to end as `state` did so already.

    Raises `RunEnded` for one that ended otherwise.
    """
    if run.state not in (state, RunState.RUNNING):
        raise RunEnded(
            f"the run {run.id} has ended already, as {run.state}; it cannot end as {state}. Start "
            f"it with its id to go on with it."
        )
    return run.state is state


def check_project(run: RunRecord, request: RunRequest) -> None:
    """Raises `InvalidSetting` for a run to go on with that is of another project."""
    if run.project != request.project:
        raise InvalidSetting(
            f"the run {run.id} is of the project {run.project}, and not of {request.project}. "
            f"Choose another id."
        )


def check_name(kind: str, text: str) -> None:
    """Raises `InvalidReference` unless `text` can name a project, an artifact or a type."""
    if not NAME_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text!r} cannot be the name of a {kind}: use 1 to 128 letters, digits, '.', '_' "
            f"or '-'."
        )


def check_ttl(ttl: timedelta) -> None:
    """Raises `InvalidSetting` for a time to live that is none, or that no calendar has."""
    if not timedelta(0) < ttl <= timedelta(seconds=DURATION_S_MAX):
        raise InvalidSetting(
            f"{ttl} is no time to live: give --ttl a time from 1s to 100 years, or leave it out."
        )


def is_unchanged(request: CommitRequest, newest: str | None) -> bool:
    """Whether the commit confirms the newest version instead of making one.

    `newest` is the digest of the version that the commit would follow, None when there is none.
    Raises `CommitConflict` when the content changed and the caller knew of another newest one.
    """
    if newest == request.manifest.digest:
        return True
    if newest != request.expect:
        raise CommitConflict(
            f"{request.name} has another newest version by now ({newest or 'none'}) than this "
            f"commit was made for ({request.expect or 'none'}); read it and commit again."
        )
    return False


def is_of_the_past(scan: ScanRecord, newest: VersionRecord | None) -> bool:
    """Whether the scan is of a moment that `latest` knows more than.

    Such a commit makes a version beside the newest one, or confirms the newest complete one that is
    the same, and `latest` stays where it is.
    """
    if scan.as_of is None or newest is None or scan.consistency is Consistency.PARTIAL:
        return False
    return scan.as_of <= newest.seen_at


def check_repeated(request: CommitRequest, first: CommitResult) -> None:
    """Checks that a request which was committed before asked for the same then.

    Raises `InvalidSetting`.
    """
    then = (first.version.name, first.version.digest)
    if then != (request.name, request.manifest.digest):
        raise InvalidSetting(
            f"the request {request.request_id!r} was committed before, as {first.version.ref} with "
            f"other content; choose a new id for a new commit."
        )


def type_of(name: ArtifactName, fixed: str | None, asked: str | None) -> str:
    """The artifact's type: what its first version fixed, else what is asked for.

    Raises `InvalidSetting` when the two differ.
    """
    if fixed is None:
        return asked or TYPE_DEFAULT
    if asked not in (None, fixed):
        raise InvalidSetting(
            f"{name} is of the type {fixed!r}, which its first version fixed; it cannot take a "
            f"version of the type {asked!r}. Choose another name, or leave the type out."
        )
    return fixed


def check_shard(shard: ShardRef, rows: pa.Table, previous: ShardRef | None) -> None:
    """Checks what a manifest says of a shard, and that it follows the `previous` one.

    Raises `CorruptContent`.
    """
    paths = rows.column("path")
    facts = (
        rows.num_rows == shard.rows > 0
        and paths[-1].as_py() == shard.max_path
        and pc.sum(rows.column("size")).as_py() == shard.size_bytes
        and (previous is None or paths[0].as_py() > previous.max_path)
    )
    if not facts:
        raise CorruptContent(f"shard {shard.digest} is not what the manifest says of it")
