"""facts: what is learned of one page of keys, before it is known what the page is good for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.keyspace import Key, common_prefix_length, next_character

CHARACTERS_MAX = 40
"""Distinct characters of a page that are looked at; the rest of the page is taken to be alike."""

NEIGHBOURS_SAMPLED = 8
"""Pairs of neighbours that tell whether a page goes through a directory entry by entry."""


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the planner learns of a page. `more`: the segment goes on after it.

    `level` is the first character in which keys of the page differ, `characters` those that stand
    there, `rows_per_child` how many keys share one of them, `turn` the first two neighbours that
    differ there. `characters` is empty if the keys are not text.

    `directory` holds all of the page's keys. The page `is_flat` if that has about as many entries
    as the page has keys.
    """

    keys: int
    more: bool
    first: Key | None = None
    last: Key | None = None
    level: int = 0
    characters: str = ""
    rows_per_child: float = 0.0
    turn: tuple[bytes, bytes] | None = None
    directory: Key = Key(b"")
    is_flat: bool = False


def page_facts(keys: Sequence[bytes], *, more: bool) -> PageFacts:
    """The facts of a page: its keys within the segment's range, ascending, and whether it goes on.

    Looks at some dozens of keys, however many there are.
    """
    if not keys:
        return PageFacts(0, more)
    first, last = keys[0], keys[-1]
    shared = common_prefix_length(first, last)
    directory = first[: first.rfind(b"/", 0, shared) + 1]
    try:
        level, characters, rows_per_child, turn = _children(keys)
    except UnicodeDecodeError:
        level, characters, rows_per_child, turn = 0, "", 0.0, None
    return PageFacts(
        keys=len(keys),
        more=more,
        first=Key(first),
        last=Key(last),
        level=level,
        characters=characters,
        rows_per_child=rows_per_child,
        turn=turn,
        directory=Key(directory),
        is_flat=_is_flat(keys, directory),
    )


def _children(keys: Sequence[bytes]) -> tuple[int, str, float, tuple[bytes, bytes] | None]:
    """The level, the characters there, how many keys share one, and the first turn.

    Raises `UnicodeDecodeError` where one of the keys looked at is not text.
    """
    first, last = keys[0].decode(), keys[-1].decode()
    level = max(0, min(common_prefix_length(first, last), len(last) - 1))
    prefix = last[:level].encode()
    characters: list[str] = []
    turn = None
    row = 0 if len(first) > level else 1
    while row < len(keys) and len(characters) < CHARACTERS_MAX:
        character = keys[row].decode()[level]
        characters.append(character)
        following = next_character(character)
        end = len(keys)
        if following is not None:
            end = bisect_left(keys, prefix + following.encode(), row + 1)
        if turn is None and end < len(keys):
            turn = (keys[end - 1], keys[end])
        row = end
    # The first and the last child go on beyond the page, which has about half of each.
    return level, "".join(characters), row / max(1.0, len(characters) - 0.5), turn


def _is_flat(keys: Sequence[bytes], directory: bytes) -> bool:
    start = len(directory)
    if keys[0].find(b"/", start) < 0 and keys[-1].find(b"/", start) < 0:
        return True
    step = max(1, (len(keys) - 1) // NEIGHBOURS_SAMPLED)
    pairs = [(keys[row], keys[row + 1]) for row in range(0, len(keys) - 1, step)]
    apart = sum(common_prefix_length(a, b) <= a.find(b"/", start) for a, b in pairs)
    return 2 * apart > len(pairs) > 1
