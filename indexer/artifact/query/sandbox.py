"""Sandbox: starts the process that answers one query, gives it what it needs, and ends it.

Invariants
  * The process has no environment, no folder and no open file of this one, but its two pipes.
  * It is gone when `answer` returns or raises, whatever it did: a query that runs away or brings
    DuckDB down costs its own process and an error.
  * What it says is believed to be bytes within a bound, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from indexer.artifact.query.messages import (
    EXIT_LATE,
    HEAD,
    HEADER_BYTES_MAX,
    Need,
    Outcome,
    Reply,
    Task,
    frame,
)
from indexer.errors import IndexerError, QueryLimitExceeded, UsageError, error_of
from indexer.limits import ANSWER_BYTES_MAX, MIB, QUERY_START_S, QUERY_STOP_S

MISSING: Final = "SQL and tables need one more package: install bucket-indexer[query]."

_KEPT: Final = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What of the environment Python may need to start, and holds no secret."""

_START: Final = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "pandas"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Without())
sys.path[:] = sys.argv[1:]
from indexer.artifact.query.locked import main
main()
"""
"""How the process begins: without libraries that others import where they are there, which takes
half a second, and where this one finds its own."""


class Serving(Protocol):
    """Where what a query needs comes from."""

    async def shard(self, view: int, number: int) -> bytes:
        """The Parquet bytes of a view's shard, unverified."""
        ...

    async def table(self, view: int, path: bytes) -> bytes:
        """The bytes of the entry at a path of a view. Raises what reading it does."""
        ...


async def answer(task: Task, serving: Serving) -> bytes:
    """The result's bytes. Raises `QueryRefused`, `QueryLimitExceeded` and what serving does."""
    check_installed()
    timeout_s = QUERY_START_S + task.bounds.timeout_s + 2 * QUERY_STOP_S
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _START,
        *(path or str(Path.cwd()) for path in sys.path),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=os.sep,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        start_new_session=sys.platform != "win32",
    )
    try:
        async with asyncio.timeout(timeout_s) as bound:
            return await _converse(process, task, serving, bound)
    except TimeoutError as error:
        raise QueryLimitExceeded(_too_slow(task)) from error
    except (EOFError, ConnectionError) as error:
        if await _exit_code(process) == EXIT_LATE:
            raise QueryLimitExceeded(_too_slow(task)) from error
        raise QueryLimitExceeded(
            f"the query's process ended before its answer, most likely as it took more memory than "
            f"its {task.bounds.memory_bytes // MIB:,} MiB allow: ask for less, or raise "
            f"--query-memory-mib."
        ) from error
    finally:
        await _end(process)


def check_installed() -> None:
    """Raises `UsageError` where DuckDB is not there."""
    from importlib.util import find_spec

    if find_spec("duckdb") is None:
        raise UsageError(MISSING)


async def _converse(
    process: Process, task: Task, serving: Serving, bound: asyncio.Timeout
) -> bytes:
    assert process.stdout is not None
    await _send(process, frame(task))
    has_started = False
    while True:
        said, body_bytes = await _read_header(process.stdout, ANSWER_BYTES_MAX)
        if not has_started:
            # From here on what it waits for is part of its time.
            has_started = True
            left_s = task.bounds.timeout_s + QUERY_STOP_S
            bound.reschedule(asyncio.get_running_loop().time() + left_s)
        if isinstance(said, Need):
            await _serve(process, said, serving)
            continue
        body = await process.stdout.readexactly(body_bytes)
        if said.kind is not None:
            raise error_of(said.kind, said.message)
        return body


async def _serve(process: Process, need: Need, serving: Serving) -> None:
    wanted: Awaitable[bytes]
    if need.shard is not None:
        wanted = serving.shard(need.view, need.shard)
    else:
        wanted = serving.table(need.view, need.table or b"")
    try:
        body = await wanted
    except IndexerError as error:
        await _send(process, frame(Reply(error.kind, str(error))))
    else:
        await _send(process, frame(Reply(), len(body)), body)


async def _send(process: Process, *pieces: bytes) -> None:
    assert process.stdin is not None
    for piece in pieces:
        process.stdin.write(piece)
    await process.stdin.drain()


async def _read_header(
    stream: asyncio.StreamReader, body_bytes_max: int
) -> tuple[Need | Outcome, int]:
    """What the process says, and how many bytes it has to it. Raises `EOFError` for nonsense."""
    header_bytes, body_bytes = HEAD.unpack(await stream.readexactly(HEAD.size))
    if header_bytes > HEADER_BYTES_MAX or body_bytes > body_bytes_max:
        raise EOFError
    try:
        header = await stream.readexactly(header_bytes)
        return msgspec.msgpack.decode(header, type=Need | Outcome), body_bytes
    except msgspec.DecodeError as error:
        raise EOFError from error


def _too_slow(task: Task) -> str:
    return (
        f"the query took more than {task.bounds.timeout_s:g} s and was ended: ask for less, or "
        f"raise --query-timeout-s."
    )


async def _exit_code(process: Process) -> int | None:
    """What a process ended with that has closed its pipe; None if it goes on all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(QUERY_STOP_S):
            return await process.wait()
    return None


async def _end(process: Process) -> None:
    """Ends a process that may have ended, and waits until it is gone, also when cancelled."""
    with suppress(ProcessLookupError):
        process.kill()
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
