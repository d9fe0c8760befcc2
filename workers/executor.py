"""The call that carries work to wherever it is done: bytes in, bytes out.

What is in the bytes is between who submits and who runs; an executor never looks inside.
"""

from __future__ import annotations

from typing import Protocol


class Executor(Protocol):
    """Somewhere that work is done, at most `slots` at a time.

    Order: none. Work may start and end in any order, whatever the order of the calls.

    Idempotence: work is done at least once. When `submit` raises `WorkerLost` it may have been
    done, be going on still, or never have started; submitting the same bytes again has to lead to
    the same result. What the work itself raises arrives as it is where the executor can carry it.

    Cancel: a cancelled `submit` asks for the work to stop and drops its answer. It has stopped when
    `submit` returns if the executor runs here, and stops some time later, or ends, if elsewhere.
    """

    @property
    def slots(self) -> int:
        """How much work is done at a time; more may be submitted, and waits in line."""

    async def submit(self, work: bytes) -> bytes:
        """Do the work and return its answer. May be called by many tasks at once.

        Raises `WorkerLost`, `Closed`, and what the work raises.
        """

    async def aclose(self) -> None:
        """Take no more work, and return when none is running. May be repeated.

        Work that waits for a slot raises `Closed` where it was submitted.
        """
