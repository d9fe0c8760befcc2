"""cuts: what has been learned of how keys are built, and where a range of them is best cut.

A key is a path through a tree in which each character is one level. What lies ahead of a cursor is
then, at each of its levels, the siblings of the cursor's own character there: few rows at the
lowest levels, ever more at the higher ones. A cut is the cursor's first characters and a sibling of
the next. Each is a guess at a place where keys may begin, and each page that comes back says which
guesses were good; they are remembered by *place*: the number of slashes before the character and
its distance from the last of them, where keys of one source mostly look alike.

Invariants
  * A cut lies strictly inside its range, is valid UTF-8 without NUL, and not longer than a key.
  * The same calls in the same order give the same cuts.
"""

from __future__ import annotations

import math
import random
import string
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from indexer.keyspace import Key, character_at, common_prefix_length, next_character

SEED = 3
LEVELS_LEARNED_MAX = 32
"""Levels below a turn that are learned from: what lies deeper seldom decides where to cut."""

CHANCE_MIN = 0.12
EXPLORED = 0.03
"""Places with a worse chance of a further sibling are left out, but for this share of the time:
else a place that was empty everywhere at first would never be tried again."""

UNKNOWN_PAGES = 10
"""An untried place, if there is anything, is taken to hold this many pages at least."""

GROWTH_MAX = 4
"""No place is taken to hold more than this times all rows listed so far."""

COST_MIN = 0.25
"""Requests that a cut wastes at the least: on the page at the end of a range half is thrown away,
and about half of all cuts would have come to the same end without that."""

_KIN = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
_KIN_OF = {character: kin for kin in _KIN for character in kin}
_OTHER_KIN = 0.1
"""The chance that letters follow where there were only digits, and the like."""

_HOLE = 0.2
"""The chance of an unseen character between two seen ones."""

_SPREAD_MAX = 1 << 13
"""Code points looked ahead at once beyond ASCII."""

_LINEAR_MAX = 1 << 12
_LINEAR_STEPS = 9
"""A nearer bound beyond ASCII is approached in this many equal steps."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A key after which a new range begins, and what share of a request that may waste."""

    at: Key
    cost: float


@dataclass(slots=True)
class _Place:
    """What was seen at one place of the keys.

    `moves`: from one character there to a further one below the same parent; `grown`: those to a
    character of the same kind beyond all that were seen before; `ends`: parents that had no more.
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
        """How many siblings follow a character, as parents have ended so far."""
        return (self.moves + chance) / (self.ends + 0.1)


@dataclass(frozen=True, slots=True)
class _Level:
    """The siblings ahead at one level: each with its rows and the number that it stands for."""

    index: int
    chance: float
    siblings: list[tuple[str, float, float]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is thought to lie ahead of a cursor. `rows` is the sum of it."""

    cursor: str
    rows: float
    rows_before: float
    levels: list[_Level]
    size_bytes_max: int

    def cuts(self, *, want: int, rows_min: float, allowance: float) -> list[Cut]:
        """At most `want` cuts into pieces of about equal size, none of less than `rows_min` rows.

        Together they cost no more than `allowance`.
        """
        while want > 0:
            cuts = self._cuts(want, rows_min)
            if sum(cut.cost for cut in cuts) <= allowance:
                return cuts
            want = min(want, len(cuts)) * 3 // 4
        return []

    def _cuts(self, want: int, rows_min: float) -> list[Cut]:
        target = max(rows_min, self.rows / (want + 1))
        before, left = self.rows_before, self.rows
        points: list[Key] = []
        chances_empty: list[float] = []
        for level in self.levels:
            count = 0.0
            for character, rows, weight in level.siblings:
                if len(points) < want and left >= rows_min / 2 and before + rows / 2 >= target:
                    point = self._point(level.index, character)
                    if point is not None:
                        if points:
                            chances_empty[-1] *= 1 - level.chance * min(1.0, count)
                        points.append(point)
                        chances_empty.append(1.0)
                        before = count = 0.0
                before += rows
                left -= rows
                count += weight
            if points:
                chances_empty[-1] *= 1 - level.chance * min(1.0, count)
        return [
            Cut(point, COST_MIN + (1 - COST_MIN) * chance)
            for point, chance in zip(points, chances_empty, strict=True)
        ]

    def _point(self, index: int, character: str) -> Key | None:
        text = self.cursor[:index] + character
        point = Key(text.encode())
        return None if len(point) > self.size_bytes_max or "\0" in text else point


