"""How a limit of concurrency moves: what requests tell goes in, the limit comes out.

The rule, a window of time after the other:
  * requests were throttled: the limit falls, once a window, and CUBIC brings it back to where that
    happened: fast while far below, carefully near it, then beyond;
  * none were, and the limit is used: it ramps by half a window until the first throttle, and grows
    by CUBIC from then on. Each time it has grown by half the gain is judged: where more in flight
    only made latency longer, the step is taken back;
  * latency is over twice the best there was: the limit falls gently. Should latency not fall with
    it, then something else made it long, and it counts as normal from there.

Invariants
  * the limit stays within its bounds; between equal bounds it never moves;
  * a window moves it by +50 % while ramping, then by +25 % or one, and by -50 %, at the most;
  * a limit that isn't used does not grow;
  * no clock and no I/O: the caller brings the time, in seconds that never go back.

Sources: RFC 9438 for CUBIC; Little's law, throughput is in flight / latency, for the gain; the
simulation in `benchmarks/simulated/limiter.py` for the factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median

RAMP_FACTOR = 1.5
RAMP_WINDOW_S_MIN = 0.1
WINDOW_S_MIN = 0.2
WINDOW_LATENCIES = 2.0  # the first half of a window still answers to the limit before it
GROWTH_FACTOR_MAX = 1.25
CUBIC_SCALE = 0.4
THROTTLED_SHARE_MAX = 0.01  # what a server sheds now and then is no sign of load
THROTTLED_SHARE_HEAVY = 0.3
CUT_FACTOR = 0.85
CUT_FACTOR_HEAVY = 0.5
USED_SHARE_MIN = 0.7
JUDGED_FACTOR = 1.4  # less than RAMP_FACTOR, so that each step of the ramp is judged
GAIN_SHARE_MIN = 0.2  # of the concurrency added, what has to arrive as throughput
LATENCY_FACTOR_MAX = 2.0
LATENCY_FLOOR_DRIFT = 1.002  # a window: the best latency of better days is forgotten slowly
GUARD_FACTOR = 0.9
GUARD_JUDGED_FACTOR = 0.7
GUARD_RELIEF_FACTOR = 0.9  # latency that stays above this share does not come from the limit

assert 0 < THROTTLED_SHARE_MAX < THROTTLED_SHARE_HEAVY < 1
assert 0 < CUT_FACTOR_HEAVY < 1 / RAMP_FACTOR < CUT_FACTOR < GUARD_FACTOR < 1
assert 1 < GROWTH_FACTOR_MAX < JUDGED_FACTOR < RAMP_FACTOR
assert 0 < GUARD_JUDGED_FACTOR < GUARD_RELIEF_FACTOR < 1 < LATENCY_FACTOR_MAX


class Outcome(Enum):
    """How a request ended, as far as the load of the server is concerned."""

    ANSWERED = "answered"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"  # failed or was cancelled, which says nothing about load


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the limit starts, and the bounds in which it moves."""

    start: int = 16
    lowest: int = 4
    highest: int = 256

    def __post_init__(self) -> None:
        assert 0 < self.lowest <= self.start <= self.highest


@dataclass(frozen=True, slots=True)
class _Measure:
    """The median latency of a window, and the limit under which it was seen."""

    limit: float
    latency_s: float


