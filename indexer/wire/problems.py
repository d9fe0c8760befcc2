"""Problems: what went wrong, and by which status that is said over HTTP."""

from __future__ import annotations

from typing import Final, TypeAlias

from indexer.errors import (
    AccessDenied,
    AmbiguousSource,
    BrokenListing,
    Busy,
    CommitConflict,
    IndexerError,
    JobCancelled,
    LimitExceeded,
    Mismatch,
    NotFound,
    Protected,
    QueryLimitExceeded,
    RunEnded,
    Temporary,
    UnusableDataFolder,
    UsageError,
    error_of,
)
from indexer.wire.base import Answer

PROBLEM_TYPE: Final = "urn:bucket-indexer:problem:"


class Problem(Answer, frozen=True, kw_only=True):
    """What went wrong, as RFC 9457 has it.

    `code` is the error's stable name and the end of `type`; `detail` says what failed and what to
    do. With `retryable` the same may well work when asked again.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str | None = None

    @classmethod
    def of(
        cls, error: IndexerError, status: int | None = None, request_id: str | None = None
    ) -> Problem:
        """The problem that an error is, of its own status unless another is given."""
        return cls(
            type=PROBLEM_TYPE + error.kind,
            title=error.kind.replace("-", " ").capitalize(),
            status=status or status_of(error),
            detail=str(error),
            code=error.kind,
            retryable=error.is_retryable,
            request_id=request_id,
        )

    def error(self) -> IndexerError:
        """The error that the problem was made of, or one like it where its code is not known."""
        return error_of(self.code, self.detail, otherwise=self._like())

    def _like(self) -> IndexerKind:
        if self.retryable:
            return Temporary
        if self.status == _NOT_FOUND:
            return NotFound
        return UsageError if self.status < _SERVER_ERRORS else IndexerError


IndexerKind: TypeAlias = type[IndexerError]

_NOT_FOUND: Final = 404
_SERVER_ERRORS: Final = 500

STATUSES: Final[tuple[tuple[type[IndexerError], int], ...]] = (
    (UnusableDataFolder, 507),
    (Protected, 409),
    (RunEnded, 409),
    (UsageError, 400),
    (AmbiguousSource, 400),
    (NotFound, 404),
    (AccessDenied, 403),
    (LimitExceeded, 422),
    (QueryLimitExceeded, 422),
    (Mismatch, 422),
    (CommitConflict, 409),
    (JobCancelled, 409),
    (Busy, 429),
    (BrokenListing, 502),
    (Temporary, 503),
    (IndexerError, 500),
)
"""The status of an error over HTTP: that of the first class it belongs to."""


def status_of(error: IndexerError) -> int:
    """The status of an error over HTTP."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))
