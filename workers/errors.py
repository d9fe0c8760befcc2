"""The errors of running work, and the way one error leaves a group of tasks.

    WorkerError
    ├── ChannelBroken       the other stage left early; a consequence, the cause is elsewhere
    ├── Closed              asked of something that takes no more work
    ├── WorkerLost          submitted work may or may not have been done; it may be submitted again
    └── SimulationStalled   a simulated program waits for what can't happen

Invariants
  * the first line of each class's docstring is its default message;
  * work that was retried in vain raises its own last error (see `retry`), so there is no class here
    that would hide it.
"""

from __future__ import annotations

from types import TracebackType


class WorkerError(Exception):
    """Running the work failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class ChannelBroken(WorkerError):
    """The stage at the other end of the channel left before the stream was complete."""


class Closed(WorkerError):
    """No more work is taken: this is closed or closing."""


class WorkerLost(WorkerError):
    """The worker or its answer was lost: the work may or may not have been done."""


class SimulationStalled(WorkerError):
    """Every simulated task waits and nothing is left that could wake one."""


class single_error:  # noqa: N801 - a context manager reads as a verb, like contextlib.suppress
    """Raise the error that began it in place of the `ExceptionGroup` of a task group.

        with single_error():
            async with asyncio.TaskGroup() as group:
                ...

    The one raised is the first that happened and is not a `ChannelBroken`, as a broken channel is
    what the neighbours of a failed stage see. It keeps its own cause and context; the others are
    named in a note.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, BaseExceptionGroup):
            return
        errors = _leaves(error)
        first = next((leaf for leaf in errors if not isinstance(leaf, ChannelBroken)), errors[0])
        others = [repr(leaf) for leaf in errors if leaf is not first]
        if others:
            first.add_note(f"{len(others)} more failed beside it: {', '.join(others[:3])}")
        context = first.__context__
        try:
            raise first
        finally:
            first.__context__ = context  # `raise` put the group here, which contains `first`


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the errors of a group and of the groups inside it, in the order they happened."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
