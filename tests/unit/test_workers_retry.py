"""Retries in virtual time: when, how often, how long, and what is raised in the end."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest

from workers.errors import WorkerError
from workers.limiter import Limiter
from workers.retry import Retry, RetryBudget
from workers.simulated import VirtualClock, run_simulated


class Busy(WorkerError):
    """The server is busy."""

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


def is_busy(error: Exception) -> bool:
    return isinstance(error, Busy)


def asked_s(error: Exception) -> float | None:
    assert isinstance(error, Busy)
    return error.retry_after_s


class Flaky:
    """Fails as told, then answers; notes when it was called."""

    def __init__(self, clock: VirtualClock, *errors: BaseException, work_s: float = 0.0) -> None:
        self._clock = clock
        self._errors = list(errors)
        self._work_s = work_s
        self.called_at_s: list[float] = []

    async def __call__(self) -> str:
        self.called_at_s.append(self._clock.monotonic())
        await self._clock.sleep(self._work_s)
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def test_a_passing_failure_is_tried_again_after_a_growing_jittered_delay() -> None:
    async def program(clock: VirtualClock, random: Random) -> list[float]:
        flaky = Flaky(clock, *(Busy() for _ in range(7)))
        retry = Retry(delay_s_min=0.05, delay_s_max=2.0, clock=clock, random=random)
        assert await retry.call(flaky, is_retryable=is_busy) == "answer"
        return [after - before for before, after in pairwise(flaky.called_at_s)]

    highest = [0.0] * 7
    for seed in range(200):
        delays = run_simulated(program, seed=seed)
        highest = [max(pair) for pair in zip(highest, delays, strict=True)]
        assert all(0.05 <= delay <= 2.0 for delay in delays)
    for reached, ceiling in zip(highest, (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0), strict=True):
        assert 0.9 * ceiling < reached <= ceiling


def test_what_may_not_pass_is_raised_at_once_and_without_a_note() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        flaky = Flaky(clock, KeyError("no such bucket"))
        with pytest.raises(KeyError) as raised:
            await Retry(clock=clock).call(flaky, is_retryable=is_busy)
        assert len(flaky.called_at_s) == 1
        assert not hasattr(raised.value, "__notes__")

    run_simulated(program)


def test_the_last_error_itself_is_raised_with_a_note_of_the_attempts() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        errors = [Busy() for _ in range(9)]
        flaky = Flaky(clock, *errors)
        with pytest.raises(Busy) as raised:
            await Retry(attempts_max=4, clock=clock).call(flaky, is_retryable=is_busy)
        assert raised.value is errors[3]
        assert raised.value.__notes__ == ["gave up after attempt 4: no attempts left"]
        assert len(flaky.called_at_s) == 4

    run_simulated(program)


def test_no_attempt_begins_after_the_deadline_and_none_is_waited_for_in_vain() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        flaky = Flaky(clock, *(Busy() for _ in range(99)), work_s=1.0)
        retry = Retry(attempts_max=99, deadline_s=10.0, clock=clock, random=random)
        with pytest.raises(Busy) as raised:
            await retry.call(flaky, is_retryable=is_busy)
        assert "deadline of 10 s" in raised.value.__notes__[0]
        assert 7 < flaky.called_at_s[-1] <= 10
        assert clock.monotonic() == flaky.called_at_s[-1] + 1.0

        hopeless = Flaky(clock, Busy(retry_after_s=3600.0))
        started_s = clock.monotonic()
        with pytest.raises(Busy):
            await retry.call(hopeless, is_retryable=is_busy, retry_after_s=asked_s)
        assert clock.monotonic() == started_s + 0.0

    run_simulated(program)


def test_what_the_server_asks_for_comes_before_the_jitter() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        returned_at_s: list[float] = []
        retry = Retry(clock=clock, random=random)

        async def client() -> None:
            flaky = Flaky(clock, Busy(retry_after_s=5.0), Busy(retry_after_s=-1.0), Busy())
            await retry.call(flaky, is_retryable=is_busy, retry_after_s=asked_s)
            assert 0.05 <= flaky.called_at_s[2] - flaky.called_at_s[1] <= 0.2
            returned_at_s.append(flaky.called_at_s[1])

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(client())
        assert all(5.05 <= moment <= 5.1 for moment in returned_at_s)
        assert len(set(returned_at_s)) == 20, "they don't come back all at once"

    run_simulated(program)


def test_a_waiting_retry_holds_no_slot() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        limiter = Limiter.fixed(1, clock=clock)
        retry = Retry(clock=clock, random=random)
        flaky = Flaky(clock, Busy(retry_after_s=30.0), work_s=1.0)

        async def limited_flaky() -> str:
            async with limiter.slot():
                return await flaky()

        async def limited_sleep() -> None:
            async with limiter.slot():
                await clock.sleep(1.0)

        async with asyncio.TaskGroup() as group:
            slow = group.create_task(
                retry.call(limited_flaky, is_retryable=is_busy, retry_after_s=asked_s)
            )
            await clock.sleep(2)
            assert (limiter.in_flight, limiter.free) == (0, 1)
            for _ in range(20):
                await retry.call(limited_sleep, is_retryable=is_busy)
            assert clock.monotonic() == 22
        assert slow.result() == "answer"

    run_simulated(program)


def test_all_calls_share_one_budget() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        budget = RetryBudget(share_max=0.2, floor=10)
        retry = Retry(attempts_max=100, budget=budget, clock=clock, random=random)
        attempts = 0

        async def outage() -> None:
            nonlocal attempts
            attempts += 1
            raise Busy

        async def call() -> None:
            with pytest.raises(Busy) as raised:
                await retry.call(outage, is_retryable=is_busy)
            assert "the retries of this scan are used up" in raised.value.__notes__[0]

        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(call())
        assert budget.calls_total == 200
        assert budget.retries_total == 10 + 40
        assert attempts == 250

    run_simulated(program)


def test_each_retry_is_told_before_its_wait() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        told: list[tuple[int, Exception, float, float]] = []

        def on_retry(attempt: int, error: Exception, delay_s: float) -> None:
            told.append((attempt, error, delay_s, clock.monotonic()))

        errors = (Busy(), Busy())
        flaky = Flaky(clock, *errors)
        retry = Retry(clock=clock, random=random)
        await retry.call(flaky, is_retryable=is_busy, on_retry=on_retry)
        assert [(attempt, error) for attempt, error, _, _ in told] == [
            (1, errors[0]),
            (2, errors[1]),
        ]
        for (_, _, delay_s, told_at_s), called_at_s in zip(
            told, flaky.called_at_s[1:], strict=True
        ):
            assert told_at_s + delay_s == pytest.approx(called_at_s)

    run_simulated(program)


@pytest.mark.parametrize("cancel_at_s", [0.5, 2.0])
def test_a_cancel_is_never_retried(cancel_at_s: float) -> None:
    """Not while the function runs and not while the next attempt is waited for."""

    async def program(clock: VirtualClock, random: Random) -> None:
        flaky = Flaky(clock, Busy(retry_after_s=30.0), work_s=1.0)
        retry = Retry(clock=clock, random=random)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(
                retry.call(flaky, is_retryable=lambda _: True, retry_after_s=asked_s)
            )
            await clock.sleep(cancel_at_s)
            call.cancel()
        assert call.cancelled()
        assert clock.monotonic() == cancel_at_s
        assert len(flaky.called_at_s) == 1

    run_simulated(program)


def test_calls_at_once_don_t_mix_their_attempts() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        retry = Retry(attempts_max=4, clock=clock, random=random)

        async def client(failures: int) -> None:
            flaky = Flaky(clock, *(Busy() for _ in range(failures)), work_s=random.random())
            call = retry.call(flaky, is_retryable=is_busy)
            if failures < 4:
                assert await call == "answer"
            else:
                with pytest.raises(Busy):
                    await call
            assert len(flaky.called_at_s) == min(4, failures + 1)

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(client(number % 6))

    run_simulated(program)
