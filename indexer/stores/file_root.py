"""What lies below a folder of this machine, reached so that no way leads out unless asked for.

Invariants
  * Everything is opened from the folder before it, component by component, and not through a link
    (O_NOFOLLOW). Whatever is renamed, or swapped for a link, at whatever moment: what is opened was
    below the root. A path that was checked is never given to the system as a whole.
  * A link is followed by policy alone. `inside` resolves it, and if that is below the root, opens
    what it was resolved to as any other path, from the root and through no link: a lie told while
    it is resolved leads to another place inside, or to none. Only `follow` lets the system follow.
  * A file is opened without waiting for anybody at the other end (O_NONBLOCK), and is closed again
    at once unless it is a regular one.
  * A folder that is one of those on the way to it, by device and inode, is not entered.
  * Everything here blocks, and belongs on a thread. What fails raises `OSError`; what is not there
    by policy is `FileNotFoundError`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from indexer.protocols import Symlinks
from indexer.stores.file_errors import NOWHERE
from indexer.stores.file_left_out import LeftOut, Reason
from indexer.stores.tree import LeastNames, Window

# A folder that may be passed through need not be one that may be listed: O_PATH asks for no more,
# and on NFS for nothing at all. Where there is no O_PATH, both rights are needed.
_WAY_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_NO_FOLDER: Final = frozenset((errno.ENOTDIR, errno.ELOOP))
"""What is said of a link, or a file, that is to be opened as a folder and not followed."""

_LINKS: Final = frozenset((errno.ELOOP, errno.EMLINK))
"""What is said of a link that is to be opened as a file and not followed; EMLINK by FreeBSD."""


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder, and where it was found below the real root."""

    fd: int
    path: bytes


