"""Runs the command and says how much CPU its longest callbacks took on the event loop.

    python -m benchmarks.watched FILE serve --port=0 ...

Writes to FILE, when the command ends, a JSON list of the longest callbacks, longest first: CPU
seconds of the loop's thread, and what was called. What came before SIGUSR1 is forgotten, so that a
start is apart. The loop is asyncio's own, as uvloop lets nobody in between; the callbacks are the
same.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import signal
import sys
import time
from pathlib import Path
from typing import Final

from indexer import runner
from indexer.cli import main

KEPT: Final = 20


def watch(file: Path) -> None:
    """Measures every callback from now on."""
    longest: list[tuple[float, str]] = []
    run = asyncio.Handle._run  # noqa: SLF001 - the one place that every callback goes through

    def run_measured(handle: asyncio.Handle) -> None:
        started_s = time.thread_time()
        try:
            run(handle)
        finally:
            taken_s = time.thread_time() - started_s
            if len(longest) < KEPT or taken_s > longest[0][0]:
                heapq.heappush(longest, (taken_s, _name_of(handle)))
            if len(longest) > KEPT:
                heapq.heappop(longest)

    asyncio.Handle._run = run_measured  # type: ignore[method-assign, assignment]  # noqa: SLF001
    runner.loop_factory = lambda: asyncio.new_event_loop
    signal.signal(signal.SIGUSR1, lambda *_: longest.clear())
    try:
        main()
    finally:
        file.write_text(json.dumps(sorted(longest, reverse=True)))


def _name_of(handle: asyncio.Handle) -> str:
    """The coroutine of a task's step, the function of another callback."""
    callback = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    task = getattr(callback, "__self__", None)
    named = task.get_coro() if isinstance(task, asyncio.Task) else callback
    return str(getattr(named, "__qualname__", named))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    sys.argv = ["indexer", *sys.argv[2:]]
    watch(target)
