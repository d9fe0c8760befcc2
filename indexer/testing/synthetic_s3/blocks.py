"""The keys of a bucket in order, in blocks whose listing rows are rendered once and then sliced.

Invariants
  * The keys ascend strictly, through each block and from block to block.
  * Each block owns the keys from its low bound up to the next block's; bounds outlive the keys, and
    the first one is empty, so that every key has exactly one block.
  * All versions of a key are rows of one block.
  * Whoever changes a key or its versions calls `add`, `remove` or `touch`, which forget the
    rendered rows of its block: rows are never stale.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

BLOCK_KEYS = 512
"""Keys in a new block: a page of 1,000 rows is two or three slices, and an edit costs a new
rendering of so many rows (1-2 ms)."""

BLOCK_KEYS_MAX = 2 * BLOCK_KEYS
"""A block that grows beyond this is split in two."""


class Style(NamedTuple):
    """One of the ways in which the rows of a listing can be written."""

    versions: bool
    """Every version and delete marker, else the live objects alone."""

    url: bool
    """Keys percent-encoded, else escaped for XML."""

    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """The rendered rows of a block: row i is of `keys[i]` and is `body[offsets[i]:offsets[i+1]]`.

    A key is repeated for each of its versions.
    """

    keys: Sequence[bytes]
    offsets: array[int]
    body: memoryview

    def slice(self, start: int, stop: int) -> memoryview:
        return self.body[self.offsets[start] : self.offsets[stop]]


@dataclass(slots=True)
class Block:
    """Some keys that follow one another, and their rows in each style that was asked for."""

    keys: list[bytes]
    rows: dict[Style, Rows]


class Blocks:
    """A sorted set of keys. Look-ups and edits take a bisection and one block's work."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """`keys` ascend strictly."""
        chunks = [list(keys[i : i + BLOCK_KEYS]) for i in range(0, len(keys), BLOCK_KEYS)] or [[]]
        self._blocks = [Block(chunk, {}) for chunk in chunks]
        self._lows = [b""] + [chunk[0] for chunk in chunks[1:]]

    def __getitem__(self, number: int) -> Block:
        return self._blocks[number]

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self._blocks)

    def number(self, key: bytes) -> int:
        """The number of the block that holds `key` or would hold it."""
        return bisect_right(self._lows, key) - 1

    def __contains__(self, key: bytes) -> bool:
        keys = self._blocks[self.number(key)].keys
        place = bisect_left(keys, key)
        return place < len(keys) and keys[place] == key

    def key_count(self) -> int:
        return sum(len(block.keys) for block in self._blocks)

    def touch(self, key: bytes) -> None:
        """The versions of `key` have changed."""
        self._blocks[self.number(key)].rows.clear()

    def add(self, key: bytes) -> None:
        assert key not in self
        number = self.number(key)
        block = self._blocks[number]
        insort(block.keys, key)
        block.rows.clear()
        if len(block.keys) > BLOCK_KEYS_MAX:
            upper = block.keys[BLOCK_KEYS:]
            del block.keys[BLOCK_KEYS:]
            self._blocks.insert(number + 1, Block(upper, {}))
            self._lows.insert(number + 1, upper[0])

    def remove(self, key: bytes) -> None:
        assert key in self
        block = self._blocks[self.number(key)]
        del block.keys[bisect_left(block.keys, key)]
        block.rows.clear()
