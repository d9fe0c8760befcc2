"""Every error that a user of the indexer can meet.

    IndexerError                   unexpected                                        exit 1
    ├── UsageError                 what was asked for cannot be done as written      exit 2
    │   ├── InvalidReference       a URI, a REF or a name that cannot be read
    │   ├── InvalidSetting         an option or setting with an impossible value
    │   ├── Protected              a protected alias would have to move, or loses its version
    │   ├── MissingCredentials     the store wants credentials and none were found
    │   ├── QueryRefused           SQL, or a table, that cannot be read as asked
    │   ├── UnusableDataFolder     unwritable, or written by a newer version
    │   └── RunEnded               a run that takes nothing more
    ├── NotFound                   nothing is there                                  exit 3
    │   ├── NoSuchSource           no such bucket, object or folder; nothing kept
    │   ├── AmbiguousSource        both an object and a folder have the name
    │   ├── NoSuchObject           an object that was listed is gone
    │   ├── NoSuchVersion          no such project, artifact, version or alias
    │   ├── NoSuchRun              no such run
    │   └── NoSuchJob              the daemon knows of no such job
    ├── AccessDenied               the store knows us and says no                    exit 3
    │   └── VersionsDenied         … to a listing of versions                       exit 3
    ├── LimitExceeded              more objects than `max_objects`                   exit 4
    ├── QueryLimitExceeded         a query takes or gives more than it may           exit 4
    ├── Mismatch                   what was read is not what was recorded            exit 5
    │   └── CorruptContent         content whose digest is not its name
    ├── BrokenListing              the server contradicts itself                     exit 1
    ├── JobCancelled               somebody ended the job                            exit 130
    └── Temporary                  may well work when tried again                    exit 75
        ├── StoreUnavailable       refused, unresolvable, timed out, throttled
        ├── ObjectChanged          an object is not what it was when it was listed
        ├── DaemonUnavailable      the daemon cannot be reached, or is stopping
        ├── Busy                   more is asked for than is done at once
        ├── JobInterrupted         the daemon stopped before the job ended
        ├── CommitConflict         another commit came first
        └── CommitUnknown          the answer to a commit was lost

Invariants
  * An error's message is one or two sentences: what failed, for which URI, and what to do next. It
    never holds a secret.
  * `is_retryable` is asked by the one retrier; `do_without` names the ability of the store without
    which the same job can be tried from the start. Everything else only raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

Ability = Literal["parallel", "versions"]


class IndexerError(Exception):
    """Something unexpected went wrong."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "unexpected"
    is_retryable: ClassVar[bool] = False
    do_without: Ability | None = None

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class UsageError(IndexerError):
    """What was asked for cannot be done as it is written."""

    exit_code = 2
    kind = "usage"


class InvalidReference(UsageError):
    """The URI or name cannot be read."""

    kind = "invalid-reference"


class InvalidSetting(UsageError):
    """The value is impossible for this option."""

    kind = "invalid-setting"


class Protected(UsageError):
    """An alias is protected, and keeps its version."""

    kind = "protected"


class MissingCredentials(UsageError):
    """The store wants credentials, and none were found."""

    kind = "missing-credentials"


class QueryRefused(UsageError):
    """The query cannot be done as it is written."""

    kind = "query-refused"


class UnusableDataFolder(UsageError):
    """The data folder cannot be used."""

    kind = "unusable-data-folder"


class RunEnded(UsageError):
    """The run has ended."""

    kind = "run-ended"


class NotFound(IndexerError):
    """Nothing is there."""

    exit_code = 3
    kind = "not-found"


class NoSuchSource(NotFound):
    """There is no such bucket, object or folder."""

    kind = "no-such-source"


class AmbiguousSource(NotFound):
    """Both an object and a folder have this name."""

    kind = "ambiguous-source"


class NoSuchObject(NotFound):
    """The object is not there any more."""

    kind = "no-such-object"


class NoSuchVersion(NotFound):
    """There is no such version."""

    kind = "no-such-version"


class NoSuchRun(NotFound):
    """There is no such run."""

    kind = "no-such-run"


