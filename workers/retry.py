"""The only place that tries again.

Invariants
  * the wait between two attempts holds nothing: the function that is called takes its slot, and
    frees it, in each attempt (so a limiter goes inside of a retry, never around it);
  * only an `Exception` that the caller calls retryable is tried again, a cancel never is;
  * when it is given up, the last error itself is raised, with a note that says after how many
    attempts and why: a handler meets the same classes with retries as without;
  * all calls that share a budget make no more retries than the budget allows, so that an outage is
    not answered by a multiple of the usual load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from workers.clock import Clock, SystemClock

Result = TypeVar("Result")


class RetryBudget:
    """How many retries all calls of one scan may make together: a share of the calls, and a floor.

    The floor lets a scan that has just begun live through a short outage: by default four retries
    for each of 64 requests in flight.
    """

    def __init__(self, *, share_max: float = 0.2, floor: int = 256) -> None:
        assert share_max >= 0
        assert floor >= 0
        self._share_max = share_max
        self._floor = floor
        self.calls_total = 0
        self.retries_total = 0

    def take(self) -> bool:
        """Count one more retry and return True, or return False when there is none left."""
        if self.retries_total >= self._floor + self._share_max * self.calls_total:
            return False
        self.retries_total += 1
        return True


class Retry:
    """How often and after which delays a call is tried again; may serve many calls at once.

    Before retry n the delay is drawn evenly between `delay_s_min` and twice that, doubled with each
    further n up to `delay_s_max`. What the server asks for by Retry-After comes before that delay,
    so that those who were told the same don't return together. No attempt begins later than
    `deadline_s` after the call; how long one attempt may take is for the function to bound.
    """

    def __init__(
        self,
        *,
        attempts_max: int = 8,
        delay_s_min: float = 0.05,
        delay_s_max: float = 2.0,
        deadline_s: float = 120.0,
        budget: RetryBudget | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        assert attempts_max > 0
        assert 0 <= delay_s_min <= delay_s_max
        assert deadline_s >= 0
        self._attempts_max = attempts_max
        self._delay_s_min = delay_s_min
        self._delay_s_max = delay_s_max
        self._deadline_s = deadline_s
        self._budget = budget or RetryBudget()
        self._clock = clock or SystemClock()
        self._random = random or Random()  # noqa: S311 - jitter, not a secret

    async def call(
        self,
        function: Callable[[], Awaitable[Result]],
        *,
        is_retryable: Callable[[Exception], bool],
        retry_after_s: Callable[[Exception], float | None] | None = None,
        on_retry: Callable[[int, Exception, float], None] | None = None,
    ) -> Result:
        """Return `await function()`, tried again while it fails in a way that may pass.

        `retry_after_s` reads from an error how long the server wants to be left alone, in seconds;
        `on_retry(attempt, error, delay_s)` is told before each wait which attempt, counted from 1,
        failed. Raises what the last attempt raised.
        """
        self._budget.calls_total += 1
        start_s = self._clock.monotonic()
        # Nearly every call succeeds at once. tenacity's apparatus takes 0.2 ms, longer than asking
        # for an object does, so that it is put up for those that fail; it then begins with what
        # came of the first attempt.
        try:
            return await function()
        except Exception as error:
            if not is_retryable(error):
                raise
            failed: Exception | None = error

        async def attempt() -> Result:
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await function()

        def wait_s(state: RetryCallState) -> float:
            asked_s = retry_after_s(_error(state)) if retry_after_s else None
            return max(0.0, asked_s or 0.0) + self._delay_s(state.attempt_number)

        def is_given_up(state: RetryCallState) -> bool:
            elapsed_s = self._clock.monotonic() - start_s
            reason = self._reason_to_give_up(state, elapsed_s)
            if reason:
                _error(state).add_note(f"gave up after attempt {state.attempt_number}: {reason}")
            return reason is not None

        def tell(state: RetryCallState) -> None:
            if on_retry:
                on_retry(state.attempt_number, _error(state), state.upcoming_sleep)

        retrying = AsyncRetrying(
            sleep=self._clock.sleep,
            retry=retry_if_exception(
                lambda error: isinstance(error, Exception) and is_retryable(error)
            ),
            wait=wait_s,
            stop=is_given_up,
            before_sleep=tell,
            reraise=True,
        )
        return await retrying(attempt)

    def _delay_s(self, attempt: int) -> float:
        doublings = min(attempt, 64)
        longest_s = min(self._delay_s_max, self._delay_s_min * 2.0**doublings)
        return self._random.uniform(self._delay_s_min, longest_s)

    def _reason_to_give_up(self, state: RetryCallState, elapsed_s: float) -> str | None:
        if state.attempt_number >= self._attempts_max:
            return "no attempts left"
        if elapsed_s + state.upcoming_sleep > self._deadline_s:
            return f"the next would begin after the deadline of {self._deadline_s:g} s"
        if not self._budget.take():
            return (
                f"the retries of this scan are used up ({self._budget.retries_total} for "
                f"{self._budget.calls_total} calls)"
            )
        return None


def _error(state: RetryCallState) -> Exception:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, Exception)
    return error
