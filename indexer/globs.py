"""Globs over the paths of entries, translated into one regular expression each.

    *.jpg          a name in the root          **/*.jpg      at any depth
    train/**       all below a folder          train/        the same
    shard-????     one character each          [0-9a-f]*     one of a set; [!a] none of it

Invariants
  * Paths are matched as they are: nothing in them is collapsed, hidden or normalised, as libraries
    for file names do with `a//b`, `.name` and `..`.
  * `*` and `?` never match a slash; `**` stands for any number of whole folders.
  * Case counts. A backslash takes the next character for itself, within a set too.
  * However a glob is written, matching takes time in proportion to the paths: Arrow matches by RE2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import InvalidSetting
from indexer.limits import GLOB_CHARACTERS_MAX, GLOBS_CHARACTERS_MAX
from indexer.page import Page


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are kept: those that one of `include` matches, if there are any, and none of
    `exclude` does.

    Raises `InvalidSetting` for a pattern that cannot be read.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(len, (*self.include, *self.exclude))) > GLOBS_CHARACTERS_MAX:
            raise InvalidSetting(
                f"all globs together are longer than {GLOBS_CHARACTERS_MAX:,} characters; give "
                f"fewer or shorter ones."
            )
        for globs in (self.include, self.exclude):
            _check(globs)

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def selector(self, path_prefix: bytes = b"") -> Selector:
        """The filters for pages whose paths stand below `path_prefix`."""
        return Selector(self, path_prefix)


class Selector:
    """Filters, ready for pages."""

    def __init__(self, filters: Filters, path_prefix: bytes) -> None:
        self._prefix = path_prefix
        self._include = _any_of(filters.include)
        self._exclude = _any_of(filters.exclude)

    def select(self, page: Page) -> Page:
        """The rows that are kept."""
        kept = self.keeps(page)
        return page if pc.all(kept).as_py() else page.filter(kept)

    def keeps(self, page: Page) -> pa.BooleanArray:
        """Whether each row is kept."""
        texts = self._texts(page)
        kept = pa.array([True] * page.num_rows, pa.bool_())
        if self._include is not None:
            kept = pc.match_substring_regex(texts, self._include)
        if self._exclude is not None:
            kept = pc.and_not(kept, pc.match_substring_regex(texts, self._exclude))
        return kept

    def _texts(self, page: Page) -> pa.Array:
        paths = page.column("path")
        try:
            texts = pc.cast(paths, pa.string())
        except pa.ArrowInvalid:
            # In paths that are not UTF-8, what cannot be read is a character like any other.
            texts = pa.array([path.decode("utf-8", "replace") for path in paths.to_pylist()])
        if self._prefix:
            texts = pc.binary_join_element_wise(self._prefix.decode(), texts, "")
        return texts


def _check(globs: Sequence[str]) -> None:
    """Raises `InvalidSetting` for globs that cannot be read, or are too many to be matched."""
    expression = _any_of(globs)
    try:
        if expression is not None:
            pc.match_substring_regex(pa.array([""]), expression)
    except pa.ArrowInvalid as error:
        raise InvalidSetting(
            f"the globs {', '.join(globs)[:200]!r} are too many, or too long, to be matched at "
            f"once; give fewer. ({error})"
        ) from error


def translate(glob: str) -> str:
    """The regular expression of a glob, to be matched in full. Raises `InvalidSetting`."""
    if not glob or len(glob) > GLOB_CHARACTERS_MAX:
        raise InvalidSetting(
            f"{glob[:40]!r} is no glob: write 1 to {GLOB_CHARACTERS_MAX:,} characters, as in "
            f"'train/**' or '**/*.jpg'."
        )
    if not glob.isascii() and glob != glob.encode("utf-8", "replace").decode():
        raise InvalidSetting(
            f"the glob {glob!r} is not UTF-8: write * for what cannot be read in a path."
        )
    pieces: list[str] = []
    start = end = 0
    while end < len(glob):
        start = end
        piece, end = _piece(glob, start)
        pieces.append(piece)
    # A slash that was written with a backslash is not the end of a folder's name.
    below = ".*" if glob.endswith("/") and glob[start] != "\\" else ""
    return "".join(pieces) + below


def _any_of(globs: Sequence[str]) -> str | None:
    if not globs:
        return None
    return r"(?s)\A(?:" + "|".join(map(translate, globs)) + r")\z"


def _piece(glob: str, start: int) -> tuple[str, int]:
    """What stands at a position as a regular expression, and where the next piece begins."""
    character = glob[start]
    if glob.startswith("**", start):
        return _folders(glob, start)
    if character == "*":
        return "[^/]*", start + 1
    if character == "?":
        return "[^/]", start + 1
    if character == "[":
        return _set(glob, start)
    if character == "\\":
        if start + 1 == len(glob):
            raise InvalidSetting(
                f"the glob {glob!r} ends in a backslash: write \\\\ for a backslash itself."
            )
        return _literal(glob[start + 1]), start + 2
    return _literal(character), start + 1


def _folders(glob: str, start: int) -> tuple[str, int]:
    end = start + 2
    if (start and glob[start - 1] != "/") or glob[end : end + 1] not in ("", "/"):
        raise InvalidSetting(
            f"the glob {glob!r} has '**' beside other characters: it stands for whole folders, as "
            f"in 'a/**/b'; write '*' within a name."
        )
    if end == len(glob):
        return ".*", end
    return "(?:.*/)?", end + 1


def _set(glob: str, start: int) -> tuple[str, int]:
    position = start + 1
    is_negated = glob[position : position + 1] in ("!", "^")
    position += is_negated
    members: list[str] = []
    # A bracket that comes first belongs to the set.
    while position < len(glob) and (glob[position] != "]" or not members):
        size = 2 if glob[position] == "\\" else 1
        members.append(glob[position : position + size])
        position += size
    ranges = list(_ranges(members))
    is_wrong = "/" in (member[-1] for member in members) or any(a > b for a, b in ranges)
    if position >= len(glob) or is_wrong:
        raise InvalidSetting(
            f"the glob {glob!r} has a set that cannot be read: write it as [a-z] or [!0-9], "
            f"without a slash, and a bracket itself as '\\['."
        )
    if is_negated:
        inner = "".join(map(_range, ranges))
        return f"[^/{inner}]", position + 1
    parts = [piece for low, high in ranges for piece in _without_slash(low, high)]
    return f"[{''.join(map(_range, parts))}]", position + 1


def _ranges(members: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The first and last character of each range; members with a backslash are literal."""
    position = 0
    while position < len(members):
        is_range = members[position + 1 : position + 2] == ["-"] and position + 2 < len(members)
        last = position + 2 if is_range else position
        yield members[position][-1], members[last][-1]
        position = last + 1


def _without_slash(low: str, high: str) -> list[tuple[str, str]]:
    if not low < "/" < high:
        return [(low, high)]
    return [(low, chr(ord("/") - 1)), (chr(ord("/") + 1), high)]


def _range(bounds: tuple[str, str]) -> str:
    return "-".join(map(_literal, bounds))


def _literal(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"
