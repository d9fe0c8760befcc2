"""structure: what has been learned of how keys are built, and what that lets one expect.

Characters are looked at by *place*: the number of slashes before a character and its distance from
the last of them. Keys of one source are mostly alike in what stands at a place, how many children
a parent has there, and whether it is worth looking for more of them.

Invariants
  * What is expected decides how fast a listing is, never what is listed.
  * The same calls in the same order give the same answers.
"""

from __future__ import annotations

import math
import random
import string
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from indexer.keyspace import character_at, common_prefix_length, next_character
from indexer.pipeline.cuts import Level, Outlook, Sibling

LEVELS_LEARNED_MAX = 32
"""Levels below a turn that are learned from: what lies deeper seldom decides where to cut."""

CHANCE_MIN = 0.12
EXPLORED_SHARE = 0.03
EXPLORATION_SEED = 3
"""Places where the chance of a further sibling is less are left out, but for this share of the
times: else one that was empty at first would never be tried again."""

UNTRIED_PAGES = 10
"""If there is anything at a place that was never tried, it is taken to be so many pages."""

GROWTH_MAX = 4
"""No child is taken to hold more than this times the rows listed so far."""

_KINSHIPS = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
_KIN_OF = {character: kin for kin in _KINSHIPS for character in kin}
_FIRST_CHANCE = {"digit": 0.35, "letter": 0.03, "other ASCII": 0.02, "beyond ASCII": 0.2}
"""The chance that a character has a further sibling, where nothing is known of its place."""

_HOLE_CHANCE = 0.2
"""The chance of a character that was not seen and lies between two of its kin that were."""

_OTHER_KIN_CHANCE = 0.1
"""The chance that letters follow where there were only digits, and the like."""

_SPREAD_POWERS = 14
"""Beyond ASCII, 1, 2, 4, … 8,192 code points are looked ahead."""

_GAP_MAX = 1 << 12
_GAP_PARTS = 9
"""A bound that is nearer than that is approached in equal steps instead."""


class Structure:
    """What has been learned of a source's keys. All texts are keys, or cuts, as characters."""

    def __init__(self, key_bytes_max: int) -> None:
        self._key_bytes_max = key_bytes_max
        self._places: dict[tuple[int, int], _Place] = {}
        self._slash_moves = 0.1
        self._slash_ends = 1.9
        self._random = random.Random(EXPLORATION_SEED)  # noqa: S311 - it keeps no secret

    def saw_path(self, text: str, start: int, end: int) -> None:
        """A key has the characters that it has from `start` to `end`."""
        for place, character in self._walk(text, start, end):
            place.see(character)

    def saw_children(self, text: str, level: int, characters: str) -> None:
        """A parent has the children `characters`, and maybe others before and after them.

        It is the first `level` characters of `text`.
        """
        place = self._place(text, level)
        for character in characters:
            place.see(character)
        place.moves += len(characters) - 1

    def saw_neighbours(self, left: str, right: str) -> None:
        """Nothing lies between `left` and the key `right`."""
        shared = common_prefix_length(left, right)
        self._ended(left, shared + 1)
        turn = min(shared, len(left) - 1)
        place = self._place(right, turn)
        place.see(right[turn])
        place.moves += 1
        self._slash_moves += left[turn] == "/"

    def saw_end(self, left: str, through: str | None) -> None:
        """Nothing lies after `left`, up to `through` or to the end of all keys."""
        if through is None:
            self._ended(left, max(0, len(left) - LEVELS_LEARNED_MAX))
        else:
            self._ended(left, common_prefix_length(left, through) + 1)

    def ahead(
        self,
        cursor: str,
        through: str | None,
        *,
        level: int,
        level_max: int,
        rows_per_child: float,
        rows_per_page: float,
        rows_listed: float,
    ) -> Outlook:
        """What to expect after `cursor`, up to `through`.

        `level` is the one that varied on the last page and `rows_per_child` what its children held
        there. Only levels up to `level_max` are for cutting.
        """
        top = 0 if through is None else common_prefix_length(cursor, through)
        untried_rows = UNTRIED_PAGES * rows_per_page
        rows_max = max(untried_rows, GROWTH_MAX * rows_listed)
        rows = rows_per_child
        levels: list[Level] = []
        for index, place in reversed(list(enumerate(self._places_of(cursor, top, level + 1), top))):
            character = cursor[index]
            chance = self._chance(place, character)
            bound = None if through is None or index > top else _bound(through, index)
            if index <= level_max and self._is_promising(place, chance):
                counts = self._siblings(place, character, bound, chance)
                # A lower place that is untried may be one child among many, or the only one.
                each = rows if place.moves else chance * max(rows, untried_rows)
                siblings = [Sibling(s, n, min(rows_max, each * n)) for s, n in counts]
                levels.append(Level(index, chance, siblings))
            if place.moves and index > top and rows < rows_max:
                rows = min(rows_max, rows * self._children(place, chance))
        total = math.fsum(sibling.rows for level in levels for sibling in level.siblings)
        return Outlook(cursor, levels, total, rows_per_child / 2, self._key_bytes_max)

    def _is_promising(self, place: _Place, chance: float) -> bool:
        is_new = not (place.moves or place.ends)
        return chance >= CHANCE_MIN or is_new or self._random.random() < EXPLORED_SHARE

    def _chance(self, place: _Place, character: str) -> float:
        """The chance that a parent has a further child after `character`."""
        if not place.moves:
            return self._first_chance(character) / (1 + 3 * place.ends)
        return (place.moves + self._first_chance(character)) / (place.moves + place.ends + 1)

    def _first_chance(self, character: str) -> float:
        if character == "/":
            return self._slash_moves / (self._slash_moves + self._slash_ends)
        return _FIRST_CHANCE[_kind(character)]

    def _children(self, place: _Place, chance: float) -> float:
        """How many children a parent has at a place in the mean."""
        lowest = place.seen[0]
        if lowest.isascii():
            counts = self._siblings(place, lowest, None, chance)
            return 1 + sum(count for _, count in counts)
        return 1 + min(1.5 * len(place.seen), place.siblings_max(chance))

    def _siblings(
        self, place: _Place, character: str, bound: str | None, chance: float
    ) -> list[tuple[str, float]]:
        """Characters that may follow, ascending, each with the number of those it stands for.

        At a place that was never tried this is the next character alone: the first page after it
        tells what there is.
        """
        if not place.moves:
            following = next_character(character)
            counts = {} if following is None else {following: 1.0}
        else:
            counts = dict.fromkeys(place.seen[bisect_right(place.seen, character) :], 1.0)
            if character.isascii():
                self._add_kin(counts, place, character, chance)
                scale = _scale(counts, place.siblings_max(chance))
                counts = {each: count * scale for each, count in counts.items()}
            else:
                _add_code_points(counts, place, character, bound)
        return sorted(each for each in counts.items() if bound is None or each[0] < bound)

    def _add_kin(
        self, counts: dict[str, float], place: _Place, character: str, chance: float
    ) -> None:
        """Digits follow digits and letters letters; or one kind the other."""
        greatest = max(place.seen[-1], character)
        growth = (place.grown + self._first_chance(greatest)) / (place.grown + place.ends + 1)
        kin = _KIN_OF.get(character, character)
        seen = [each for each in place.seen if each in kin]
        density = len(seen) / (ord(seen[-1]) - ord(seen[0]) + 1) if seen else 1.0
        further = growth
        for each in kin.partition(character)[2] or next_character(character) or "":
            if each in counts:
                continue
            if each < greatest:
                counts[each] = _HOLE_CHANCE * density
            elif further > EXPLORED_SHARE:
                counts[each] = further * density
                further *= growth
        for others in _KINSHIPS:
            if others[0] > character and others[0] not in counts:
                tried = 1 + place.ends + place.moves / 8
                counts[others[0]] = chance * _OTHER_KIN_CHANCE * len(others) / tried

    def _ended(self, text: str, start: int) -> None:
        """Parents along the text, from `start` on, have no further child."""
        for place, character in self._walk(text, start, start + LEVELS_LEARNED_MAX):
            place.ends += 1
            self._slash_ends += character == "/"

    def _walk(self, text: str, start: int, end: int) -> Iterator[tuple[_Place, str]]:
        end = min(end, len(text))
        return zip(self._places_of(text, start, end), text[start:end], strict=True)

    def _place(self, text: str, level: int) -> _Place:
        return next(self._places_of(text, level, level + 1))

    def _places_of(self, text: str, start: int, end: int) -> Iterator[_Place]:
        slashes = text.count("/", 0, start)
        distance = start - text.rfind("/", 0, start)
        for index in range(start, end):
            place = self._places.get((slashes, distance))
            if place is None:
                place = self._places[slashes, distance] = _Place()
            yield place
            distance += 1
            if text[index : index + 1] == "/":
                slashes += 1
                distance = 1


