"""Problems of HTTP itself: what cannot be asked, or not like that.

HttpProblem
├── NoSuchPath             404
├── MethodNotAllowed       405   with what is allowed
├── NotInTime              408   the request did not arrive in time
├── PreconditionFailed     412   If-Match does not hold any more: a CommitConflict
├── BodyTooLarge           413
├── WrongMediaType         415
├── WrongHost              421   asked by a name that is not this machine's
├── Malformed              400   the body, the query or the request itself cannot be read
├── KeyReused              422   an Idempotency-Key that came with another request
└── TooSlow                503   the answer took too long
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from indexer.errors import IndexerError


class HttpProblem(IndexerError):
    """The request cannot be answered."""

    status: ClassVar[int] = 400
    headers: Mapping[str, str] = {}


class Malformed(HttpProblem):
    """The request cannot be read."""

    kind = "malformed-request"
    exit_code = 2


class NoSuchPath(HttpProblem):
    """Nothing is at this path."""

    status = 404
    kind = "no-such-path"
    exit_code = 3


class MethodNotAllowed(HttpProblem):
    """That cannot be done with what is at this path."""

    status = 405
    kind = "method-not-allowed"

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        said = ", ".join(sorted(allowed))
        super().__init__(f"{method} cannot be done on {path}; {said} can.")
        self.headers = {"Allow": said}


class NotInTime(HttpProblem):
    """The request did not arrive in time."""

    status = 408
    kind = "request-timeout"
    is_retryable = True


class PreconditionFailed(HttpProblem):
    """What If-Match or If-None-Match names does not hold any more."""

    status = 412
    kind = "commit-conflict"
    exit_code = 75


class BodyTooLarge(HttpProblem):
    """The body is larger than may be."""

    status = 413
    kind = "body-too-large"
    exit_code = 2


class WrongMediaType(HttpProblem):
    """The body is of another media type than is read here."""

    status = 415
    kind = "wrong-media-type"
    exit_code = 2


class WrongHost(HttpProblem):
    """The daemon has no such name."""

    status = 421
    kind = "wrong-host"
    exit_code = 2


class KeyReused(HttpProblem):
    """The Idempotency-Key came with another request before."""

    status = 422
    kind = "idempotency-key-reused"
    exit_code = 2


class TooSlow(HttpProblem):
    """The answer took too long."""

    status = 503
    kind = "answer-timeout"
    exit_code = 75
    is_retryable = True
