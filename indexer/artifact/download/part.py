"""part: an object that is being fetched by ranges, so that a download that was killed goes on.

Invariants
  * A range counts as done after its bytes were written, in the file's own record of that.
  * What is there is gone on with only if it is of the same content (see `sameness`), cut in the
    same way, and written since this machine was started: what was on its way to the disk when the
    power failed may be missing. Else it is begun anew.
  * Everything here blocks, and belongs on a thread.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from indexer.artifact.download.target import Target, Wanted
from indexer.limits import DOWNLOAD_RANGE_BYTES

FORMAT: Final = 1
RECORD: Final = b".ranges"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Part:
    """A file among the parts of a target, and which ranges of it are done."""

    def __init__(self, target: Target, wanted: Wanted) -> None:
        assert wanted.content is not None
        self._target = target
        self.size = wanted.size
        self._head = _head_of(wanted)
        self.name, self.fd = target.resumable_part(wanted)
        self._record = os.open(
            self.name + RECORD,
            os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o666,
            dir_fd=target.parts,
        )
        try:
            self.done = self._read() if os.fstat(self.fd).st_size == self.size else set()
            self.was_begun = bool(self.done)
            if not self.was_begun:
                self.begin_anew()
        except BaseException:
            self.close()
            raise

    def begin_anew(self) -> None:
        """Forgets what was done."""
        self.done = set[int]()
        os.ftruncate(self._record, 0)
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, self.size)
        os.write(self._record, self._head + b"\n")

    @property
    def ranges(self) -> range:
        """All ranges, by the place where they start."""
        return range(0, self.size, DOWNLOAD_RANGE_BYTES)

    def end_of(self, start: int) -> int:
        """Where a range ends."""
        return min(start + DOWNLOAD_RANGE_BYTES, self.size)

    def mark(self, start: int) -> None:
        """Says that a range was written."""
        os.write(self._record, b"%d\n" % start)
        self.done.add(start)

    def close(self) -> None:
        """Lets go of the files; what was done stays."""
        for fd in (self.fd, self._record):
            with suppress(OSError):
                os.close(fd)

    def forget_record(self) -> None:
        """Removes the record, as the part is a file in its own right now."""
        with suppress(OSError):
            os.unlink(self.name + RECORD, dir_fd=self._target.parts)

    def remove(self) -> None:
        """Removes the part and its record."""
        self.forget_record()
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self._target.parts)

    def _read(self) -> set[int]:
        data = os.pread(self._record, os.fstat(self._record).st_size, 0)
        head, *lines = data.split(b"\n")[:-1] or [b""]  # a last line without an end is none
        if head != self._head:
            return set()
        return {int(line) for line in lines if line.isdigit()} & set(self.ranges)


def _head_of(wanted: Wanted) -> bytes:
    assert wanted.content is not None
    head = {
        "format": FORMAT,
        "content": wanted.content.hex(),
        "size": wanted.size,
        "range_bytes": DOWNLOAD_RANGE_BYTES,
        "boot": _boot(),
    }
    return json.dumps(head).encode()


def _boot() -> str:
    """What is another one each time that the machine is started; empty where it does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
