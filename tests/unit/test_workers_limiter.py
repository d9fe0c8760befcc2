"""The rule by which a limit moves, window by window, and the limiter that follows it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.control import Control, Limits, Outcome
from workers.limiter import Limiter
from workers.simulated import VirtualClock, run_simulated


class Windows:
    """Feeds a control full windows of requests that are all in flight at once."""

    def __init__(self, limits: Limits) -> None:
        self.control = Control(limits)
        self.now_s = 0.0

    def pass_by(
        self,
        latency_s: float = 0.1,
        *,
        throttled_share: float = 0.0,
        in_flight: int | None = None,
        typical: bool = True,
    ) -> int:
        """Let one window pass, and return the limit after it."""
        before = self.control.limit
        count = before if in_flight is None else in_flight
        self.now_s += 2.0  # longer than any window of these latencies
        started_s = self.now_s
        for _ in range(count):
            self.control.started()
        self.now_s += latency_s
        limits = []
        for number in range(count):
            throttled = number < round(throttled_share * count)
            outcome = Outcome.THROTTLED if throttled else Outcome.ANSWERED
            limits.append(self.control.finished(outcome, started_s, self.now_s, typical=typical))
        assert set(limits[:-1]) <= {before}, "once a window"
        return limits[-1]


def test_it_ramps_by_half_while_used_until_its_highest() -> None:
    windows = Windows(Limits(start=16, highest=100))
    assert [windows.pass_by() for _ in range(6)] == [24, 36, 54, 81, 100, 100]


def test_what_is_not_used_does_not_grow() -> None:
    windows = Windows(Limits(start=16))
    assert [windows.pass_by(in_flight=11) for _ in range(5)] == [16] * 5
    assert windows.pass_by(in_flight=12) == 24


def test_a_throttle_cuts_gently_many_cut_in_half_and_few_don_t() -> None:
    for throttled_share, after in ((0.02, 85), (0.30, 85), (0.31, 50), (0.01, 125)):
        windows = Windows(Limits(start=150, highest=150))
        assert windows.pass_by(throttled_share=0.02) == 100, "the last step of the ramp"
        assert windows.pass_by(throttled_share=throttled_share) == after


def test_throttles_bring_it_to_its_lowest_and_not_below() -> None:
    windows = Windows(Limits(start=16, lowest=4))
    limits = [windows.pass_by(throttled_share=1.0) for _ in range(5)]
    assert limits == [8, 4, 4, 4, 4]


def test_requests_from_before_a_cut_don_t_cut_again() -> None:
    control = Control(Limits(start=100))
    for _ in range(200):
        control.started()
    for _ in range(100):
        control.finished(Outcome.THROTTLED, 0.0, 0.1)
    assert control.limit == 100, "not all that are in flight have answered"
    for _ in range(100):
        control.finished(Outcome.THROTTLED, 0.0, 0.1)
    assert control.limit == 50
    for _ in range(60):
        control.started()
    for _ in range(60):
        control.finished(Outcome.THROTTLED, 0.05, 5.0)
    assert control.limit == 50


def test_after_a_cut_it_returns_by_cubic_and_goes_on() -> None:
    windows = Windows(Limits(start=150, highest=1000))
    assert windows.pass_by(throttled_share=0.02) == 100
    assert windows.pass_by(throttled_share=0.02) == 85
    # CUBIC is back at 100 after cbrt((100 - 85) / 0.4) = 3.35 s; a window takes 2.1 s here.
    limits = [windows.pass_by() for _ in range(8)]
    assert limits[0] == 99
    assert limits[1] in {100, 101}
    assert limits == sorted(limits)
    assert all(after <= 1.25 * before + 1 for before, after in pairwise(limits))
    assert limits[-1] > 200


def test_a_step_that_only_made_latency_longer_is_taken_back() -> None:
    windows = Windows(Limits(start=16))
    assert windows.pass_by(0.100) == 24
    assert windows.pass_by(0.150) == 16
    assert windows.pass_by(0.100) < 24, "and it ramps no more"


def test_a_step_that_gains_something_is_kept() -> None:
    windows = Windows(Limits(start=16))
    assert windows.pass_by(0.100) == 24
    assert windows.pass_by(0.120) == 36


def test_latency_over_twice_the_best_brings_it_down_while_that_helps() -> None:
    windows = Windows(Limits(start=100, highest=100))
    assert windows.pass_by(0.100) == 100
    limit = 100
    for _ in range(8):  # a queue in the server: latency follows the limit
        limit = windows.pass_by(0.004 * limit)
    assert limit < 55
    assert windows.pass_by(0.190) > limit, "under twice the best it grows again"


def test_latency_that_does_not_follow_the_limit_counts_as_normal() -> None:
    windows = Windows(Limits(start=100, highest=100))
    assert windows.pass_by(0.020) == 100
    limits = [windows.pass_by(0.200) for _ in range(14)]
    assert min(limits) >= 55
    assert limits[-1] == 100


def test_at_its_lowest_too_it_learns_what_is_normal() -> None:
    windows = Windows(Limits(start=4, lowest=4))
    assert windows.pass_by(0.020) == 6
    assert windows.pass_by(0.200, throttled_share=0.5) == 4
    limits = [windows.pass_by(0.200) for _ in range(8)]
    assert limits[-1] > 4


def test_latencies_that_don_t_compare_are_left_out() -> None:
    windows = Windows(Limits(start=16))
    assert windows.pass_by(0.100) == 24
    assert windows.pass_by(9.000, typical=False) == 36
    assert windows.pass_by(0.001, typical=False) == 54
    assert windows.pass_by(0.100) == 81


def test_growth_without_latencies_to_compare_is_not_judged_afterwards() -> None:
    windows = Windows(Limits(start=16))
    assert windows.pass_by(0.100) == 24
    assert windows.pass_by(typical=False) == 36
    assert windows.pass_by(0.195) == 54


def test_latencies_of_nothing_are_no_error() -> None:
    windows = Windows(Limits(start=16))
    assert [windows.pass_by(0.0) for _ in range(3)] == [24, 36, 54]


@settings(max_examples=100, deadline=None)
@given(
    lowest=st.integers(1, 8),
    start=st.integers(0, 40),
    highest=st.integers(0, 200),
    windows=st.lists(
        st.tuples(
            st.floats(0.0, 1.0), st.sampled_from([0.0, 0.0, 0.02, 0.5]), st.sampled_from([0.5, 1.0])
        ),
        max_size=30,
    ),
)
def test_whatever_comes_it_stays_within_its_bounds_and_its_pace(
    lowest: int, start: int, highest: int, windows: list[tuple[float, float, float]]
) -> None:
    limits = Limits(lowest + start + highest and lowest + start, lowest, lowest + start + highest)
    feed = Windows(limits)
    before = feed.control.limit
    for latency_s, throttled_share, used_share in windows:
        in_flight = max(1, int(used_share * before))
        limit = feed.pass_by(latency_s, throttled_share=throttled_share, in_flight=in_flight)
        assert limits.lowest <= limit <= limits.highest
        assert before * 0.5 - 1 <= limit <= before * 1.5 + 2
        before = limit


def test_the_limiter_admits_in_order_and_follows_its_control() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        limiter = Limiter(Limits(start=4, lowest=1, highest=6), clock=clock)
        order: list[int] = []

        async def request(number: int) -> None:
            async with limiter.slot():
                order.append(number)
                assert limiter.in_flight <= limiter.limit
                await clock.sleep(0.2)

        assert (limiter.limit, limiter.in_flight, limiter.free) == (4, 0, 4)
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(request(number))
            await clock.sleep(0.1)
            assert (limiter.in_flight, limiter.free) == (4, 0)
        assert order == list(range(40))
        assert limiter.limit == 6
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        assert (statistics.requests_total, statistics.throttled_total) == (40, 0)
        assert (statistics.limit_peak, statistics.in_flight_peak) == (6, 6)

    run_simulated(program)


def test_throttles_are_told_by_the_slot_and_other_errors_don_t_count() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        async def storm(limiter: Limiter, *, throttled: bool) -> None:
            async def request() -> None:
                async with limiter.slot() as slot:
                    await clock.sleep(0.2)
                    if throttled:
                        slot.throttled()
                    raise ValueError("no")

            async def refused() -> None:
                with pytest.raises(ValueError, match="no"):
                    await request()

            async with asyncio.TaskGroup() as group:
                for _ in range(16):
                    group.create_task(refused())

        limiter = Limiter(clock=clock)
        await storm(limiter, throttled=True)
        assert limiter.limit == 8
        assert limiter.statistics().throttled_total == 16

        limiter = Limiter(clock=clock)
        await storm(limiter, throttled=False)
        assert limiter.limit >= 16
        assert limiter.statistics().throttled_total == 0

    run_simulated(program)


def test_an_untypical_answer_does_not_set_the_measure() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        limiter = Limiter(Limits(start=8, lowest=4, highest=8), clock=clock)

        async def request(latency_s: float, *, typical: bool) -> None:
            async with limiter.slot() as slot:
                await clock.sleep(latency_s)
                if not typical:
                    slot.untypical()

        for latency_s, typical in ((0.01, False), (0.2, True), (0.2, True)):
            async with asyncio.TaskGroup() as group:
                for _ in range(32):
                    group.create_task(request(latency_s, typical=typical))
            assert limiter.limit == 8

    run_simulated(program)


def test_a_fixed_limiter_stays_as_it_is() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        limiter = Limiter.fixed(5, clock=clock)

        async def request() -> None:
            async with limiter.slot() as slot:
                await clock.sleep(random.random())
                if random.random() < 0.4:
                    slot.throttled()
                assert limiter.limit == 5

        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(request())
        assert limiter.statistics().in_flight_peak == 5

    run_simulated(program)


@pytest.mark.parametrize("moment", ["waiting", "given", "inside"])
def test_a_cancel_gives_the_slot_back(moment: str) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        limiter = Limiter.fixed(1, clock=clock)

        async def request() -> None:
            async with limiter.slot():
                await clock.sleep(10)

        async with asyncio.TaskGroup() as group:
            first = group.create_task(request())
            second = group.create_task(request())
            await clock.sleep(1)
            if moment != "waiting":
                first.cancel()
                await clock.sleep(0)
                await clock.sleep(0 if moment == "given" else 1)
            second.cancel()
            await clock.sleep(1)
            assert second.cancelled()
            first.cancel()
        assert limiter.in_flight == 0
        assert limiter.free == 1

    run_simulated(program)
