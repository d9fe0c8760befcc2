"""The limiter against simulated servers: how much it gets done, and at what cost to them.

The bounds leave room for the spread between seeds; the table behind them is printed by
`python -m benchmarks.simulated.limiter`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from benchmarks.simulated.limiter import SERVERS, Observed, Server, adaptive, observe
from workers.clock import Clock
from workers.control import Limits
from workers.limiter import Limiter
from workers.simulated import VirtualClock, run_simulated

GROWING, THROTTLING, KNEE, TWO_CORES, FAR, SLOWER = SERVERS
DURATION_S = 8.0
SEEDS = (1, 2)


def share_of_capacity(server: Server, observed: Observed, duration_s: float = DURATION_S) -> float:
    tenths = range(round(duration_s * 10))
    return observed.answered / sum(server.capacity(tenth / 10) / 10 for tenth in tenths)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("server", [GROWING, replace(THROTTLING, requests_per_s_max=500)])
def test_a_throttling_server_is_used_well_and_seldom_provoked(server: Server, seed: int) -> None:
    observed = observe(server, adaptive, seed=seed, duration_s=DURATION_S)
    assert share_of_capacity(server, observed) > 0.85
    assert observed.throttled_share < 0.15  # nearly all of it where the ramp ends


def test_a_fixed_limit_would_provoke_the_same_server() -> None:
    observed = observe(GROWING, lambda clock: Limiter.fixed(128, clock=clock), duration_s=2.0)
    assert observed.throttled_share > 0.4


def test_in_the_long_run_few_requests_are_throttled() -> None:
    observed = observe(GROWING, adaptive, seed=1, duration_s=30.0, callers=80)
    assert share_of_capacity(GROWING, observed, 30.0) > 0.89
    assert observed.throttled_share < 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_beyond_a_knee_it_does_not_climb(seed: int) -> None:
    observed = observe(KNEE, adaptive, seed=seed, duration_s=DURATION_S, callers=260)
    assert share_of_capacity(KNEE, observed) > 0.95
    assert 64 < observed.limit_settled < 160


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_bound_by_its_cores_is_not_given_more_for_nothing(seed: int) -> None:
    observed = observe(TWO_CORES, adaptive, seed=seed, duration_s=DURATION_S, callers=40)
    assert share_of_capacity(TWO_CORES, observed) > 0.97
    assert observed.limit_settled < 26


@pytest.mark.parametrize("seed", [*SEEDS, 3])
def test_a_far_server_gets_64_at_once_after_little_more_than_a_second(seed: int) -> None:
    def capped(clock: Clock) -> Limiter:
        return Limiter(Limits(start=16, highest=64), clock=clock)

    observed = observe(FAR, capped, seed=seed, duration_s=DURATION_S, callers=80)
    assert observed.sought_at_s < 1.2
    assert observed.limit_settled == 64
    # Little's law: 64 in flight, the mean latency is 206 ms, and the ramp costs half a second.
    assert observed.answered > 0.9 * DURATION_S * 64 / 0.206


def test_a_server_that_gets_slower_by_itself_is_not_abandoned() -> None:
    server = replace(SLOWER, slower_at_s=2.0)
    observed = observe(server, adaptive, seed=1, duration_s=10.0)
    assert observed.limit_settled > 200


def test_a_few_fast_answers_first_do_not_spoil_the_measure() -> None:
    """Such as the first looks at a bucket, before its pages are asked for."""

    async def program(clock: VirtualClock, random: Random) -> float:
        limiter = Limiter(Limits(start=16, highest=64), clock=clock)

        async def page() -> None:
            while limiter.limit < 64:
                async with limiter.slot():
                    await clock.sleep(0.2 * random.uniform(0.8, 1.3))

        for _ in range(3):
            async with limiter.slot():
                await clock.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            for _ in range(80):
                group.create_task(page())
        return clock.monotonic()

    for seed in range(5):
        assert run_simulated(program, seed=seed) < 1.5
