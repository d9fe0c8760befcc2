"""target: the folder that is downloaded into, written so that no way leads out of it.

Invariants
  * Everything is opened from the folder before it, name by name, and through no link (O_NOFOLLOW):
    whatever lies there, or is swapped meanwhile, what is written is below the root.
  * A file appears whole under its name, by a rename, or not at all.
  * One download writes into a folder at a time. What lies in there beside its files is left alone.
  * Everything here blocks, and belongs on a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import BufferedWriter
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Final, Literal

from indexer.artifact.download.local_paths import (
    OWN_FOLDER,
    LocalPath,
    Rules,
    folded,
    kept_apart,
)
from indexer.artifact.download.sameness import provable
from indexer.artifact.download.target_state import Known, TargetState
from indexer.artifact.originals import Original
from indexer.errors import Busy, IndexerError, InvalidSetting, Temporary
from indexer.limits import TARGET_FOLDERS_OPEN_MAX

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

PARTS: Final = b"parts"
"""Our folder of files that are being written."""

_IN_THE_WAY: Final = frozenset(
    (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EMLINK)
)
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE))

_NO_LOCKS: Final = frozenset((errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL))
"""What is said by file systems that know no locks: there, whoever downloads has to see to that."""

Look = Literal["right", "missing", "unknown", "blocked"]
"""Of an entry's file: it is right; it is missing or has another size; it may be right, and has to
be read to tell; what is there cannot be replaced by it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry that is to be downloaded: `local` is where to. See `sameness` for `content`."""

    original: Original
    uri: str
    local: LocalPath
    content: bytes | None

    @property
    def size(self) -> int:
        """Of the object."""
        return self.original.pin.size


class Target:
    """An open folder. Close it with `close`."""

    def __init__(self, root: Path) -> None:
        """Makes the folder if it is not there.

        Raises `Busy` while another download writes into it, and `InvalidSetting` where it cannot be
        written into.
        """
        self.root = root
        self.failure: IndexerError | None = None
        self._lock = RLock()
        self._folders: OrderedDict[tuple[bytes, ...], int] = OrderedDict()
        self._names = count()
        self._open: list[int] = []
        try:
            self._begin()
        except OSError as error:
            self.close()
            raise InvalidSetting(
                f"{root}: nothing can be downloaded into this folder "
                f"({os.strerror(error.errno or 0)}). Name another one with --root."
            ) from error
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        # Who names a root means what it leads to.
        self._root = self._kept(os.open(self.root, _FOLDER_FLAGS & ~os.O_NOFOLLOW))
        own = self._kept(_entered(self._root, OWN_FOLDER))
        lock = self._kept(os.open(b"lock", _OLD_FLAGS | os.O_RDWR | os.O_CREAT, 0o666, dir_fd=own))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"{self.root}: another download writes into this folder. Wait for it, or name "
                f"another folder with --root."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        self.own = own
        self.parts = self._kept(_entered(own, PARTS))
        self.rules = _rules_of(own)
        self.state = TargetState(self.root / os.fsdecode(OWN_FOLDER))
        self.is_new = _names_in(self._root) == [os.fsdecode(OWN_FOLDER)]
        _sweep(self.parts)

    def _kept(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def close(self) -> None:
        """Lets go of everything, the lock last."""
        with self._lock:
            if hasattr(self, "state"):
                self.state.close()
            for fd in (*self._folders.values(), *reversed(self._open)):
                os.close(fd)
            self._folders.clear()
            self._open.clear()

    # --- where entries lie

    def placed(self, path: bytes, local: LocalPath) -> LocalPath:
        """Where an entry lies, where two names may be one here."""
        if not self.rules.folds:
            return local

        def is_file(name: str) -> bool:
            _, owner = self.state.owner(name)
            return owner is not None and owner != path

        def is_taken(name: str) -> bool:
            is_there, owner = self.state.owner(name)
            return is_there and owner != path

        with self._lock:
            found = kept_apart(local, is_file, is_taken)
            ends = range(1, len(found.names) + found.is_folder)
            folders = [(folded(found.names[:end]), None) for end in ends]
            own = [] if found.is_folder else [(folded(found.names), path)]
            self.state.take([*folders, *own])
            return found

    def look(self, wanted: Sequence[Wanted]) -> list[Look]:
        """What is there of each, in order of paths. Makes the folders that entries stand for."""
        with self._lock:
            known = self.state.known([one.original.path for one in wanted])
            return [self._look(one, known.get(one.original.path)) for one in wanted]

    def _look(self, wanted: Wanted, known: Known | None) -> Look:
        local = wanted.local
        try:
            if local.is_folder:
                self._folder(local.names, makes=True)
                return "right"
            if self.is_new:
                return "missing"
            folder = self._folder(local.names[:-1], makes=False)
            said = os.stat(local.names[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise self.failed(error) from error
            return "blocked"
        if stat.S_ISDIR(said.st_mode):
            return "blocked"
        if not stat.S_ISREG(said.st_mode) or said.st_size != wanted.size:
            return "missing"
        if wanted.content is not None and known == Known.of(wanted.content, said):
            return "right"
        return "missing" if provable(wanted.original) is None else "unknown"

    def open_file(self, wanted: Wanted) -> int:
        """A descriptor of an entry's file that is there. Raises `OSError`."""
        with self._lock:
            folder = self._folder(wanted.local.names[:-1], makes=False)
            return os.open(wanted.local.names[-1], _OLD_FLAGS | os.O_RDONLY, dir_fd=folder)

    def learn(self, files: Iterable[tuple[Wanted, os.stat_result]]) -> None:
        """Remembers that files are right."""
        with self._lock:
            self.state.learn(
                (one.original.path, Known.of(one.content, said))
                for one, said in files
                if one.content is not None
            )

    # --- files that are being written

    def new_name(self) -> bytes:
        """A name for a new file of ours among the parts."""
        return b"new-%d" % next(self._names)

    def new_part(self) -> tuple[bytes, int]:
        """A file of ours that is empty: its name among the parts, and a descriptor."""
        name = self.new_name()
        return name, os.open(name, _NEW_FLAGS, 0o666, dir_fd=self.parts)

    def resumable_part(self, wanted: Wanted) -> tuple[bytes, int]:
        """The file of ours in which an entry was begun, or begins."""
        name = blake2b(wanted.original.path, digest_size=20).hexdigest().encode()
        flags = _OLD_FLAGS | os.O_RDWR | os.O_CREAT
        return name, os.open(name, flags, 0o666, dir_fd=self.parts)

    def finish(self, files: Sequence[tuple[Wanted, bytes, os.stat_result]]) -> list[str | None]:
        """Moves parts to where their entries lie; tells of each why it could not, or None.

        The part of one that could not be moved is removed.
        """
        found: list[str | None] = []
        with self._lock:
            for wanted, part, _ in files:
                try:
                    self._move(wanted.local, part)
                    found.append(None)
                except OSError as error:
                    with suppress(OSError):
                        os.unlink(part, dir_fd=self.parts)
                    if error.errno not in _IN_THE_WAY:
                        raise self.failed(error) from error
                    found.append(self.in_the_way(wanted.local))
            done = zip(files, found, strict=True)
            self.learn([(wanted, said) for (wanted, _, said), why in done if why is None])
        return found

    def _move(self, local: LocalPath, part: bytes) -> None:
        folder = self._folder(local.names[:-1], makes=True)
        os.rename(part, local.names[-1], src_dir_fd=self.parts, dst_dir_fd=folder)

    def in_the_way(self, local: LocalPath) -> str:
        """Why an entry cannot lie where it should."""
        shown = local.path.decode("utf-8", "backslashreplace")
        return (
            f"something else is in its way at {self.root}/{shown}: a folder, or on the way to it a "
            f"file or a symbolic link, which is not followed. Move it away, or name another --root"
        )

    def failed(self, error: OSError) -> IndexerError:
        """What the system says of writing here, as an error to raise: always the first one.

        It is no single object's, and is `failure` from then on.
        """
        said = os.strerror(error.errno or 0)
        if self.failure is not None:
            return self.failure
        if error.errno in _NO_ROOM:
            self.failure = Temporary(
                f"{self.root}: writing failed ({said}). What is there stays; make room and run the "
                f"same command again, which goes on from here."
            )
        else:
            self.failure = InvalidSetting(
                f"{self.root}: writing failed ({said}). Give this process the right to write "
                f"there, or name another folder with --root."
            )
        return self.failure

    # --- folders

    def _folder(self, names: tuple[bytes, ...], *, makes: bool) -> int:
        """A descriptor of a folder, which stays ours. Raises `OSError`."""
        known = len(names)
        while known and names[:known] not in self._folders:
            known -= 1
        here = self._root
        if known:
            self._folders.move_to_end(names[:known])
            here = self._folders[names[:known]]
        for end in range(known + 1, len(names) + 1):
            here = (_entered if makes else _opened)(here, names[end - 1])
            self._folders[names[:end]] = here
            # The newest one, which is the way on, is never among them.
            while len(self._folders) > TARGET_FOLDERS_OPEN_MAX:
                _, old = self._folders.popitem(last=False)
                os.close(old)
        return here

    def own_path(self, name: str) -> Path:
        """Where a file of ours is."""
        return self.root / os.fsdecode(OWN_FOLDER) / name

    def own_file(self, name: str) -> BufferedWriter:
        """A file of ours, empty. Raises what writing raises."""
        flags = _OLD_FLAGS | os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            return os.fdopen(os.open(name, flags, 0o666, dir_fd=self.own), "wb")
        except OSError as error:
            raise self.failed(error) from error

    def sweep(self) -> None:
        """Removes all parts: everything is there, so that nothing is left to go on with."""
        with self._lock:
            for name in _names_in(self.parts):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.parts)

    def files(self) -> int:
        """How many files lie below the root that are not ours; links are files, too."""
        return sum(_walk(self.root))