@dataclass(slots=True)
class _Place:
    """What was seen at one place of the keys.

    `moves`: from one child to a further one of the same parent; `grown`: those to a character of
    the same kind beyond all seen before; `ends`: parents that had no further child.
    """

    seen: list[str] = field(default_factory=list)
    moves: int = 0
    grown: int = 0
    ends: int = 0

    def see(self, character: str) -> None:
        index = bisect_left(self.seen, character)
        if index < len(self.seen):
            if self.seen[index] == character:
                return
        elif index and _kind(self.seen[-1]) == _kind(character):
            self.grown += 1
        self.seen.insert(index, character)

    def siblings_max(self, chance: float) -> float:
        """How many children follow a child, judged by how often parents came to their end."""
        return (self.moves + chance) / (self.ends + 0.1)


def _add_code_points(
    counts: dict[str, float], place: _Place, character: str, bound: str | None
) -> None:
    """Beyond ASCII no order of use is known: look ever further ahead, or evenly to a near bound."""
    first, last, start = ord(place.seen[0]), ord(place.seen[-1]), ord(character)
    density = max(0.3, (len(place.seen) - 1) / max(1, last - first))
    unseen: dict[str, float] = {}
    if bound is not None and ord(bound) - start <= _GAP_MAX:
        gap = ord(bound) - start
        steps = {start + gap * part // _GAP_PARTS for part in range(1, _GAP_PARTS)} - {start}
        for step in sorted(steps):
            unseen[character_at(step) or ""] = max(1.0, gap * density / len(steps))
        counts.update(unseen)
        return
    for power in range(_SPREAD_POWERS):
        point = character_at(start + (1 << power))
        if point is not None and point not in counts:
            unseen[point] = max(0.5, min(density * (1 << power) / 2, len(place.seen)))
    scale = _scale(unseen, (place.grown + 1) / (place.ends + 0.1))
    counts.update((point, count * scale) for point, count in unseen.items())


def _scale(counts: dict[str, float], most: float) -> float:
    """What to multiply the counts with so that their sum is no more than `most`."""
    total = math.fsum(counts.values())
    return 1.0 if total <= most else most / total


def _bound(through: str, index: int) -> str | None:
    """The first character at the level that lies beyond `through`, if there is one."""
    # A longer `through` has keys below itself that begin with its character here.
    return through[index] if len(through) == index + 1 else next_character(through[index])


def _kind(character: str) -> str:
    if not character.isascii():
        return "beyond ASCII"
    kin = _KIN_OF.get(character)
    if kin is None:
        return "other ASCII"
    return "digit" if kin is string.digits else "letter"
