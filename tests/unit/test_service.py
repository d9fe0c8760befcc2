"""Jobs live and end as the service promises, whatever becomes of their work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from indexer import service as service_module
from indexer.errors import (
    Busy,
    DaemonUnavailable,
    InvalidSetting,
    JobCancelled,
    JobInterrupted,
    LimitExceeded,
    NoSuchJob,
)
from indexer.job import snapshot_of
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import SourceOptions
from indexer.records import CommitResult, Snapshot
from indexer.references import parse_name
from indexer.service import Job, Service
from indexer.sources import parse_mounted
from indexer.telemetry import Counters, new_logger
from indexer.testing.commits import FIRST, make_request, manifest_of
from indexer.trackers.memory import MemoryTracker
from workers.clock import SystemClock

REQUEST = SnapshotRequest((parse_mounted("s3://bucket/"),), parse_name("p/a"))
OPTIONS = SourceOptions()


class Work:
    """What jobs do: nothing until they are let, then what they are told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = asyncio.Event()
        self.does: Callable[[str], Any] = lambda _: None
        self.tracker = MemoryTracker(SystemClock())

    async def run(
        self, request: SnapshotRequest, options: SourceOptions, counters: Counters, job_id: str
    ) -> Snapshot:
        self.begun.append(job_id)
        counters.requests += 1
        await self.let.wait()
        self.does(job_id)
        return snapshot_of(await self.commit(job_id), 3, counters, 0.5)

    async def commit(self, job_id: str) -> CommitResult:
        await self.tracker.put_shard(FIRST.ref.digest, FIRST.data)
        return await self.tracker.commit(make_request(manifest_of(FIRST), request_id=job_id))

    @asynccontextmanager
    async def service(self, **options: Any) -> AsyncIterator[Service]:
        async with Service.open(
            run=self.run,
            outcome=self.tracker.outcome,
            clock=SystemClock(),
            log=new_logger("critical"),
            **options,
        ) as service:
            yield service


async def ended(job: Job) -> Job:
    while not job.has_ended:
        await job.changes(job.event)
    return job


def fail(error: Exception) -> None:
    raise error


async def test_jobs_begin_in_order_so_many_at_once() -> None:
    work = Work()
    async with work.service(running_max=2) as service:
        jobs = [service.submit(REQUEST, OPTIONS) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert work.begun == [job.id for job in jobs[:2]]
        assert [job.state for job in jobs] == ["running"] * 2 + ["queued"] * 3
        assert (service.waiting, len(service.running)) == (3, 2)
        work.let.set()
        for job in jobs:
            assert (await ended(job)).state == "succeeded"
        assert work.begun == [job.id for job in jobs]
        assert service.jobs(limit=2) == [jobs[4], jobs[3]]
        assert service.jobs(before=jobs[3].number, limit=9) == [jobs[2], jobs[1], jobs[0]]
        assert service.totals.jobs["succeeded"] == 5
        assert service.totals.counters.requests == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [(LimitExceeded(10, "s3://bucket/"), "limit-exceeded"), (ZeroDivisionError(), "unexpected")],
    ids=str,
)
async def test_a_failed_job_says_why(error: Exception, code: str) -> None:
    work = Work()
    work.does = lambda _: fail(error)
    work.let.set()
    async with work.service() as service:
        job = await ended(service.submit(REQUEST, OPTIONS))
        assert job.state == "failed"
        problem = job.document().problem
        assert problem is not None
        assert problem.code == code
        work.does = lambda _: None
        assert (await ended(service.submit(REQUEST, OPTIONS))).state == "succeeded"


async def test_too_many_that_wait_are_refused() -> None:
    work = Work()
    async with work.service(running_max=1, waiting_max=2) as service:
        for _ in range(3):
            service.submit(REQUEST, OPTIONS)
        with pytest.raises(Busy) as refused:
            service.submit(REQUEST, OPTIONS)
        assert refused.value.retry_after_s > 0
        assert len(service.jobs(limit=9)) == 3