class LeftOutError(FileNotFoundError):
    """What is there is left out."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(errno.ENOENT, f"it is left out ({reason})")
        self.reason = reason


class Root:
    """The files below `path`, an absolute one, which may itself be or lead through links.

    Where it really is is found out once. A root that is not there has no files.
    """

    def __init__(self, path: bytes, symlinks: Symlinks, left_out: LeftOut) -> None:
        self._real = os.path.realpath(path)
        self._below = self._real.rstrip(b"/") + b"/"
        self._symlinks = symlinks
        self._left_out = left_out

    def check(self) -> None:
        """Raises `OSError` unless the root can be listed."""
        os.close(os.open(self._real, _LIST_FLAGS | os.O_NOFOLLOW))

    def window(self, folder: bytes, start: bytes, names_max: int) -> Window:
        """The names of a folder. See `tree.Children`; what is left out is noted."""
        least = LeastNames(start, names_max)
        try:
            with self.open_folder(folder) as here:
                self._scan(here, folder, least)
        except LeftOutError as error:
            self._left_out.note(error.reason, folder)
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
        return least.window

    def stats(self, folder: bytes, names: Sequence[bytes]) -> list[os.stat_result | None]:
        """What is said of regular files in a folder; None of what is none, or is not there."""
        try:
            with self.open_folder(folder) as here:
                return [self._regular(here, name) for name in names]
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            return [None] * len(names)

    @contextmanager
    def open_folder(self, folder: bytes) -> Iterator[Folder]:
        """The folder of that path, which ends in a slash or is the root's, which is empty."""
        names = folder.split(b"/")[:-1]
        here = self._open_root()
        try:
            passed = [_identity(here)] if self._symlinks != "skip" else []
            for name in names:
                following = self._enter(here, name)
                os.close(here.fd)
                here = following
                # Only a link can lead back to a folder that was passed.
                if passed:
                    identity = _identity(here)
                    if identity in passed:
                        raise LeftOutError("loop")
                    passed.append(identity)
            yield here
        finally:
            os.close(here.fd)

    def open_file(self, here: Folder, name: bytes) -> tuple[int, os.stat_result]:
        """A descriptor of a regular file in an open folder, to be closed, and what is said of it.

        The kernel refuses a link, so that only then more has to be asked.
        """
        try:
            return _open(here, _checked(name), os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in _LINKS or not stat.S_ISLNK(_stat_at(here, name).st_mode):
                raise
        if self._symlinks == "skip":
            raise LeftOutError("link")
        if self._symlinks == "follow":
            return _open(here, name, 0)
        with self._target_folder(here, name) as (there, last):
            return _open(there, last, os.O_NOFOLLOW)

    # --- folders

    def _open_root(self) -> Folder:
        return Folder(os.open(self._real, _WAY_FLAGS | os.O_NOFOLLOW), self._real)

    def _enter(self, here: Folder, name: bytes) -> Folder:
        path = os.path.join(here.path, _checked(name))  # noqa: PTH118 - names are bytes
        try:
            return Folder(os.open(name, _WAY_FLAGS | os.O_NOFOLLOW, dir_fd=here.fd), path)
        except OSError as error:
            if error.errno not in _NO_FOLDER or self._symlinks == "skip":
                raise
        if not stat.S_ISLNK(_stat_at(here, name).st_mode):
            raise _gone()
        if self._symlinks == "follow":
            return Folder(os.open(name, _WAY_FLAGS, dir_fd=here.fd), path)
        return self._open_strictly(self._target(here, name))

    def _open_strictly(self, path: bytes) -> Folder:
        """The folder of a path below the real root, on whose way there is no link."""
        here = self._open_root()
        for name in path.split(b"/") if path else ():
            try:
                fd = os.open(name, _WAY_FLAGS | os.O_NOFOLLOW, dir_fd=here.fd)
            finally:
                os.close(here.fd)
            here = Folder(fd, os.path.join(here.path, name))  # noqa: PTH118 - as above
        return here

    def _scan(self, here: Folder, folder: bytes, least: LeastNames) -> None:
        fd = os.open(".", _LIST_FLAGS, dir_fd=here.fd)
        try:
            # By the descriptor: a path could lead elsewhere by now. What kind each name is of
            # comes with it, but for some file systems, where it is asked for below the descriptor.
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if entry.is_file(follow_symlinks=False):
                        least.add(name)
                    elif entry.is_dir(follow_symlinks=False):
                        least.add(name + b"/")
                    elif least.wants(name):
                        self._add_other(here, folder, name, least)
        finally:
            os.close(fd)

    def _add_other(self, here: Folder, folder: bytes, name: bytes, least: LeastNames) -> None:
        """Takes a link for what it stands for, and notes what is left out."""
        try:
            said = self._stat(here, name)
        except LeftOutError as error:
            self._left_out.note(error.reason, folder + name)
        except FileNotFoundError:
            pass  # It was removed since its name was read.
        else:
            if stat.S_ISDIR(said.st_mode):
                least.add(name + b"/")
            elif stat.S_ISREG(said.st_mode):
                least.add(name)
            else:
                self._left_out.note("special", folder + name)

    # --- files and links

    def _regular(self, here: Folder, name: bytes) -> os.stat_result | None:
        try:
            said = _stat_at(here, name)
            if stat.S_ISREG(said.st_mode):
                return said
            said = self._stat(here, name)
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            return None
        return said if stat.S_ISREG(said.st_mode) else None

    def _stat(self, here: Folder, name: bytes) -> os.stat_result:
        """What is said of a name or, if it is a link that is followed, of what that stands for."""
        said = _stat_at(here, name)
        if not stat.S_ISLNK(said.st_mode):
            return said
        if self._symlinks == "skip":
            raise LeftOutError("link")
        if self._symlinks == "follow":
            with _dangling():
                return os.stat(name, dir_fd=here.fd)
        with self._target_folder(here, name) as (there, last):
            said = os.stat(last, dir_fd=there.fd, follow_symlinks=False)
        if stat.S_ISLNK(said.st_mode):
            raise _gone()  # It was written over since the link was resolved.
        return said

    @contextmanager
    def _target_folder(self, here: Folder, name: bytes) -> Iterator[tuple[Folder, bytes]]:
        """The open folder that holds what a link stands for, and its name in there."""
        above, _, last = self._target(here, name).rpartition(b"/")
        there = self._open_strictly(above)
        try:
            yield there, last or b"."
        finally:
            os.close(there.fd)

    def _target(self, here: Folder, name: bytes) -> bytes:
        """The path below the real root of what a link stands for, through whatever other links."""
        path = os.path.join(here.path, name)  # noqa: PTH118 - as above
        with _dangling():
            try:
                real = os.path.realpath(path, strict=True)
            except PermissionError as error:
                # What cannot be resolved because of a folder elsewhere leads elsewhere.
                if os.fsencode(error.filename).startswith(self._below):
                    raise
                raise LeftOutError("outside") from error
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # What was a link when it was looked at is none when it is to be read.
                raise _gone() from error
        if real == self._real:
            return b""
        if not real.startswith(self._below):
            raise LeftOutError("outside")
        return real.removeprefix(self._below)


def _open(here: Folder, name: bytes, nofollow: int) -> tuple[int, os.stat_result]:
    fd = os.open(name, _FILE_FLAGS | nofollow, dir_fd=here.fd)
    try:
        said = os.fstat(fd)
        if not stat.S_ISREG(said.st_mode):
            raise LeftOutError("special")
    except BaseException:
        os.close(fd)
        raise
    return fd, said


def _stat_at(here: Folder, name: bytes) -> os.stat_result:
    return os.stat(_checked(name), dir_fd=here.fd, follow_symlinks=False)


def _identity(here: Folder) -> tuple[int, int]:
    said = os.fstat(here.fd)
    return said.st_dev, said.st_ino


def _checked(name: bytes) -> bytes:
    """A name that may stand in a folder; those that lead elsewhere do not."""
    if name in {b"", b".", b".."} or b"\0" in name:
        raise _gone()
    return name


def _gone() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextmanager
def _dangling() -> Iterator[None]:
    """Says of a link whose target is not there that it is left out."""
    try:
        yield
    except LeftOutError:
        raise
    except OSError as error:
        if error.errno in NOWHERE:
            raise LeftOutError("dangling") from error
        raise
