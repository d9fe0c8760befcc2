"""spans: which shards of two manifests have to be read side by side to see what differs.

Invariants
  * A shard that both manifests have is in no span: the same digest is the same rows, at the same
    paths, and no other shard has any of these paths.
  * Every other shard that can hold the prefix is in one span at least. A row of it lies in the
    range of exactly one of its spans.
  * Spans ascend and do not overlap, and each has at most so many shards as it may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

from indexer.artifact.entries import shards_below
from indexer.keyspace import Key, KeyRange
from indexer.manifest import Manifest, ShardRef

SPAN_SHARDS_MIN = 2
"""One of each side, or nothing could be compared."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of keys, and the shards that hold what differs in it, of the older and newer one."""

    range: KeyRange
    old: tuple[ShardRef, ...]
    new: tuple[ShardRef, ...]

    @property
    def shards(self) -> int:
        """How many have to be read."""
        return len(self.old) + len(self.new)


def spans_of(old: Manifest, new: Manifest, prefix: bytes, shards_max: int) -> Iterator[Span]:
    """The spans in which two manifests differ below a prefix.

    Shards that overlap are in one span. Where more of them do than `shards_max`, as where all cuts
    moved, the span is cut, and the shard that lies across the cut is in both.
    """
    assert shards_max >= SPAN_SHARDS_MIN
    same = {shard.digest for shard in old.shards} & {shard.digest for shard in new.shards}
    olds, news = (deque(_differing(one, same, prefix)) for one in (old, new))
    while olds or news:
        stop_old, stop_new = _stops(olds, news, shards_max)
        taken_old, taken_new = list(islice(olds, stop_old)), list(islice(news, stop_new))
        # What was not taken begins behind this, so that up to it everything was.
        starts = [side[stop].start for side, stop in ((olds, stop_old), (news, stop_new))
                  if stop < len(side)]  # fmt: skip
        through = min([max(one.end for one in taken_old + taken_new), *starts])
        taken_old, taken_new = (
            [one for one in side if one.start < through] for side in (taken_old, taken_new)
        )
        has_start, start = min(one.start for one in taken_old + taken_new)
        yield Span(
            KeyRange(Key(start) if has_start else None, Key(through[1])),
            tuple(one.shard for one in taken_old),
            tuple(one.shard for one in taken_new),
        )
        for side in (olds, news):
            _leave(side, through)


_Bound: TypeAlias = tuple[bool, bytes]
"""After what path, as `KeyRange.order` has it: whether there is any, and the path."""


class _Placed(NamedTuple):
    """A shard, and the bound behind which it begins."""

    start: _Bound
    shard: ShardRef

    @property
    def end(self) -> _Bound:
        return True, self.shard.max_path


def _differing(manifest: Manifest, same: AbstractSet[str], prefix: bytes) -> Iterator[_Placed]:
    wanted = {shard.digest for shard in shards_below(manifest, prefix)} - same
    start: _Bound = (False, b"")
    for shard in manifest.shards:
        if shard.digest in wanted:
            yield _Placed(start, shard)
        start = (True, shard.max_path)


def _stops(olds: Sequence[_Placed], news: Sequence[_Placed], shards_max: int) -> tuple[int, int]:
    """How many of each side overlap one another, up to `shards_max`."""
    stops = [0, 0]
    sides = (olds, news)
    reach: _Bound = (False, b"")
    while sum(stops) < shards_max:
        left = [
            (side[stop].start, index)
            for index, (side, stop) in enumerate(zip(sides, stops, strict=True))
            if stop < len(side)
        ]
        if not left:
            break
        start, index = min(left)
        if any(stops) and start >= reach:
            break
        reach = max(reach, sides[index][stops[index]].end)
        stops[index] += 1
    return stops[0], stops[1]


def _leave(side: deque[_Placed], through: _Bound) -> None:
    """Leaves behind what ends there, and begins with what is left of a shard that does not."""
    while side and side[0].end <= through:
        side.popleft()
    if side and side[0].start < through:
        side[0] = side[0]._replace(start=through)