def _walk(root: Path) -> Iterator[int]:
    """The number of files in each folder below a root; links are files and lead nowhere."""
    own = os.fsdecode(OWN_FOLDER)
    for folder, folders, files in os.walk(root, followlinks=False):
        links = 0
        if folder == str(root) and own in folders:
            folders.remove(own)
        for name in folders:
            links += os.path.islink(os.path.join(folder, name))  # noqa: PTH114, PTH118
        yield len(files) + links


def _names_in(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _opened(above: int, name: bytes) -> int:
    return os.open(name, _FOLDER_FLAGS, dir_fd=above)


def _entered(above: int, name: bytes) -> int:
    """A descriptor of a folder, which is made if it is not there."""
    try:
        return _opened(above, name)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=above)
        return _opened(above, name)


def _sweep(parts: int) -> None:
    """Removes what a download that was killed left and cannot go on with."""
    with os.scandir(parts) as entries:
        for entry in entries:
            if entry.name.startswith(("new-", "probe")):
                with suppress(OSError):
                    os.unlink(entry.name, dir_fd=parts)


def _rules_of(own: int) -> Rules:
    """What the file system takes for a name, as it shows when it is tried."""
    takes_anything = _takes(own, b"probe-a:b?")
    takes_bytes = _takes(own, b"probe-\xff")
    folds = _takes(own, b"Probe-Case", also=b"probe-case") or _takes(
        own, "probe-\u00e9".encode(), also="probe-e\u0301".encode()
    )
    return Rules(windows=not takes_anything, text=not takes_bytes, folds=folds)


def _takes(own: int, name: bytes, *, also: bytes | None = None) -> bool:
    """Whether a name can be given, and the same file then has the other name as well."""
    try:
        os.close(os.open(name, _OLD_FLAGS | os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=own))
    except OSError:
        return False
    try:
        return also is None or _is_there(own, also)
    finally:
        os.unlink(name, dir_fd=own)


def _is_there(own: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=own, follow_symlinks=False)
    except OSError:
        return False
    return True
