"""Service: many jobs, of which a few run at once; started, watched, cancelled, interrupted.

    queued → running → succeeded | failed | cancelled | interrupted
       └────────────────────────────────────┴──────────────┘

Invariants
  * A job that was taken ends in exactly one of the last four states, whatever happens to it.
  * What a job committed is its result, also when it was told to stop after that: its version is
    found by the job's id, under which it was committed.
  * Jobs begin in the order in which they were taken, at most `running_max` at once; at most
    `waiting_max` wait.
  * Watching costs a job nothing: who watches is told that something changed, and looks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from indexer.errors import (
    Busy,
    DaemonUnavailable,
    IndexerError,
    InvalidSetting,
    JobCancelled,
    JobInterrupted,
    NoSuchJob,
)
from indexer.job import snapshot_of
from indexer.limits import (
    EVENT_INTERVAL_S,
    IDEMPOTENCY_KEY_AGE_S,
    IDEMPOTENCY_KEYS_MAX,
    JOBS_KEPT_MAX,
    JOBS_RUNNING_MAX,
    JOBS_WAITING_MAX,
)
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import SourceOptions
from indexer.records import CommitResult, Snapshot
from indexer.telemetry import Counters, Totals
from indexer.wire.jobs import JobDocument, JobState, Progress, SnapshotDocument
from indexer.wire.problems import Problem
from workers.clock import Clock

JOB_ID_BYTES: Final = 8

RunJob = Callable[[SnapshotRequest, SourceOptions, Counters, str], Awaitable[Snapshot]]
Outcome = Callable[[str], Awaitable[CommitResult | None]]


@dataclass(slots=True, eq=False)
class Job:
    """One snapshot that was asked for.

    `event` counts the changes that watchers are told of; `reason` is why the job was told to end.
    """

    id: str
    number: int
    request: SnapshotRequest
    options: SourceOptions
    created_at: datetime
    counters: Counters = field(default_factory=Counters)
    state: JobState = "queued"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    snapshot: Snapshot | None = None
    error: IndexerError | None = None
    event: int = 1
    task: asyncio.Task[None] | None = None
    reason: IndexerError | None = None
    _shown: Progress | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.finished_at is not None

    def document(self) -> JobDocument:
        """The job as it is now."""
        return JobDocument(
            id=self.id,
            state=self.state,
            sources=[str(source) for source in self.request.sources],
            name=str(self.request.name),
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            progress=Progress.of(self.counters),
            result=SnapshotDocument.of(self.snapshot) if self.snapshot else None,
            problem=Problem.of(self.error) if self.error else None,
        )

    async def changes(self, after: int) -> int:
        """Returns the number of the job's newest event as soon as it is greater than `after`."""
        while self.event <= after:
            await self._changed.wait()
        return self.event

    def tell(self) -> None:
        """Tells whoever watches that something changed."""
        self.event += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def tell_progress(self) -> None:
        """Tells whoever watches, if the figures are others than they were told."""
        progress = Progress.of(self.counters)
        if progress != self._shown:
            self._shown = progress
            self.tell()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with an Idempotency-Key, and the job that it began."""

    job_id: str
    request: SnapshotRequest
    options: SourceOptions
    at_s: float


class Service:
    """The jobs of one daemon: `async with Service.open(...) as service`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        run: RunJob,
        outcome: Outcome,
        clock: Clock,
        log: Any,
        running_max: int,
        waiting_max: int,
        on_idle: Callable[[], None],
    ) -> None:
        self._on_idle = on_idle
        self._group: asyncio.TaskGroup = group
        self._run_job = run
        self._outcome = outcome
        self._clock = clock
        self._log = log
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._asked: dict[str, _Asked] = {}
        self._taken_total = 0
        self._is_stopping = False
        self.totals = Totals()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        run: RunJob,
        outcome: Outcome,
        clock: Clock,
        log: Any,
        running_max: int = JOBS_RUNNING_MAX,
        waiting_max: int = JOBS_WAITING_MAX,
        on_idle: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Service]:
        """A service without jobs. All of them have ended when its block is left.

        `run` does a job, committing by the name that it is given last; `outcome` tells what was
        committed by that name. `on_idle` is called when the last job has ended that there was.
        """
        async with asyncio.TaskGroup() as group:
            service = cls(
                group,
                run=run,
                outcome=outcome,
                clock=clock,
                log=log,
                running_max=running_max,
                waiting_max=waiting_max,
                on_idle=on_idle,
            )
            ticker = group.create_task(service._tick())
            try:
                yield service
            finally:
                service.stop()
                ticker.cancel()

    @property
    def is_stopping(self) -> bool:
        """Whether no more jobs are taken."""
        return self._is_stopping

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        return len(self._waiting)

    @property
    def running(self) -> list[Job]:
        """The jobs that run."""
        return list(self._running.values())

    def submit(
        self, request: SnapshotRequest, options: SourceOptions, *, key: str | None = None
    ) -> Job:
        """Takes a job, which begins when it is its turn.

        With a `key` that came before within a day, the job that it began then is returned.

        Raises `Busy` when too many wait, `DaemonUnavailable` when the service is stopping,
        `InvalidSetting` when the key came with another request.
        """
        if key is not None and (known := self._repeated(key, request, options)):
            return known
        if self._is_stopping:
            raise DaemonUnavailable("The daemon is stopping and takes no more jobs; try again.")
        if len(self._waiting) >= self._waiting_max:
            raise Busy(
                f"{len(self._waiting):,} jobs wait already, which is all that may; ask again later."
            )
        self._taken_total += 1
        job = Job(
            secrets.token_hex(JOB_ID_BYTES),
            self._taken_total,
            request,
            options,
            self._clock.now(),
        )
        self._forget_old_jobs()
        self._jobs[job.id] = job
        if key is not None:
            self._asked[key] = _Asked(job.id, request, options, self._clock.monotonic())
        self._waiting.append(job)
        self._start_waiting()
        return job

    def job(self, job_id: str) -> Job:
        """The job of that id. Raises `NoSuchJob`."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NoSuchJob(
                f"there is no job {job_id!r} here: this daemon has not taken it, or it ended long "
                f"ago. 'indexer jobs ls' shows those that are known."
            ) from None

    def jobs(self, *, before: int | None = None, limit: int) -> list[Job]:
        """Jobs, newest first; those whose number is less than `before`."""
        wanted = (j for j in reversed(self._jobs.values()) if before is None or j.number < before)
        return [job for job, _ in zip(wanted, range(limit), strict=False)]

    def cancel(self, job_id: str) -> Job:
        """Tells a job to end; one that has ended stays as it is. Raises `NoSuchJob`."""
        job = self.job(job_id)
        self._end(job, JobCancelled(f"the job {job.id} was cancelled; no version was made."))
        return job

    def stop(self) -> None:
        """Takes no more jobs, and tells all that there are to end."""
        self._is_stopping = True
        for job in [*self._waiting, *self._running.values()]:
            self._end(
                job,
                JobInterrupted(
                    f"the daemon was stopped before the job {job.id} had ended; no version was "
                    f"made. Ask for it again."
                ),
            )

    async def ended(self) -> None:
        """Returns when no job waits or runs."""
        for job in [*self._waiting, *self._running.values()]:
            while not job.has_ended:
                await job.changes(job.event)

    # --- how jobs live

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._running_max:
            job = self._waiting.popleft()
            self._running[job.id] = job
            job.state, job.started_at = "running", self._clock.now()
            job._shown = Progress.of(job.counters)  # noqa: SLF001 - told with the new state
            job.task = self._group.create_task(self._run(job))
            job.tell()

    async def _run(self, job: Job) -> None:
        started_s = self._clock.monotonic()
        try:
            snapshot = await self._run_job(job.request, job.options, job.counters, job.id)
        except asyncio.CancelledError:
            await self._ended_early(job, self._clock.monotonic() - started_s)
        except IndexerError as error:
            self._finish(job, "failed", error=error)
        except Exception as error:  # noqa: BLE001 - one job's fault is not the others'
            self._log.exception("job failed", job=job.id)
            said = IndexerError(f"{job.request.title}: unexpectedly, {error!r}. The log has more.")
            self._finish(job, "failed", error=said)
        else:
            self._finish(job, "succeeded", snapshot=snapshot)
        finally:
            self.totals.add(job.counters)
            del self._running[job.id]
            self._start_waiting()
            if not self._running:
                self._on_idle()

    async def _ended_early(self, job: Job, elapsed_s: float) -> None:
        """Ends a job that was told to, as what it came to until then."""
        result = None
        try:
            result = await self._outcome(job.id)
        except IndexerError as error:
            self._log.warning("outcome unknown", job=job.id, error=str(error))
        if result is not None:
            listed = result.version.listed
            snapshot = snapshot_of(result, listed, job.counters, elapsed_s)
            self._finish(job, "succeeded", snapshot=snapshot)
            return
        reason = job.reason or JobInterrupted()
        self._finish(job, _state_of(reason), error=reason)

    def _end(self, job: Job, reason: IndexerError) -> None:
        if job.has_ended or job.reason is not None:
            return
        job.reason = reason
        if job in self._waiting:
            self._waiting.remove(job)
            self._finish(job, _state_of(reason), error=reason)
        elif job.task is not None:
            job.task.cancel()

    def _finish(
        self,
        job: Job,
        state: JobState,
        *,
        snapshot: Snapshot | None = None,
        error: IndexerError | None = None,
    ) -> None:
        assert not job.has_ended
        job.state, job.snapshot, job.error = state, snapshot, error
        job.finished_at = self._clock.now()
        job.tell()
        ran = job.finished_at - job.started_at if job.started_at else None
        self.totals.ended(state, ran.total_seconds() if ran else None)
        self._log.info("job ended", job=job.id, state=state, error=error and str(error))

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(EVENT_INTERVAL_S)
            for job in self._running.values():
                job.tell_progress()

    # --- what is remembered

    def _repeated(self, key: str, request: SnapshotRequest, options: SourceOptions) -> Job | None:
        oldest_s = self._clock.monotonic() - IDEMPOTENCY_KEY_AGE_S
        for old in [k for k, asked in self._asked.items() if asked.at_s < oldest_s]:
            del self._asked[old]
        while len(self._asked) >= IDEMPOTENCY_KEYS_MAX:
            del self._asked[next(iter(self._asked))]
        asked = self._asked.get(key)
        if asked is None or asked.job_id not in self._jobs:
            return None
        if (asked.request, asked.options) != (request, options):
            raise InvalidSetting(
                f"the Idempotency-Key {key!r} came with another request before; choose a new one "
                f"for a new snapshot."
            )
        return self._jobs[asked.job_id]

    def _forget_old_jobs(self) -> None:
        ended: Iterable[Job] = (job for job in self._jobs.values() if job.has_ended)
        surplus = len(self._jobs) - len(self._waiting) - len(self._running) - JOBS_KEPT_MAX + 1
        for job, _ in zip(list(ended), range(surplus), strict=False):
            del self._jobs[job.id]


def _state_of(reason: IndexerError) -> JobState:
    return "cancelled" if isinstance(reason, JobCancelled) else "interrupted"
