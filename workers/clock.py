"""The time, as something that is passed in, so that a test decides how it goes.

Invariants
  * `monotonic` never goes back and says nothing about the date; differences are seconds;
  * `now` is for people and records, never for measuring how long something took.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the time is, and waiting for it. May be called at any rate, on the event loop."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment."""

    def now(self) -> datetime:
        """Return the date and time in UTC, with its time zone."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds, or raise `CancelledError`; 0 lets others run."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
