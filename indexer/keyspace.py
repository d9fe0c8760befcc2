"""The ordered space of keys: what a key is, what a range of keys is, and where shards are cut.

Invariants
  * A key is a string of bytes, compared byte by byte; nothing here decodes or normalises one.
    Keys are relative to their source's root, so a key and the path of its entry below the mount
    are the same bytes.
  * A range is `(after, through]`: `after` is left out, `through` belongs to it. Two ranges that
    share a bound neither overlap nor leave a gap.
  * Where a shard ends depends on the paths of its own run alone: not on who listed them, in what
    pieces, or in what order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NewType

from xxhash import xxh3_64_intdigest

Key = NewType("Key", bytes)

KEY_BYTES_MAX = 1024
"""The longest key that S3 and GCS accept, in bytes of UTF-8."""

CUT_BITS = 14
"""A row ends a run where this many low bits of its path's hash are zero: a run has 16,384 rows in
the mean, some 400 kB of Parquet."""

CUT_BITS_STEP = 2
CUT_BITS_MIN = 2

RUN_ROWS_MAX = 65_536
"""A run of more rows is cut again. Runs are geometric, so 1.8 % of them (e**-4) are that long."""

CUT_RULE = f"xxh3_64/{CUT_BITS}-{CUT_BITS_STEP}/{RUN_ROWS_MAX}"
"""The name of this rule, as the root of a manifest states it."""

_SURROGATES = range(0xD800, 0xE000)

assert RUN_ROWS_MAX == 4 << CUT_BITS
assert (CUT_BITS - CUT_BITS_MIN) % CUT_BITS_STEP == 0


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys after `after` (or from the first one) up to and with `through` (or the last one)."""

    after: Key | None = None
    through: Key | None = None

    def __post_init__(self) -> None:
        assert self.after is None or self.through is None or self.after <= self.through

    def __contains__(self, key: bytes) -> bool:
        if self.after is not None and key <= self.after:
            return False
        return self.through is None or key <= self.through

    @property
    def is_empty(self) -> bool:
        """Whether no key at all lies in the range."""
        return self.after is not None and self.after == self.through

    @property
    def order(self) -> tuple[bool, bytes]:
        """What ranges are sorted by, in the order of their starts."""
        return self.after is not None, self.after or b""

    def split(self, cuts: Sequence[Key]) -> list[KeyRange]:
        """The range in pieces that end at `cuts`, which ascend strictly inside of it."""
        assert all(a < b for a, b in pairwise(cuts))
        assert all(cut in self and cut != self.through for cut in cuts)
        bounds = [self.after, *cuts, self.through]
        return [KeyRange(a, b) for a, b in pairwise(bounds)]


def common_prefix_length(left: bytes | str, right: bytes | str) -> int:
    """How many leading units (bytes, or code points of `str`) two strings share."""
    lowest, highest = 0, min(len(left), len(right))
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        if left[lowest:middle] == right[lowest:middle]:
            lowest = middle
        else:
            highest = middle - 1
    return lowest


def next_character(character: str) -> str | None:
    """The character of the next code point, or None after the last."""
    return character_at(ord(character) + 1)


def character_at(code_point: int) -> str | None:
    """The character of a code point or, if that is none, of the next one; None after the last.

    Surrogates are no characters: UTF-8 has no bytes for them.
    """
    if code_point in _SURROGATES:
        code_point = _SURROGATES.stop
    return chr(code_point) if code_point <= sys.maxunicode else None


def greatest_key_below(prefix: bytes, size_bytes_max: int = KEY_BYTES_MAX) -> Key:
    """The greatest valid UTF-8 key of at most `size_bytes_max` bytes that starts with `prefix`.

    As the inclusive end of a range it takes in every key below the prefix and nothing else, and a
    server can be asked for what comes after it.
    """
    room = size_bytes_max - len(prefix)
    if room <= 0:
        return Key(prefix)
    last_by_size = {0: b"", 1: b"\x7f", 2: "\u07ff".encode(), 3: "\uffff".encode()}
    return Key(prefix + "\U0010ffff".encode() * (room // 4) + last_by_size[room % 4])


def cut_rows(paths: Sequence[bytes]) -> list[int]:
    """The indices of the rows after which a run ends: the cuts of the first level."""
    mask = (1 << CUT_BITS) - 1
    return [row for row, digest in enumerate(map(xxh3_64_intdigest, paths)) if not digest & mask]


def low_digests(paths: Sequence[bytes]) -> list[int]:
    """The low `CUT_BITS` bits of each path's hash."""
    mask = (1 << CUT_BITS) - 1
    return [digest & mask for digest in map(xxh3_64_intdigest, paths)]


def cut_long_run(digests: Sequence[int]) -> list[int]:
    """How many rows each shard of a run has that is longer than `RUN_ROWS_MAX`, in order.

    A run is what lies between two cuts of the first level; `digests` are the `low_digests` of all
    its rows. It is cut where two bits fewer are zero, each piece that is still too long again, and
    so on; below `CUT_BITS_MIN` bits a piece is cut every `RUN_ROWS_MAX` rows from its start.
    """
    assert len(digests) > RUN_ROWS_MAX
    return list(_recut(digests, 0, len(digests), CUT_BITS - CUT_BITS_STEP))


def _recut(digests: Sequence[int], start: int, end: int, bits: int) -> Iterator[int]:
    if end - start <= RUN_ROWS_MAX:
        yield end - start
        return
    if bits < CUT_BITS_MIN:
        for first in range(start, end, RUN_ROWS_MAX):
            yield min(RUN_ROWS_MAX, end - first)
        return
    mask = (1 << bits) - 1
    cuts = [row + 1 for row in range(start, end) if not digests[row] & mask]
    if not cuts or cuts[-1] != end:
        cuts.append(end)
    for first, last in pairwise([start, *cuts]):
        yield from _recut(digests, first, last, bits - CUT_BITS_STEP)