class Structure:
    """What has been learned of a source's keys, and what follows from it."""

    def __init__(self, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self._places: dict[tuple[int, int], _Place] = {}
        self._slash_moves = 0
        self._slash_ends = 0
        # Chooses what is explored, nothing that has to be secret.
        self._random = random.Random(SEED)  # noqa: S311

    def saw_path(self, text: str, start: int, end: int) -> None:
        """The characters of a key from `start` to `end` stand where they do."""
        for place, character in zip(
            self._places_of(text, start, end), text[start:end], strict=True
        ):
            place.see(character)

    def saw_children(self, text: str, level: int, characters: str) -> None:
        """Below the first `level` characters of a key there are `characters`, one by one."""
        place = self._place(text, level)
        for character in characters:
            place.see(character)
        place.moves += len(characters) - 1

    def saw_neighbours(self, left: str, right: str) -> None:
        """`right` is the next key after `left`, which is a key or a cut."""
        shared = common_prefix_length(left, right)
        self._ended(left, shared + 1)
        turn = min(shared, len(left) - 1)
        place = self._place(right, turn)
        place.see(right[turn])
        place.moves += 1
        if left[turn] == "/":
            self._slash_moves += 1

    def saw_end(self, left: str, through: str | None) -> None:
        """There is no key after `left`, a key or a cut, up to `through`."""
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
        """What lies ahead of `cursor`, up to `through`.

        `level` is the level that varied on the last page, `rows_per_child` what a child there
        held; cuts are made no deeper than at `level_max`.
        """
        top = 0 if through is None else common_prefix_length(cursor, through)
        rows_most = max(UNKNOWN_PAGES * rows_per_page, GROWTH_MAX * rows_listed)
        rows = rows_per_child
        levels: list[_Level] = []
        places = list(self._places_of(cursor, top, level + 1))
        for index in range(level, top - 1, -1):
            place = places[index - top]
            bound = None if through is None or index > top else _bound(through, index)
            chance = self._chance(place, cursor[index])
            is_explored = chance >= CHANCE_MIN or self._random.random() < EXPLORED
            if index <= level_max and (is_explored or not (place.moves or place.ends)):
                siblings = self._siblings(place, cursor[index], bound, chance)
                if not place.moves:
                    rows_here = chance * max(rows, UNKNOWN_PAGES * rows_per_page)
                    levels.append(_Level(index, chance, [(s, rows_here, 1.0) for s, _ in siblings]))
                elif siblings:
                    levels.append(
                        _Level(
                            index,
                            chance,
                            [(s, min(rows_most, rows * w), w) for s, w in siblings],
                        )
                    )
            if place.moves:
                rows = min(rows_most, rows * self._children(place, chance))
        total = math.fsum(rows for each in levels for _, rows, _ in each.siblings)
        return Outlook(cursor, total, rows_per_child / 2, levels, self._size_bytes_max)

    def _chance(self, place: _Place, character: str) -> float:
        """The chance that a parent has a further child after `character`."""
        before = self._prior(character)
        if not place.moves:
            return before / (1 + 3 * place.ends)
        return (place.moves + before) / (place.moves + place.ends + 1)

    def _prior(self, character: str) -> float:
        kind = _kind(character)
        if kind == "/":
            return (0.1 + self._slash_moves) / (2 + self._slash_moves + self._slash_ends)
        return _PRIOR[kind]

    def _children(self, place: _Place, chance: float) -> float:
        """How many children a parent has at a place in the mean."""
        lowest = place.seen[0]
        if lowest < "\x80":
            siblings = sum(weight for _, weight in self._siblings(place, lowest, None, chance))
        else:
            siblings = 1.5 * len(place.seen)
        return 1 + min(siblings, place.siblings_max(chance))

    def _siblings(
        self, place: _Place, character: str, bound: str | None, chance: float
    ) -> list[tuple[str, float]]:
        """The characters after `character` and before `bound`, each with the number it stands for.

        Where nothing was learned yet that is the next character alone: what is cut off there tells
        by its first page what there is.
        """
        if not place.moves:
            following = next_character(character)
            found = {} if following is None else {following: 1.0}
        else:
            found = dict.fromkeys(place.seen[bisect_right(place.seen, character) :], 1.0)
            if character < "\x80":
                self._add_kin(found, place, character, chance)
                scale = min(1.0, place.siblings_max(chance) / max(1e-9, sum(found.values())))
                found = {each: weight * scale for each, weight in found.items()}
            else:
                _add_code_points(found, place, character, bound)
        return sorted(each for each in found.items() if bound is None or each[0] < bound)

    def _add_kin(
        self, found: dict[str, float], place: _Place, character: str, chance: float
    ) -> None:
        """Digits follow digits, letters letters; and one kind may follow another."""
        greatest = max(place.seen[-1], character)
        growth = (place.grown + self._prior(greatest)) / (place.grown + place.ends + 1)
        kin = _KIN_OF.get(character, character)
        seen = [each for each in place.seen if each in kin]
        density = len(seen) / (ord(seen[-1]) - ord(seen[0]) + 1) if seen else 1.0
        weight = growth
        following = kin.partition(character)[2] or next_character(character) or ""
        for each in following:
            if each in found:
                continue
            if each < greatest:
                found[each] = _HOLE * density
            elif weight > EXPLORED:
                found[each] = weight * density
                weight *= growth
        for others in _KIN:
            if others[0] > character and others[0] not in found:
                found[others[0]] = chance * _OTHER_KIN * len(others) / (1 + place.ends)

    def _ended(self, text: str, start: int) -> None:
        end = min(len(text), start + LEVELS_LEARNED_MAX)
        for place, character in zip(
            self._places_of(text, start, end), text[start:end], strict=True
        ):
            place.ends += 1
            if character == "/":
                self._slash_ends += 1

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
            if text[index : index + 1] == "/":
                slashes += 1
                distance = 1
            else:
                distance += 1


_PRIOR = {"digit": 0.35, "letter": 0.05, "ascii": 0.03, "other": 0.2}
"""The chance that a character of a kind has a further sibling, before anything is known."""


def _kind(character: str) -> str:
    if character >= "\x80":
        return "other"
    if character in string.digits:
        return "digit"
    if character in _KIN_OF:
        return "letter"
    return character if character == "/" else "ascii"


def _bound(through: str, index: int) -> str | None:
    """The first character at the level that can't be cut at."""
    if index >= len(through):
        return None
    # A longer bound has keys below itself on the level's last character.
    return through[index] if len(through) == index + 1 else next_character(through[index])


def _add_code_points(
    found: dict[str, float], place: _Place, character: str, bound: str | None
) -> None:
    """Beyond ASCII no order of use is known: points ever further ahead, or evenly to the bound."""
    first, last = place.seen[0], place.seen[-1]
    density = max(0.3, (len(place.seen) - 1) / max(1, ord(last) - ord(first)))
    start = ord(character)
    if bound is not None and ord(bound) - start <= _LINEAR_MAX:
        gap = ord(bound) - start
        steps = {start + gap * step // _LINEAR_STEPS for step in range(1, _LINEAR_STEPS)} - {start}
        for step in steps:
            point = character_at(step)
            if point is not None:
                found[point] = max(1.0, gap * density / len(steps))
        return
    unseen: dict[str, float] = {}
    for power in range(_SPREAD_MAX.bit_length()):
        point = character_at(start + (1 << power))
        if point is not None and point not in found:
            unseen[point] = max(0.5, density * (1 << power) / 2)
    scale = min(1.0, (place.grown + 1) / (place.ends + 0.1) / max(1e-9, sum(unseen.values())))
    found.update((point, weight * scale) for point, weight in unseen.items())
