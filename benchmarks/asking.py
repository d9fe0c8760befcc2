"""Asks a store for many objects, one by one, so many at once: the part that all programs share.

Invariants
  * A round asks for every object once. The first one warms up and is not told.
  * Whatever asks does so on the same event loop, uvloop's where there is one.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from indexer.runner import loop_factory
from indexer.testing.keysets import keys

SHAPE: Final = "tree"

Head = Callable[[bytes], Awaitable[Any]]


def keys_of(objects: int) -> list[bytes]:
    """The keys that are asked for."""
    return list(keys(SHAPE, objects))


def run(program: Coroutine[Any, Any, None]) -> None:
    """Runs a program of this kind."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(program)


async def rounds(head: Head, asked: Sequence[bytes], in_flight: int, count: int) -> None:
    """Prints what each round took as JSON: [[wall_s, cpu_s], ...]."""
    taken = [await _round(head, asked, in_flight) for _ in range(count + 1)]
    print(json.dumps(taken[1:]))


async def _round(head: Head, asked: Sequence[bytes], in_flight: int) -> tuple[float, float]:
    left = iter(asked)

    async def ask() -> None:
        for key in left:
            await head(key)

    started_s, started_cpu_s = time.perf_counter(), _cpu_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(ask())
    return time.perf_counter() - started_s, _cpu_s() - started_cpu_s


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