class Control:
    """One limit, for requests of one kind to one server: latencies are compared with each other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._limit = float(limits.start)
        self._ramping = True
        self._throttled_ever = False
        self._latency_floor_s = float("inf")
        self._judged: _Measure | None = None
        self._guarded: _Measure | None = None
        self._crest = self._limit  # the limit that was too much, and when it was left
        self._crest_left_s = float("-inf")
        self._crest_regained_after_s = 0.0
        self._in_flight = self._in_flight_peak = 0
        self._finished = self._counted = self._throttled = 0
        self._window_end_s = float("-inf")
        self._latencies_s: list[float] = []

    @property
    def limit(self) -> int:
        return int(self._limit)

    def started(self) -> None:
        """Note that a request starts."""
        self._in_flight += 1
        self._in_flight_peak = max(self._in_flight_peak, self._in_flight)

    def finished(
        self, outcome: Outcome, started_s: float, now_s: float, *, typical: bool = True
    ) -> int:
        """Note that a request ended, and return the limit from here on.

        `typical` is whether its latency compares: not that of an answer much smaller than most.
        """
        assert self._in_flight > 0
        self._in_flight -= 1
        self._finished += 1
        if started_s >= self._crest_left_s:  # else it answers to the limit before the last fall
            self._counted += 1
            self._throttled += outcome is Outcome.THROTTLED
            if outcome is Outcome.ANSWERED and typical:
                self._latencies_s.append(now_s - started_s)
        # An answer for each request in flight: fewer would be the fast ones only.
        if self._finished >= self._in_flight_peak and now_s >= self._window_end_s:
            self._close_window(now_s)
        return self.limit

    def _close_window(self, now_s: float) -> None:
        latency_s = median(self._latencies_s) if self._latencies_s else None
        throttled_share = self._throttled / max(1, self._counted)
        if throttled_share > THROTTLED_SHARE_MAX:
            factor = 1 / RAMP_FACTOR if self._ramping else CUT_FACTOR  # takes the last step back
            if throttled_share > THROTTLED_SHARE_HEAVY:
                factor = CUT_FACTOR_HEAVY
            self._throttled_ever = True
            self._judged = self._guarded = None
            self._fall(self._limit * factor, now_s)
        elif self._counted and self._in_flight_peak >= USED_SHARE_MIN * self.limit:
            self._move(latency_s, now_s)
        window_s = max(WINDOW_S_MIN, WINDOW_LATENCIES * (latency_s or 0.0))
        self._window_end_s = now_s + (RAMP_WINDOW_S_MIN if self._ramping else window_s)
        self._in_flight_peak = self._in_flight
        self._finished = self._counted = self._throttled = 0
        self._latencies_s = []

    def _move(self, latency_s: float | None, now_s: float) -> None:
        """Grow, unless latency tells otherwise."""
        if latency_s is None:
            self._judged = self._guarded = None
            self._grow(now_s)
            return
        measure = _Measure(self._limit, latency_s)
        self._latency_floor_s = min(self._latency_floor_s * LATENCY_FLOOR_DRIFT, latency_s)
        if latency_s > LATENCY_FACTOR_MAX * self._latency_floor_s:
            self._guard(measure, now_s)
            return
        self._guarded = None
        before = self._judged or measure
        growth = measure.limit / before.limit
        if growth >= JUDGED_FACTOR:
            gain_min = 1 + GAIN_SHARE_MIN * (growth - 1)
            if growth * before.latency_s < gain_min * latency_s:
                self._fall(before.limit, now_s)
                return
            self._ramping = not self._throttled_ever
            before = measure
        self._judged = before
        self._grow(now_s)

    def _guard(self, measure: _Measure, now_s: float) -> None:
        """Fall, and find out whether latency falls too."""
        before = self._guarded
        if before is None:
            self._guarded = measure
        elif measure.limit <= max(self._limits.lowest, GUARD_JUDGED_FACTOR * before.limit):
            if measure.latency_s > GUARD_RELIEF_FACTOR * before.latency_s:
                self._latency_floor_s = measure.latency_s
                self._judged, self._guarded = measure, None
                self._ramping = not self._throttled_ever
                return
            self._guarded = measure
        self._fall(self._limit * GUARD_FACTOR, now_s)

    def _fall(self, limit: float, now_s: float) -> None:
        self._ramping = False
        self._crest = self._limit
        self._crest_left_s = now_s
        self._limit = max(float(self._limits.lowest), limit)
        fallen = max(0.0, self._crest - self._limit)
        self._crest_regained_after_s = (fallen / CUBIC_SCALE) ** (1 / 3)

    def _grow(self, now_s: float) -> None:
        if self._ramping:
            limit = self._limit * RAMP_FACTOR
        else:
            beyond_s = now_s - self._crest_left_s - self._crest_regained_after_s
            cubic = self._crest + CUBIC_SCALE * beyond_s**3
            limit = max(self._limit + 1, min(cubic, self._limit * GROWTH_FACTOR_MAX))
        self._limit = min(float(self._limits.highest), limit)
