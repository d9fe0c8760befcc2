"""local_paths: where an entry's file lies below a folder, whatever bytes its path is made of.

A path is cut at its slashes, and each name is written as it is where the file system can hold it:

    %XX      a byte that cannot stand there: two upper-case hexadecimal digits
    %-       an empty name, as in `a//b`, which is `a/%-/b`
    %+       at the end of a name: the next one goes on with it, as it has over 255 bytes. Alone: it
             keeps apart what would be one name, as the object `a` and the folder of `a/b`

Invariants
  * It can be read back: `entry_path_of` gives the path. Two paths never have one local path.
  * No local path leaves its folder: no name is empty, `.` or `..`, or has a slash or NUL in it.
  * Where a file lies follows from the path, the size and the version's other paths. Only where a
    file system takes two names for one does it depend on what is there already.
  * An empty object whose path ends in a slash is a folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

OWN_FOLDER: Final = b".indexer-download"
"""What is ours in a folder that was downloaded into. No entry's file lies in there."""

NAME_BYTES_MAX: Final = 255
"""Of a name, on every file system in use; on NTFS it is as many characters."""

EMPTY: Final = b"%-"
GOES_ON: Final = b"%+"

_CONTINUES: Final = 0b1000_0000
_ESCAPED: Final = re.compile(rb"%([0-9A-F]{2})")
_LIKE_ESCAPED: Final = re.compile(rb"%(?=[0-9A-F]{2})")
_POSIX_REFUSES: Final = re.compile(rb"\x00")
_WINDOWS_REFUSES: Final = re.compile(rb'[\x00-\x1f<>:"\\|?*]')
_WINDOWS_DEVICES: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a file system takes for a name.

    `windows` escapes what Windows refuses (`a:b`, `a?`, `CON`, a last dot or blank), `text` what is
    no UTF-8. `folds` says that two names that differ in case, or in how their letters are composed,
    are one.
    """

    windows: bool = False
    text: bool = False
    folds: bool = False


@dataclass(frozen=True, slots=True)
class LocalPath:
    """Where an entry lies: names from folder to folder. A folder of no names is the root."""

    names: tuple[bytes, ...]
    is_folder: bool = False

    @property
    def path(self) -> bytes:
        """The names with slashes between them, and one at the end of a folder."""
        joined = b"/".join(self.names)
        return joined + b"/" if self.is_folder and joined else joined


def is_folder(path: bytes, size: int) -> bool:
    """Whether an entry stands for a folder: the root, or what its path names."""
    return not size and (not path or path.endswith(b"/"))


def local_path(path: bytes, size: int, rules: Rules, *, apart: Collection[int] = ()) -> LocalPath:
    """Where the entry lies. `apart` has the places of its names that are an object's too."""
    raw = path.split(b"/")
    folder = is_folder(path, size)
    names: list[bytes] = []
    for place, name in enumerate(raw[:-1] if folder else raw):
        if place in apart:
            names.append(GOES_ON)
        names += _written(name, rules, is_first=not names)
    return LocalPath(tuple(names), folder)


def entry_path_of(local: LocalPath) -> bytes:
    """The path of the entry that lies there."""
    names: list[bytes] = []
    begun = b""
    for name in local.names:
        if name.endswith(GOES_ON):
            begun += _read(name.removesuffix(GOES_ON))
        else:
            names.append(begun + (b"" if name == EMPTY else _read(name)))
            begun = b""
    if local.is_folder and names:
        names.append(b"")
    return b"/".join(names)


class Ancestors:
    """Tells which folders on the way to a path are objects too, when asked in key order.

    `above` are objects whose paths are folders of all that is asked for.
    """

    def __init__(self, above: Iterable[bytes] = ()) -> None:
        self._objects = list(above)

    def of(self, path: bytes, size: int) -> frozenset[int]:
        """The places of the names, counted from the root, that an object has."""
        # All paths between an object and what lies below it begin with the object's path.
        while self._objects and not path.startswith(self._objects[-1]):
            self._objects.pop()
        found = frozenset(
            each.count(b"/") for each in self._objects if path.startswith(each + b"/")
        )
        if not is_folder(path, size):
            self._objects.append(path)
        return found


def folders_of(prefix: bytes) -> Iterator[bytes]:
    """The paths whose folders every path that starts with `prefix` lies in."""
    for place, byte in enumerate(prefix):
        if byte == ord("/"):
            yield prefix[:place]


def folded(names: Iterable[bytes]) -> str:
    """What is the same of all local paths that a file system may take for one."""
    text = b"/".join(names).decode("utf-8", "surrogateescape")
    composed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFD", composed.casefold())


def kept_apart(
    local: LocalPath,
    is_file: Callable[[str], bool],
    is_taken: Callable[[str], bool],
) -> LocalPath:
    """The local path, with marks where a name would meet another entry's in a folding file system.

    `is_file` says whether another entry's file has that folded path, `is_taken` whether anything
    but a folder that both lie in has.
    """
    names: list[bytes] = []
    last = len(local.names) - 1
    for place, name in enumerate(local.names):
        meets = is_taken if place == last and not local.is_folder else is_file
        while meets(folded([*names, name])):
            names.append(GOES_ON)
        names.append(name)
    return LocalPath(tuple(names), local.is_folder)


def _written(name: bytes, rules: Rules, *, is_first: bool) -> list[bytes]:
    """A name as names that the file system can hold; of a usual one, itself."""
    if not name:
        return [EMPTY]
    written = []
    while len(whole := _escaped(name, rules)) > NAME_BYTES_MAX:
        piece, name = _cut(name, rules)
        written.append(_escaped(piece, rules) + GOES_ON)
    if is_first and not written and folded([whole]) == OWN_FOLDER.decode():
        whole = _percent(whole[:1]) + whole[1:]
    return [*written, whole]


def _escaped(name: bytes, rules: Rules) -> bytes:
    if name in {b".", b".."}:
        return _percent(name)
    written = _LIKE_ESCAPED.sub(b"%25", name)
    refused = _WINDOWS_REFUSES if rules.windows else _POSIX_REFUSES
    written = refused.sub(lambda found: _percent(found[0]), written)
    if written == EMPTY or written.endswith(GOES_ON):
        written = b"%25".join(written.rsplit(b"%", 1))
    if rules.text or rules.windows:
        written = b"".join(
            _percent(character.encode("utf-8", "surrogateescape"))
            if "\udc80" <= character <= "\udcff"
            else character.encode()
            for character in written.decode("utf-8", "surrogateescape")
        )
    if rules.windows:
        if written.endswith((b".", b" ")):
            written = written[:-1] + _percent(written[-1:])
        if _WINDOWS_DEVICES.fullmatch(written.decode()):
            written = _percent(written[:1]) + written[1:]
    return written


def _cut(name: bytes, rules: Rules) -> tuple[bytes, bytes]:
    """The first bytes of a name, as many as can be written in one, and the rest, never empty."""
    room = NAME_BYTES_MAX - len(GOES_ON)
    place = min(room, len(name) - 1)
    while place > 1 and (len(_escaped(name[:place], rules)) > room or _goes_on_at(name, place)):
        place -= 1
    if place <= 1:
        # No text: it may be cut anywhere.
        place = room // len(b"%XX")
    return name[:place], name[place:]


def _goes_on_at(name: bytes, place: int) -> bool:
    """Whether a character of UTF-8 goes on there."""
    return name[place] & 0b1100_0000 == _CONTINUES


def _percent(data: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in data)


def _read(name: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name)