async def test_a_job_is_cancelled_wherever_it_is() -> None:
    work = Work()
    async with work.service(running_max=1) as service:
        running, waiting = service.submit(REQUEST, OPTIONS), service.submit(REQUEST, OPTIONS)
        await asyncio.sleep(0)
        for job in (waiting, running):
            service.cancel(job.id)
            service.cancel(job.id)
            assert (await ended(job)).state == "cancelled"
            assert isinstance(job.error, JobCancelled)
        assert work.begun == [running.id]
        assert await work.tracker.parent(REQUEST.name) is None
        with pytest.raises(NoSuchJob):
            service.cancel("nobody")


async def test_what_was_committed_is_the_result_all_the_same() -> None:
    """The cancel comes after the commit, and before the job has told of it."""
    work = Work()
    async with work.service() as service:
        job = service.submit(REQUEST, OPTIONS)
        await asyncio.sleep(0)
        await work.commit(job.id)
        service.cancel(job.id)
        assert (await ended(job)).state == "succeeded"
        assert job.snapshot is not None
        assert job.snapshot.result.version.number == 0
        service.cancel(job.id)
        assert job.state == "succeeded"


async def test_a_stop_interrupts_all() -> None:
    work = Work()
    async with work.service(running_max=1) as service:
        jobs = [service.submit(REQUEST, OPTIONS) for _ in range(3)]
        await asyncio.sleep(0)
        service.stop()
        async with asyncio.timeout(5):
            await service.ended()
        assert [job.state for job in jobs] == ["interrupted"] * 3
        assert all(isinstance(job.error, JobInterrupted) for job in jobs)
        with pytest.raises(DaemonUnavailable):
            service.submit(REQUEST, OPTIONS)


async def test_leaving_ends_all() -> None:
    work = Work()
    async with work.service() as service:
        job = service.submit(REQUEST, OPTIONS)
        await asyncio.sleep(0)
    assert job.state == "interrupted"


async def test_a_key_is_remembered_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    other = SnapshotRequest((parse_mounted("s3://bucket/"),), parse_name("p/b"))
    async with work.service() as service:
        job = service.submit(REQUEST, OPTIONS, key="once")
        assert service.submit(REQUEST, OPTIONS, key="once") is job
        with pytest.raises(InvalidSetting, match="another request"):
            service.submit(other, OPTIONS, key="once")
        assert service.submit(REQUEST, OPTIONS, key="twice") is not job
        monkeypatch.setattr(service_module, "IDEMPOTENCY_KEY_AGE_S", -1.0)
        assert service.submit(REQUEST, OPTIONS, key="once") is not job


async def test_idle_is_told_when_nothing_is_left() -> None:
    work = Work()
    times: list[int] = []
    async with Service.open(
        run=work.run,
        outcome=work.tracker.outcome,
        clock=SystemClock(),
        log=new_logger("critical"),
        running_max=1,
        on_idle=lambda: times.append(len(work.begun)),
    ) as service:
        jobs = [service.submit(REQUEST, OPTIONS) for _ in range(3)]
        work.let.set()
        for job in jobs:
            await ended(job)
        await asyncio.sleep(0)
    assert times == [3]


async def test_old_jobs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "JOBS_KEPT_MAX", 3)
    work = Work()
    work.let.set()
    async with work.service() as service:
        jobs = [await ended(service.submit(REQUEST, OPTIONS)) for _ in range(5)]
        assert service.jobs(limit=9) == list(reversed(jobs[2:]))
        with pytest.raises(NoSuchJob):
            service.job(jobs[0].id)


async def test_watchers_are_told_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "EVENT_INTERVAL_S", 0.01)
    work = Work()
    async with work.service() as service:
        job = service.submit(REQUEST, OPTIONS)
        await asyncio.sleep(0.05)
        seen = job.event
        await asyncio.sleep(0.05)
        assert job.event == seen, "nothing changed, so nothing was told"
        job.counters.objects_listed += 1
        async with asyncio.timeout(5):
            assert await job.changes(seen) == seen + 1
        assert job.document().progress.objects_listed == 1
