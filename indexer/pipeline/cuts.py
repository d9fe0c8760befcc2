"""cuts: where a range of keys is best cut, by what is thought to lie ahead of its cursor.

A key is a path through a tree in which each character is one level. What lies ahead of a cursor is
then, at each of its levels, the siblings that follow the cursor's own character there: few rows at
the lowest levels, ever more at the higher ones. A cut is the cursor's first characters and one
such sibling.

Invariants
  * A cut is valid UTF-8 without NUL, and not longer than a key may be; none of its components is
    `.` or `..`. Cuts ascend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from indexer.keyspace import Key

COST_MIN = 0.35
"""What share of a request a good cut wastes: the last page before it shows keys that lie beyond,
half a page in the mean, and in some cases that would have been the last page anyway."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A key after which a new range begins, and what share of a request that may waste."""

    at: Key
    cost: float


@dataclass(frozen=True, slots=True)
class Sibling:
    """What is thought to begin at a character: so many children of one parent, so many rows."""

    character: str
    count: float
    rows: float


@dataclass(frozen=True, slots=True)
class Level:
    """The siblings ahead at the level of one character of the cursor.

    `chance` says how likely there are any at all.
    """

    index: int
    chance: float
    siblings: list[Sibling]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is thought to lie ahead of a cursor: the lowest level first, as keys ascend.

    `rows_before` come before all of it; `rows` is the sum of it.
    """

    cursor: str
    levels: list[Level]
    rows: float
    rows_before: float
    key_bytes_max: int

    def cuts(self, *, want: int, rows_min: float, allowance: float) -> list[Cut]:
        """At most `want` cuts into pieces of about equal size, none of less than `rows_min` rows.

        Together they cost no more than `allowance`: where little is known, and much might be
        empty, the cuts are few and far between, and what they find decides about the next ones.
        """
        while want > 0:
            cuts = list(self._cuts(want, rows_min))
            if sum(cut.cost for cut in cuts) <= allowance:
                return cuts
            want = min(want, len(cuts)) * 3 // 4
        return []

    def _cuts(self, want: int, rows_min: float) -> Iterator[Cut]:
        target = max(rows_min, self.rows / (want + 1))
        before, left = self.rows_before, self.rows
        at: Key | None = None
        chance_empty = 1.0
        for level in self.levels:
            count = 0.0
            for sibling in level.siblings:
                is_due = left >= rows_min / 2 and before + sibling.rows / 2 >= target
                if want and is_due and (point := self._point(level.index, sibling.character)):
                    if at is not None:
                        yield Cut(at, _cost(chance_empty * _chance_empty(level, count)))
                    want -= 1
                    at, chance_empty, before, count = point, 1.0, 0.0, 0.0
                before += sibling.rows
                left -= sibling.rows
                count += sibling.count
            chance_empty *= _chance_empty(level, count)
        if at is not None:
            yield Cut(at, _cost(chance_empty))

    def _point(self, index: int, character: str) -> Key | None:
        text = self.cursor[:index] + character
        point = Key(text.encode())
        # Servers that keep objects as files refuse a path with such components.
        has_dots = not {".", ".."}.isdisjoint(text.split("/"))
        return None if len(point) > self.key_bytes_max or "\0" in text or has_dots else point


def _chance_empty(level: Level, count: float) -> float:
    """How likely none of `count` siblings is there. If one is missing, others mostly are too."""
    return 1 - level.chance * min(1.0, count)


def _cost(chance_empty: float) -> float:
    return COST_MIN + (1 - COST_MIN) * chance_empty
