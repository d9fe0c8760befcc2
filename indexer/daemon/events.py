"""Events of a job as a stream: each one is the whole job as it is then, with a number.

Invariants
  * Who comes again with the number of the last event that it had gets what is newer. As each event
    is the whole job, none is needed to understand another one, and a slow reader simply gets fewer.
  * The last event is the one in which the job has ended; then the stream ends.
  * A stream holds no more than one event; who does not read is let go.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from indexer.daemon.dispatch import HEADERS, REQUEST_ID
from indexer.limits import EVENT_HEARTBEAT_S, EVENT_SEND_TIMEOUT_S
from indexer.remote import EVENTS_TYPE
from indexer.service import Job

_HEARTBEAT: Final = b": still here\n\n"
RETRY_MS: Final = 2_000
"""After how long a browser is to come again."""


async def stream(
    job: Job, request: web.BaseRequest, request_id: str, after: int
) -> web.StreamResponse:
    """Sends a job's events after the one numbered `after`, until it has ended."""
    response = web.StreamResponse(
        headers={
            **HEADERS,
            REQUEST_ID: request_id,
            "Content-Type": EVENTS_TYPE,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    try:
        await response.prepare(request)
        await _send(response, b"retry: %d\n\n" % RETRY_MS)
        while True:
            try:
                async with asyncio.timeout(EVENT_HEARTBEAT_S):
                    after = await job.changes(after)
            except TimeoutError:
                await _send(response, _HEARTBEAT)
                continue
            await _send(response, _event(job, after))
            if job.has_ended:
                break
        await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # who followed is gone
    return response


def _event(job: Job, number: int) -> bytes:
    name = "end" if job.has_ended else "progress"
    data = msgspec.json.encode(job.document())
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), data)


async def _send(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(EVENT_SEND_TIMEOUT_S):
        await response.write(data)
