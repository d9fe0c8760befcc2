"""Tiling: what a scan listed, range by range, read from its JSON, and whether it leaves a gap.

Invariants
  * A tile is `(after, through]` in the keys of one source; in the space of paths it ends where its
    last key stands below the source's mount.
  * A scan of the first objects alone need not have listed all of its last source, and nothing of
    those after it: what it listed from the first key on, without a gap, is what it tells of.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import msgspec

from indexer.errors import CorruptContent
from indexer.keyspace import Key, KeyRange
from indexer.manifest import SourceRef


@dataclass(frozen=True, slots=True)
class ListedTile:
    """A range of a source's keys: how many objects were listed there, how many of them kept."""

    source: int
    keys: KeyRange
    listed: int
    kept: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """The tiles of a scan in the order of sources and keys, and its filters.

    `gone` objects were kept, and had vanished when they were looked at.
    """

    tiles: tuple[ListedTile, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gone: int = 0

    @property
    def listed(self) -> int:
        """How many objects were listed."""
        return sum(tile.listed for tile in self.tiles)

    @property
    def kept(self) -> int:
        """How many entries the version has by it."""
        return sum(tile.kept for tile in self.tiles) - self.gone

    def spreads(self, sources: int) -> list[float]:
        """By source, how many objects were listed for each entry that was kept."""
        listed, kept = [0] * sources, [0] * sources
        for tile in (tile for tile in self.tiles if tile.source < sources):
            listed[tile.source] += tile.listed
            kept[tile.source] += tile.kept
        return [max(1.0, a / max(1, b)) for a, b in zip(listed, kept, strict=True)]


class _Tile(msgspec.Struct, frozen=True):
    after: str | None
    through: str | None
    listed: int
    kept: int
    source: int = 0


class _Document(msgspec.Struct, frozen=True):
    tiles: list[_Tile]
    include: list[str] = []
    exclude: list[str] = []
    gone: int = 0


def read_tiling(data: bytes) -> Tiling:
    """The tiling whose JSON these bytes are. Raises `CorruptContent` for others."""
    try:
        document = msgspec.json.decode(data, type=_Document)
        tiles = [
            ListedTile(tile.source, _range(tile.after, tile.through), tile.listed, tile.kept)
            for tile in document.tiles
        ]
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise CorruptContent(f"this is no tiling of a scan: {error}") from error
    if any(tile.source < 0 for tile in tiles):
        raise CorruptContent("this is no tiling of a scan: a tile is of no source")
    return Tiling(
        tuple(sorted(tiles, key=lambda tile: (tile.source, tile.keys.order))),
        tuple(document.include),
        tuple(document.exclude),
        document.gone,
    )


def gaps(tiling: Tiling, sources: Sequence[SourceRef], *, is_partial: bool) -> Iterator[str]:
    """In what the tiles do not cover each source exactly once, in words."""
    by_source = {
        number: list(tiles) for number, tiles in groupby(tiling.tiles, lambda tile: tile.source)
    }
    for number in by_source.keys() - set(range(len(sources))):
        yield f"tiles are of a source number {number}, which there is not"
    last = max(by_source, default=0)
    for number, source in enumerate(sources):
        tiles = by_source.get(number, [])
        if not tiles:
            if not is_partial or number <= last:
                yield f"nothing of {source.uri} was listed"
            continue
        if tiles[0].keys.after is not None:
            yield f"{source.uri} is not listed up to {tiles[0].keys.after!r}"
        for one, other in pairwise(tiles):
            end, start = one.keys.through, other.keys.after
            if start is None or end is None or start < end:
                yield f"{source.uri} is listed twice after {start!r}"
            elif end < start and not (is_partial and number == last):
                yield f"{source.uri} is not listed between {end!r} and {start!r}"
        if tiles[-1].keys.through is not None and not (is_partial and number == last):
            yield f"{source.uri} is not listed after {tiles[-1].keys.through!r}"


class TileCount:
    """Counts a version's rows by the tiles that listed them; rows come in order.

    `outside` counts those that stand where nothing was listed.
    """

    def __init__(self, tiling: Tiling, sources: Sequence[SourceRef]) -> None:
        self._tiles = [tile for tile in tiling.tiles if tile.source < len(sources)]
        self._ranges = [
            KeyRange(*_in_paths(tile.keys, sources[tile.source])) for tile in self._tiles
        ]
        self._counts = [0] * len(self._tiles)
        self._at = 0
        self.outside = 0

    def add(self, paths: Sequence[bytes]) -> None:
        """Counts the next rows."""
        start = 0
        while start < len(paths):
            if self._at == len(self._ranges):
                self.outside += len(paths) - start
                return
            keys = self._ranges[self._at]
            first = start if keys.after is None else bisect_right(paths, keys.after, start)
            self.outside += first - start
            through = keys.through
            start = len(paths) if through is None else bisect_right(paths, through, first)
            self._counts[self._at] += start - first
            if start < len(paths):
                self._at += 1

    def differences(self) -> Iterator[str]:
        """Where more rows are than were kept, or fewer, in words; those gone are not counted."""
        for tile, count in zip(self._tiles, self._counts, strict=True):
            if count > tile.kept:
                yield (
                    f"{count:,} entries stand after {tile.keys.after!r} up to "
                    f"{tile.keys.through!r} of source {tile.source}, where {tile.kept:,} were kept"
                )

    @property
    def missing(self) -> int:
        """How many more were kept than there are."""
        return sum(
            max(0, tile.kept - count) for tile, count in zip(self._tiles, self._counts, strict=True)
        )


def _in_paths(keys: KeyRange, source: SourceRef) -> tuple[Key | None, Key | None]:
    """A range of a source's keys as one of paths."""
    prefix = source.path_prefix
    after = prefix + keys.after if keys.after is not None else None
    through = prefix + keys.through if keys.through is not None else None
    if prefix:
        # What follows a slash ends all that stands below a mount.
        after = prefix[:-1] if after is None else after
        through = prefix[:-1] + b"0" if through is None else through
    return (
        None if after is None else Key(after),
        None if through is None else Key(through),
    )


def _range(after: str | None, through: str | None) -> KeyRange:
    start, end = (
        None if bound is None else Key(base64.b64decode(bound, validate=True))
        for bound in (after, through)
    )
    if start is not None and end is not None and end < start:
        raise ValueError(f"a tile ends at {end!r}, before it begins")
    return KeyRange(start, end)
