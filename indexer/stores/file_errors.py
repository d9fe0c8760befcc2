"""What the system says of files, as errors of the indexer.

Invariants
  * One table says what each number means. What is not in it may be over in a moment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from indexer.errors import AccessDenied, IndexerError, NoSuchObject, StoreUnavailable

NOWHERE: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
)
"""What is said where no file is. A path that is too long for a file system cannot be there; ENXIO
is said of sockets."""

_DENIED: Final = frozenset((errno.EACCES, errno.EPERM))


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raises what the system says of the file or folder of that URI as an error of the indexer."""
    try:
        yield
    except OSError as error:
        raise translation(error, uri) from error


def translation(error: OSError, uri: str) -> IndexerError:
    """The error to raise in place of the system's."""
    if error.errno in NOWHERE:
        return NoSuchObject(f"{uri}: there is no such file any more.")
    if error.errno in _DENIED:
        return AccessDenied(
            f"{uri}: this process may not read it ({_said(error)}). Give its user the right to, or "
            f"name a source without it."
        )
    return StoreUnavailable(
        f"{uri}: the file system does not answer as it should ({_said(error)}). Try again, and "
        f"look after the disk or the file server if it stays so."
    )


def _said(error: OSError) -> str:
    return "no reason given" if error.errno is None else os.strerror(error.errno)
