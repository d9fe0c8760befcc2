"""renames: entries that are gone beside entries that are new, with the same bytes elsewhere.

Two entries may be one renamed if both have a checksum of the whole object by the same algorithm
and it is equal, or if both come from the same kind of store and their ETags are equal; and their
sizes are. Empty objects are all alike, and are never renamed.

Invariants
  * An entry is part of one rename at most. Who has an equal checksum goes before who has an equal
    ETag; among several, entries whose names after the last slash are equal go together, then the
    others, each time in key order. So the same versions give the same renames.
  * What is recorded of both does not say that their bytes are different ones; see `compare`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.diff.compare import (
    CHANGES,
    FULL_OBJECT,
    changes_of,
    entries_in,
    in_order,
    kinds_of,
    origins_of,
    same_content,
)
from indexer.changes import ChangeKind
from indexer.manifest import SourceRef
from indexer.page import etag_texts

Sources = Sequence[SourceRef]


@dataclass(frozen=True, slots=True)
class Renames:
    """Renames as `CHANGES` has them, each at its new path; and what they stand for."""

    changes: pa.Table = field(default_factory=CHANGES.empty_table)

    def apply(self, changes: pa.Table) -> pa.Table:
        """Changes of a range of keys with each rename in place of what was added and removed."""
        if not self.changes.num_rows:
            return changes
        paths, kinds = changes.column("path"), changes.column("kind")
        is_new = pc.and_(
            pc.equal(kinds, str(ChangeKind.ADDED)),
            pc.is_in(paths, value_set=self._paths("after")),
        )
        is_old = pc.and_(
            pc.equal(kinds, str(ChangeKind.REMOVED)),
            pc.is_in(paths, value_set=self._paths("before")),
        )
        here = pc.is_in(
            self.changes.column("path"), value_set=paths.filter(is_new).combine_chunks()
        )
        others = changes.filter(pc.invert(pc.or_(is_new, is_old)))
        return in_order([others, self.changes.filter(here)])

    def _paths(self, side: str) -> pa.Array:
        return pc.struct_field(self.changes.column(side), "path").combine_chunks()


def find_renames(changes: pa.Table, old_sources: Sources, new_sources: Sources) -> Renames:
    """The renames among changes, of which only what was added and removed is looked at."""
    kinds = changes.column("kind")
    old = _candidates(changes.filter(pc.equal(kinds, str(ChangeKind.REMOVED))), "before")
    new = _candidates(changes.filter(pc.equal(kinds, str(ChangeKind.ADDED))), "after")
    if not (old.num_rows and new.num_rows):
        return Renames()
    pairs = _pair(_by_checksum(old), _by_checksum(new), old, new)
    old_rows = {row for row, _ in pairs}
    new_rows = {row for _, row in pairs}
    pairs += _pair(
        _without(_by_etag(old, old_sources), old_rows),
        _without(_by_etag(new, new_sources), new_rows),
        old,
        new,
    )
    if not pairs:
        return Renames()
    pairs.sort(key=lambda pair: pair[1])
    befores, afters = (pa.array(rows, pa.int64()) for rows in zip(*pairs, strict=True))
    before, after = old.take(befores), new.take(afters)
    is_same = same_content(before, after, old_sources, new_sources)
    before, after = before.filter(is_same), after.filter(is_same)
    return Renames(changes_of(pa.repeat(str(ChangeKind.RENAMED), before.num_rows), before, after))


def _candidates(changes: pa.Table, side: str) -> pa.Table:
    entries = entries_in(changes, side)
    return entries.filter(pc.greater(entries.column("size"), 0)).combine_chunks()


def _by_checksum(entries: pa.Table) -> pa.Array:
    """What two entries have in common whose checksums and sizes are equal; null without one."""
    is_whole = pc.equal(entries.column("checksum_type"), FULL_OBJECT)
    algorithms = pc.if_else(is_whole, entries.column("checksum_algorithm"), None)
    return _joined(algorithms, entries.column("size"), entries.column("checksum"))


def _by_etag(entries: pa.Table, sources: Sources) -> pa.Array:
    """What two entries have in common whose kinds of store, ETags and sizes are equal."""
    kinds = kinds_of(origins_of(entries, sources))
    return _joined(kinds, entries.column("size"), etag_texts(entries))


def _joined(*columns: pa.Array | pa.ChunkedArray) -> pa.Array:
    texts = []
    for column in columns:
        flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        texts.append(pc.cast(pc.cast(flat, pa.string()) if flat.type == pa.int64() else flat,
                             pa.binary()))  # fmt: skip
    return pc.binary_join_element_wise(*texts, pa.scalar(b" ", pa.binary()))


def _without(keys: pa.Array, rows: set[int]) -> pa.Array:
    """The keys, as null where the rows are taken already."""
    if not rows:
        return keys
    taken = pc.is_in(
        pa.array(range(len(keys)), pa.int64()), value_set=pa.array(list(rows), pa.int64())
    )
    return pc.if_else(taken, None, keys)


def _pair(
    old_keys: pa.Array, new_keys: pa.Array, old: pa.Table, new: pa.Table
) -> list[tuple[int, int]]:
    """Rows of both sides with equal keys, each in one pair at most."""
    olds, news = _rows_by_key(old_keys, new_keys, old), _rows_by_key(new_keys, old_keys, new)
    return [pair for key, of_new in news.items() for pair in _pair_alike(olds.get(key, []), of_new)]


_Named = tuple[int, bytes]
"""A row, and its path's last component."""


def _rows_by_key(keys: pa.Array, others: pa.Array, entries: pa.Table) -> dict[bytes, list[_Named]]:
    """Rows by key, in key order of their paths, of those that the other side has, too."""
    shared = pc.and_(pc.is_valid(keys), pc.is_in(keys, value_set=others))
    rows = pa.array(range(len(keys)), pa.int64()).filter(shared)
    paths = entries.column("path").take(rows)
    found: defaultdict[bytes, list[_Named]] = defaultdict(list)
    for row, key, path in zip(
        rows.to_pylist(), keys.take(rows).to_pylist(), paths.to_pylist(), strict=True
    ):
        found[key].append((row, path.rpartition(b"/")[2]))
    return found


def _pair_alike(olds: list[_Named], news: list[_Named]) -> Iterator[tuple[int, int]]:
    by_name: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for row, name in olds:
        by_name[name].append(row)
    left: list[int] = []
    for row, name in news:
        if by_name[name]:
            yield by_name[name].popleft(), row
        else:
            left.append(row)
    yield from zip(sorted(row for rows in by_name.values() for row in rows), left, strict=False)
