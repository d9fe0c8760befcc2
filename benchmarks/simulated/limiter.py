"""What the limiter makes of servers of several kinds, in virtual time.

Prints a table: for each server and limit, how much of what the server could do was done, which
share of the requests was throttled, when 64 were in flight and where the limit came to rest.

    python -m benchmarks.simulated.limiter [seeds]
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import mean

from workers.clock import Clock
from workers.control import Limits
from workers.errors import WorkerError
from workers.limiter import Limiter
from workers.retry import Retry, RetryBudget
from workers.simulated import VirtualClock, run_simulated

DURATION_S = 30.0
CALLERS = 320  # more than the highest limit, so that the limit is always used
IN_FLIGHT_SOUGHT = 64


@dataclass(frozen=True, slots=True)
class Server:
    """What a server takes. Latencies are log-normal around `latency_s`."""

    name: str
    latency_s: float = 0.08
    latency_sigma: float = 0.25
    requests_per_s_max: float = math.inf
    """Beyond it requests are throttled, by a token bucket that holds a tenth of a second."""
    growth_per_s: float = 0.0
    """By which share of itself the capacity grows in each second."""
    knee: float = math.inf
    """How many in flight it works on; more only make each of them slower."""
    slower_at_s: float = math.inf
    slower_factor: float = 1.0
    """From that time on each answer takes so many times as long, whatever the load."""

    def capacity(self, at_s: float) -> float:
        """Return the answers per second that can be had at that time, at the most."""
        latency_s = self.latency_s * math.exp(self.latency_sigma**2 / 2)
        if at_s >= self.slower_at_s:
            latency_s *= self.slower_factor
        by_rate = self.requests_per_s_max * (1 + self.growth_per_s * at_s)
        return min(by_rate, self.knee / latency_s)


SERVERS = (
    Server("throttles at 400/s, +2 %/s", requests_per_s_max=400, growth_per_s=0.02),
    Server("throttles at 1500/s", requests_per_s_max=1500),
    Server("knee at 64 in flight", knee=64),
    Server("two cores, 3 ms a page", latency_s=0.003, knee=2),
    Server("200 ms, any load", latency_s=0.2),
    Server("80 ms, from 10 s on 240 ms", slower_at_s=10, slower_factor=3),
)


@dataclass(slots=True)
class Observed:
    """What became of a run."""

    answered: int = 0
    throttled: int = 0
    sought_at_s: float = math.inf
    """When `IN_FLIGHT_SOUGHT` were in flight for the first time."""
    limit_sum: int = 0
    limits: int = 0

    @property
    def throttled_share(self) -> float:
        return self.throttled / max(1, self.answered + self.throttled)

    @property
    def limit_settled(self) -> float:
        """Return the mean limit of the second half."""
        return self.limit_sum / max(1, self.limits)


class _Throttled(WorkerError):
    """The server asked for less."""


class _Running:
    """One server at work."""

    def __init__(self, server: Server, clock: Clock, random: Random) -> None:
        self._server = server
        self._clock = clock
        self._random = random
        self._tokens = server.requests_per_s_max * 0.1
        self._refilled_at_s = 0.0
        self._in_flight = 0

    async def request(self) -> None:
        server, now_s = self._server, self._clock.monotonic()
        self._in_flight += 1
        jitter = math.exp(self._random.gauss(0.0, server.latency_sigma))
        try:
            if not self._take_token(now_s):
                await self._clock.sleep(0.015 * jitter)
                raise _Throttled
            queued = max(1.0, self._in_flight / server.knee)
            slower = server.slower_factor if now_s >= server.slower_at_s else 1.0
            await self._clock.sleep(server.latency_s * jitter * queued * slower)
        finally:
            self._in_flight -= 1

    def _take_token(self, now_s: float) -> bool:
        server = self._server
        if math.isinf(server.requests_per_s_max):
            return True
        rate = server.requests_per_s_max * (1 + server.growth_per_s * now_s)
        self._tokens = min(rate * 0.1, self._tokens + (now_s - self._refilled_at_s) * rate)
        self._refilled_at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def observe(
    server: Server,
    make: Callable[[Clock], Limiter],
    *,
    seed: int = 1,
    duration_s: float = DURATION_S,
    callers: int = CALLERS,
) -> Observed:
    """Load the server through a limiter for so long, with retries, and return what was seen."""

    async def program(clock: VirtualClock, random: Random) -> Observed:
        observed = Observed()
        running = _Running(server, clock, random)
        limiter = make(clock)
        budget = RetryBudget(share_max=math.inf)
        retry = Retry(attempts_max=100, budget=budget, clock=clock, random=random)

        async def attempt() -> None:
            async with limiter.slot() as slot:
                now_s = clock.monotonic()
                if limiter.in_flight >= IN_FLIGHT_SOUGHT and math.isinf(observed.sought_at_s):
                    observed.sought_at_s = now_s
                if now_s > duration_s / 2:
                    observed.limit_sum += limiter.limit
                    observed.limits += 1
                try:
                    await running.request()
                except _Throttled:
                    slot.throttled()
                    observed.throttled += 1
                    raise
                observed.answered += 1

        async def caller() -> None:
            while True:
                await retry.call(attempt, is_retryable=lambda error: isinstance(error, _Throttled))

        try:
            async with asyncio.timeout(duration_s), asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(caller())
        except TimeoutError:
            return observed
        raise AssertionError("the callers never end by themselves")

    return run_simulated(program, seed=seed)


def adaptive(clock: Clock) -> Limiter:
    """Return a limiter as it is by default."""
    return Limiter(Limits(), clock=clock)


def main() -> None:
    """Print the table."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows: list[tuple[str, Callable[[Clock], Limiter]]] = [
        ("adaptive", adaptive),
        ("fixed 256", lambda clock: Limiter.fixed(256, clock=clock)),
    ]
    for server in SERVERS:
        for name, make in rows:
            runs = [observe(server, make, seed=seed) for seed in range(1, seeds + 1)]
            possible = sum(server.capacity(second) for second in range(int(DURATION_S)))
            answered = mean(run.answered for run in runs)
            share = "" if math.isinf(possible) else f"{answered / possible:4.0%} of capacity"
            print(
                f"{server.name:28} {name:10} {answered / DURATION_S:7.0f}/s {share:17} "
                f"throttled {mean(run.throttled_share for run in runs):6.1%}  "
                f"{IN_FLIGHT_SOUGHT} at {max(run.sought_at_s for run in runs):5.2f} s  "
                f"limit {min(run.limit_settled for run in runs):5.0f} to "
                f"{max(run.limit_settled for run in runs):.0f}"
            )


if __name__ == "__main__":
    main()
