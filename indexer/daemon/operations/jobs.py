"""Snapshots as jobs: trigger, look, follow, cancel; and a look at a source before that."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from indexer.daemon.events import stream
from indexer.daemon.operation import (
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    Answer,
    Call,
    Operation,
    PageQuery,
    Parts,
    number_of_cursor,
)
from indexer.daemon.problems import KeyReused, Malformed
from indexer.errors import Busy, InvalidSetting
from indexer.limits import EVENT_STREAMS_MAX, REQUEST_ID_CHARACTERS_MAX
from indexer.remote import API, EVENTS_TYPE
from indexer.wire.base import cursor_after
from indexer.wire.jobs import (
    DoctorDocument,
    DoctorOrder,
    JobDocument,
    JobPage,
    PreviewDocument,
    SnapshotOrder,
)

EVENT_NUMBER_DIGITS_MAX: Final = 18


async def trigger_snapshot(parts: Parts, call: Call) -> Answer:
    """Takes a snapshot to make."""
    order: SnapshotOrder = call.body
    request, options = parts.read_order(order)
    key = call.headers.get(IDEMPOTENCY_KEY.name)
    if key is not None and not 0 < len(key) <= REQUEST_ID_CHARACTERS_MAX:
        raise Malformed(
            f"An Idempotency-Key has 1 to {REQUEST_ID_CHARACTERS_MAX} characters; choose another."
        )
    try:
        job = parts.service.submit(request, options, key=key)
    except InvalidSetting as error:
        raise KeyReused(str(error)) from error
    return Answer(job.document(), status=202, headers={"Location": f"{API}/jobs/{job.id}"})


async def list_jobs(parts: Parts, call: Call) -> Answer:
    """Lists jobs, newest first."""
    query: PageQuery = call.query
    before = number_of_cursor(query.after)
    jobs = parts.service.jobs(before=before, limit=query.limit)
    after = cursor_after(str(jobs[-1].number)) if len(jobs) == query.limit else None
    return Answer(JobPage(results=[job.document() for job in jobs], next=after))


async def get_job(parts: Parts, call: Call) -> Answer:
    """Looks at a job."""
    return Answer(parts.service.job(call.path["id"]).document())


async def cancel_job(parts: Parts, call: Call) -> Answer:
    """Tells a job to end."""
    return Answer(parts.service.cancel(call.path["id"]).document(), status=202)


async def follow_job(parts: Parts, call: Call) -> Answer | web.StreamResponse:
    """Streams a job's events until it ends."""
    job = parts.service.job(call.path["id"])
    given = call.headers.get(LAST_EVENT_ID.name, "")
    # A number that this daemon never gave is of one before it: all is news then.
    is_number = given.isascii() and given.isdigit() and len(given) <= EVENT_NUMBER_DIGITS_MAX
    after = int(given) if is_number else 0
    after = after if after <= job.event else 0
    if job.has_ended and after == job.event:
        # A browser comes again when a stream ends; this tells it not to.
        return Answer(status=204)
    if parts.metrics.open_streams >= EVENT_STREAMS_MAX:
        raise Busy("As many follow jobs as may at once; ask for the job itself, or come again.")
    with parts.metrics.stream():
        return await stream(job, call.request, call.request_id, after)


async def preview_snapshot(parts: Parts, call: Call) -> Answer:
    """Says what a snapshot would keep, and records nothing."""
    return Answer(PreviewDocument.of(await parts.workspace.preview(call.body)))


async def examine_source(parts: Parts, call: Call) -> Answer:
    """Looks at how a source would be reached."""
    found: dict[str, Any] = await parts.workspace.examine(call.body)
    return Answer(DoctorDocument(**found))


JOBS: Final = (
    Operation(
        "POST", f"{API}/snapshots", "Make a snapshot", trigger_snapshot,
        {202: JobDocument}, body=SnapshotOrder, problems=(415, 422), headers=(IDEMPOTENCY_KEY,),
    ),
    Operation(
        "POST", f"{API}/previews", "See what a snapshot would keep", preview_snapshot,
        {200: PreviewDocument}, body=SnapshotOrder, problems=(403, 415, 422, 502),
    ),
    Operation("GET", f"{API}/jobs", "List jobs", list_jobs, {200: JobPage}, query=PageQuery),
    Operation("GET", f"{API}/jobs/{{id}}", "Look at a job", get_job, {200: JobDocument}),
    Operation("DELETE", f"{API}/jobs/{{id}}", "Cancel a job", cancel_job, {202: JobDocument}),
    Operation(
        "GET", f"{API}/jobs/{{id}}/events", "Follow a job", follow_job,
        {200: EVENTS_TYPE, 204: None}, headers=(LAST_EVENT_ID,), is_stream=True,
    ),
    Operation(
        "POST", f"{API}/doctor", "Look at how a source is reached", examine_source,
        {200: DoctorDocument}, body=DoctorOrder, problems=(403, 415, 502),
    ),
)  # fmt: skip
