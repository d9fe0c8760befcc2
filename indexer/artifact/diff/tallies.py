"""tallies: changes counted by kind, in all and by folder.

Invariants
  * A folder's row counts the changes whose paths are in it. A rename across folders is a removal in
    the one and an addition in the other, so that each row is what happened in that folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.diff.compare import CHANGES
from indexer.artifact.diff.renames import Renames
from indexer.changes import ChangeKind, Tallies, Tally, no_tallies

_GROUPED = [("kind", "count"), ("before", "sum"), ("after", "sum")]


def tallies_of(changes: pa.Table) -> Tallies:
    """How many changes there are of each kind, and of how many bytes."""
    found = no_tallies()
    for row in _sums(changes, {}):
        found[ChangeKind(row["kind"])] = _tally(row)
    return found


class FolderTallies:
    """Counts changes by what is directly below a prefix: folders, and single entries."""

    def __init__(self, prefix: bytes, renames: Renames) -> None:
        self._prefix = prefix
        self._found: dict[bytes, dict[ChangeKind, Tally]] = {}
        self._renamed = _renamed_within(prefix, renames)

    @property
    def count(self) -> int:
        """How many folders and entries there are so far."""
        return len(self._found)

    def add(self, changes: pa.Table) -> None:
        """Takes changes among which renames were not looked for."""
        children = _children(changes.column("path"), self._prefix)
        for row in _sums(changes, {"child": children}):
            tallies = self._found.setdefault(row["child"], no_tallies())
            tallies[ChangeKind(row["kind"])] += _tally(row)

    def results(self) -> Iterator[tuple[bytes, Tallies]]:
        """What was counted, by path."""
        for child, tallies in sorted(self._found.items()):
            renamed = self._renamed.get(child, Tally())
            yield (
                child,
                {
                    **tallies,
                    ChangeKind.RENAMED: renamed,
                    ChangeKind.ADDED: tallies[ChangeKind.ADDED]
                    + Tally(-renamed.objects, 0, -renamed.bytes_after),
                    ChangeKind.REMOVED: tallies[ChangeKind.REMOVED]
                    + Tally(-renamed.objects, -renamed.bytes_before, 0),
                },
            )


def _renamed_within(prefix: bytes, renames: Renames) -> dict[bytes, Tally]:
    """The renames within each folder below the prefix."""
    changes = renames.changes
    if not changes.num_rows:
        return {}
    to = _children(changes.column("path"), prefix)
    origin = _children(pc.struct_field(changes.column("before"), "path"), prefix)
    is_within = pc.equal(to, origin)
    within = changes.filter(is_within)
    return {row["child"]: _tally(row) for row in _sums(within, {"child": to.filter(is_within)})}


def _children(paths: pa.ChunkedArray, prefix: bytes) -> pa.Array:
    """The paths up to the first slash after the prefix, and with it."""
    flat = paths.combine_chunks()
    # `binary_slice` without an end fails on more than one value in Arrow 26.
    rest = pc.binary_replace_slice(flat, 0, len(prefix), b"")
    parts = pc.split_pattern(rest, "/", max_splits=1)
    heads = pc.list_element(parts, 0)
    is_folder = pc.equal(pc.list_value_length(parts), 2)
    nothing, slash, before = (pa.scalar(text, pa.binary()) for text in (b"", b"/", prefix))
    return pc.binary_join_element_wise(
        before, heads, pc.if_else(is_folder, slash, nothing), nothing
    )


def _sums(changes: pa.Table, keys: dict[str, pa.Array]) -> list[dict[str, Any]]:
    assert changes.schema.names == CHANGES.names
    columns = {
        **keys,
        "kind": changes.column("kind"),
        "before": pc.struct_field(changes.column("before"), "size"),
        "after": pc.struct_field(changes.column("after"), "size"),
    }
    grouped = pa.table(columns).group_by([*keys, "kind"], use_threads=False).aggregate(_GROUPED)
    return grouped.to_pylist()  # type: ignore[no-any-return]


def _tally(row: dict[str, Any]) -> Tally:
    counts = (row[f"{name}_{how}"] for name, how in _GROUPED)
    return Tally(*(count or 0 for count in counts))
