"""A world for tests, in which waiting takes no time and things go wrong by a seed.

Invariants
  * time stands still while code runs and leaps to the next timer when all of it waits: what is
    measured in this world does not depend on the machine;
  * equal seeds give equal runs, as long as the program draws from the `Random` it is handed, reads
    the clock it is handed and does no real I/O;
  * a program that waits for ever, or would for longer than `virtual_s_max`, raises
    `SimulationStalled` instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

from workers.errors import SimulationStalled, WorkerLost
from workers.local import LocalExecutor
from workers.slots import SlotsStatistics

Result = TypeVar("Result")

VIRTUAL_S_MAX = 86_400.0
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class VirtualClock:
    """A `Clock` that moves when it is told to; inside `run_simulated` the event loop tells it."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0

    def monotonic(self) -> float:
        return self._elapsed_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._elapsed_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        assert seconds >= 0
        self._elapsed_s += seconds


def run_simulated(
    program: Callable[[VirtualClock, Random], Coroutine[Any, Any, Result]],
    *,
    seed: int = 0,
    virtual_s_max: float = VIRTUAL_S_MAX,
) -> Result:
    """Return `await program(clock, random)`, run on an event loop of its own in virtual time.

    All of asyncio's waiting is virtual there, timeouts included. Calls given to threads are done
    at once, in place of a thread, and take no time. Raises what the program raises, and
    `SimulationStalled`.
    """
    clock = VirtualClock()
    with asyncio.Runner(loop_factory=lambda: _VirtualLoop(clock, virtual_s_max)) as runner:
        return runner.run(program(clock, Random(seed)))  # noqa: S311 - has to be repeatable


class _VirtualSelector(selectors.DefaultSelector):
    """Moves the clock instead of waiting."""

    def __init__(self, clock: VirtualClock, virtual_s_max: float) -> None:
        super().__init__()
        self._clock = clock
        self._virtual_s_max = virtual_s_max

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise SimulationStalled
        if timeout > 0:
            self._clock.advance(timeout)
            if self._clock.monotonic() > self._virtual_s_max:
                raise SimulationStalled(f"still running after {self._virtual_s_max:g} virtual s")
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock, virtual_s_max: float) -> None:
        self._clock = clock
        super().__init__(_VirtualSelector(clock, virtual_s_max))

    def time(self) -> float:
        return self._clock.monotonic()

    def run_in_executor(  # type: ignore[override]
        self, _executor: object, function: Callable[..., Result], *arguments: Any
    ) -> asyncio.Future[Result]:
        call: asyncio.Future[Result] = self.create_future()
        try:
            self.call_soon(_settle, call, function(*arguments), None)
        except Exception as error:  # noqa: BLE001 - whatever the call raises is its answer
            self.call_soon(_settle, call, None, error)
        return call


def _settle(call: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if call.done():
        return
    if error is None:
        call.set_result(result)
    else:
        call.set_exception(error)


@dataclass(frozen=True, slots=True)
class Faults:
    """How a simulated executor fails: shares of the calls, between 0 and 1, and latencies."""

    latency_s_max: float = 0.1
    crashes_before: float = 0.0
    """The worker dies before the work is done."""
    crashes_after: float = 0.0
    """The worker dies when the work is done, before it answers."""
    answers_lost: float = 0.0
    """The work is done and answered, and the answer gets lost on the way."""
    answer_s_max: float = 60.0
    """After so long without an answer it counts as lost."""

    def __post_init__(self) -> None:
        shares = (self.crashes_before, self.crashes_after, self.answers_lost)
        assert all(share >= 0 for share in shares)
        assert sum(shares) <= 1


class SimulatedExecutor:
    """A `LocalExecutor` with the latencies and losses of a far one, drawn from `random`."""

    def __init__(
        self,
        run: Callable[[bytes], Awaitable[bytes]],
        slots: int,
        *,
        clock: VirtualClock,
        random: Random,
        faults: Faults,
    ) -> None:
        self._run = run
        self._clock = clock
        self._random = random
        self._faults = faults
        self._local = LocalExecutor(self._run_far, slots)
        self.done_total = 0
        self.lost_total = 0

    @property
    def slots(self) -> int:
        return self._local.slots

    async def submit(self, work: bytes) -> bytes:
        return await self._local.submit(work)

    async def aclose(self) -> None:
        await self._local.aclose()

    def statistics(self) -> SlotsStatistics:
        return self._local.statistics()

    async def _run_far(self, work: bytes) -> bytes:
        faults = self._faults
        fate = self._random.random()
        await self._travel()
        if fate < faults.crashes_before:
            self._lose("the worker died before the work was done")
        answer = await self._run(work)
        self.done_total += 1
        fate -= faults.crashes_before
        if fate < faults.crashes_after:
            self._lose("the worker died after the work was done")
        if fate - faults.crashes_after < faults.answers_lost:
            await self._clock.sleep(faults.answer_s_max)
            self._lose(f"no answer came within {faults.answer_s_max:g} s")
        await self._travel()
        return answer

    async def _travel(self) -> None:
        await self._clock.sleep(self._random.uniform(0.0, self._faults.latency_s_max / 2))

    def _lose(self, message: str) -> None:
        self.lost_total += 1
        raise WorkerLost(message)
