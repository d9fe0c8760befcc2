"""file_copy: bytes from one open file to another, by the system itself where it can.

Invariants
  * Both files are given by descriptor and place: nothing here opens a path or moves an offset.
  * Whose fault it is that bytes could not be copied is told apart: `WriteFailed` is the target's.
  * Everything here blocks, and belongs on a thread.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from indexer.limits import HANDED_ON_BYTES_MAX

_NOT_BY_ITSELF: Final = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
)
"""What Linux says of files between which it cannot copy."""

_OF_TARGET: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class WriteFailed(OSError):
    """The target cannot be written."""


def copy_some(source: int, target: int, place: int, size_bytes: int) -> int:
    """Copies some of the bytes from `place` on to the same place, and tells how many.

    Those are none at the source's end. On file systems that share blocks between files, none are
    moved. Raises `OSError`.
    """
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, size_bytes, place, place)
        except OSError as error:
            if error.errno in _OF_TARGET:
                raise WriteFailed(error.errno, os.strerror(error.errno)) from error
            if error.errno not in _NOT_BY_ITSELF:
                raise
    data = os.pread(source, min(size_bytes, HANDED_ON_BYTES_MAX), place)
    try:
        write_all(target, data, place)
    except OSError as error:
        raise WriteFailed(error.errno, os.strerror(error.errno or 0)) from error
    return len(data)


def write_all(target: int, data: bytes, place: int) -> None:
    """Writes all of the bytes to that place. Raises `OSError`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, place)
        place += written
        view = view[written:]
