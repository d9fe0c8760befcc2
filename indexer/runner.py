"""Runs coroutines for code that is not asynchronous, on uvloop where it can be had.

Invariants
  * Ctrl-C and SIGTERM cancel a command, which then cleans up after itself and raises
    `KeyboardInterrupt`.
  * A `Portal` has a thread and a loop of its own, so that it works where a loop runs already. An
    interrupt of its caller cancels what it does, and is raised when that has cleaned up.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, suppress
from importlib.abc import MetaPathFinder
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

_M_ARENA_MAX: Final = -8  # malloc.h
_ARENAS: Final = 1

GARBAGE_THRESHOLDS: Final = (50_000, 20, 100)
"""Containers made and not freed after which the collector looks at those alone, some 5 MB; how many
such looks until it looks at what survived the last ones; and how many of those until at all."""

Result = TypeVar("Result")
Resource = TypeVar("Resource")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes event loops: uvloop's where there is one (not on Windows), else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def collect_garbage_seldom() -> None:
    """Lets the garbage collector look less often, and never at what is there already.

    For a process that is ours alone; to be called when everything is imported. A page of a listing
    makes a thousand tuples, after 700 of which the collector would look through them, and now and
    then through all that there is: that is a tenth of what listing takes, and up to 150 ms in which
    a daemon answers nobody. A process that lives long calls `collect_garbage` when it is idle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def collect_garbage() -> None:
    """Looks through all that came since `collect_garbage_seldom`."""
    gc.collect()


def use_memory_frugally() -> None:
    """Lets this process use again what it has freed; to be called before pyarrow is imported.

    For a process that is ours alone, as a command's is. Arrow's own pool and an arena for each
    thread keep memory that nobody uses: 350 MB at 300,000 objects, beside 230 MB at 2,000,000.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)  # glibc's; others have no arenas


def leave_pandas_out() -> None:
    """Lets pyarrow not find pandas, which it imports if it is there when it makes its first array.

    For a process that is ours alone, and before pyarrow is imported: that takes a second of
    processor time, more than all else that a command imports, and no command makes data frames.
    """
    if "pyarrow" not in sys.modules and "pandas" not in sys.modules:
        sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def run_command(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command to its end. Raises `KeyboardInterrupt` when it is told to stop."""

    async def run() -> Result:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # loops on Windows take no signal handlers
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await coroutine
        finally:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(signal.SIGTERM)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(run())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


class Portal(Generic[Resource]):
    """An asynchronous resource for synchronous callers, opened on a thread of its own.

    `with Portal(open_app(folder)) as portal: portal.run(lambda app: app.snapshot(...))`
    """

    def __init__(self, resource: AbstractAsyncContextManager[Resource]) -> None:
        self._resource = resource
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="indexer")
        self._runner = asyncio.Runner(loop_factory=loop_factory())

    def __enter__(self) -> Self:
        self._loop = self._thread.submit(self._runner.get_loop).result()
        try:
            self._opened = self._on_thread(self._resource.__aenter__)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if sys.is_finalizing():
            return  # An iterator that nobody ended: the thread is gone, and so is the process.
        try:
            self._on_thread(lambda: self._resource.__aexit__(kind, error, traceback))
        finally:
            self._close()

    def run(self, function: Callable[[Resource], Coroutine[Any, Any, Result]]) -> Result:
        """What `function` comes to, called with the resource. Raises what it raises."""
        return self._on_thread(lambda: function(self._opened))

    def _on_thread(self, function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        task: asyncio.Task[Any] | None = None
        is_stopped = False

        async def call() -> Result:
            nonlocal task
            task = asyncio.current_task()
            if is_stopped:
                raise asyncio.CancelledError
            return await function()

        def stop() -> None:
            nonlocal is_stopped
            is_stopped = True
            if task is not None:
                task.cancel()

        running = self._thread.submit(lambda: self._runner.run(call()))
        try:
            return running.result()
        except BaseException:
            # An interrupt of whoever waits here (Ctrl-C) is none of the thread's until it is told.
            if not running.done():
                self._loop.call_soon_threadsafe(stop)
                wait([running])
            raise

    def _close(self) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