class NoSuchJob(NotFound):
    """There is no such job."""

    kind = "no-such-job"


class AccessDenied(IndexerError):
    """The store refuses access."""

    exit_code = 3
    kind = "access-denied"


class VersionsDenied(AccessDenied):
    """The store refuses to list versions."""

    kind = "versions-denied"
    do_without = "versions"


class LimitExceeded(IndexerError):
    """There are more objects than the limit allows."""

    exit_code = 4
    kind = "limit-exceeded"

    def __init__(self, objects_max: int, uri: str, *, is_preview: bool = False) -> None:
        way_out = (
            "to see which of them would be kept. A snapshot would keep the first"
            if is_preview
            else "or keep the first"
        )
        super().__init__(
            f"there are more than {objects_max:,} objects in {uri}, the limit of this snapshot; "
            f"nothing was recorded. Raise the limit with --max-objects, {way_out} "
            f"{objects_max:,} in key order with --on-limit partial."
        )


class QueryLimitExceeded(IndexerError):
    """The query takes more time or memory, or gives more rows, than it may."""

    exit_code = 4
    kind = "query-limit-exceeded"


class Mismatch(IndexerError):
    """What was read is not what was recorded."""

    exit_code = 5
    kind = "mismatch"


class CorruptContent(Mismatch):
    """Stored content does not have the digest that names it."""

    kind = "corrupt-content"


class BrokenListing(IndexerError):
    """The server's listing contradicts itself."""

    kind = "broken-listing"

    def __init__(self, said: str, do_without: Ability | None = None) -> None:
        super().__init__(
            f"{said}. Nothing was recorded; try again, and if it stays so, the server is not one "
            f"whose listings can be relied on."
        )
        self.do_without = do_without


class JobCancelled(IndexerError):
    """The job was cancelled."""

    exit_code = 130
    kind = "job-cancelled"


class Temporary(IndexerError):
    """This may work when tried again."""

    exit_code = 75
    kind = "temporary"
    is_retryable = True


class StoreUnavailable(Temporary):
    """The store cannot be reached or asks us to wait.

    `is_throttle` tells a server that asks for fewer requests from one that failed;
    `retry_after_s` is its own wish, where it named one. `was_answered` if it is known to be there,
    as it answered shortly before.
    """

    kind = "store-unavailable"
    was_answered: bool = False
    is_throttle: bool = False
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        is_throttle: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.is_throttle = is_throttle
        self.retry_after_s = retry_after_s


class ObjectChanged(Temporary):
    """The object is not what it was when it was listed.

    The same request would fail again: whoever asked looks at the object anew.
    """

    kind = "object-changed"
    is_retryable = False


class DaemonUnavailable(Temporary):
    """The daemon cannot be reached."""

    kind = "daemon-unavailable"


class Busy(Temporary):
    """More is asked for than is done at once; `retry_after_s` is when to ask again."""

    kind = "busy"
    retry_after_s: float = 5.0


class JobInterrupted(Temporary):
    """The daemon stopped before the job ended."""

    kind = "job-interrupted"


class CommitConflict(Temporary):
    """Another commit came first."""

    kind = "commit-conflict"


class CommitUnknown(Temporary):
    """The answer to the commit was lost; ask for its outcome before trying again."""

    kind = "commit-unknown"


def error_of(
    kind: str, message: str, *, otherwise: type[IndexerError] = IndexerError
) -> IndexerError:
    """The error that another process raised, by its `kind` and in its words.

    One that is not drawn above is an error of the class `otherwise`.
    """
    known = {one.kind: one for one in _below(IndexerError) if one.__module__ == __name__}
    found = known.get(kind, otherwise)
    error = found.__new__(found)
    Exception.__init__(error, message)
    return error


def _below(kind: type[IndexerError]) -> Iterator[type[IndexerError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _below(each)


@contextmanager
def said_of(uri: str) -> Iterator[None]:
    """Puts the URI in front of the message of an error that does not name it."""
    try:
        yield
    except IndexerError as error:
        if uri not in str(error):
            error.args = (f"{uri}: {error}",)
        raise
