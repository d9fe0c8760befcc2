"""Runs: what was done, which versions it used, and which it made.

Invariants
  * A run that has ended takes nothing more; started with its id, it goes on.
  * What a run made is in its scans, what it used in its uses; a version is used once by a run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Integer, Row, and_, cast, func, insert, or_, select, update

from indexer.catalog.database import Database
from indexer.catalog.lookup import find_project, require_project, require_version
from indexer.catalog.records import SELECT_VERSIONS, read_version, read_versions
from indexer.catalog.schema import projects, runs, scans, uses, versions
from indexer.commit_rules import (
    SNAPSHOT_JOB_TYPE,
    check_open,
    check_project,
    has_ended,
    new_run_id,
)
from indexer.errors import NoSuchRun
from indexer.label_rules import check_run_change, check_run_request, check_use_as
from indexer.limits import CATALOG_ROWS_MAX
from indexer.records import (
    Relation,
    RunChange,
    RunLink,
    RunRecord,
    RunRequest,
    RunState,
    VersionRecord,
)
from indexer.references import VersionRef
from workers.clock import Clock

SELECT_RUNS: Final = select(runs, projects.c.name.label("project")).join_from(
    runs, projects, runs.c.project_id == projects.c.id
)
"""All runs; what narrows it down decides which."""


class Runs:
    """Starts, ends and shows runs, and what they used and made. See `Workspace`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def start(self, request: RunRequest) -> RunRecord:
        """Starts a run, or goes on with the one of that id. Raises `InvalidSetting`."""
        check_run_request(request)
        run_id = request.id or new_run_id()
        return await self._database.write(_start, request, run_id, self._clock.now())

    async def run(self, run_id: str) -> RunRecord:
        """A run by its id. Raises `NoSuchRun`."""
        return await self._database.read(require_run, run_id)

    async def runs(
        self,
        project: str,
        *,
        job_type: str | None = None,
        after: str | None = None,
        limit: int = CATALOG_ROWS_MAX,
    ) -> list[RunRecord]:
        """A project's runs, newest first, those older than the run `after`."""
        return await self._database.read(_runs, project, job_type, after, limit)

    async def change(self, run_id: str, change: RunChange) -> RunRecord:
        """Changes what is said of a run. Raises `NoSuchRun`, `InvalidSetting`."""
        check_run_change(change)
        return await self._database.write(_change, run_id, change)

    async def finish(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        """Ends a run. Raises `NoSuchRun`, and `RunEnded` for one that ended otherwise."""
        assert state is not RunState.RUNNING
        return await self._database.write(_finish, run_id, state, self._clock.now())

    async def use(self, ref: VersionRef, run_id: str, use_as: str | None) -> VersionRecord:
        """Records that a run uses a version. Raises `NoSuchRun`, `RunEnded`, `NoSuchVersion`."""
        if use_as is not None:
            check_use_as(use_as)
        return await self._database.write(_use, ref, run_id, use_as, self._clock.now())

    async def inputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        """What a run used, in the order of first use."""
        return await self._database.read(_inputs, run_id, after, limit)

    async def outputs(
        self, run_id: str, *, after: int | None = None, limit: int = CATALOG_ROWS_MAX
    ) -> list[RunLink]:
        """What a run made or found unchanged, each version once, in the order of commits."""
        return await self._database.read(_outputs, run_id, after, limit)


def require_run(connection: Connection, run_id: str) -> RunRecord:
    """The run of that id. Raises `NoSuchRun`."""
    row = connection.execute(SELECT_RUNS.where(runs.c.id == run_id)).first()
    if row is None:
        raise NoSuchRun(
            f"there is no run {run_id[:128]!r} here. 'indexer runs ls PROJECT' shows those of a "
            f"project."
        )
    return read_run(row)


def read_run(row: Row[*tuple[Any, ...]]) -> RunRecord:
    """The record of a row of `SELECT_RUNS`."""
    return RunRecord(
        id=row.id,
        project=row.project,
        name=row.name,
        job_type=row.job_type,
        state=RunState(row.state),
        config=row.config,
        notes=row.notes,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def make_project(connection: Connection, project: str, now: datetime) -> int:
    """The id of a project, which is made if it is not there."""
    found = find_project(connection, project)
    if found is not None:
        return found
    made = connection.execute(insert(projects).values(name=project, created_at=now))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def make_finished_run(
    connection: Connection, run_id: str, project_id: int, started_at: datetime, now: datetime
) -> None:
    """Makes the run of a commit that names none."""
    connection.execute(
        insert(runs).values(
            id=run_id,
            project_id=project_id,
            created_at=now,
            name=run_id,
            job_type=SNAPSHOT_JOB_TYPE,
            state=RunState.FINISHED.value,
            # A scan's clock may be another machine's.
            started_at=min(started_at, now),
            finished_at=now,
            config={},
            notes="",
        )
    )


def _start(connection: Connection, request: RunRequest, run_id: str, now: datetime) -> RunRecord:
    project_id = make_project(connection, request.project, now)
    given = _given(RunChange(request.name, request.config, request.notes))
    if request.job_type is not None:
        given["job_type"] = request.job_type
    before = connection.execute(SELECT_RUNS.where(runs.c.id == run_id)).first()
    state: dict[str, Any] = {"state": RunState.RUNNING.value, "finished_at": None}
    if before is None:
        first = {"name": run_id, "job_type": "", "config": {}, "notes": "", "created_at": now}
        row = {**first, **given, **state, "started_at": now}
        connection.execute(insert(runs).values(id=run_id, project_id=project_id, **row))
    else:
        check_project(read_run(before), request)
        # Asked twice, a run that runs goes on as it began.
        is_running = before.state == RunState.RUNNING.value
        began = before.started_at if is_running else now
        changes = {**given, **state, "started_at": began}
        connection.execute(update(runs).where(runs.c.id == run_id).values(**changes))
    return require_run(connection, run_id)


def _given(change: RunChange) -> dict[str, Any]:
    said = {"name": change.name, "config": change.config, "notes": change.notes}
    return {name: value for name, value in said.items() if value is not None}


def _change(connection: Connection, run_id: str, change: RunChange) -> RunRecord:
    run = require_run(connection, run_id)
    given = _given(change)
    if not given:
        return run
    connection.execute(update(runs).where(runs.c.id == run_id).values(**given))
    return require_run(connection, run_id)


def _finish(connection: Connection, run_id: str, state: RunState, now: datetime) -> RunRecord:
    run = require_run(connection, run_id)
    if has_ended(run, state):
        return run
    connection.execute(
        update(runs).where(runs.c.id == run_id).values(state=state.value, finished_at=now)
    )
    return require_run(connection, run_id)


def _use(
    connection: Connection, ref: VersionRef, run_id: str, use_as: str | None, now: datetime
) -> VersionRecord:
    _, version_id = require_version(connection, ref.name, ref.selector)
    check_open(require_run(connection, run_id))
    is_it = and_(uses.c.run_id == run_id, uses.c.version_id == version_id)
    if connection.execute(select(uses.c.id).where(is_it)).first() is None:
        connection.execute(
            insert(uses).values(run_id=run_id, version_id=version_id, used_at=now, use_as=use_as)
        )
    elif use_as is not None:
        connection.execute(update(uses).where(is_it).values(use_as=use_as))
    return read_version(connection, version_id)


def _runs(
    connection: Connection, project: str, job_type: str | None, after: str | None, limit: int
) -> list[RunRecord]:
    project_id = require_project(connection, project)
    selected = SELECT_RUNS.where(runs.c.project_id == project_id)
    if job_type is not None:
        selected = selected.where(runs.c.job_type == job_type)
    if after is not None:
        last = require_run(connection, after)
        is_older = or_(
            runs.c.created_at < last.created_at,
            and_(runs.c.created_at == last.created_at, runs.c.id < last.id),
        )
        selected = selected.where(is_older)
    selected = selected.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
    return [read_run(row) for row in connection.execute(selected)]


def _inputs(connection: Connection, run_id: str, after: int | None, limit: int) -> list[RunLink]:
    require_run(connection, run_id)
    selected = select(uses).where(uses.c.run_id == run_id)
    if after is not None:
        selected = selected.where(uses.c.id > after)
    rows = connection.execute(selected.order_by(uses.c.id).limit(limit)).all()
    found = _versions(connection, [row.version_id for row in rows])
    return [
        RunLink(row.id, Relation.USES, found[row.version_id], row.used_at, row.use_as)
        for row in rows
    ]


def _outputs(connection: Connection, run_id: str, after: int | None, limit: int) -> list[RunLink]:
    require_run(connection, run_id)
    first = func.min(scans.c.id)
    selected = (
        select(
            first.label("id"),
            scans.c.version_id,
            func.max(cast(scans.c.created, Integer)).label("created"),
            func.max(scans.c.finished_at).label("at"),
        )
        .where(scans.c.run_id == run_id)
        .group_by(scans.c.version_id)
    )
    if after is not None:
        selected = selected.having(first > after)
    rows = connection.execute(selected.order_by(first).limit(limit)).all()
    found = _versions(connection, [row.version_id for row in rows])
    return [
        RunLink(
            row.id,
            Relation.PRODUCES if row.created else Relation.CONFIRMS,
            found[row.version_id],
            row.at,
        )
        for row in rows
    ]


def _versions(connection: Connection, version_ids: list[int]) -> dict[int, VersionRecord]:
    return read_versions(connection, SELECT_VERSIONS.where(versions.c.id.in_(version_ids)))
