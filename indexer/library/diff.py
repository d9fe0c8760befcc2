"""What changed between two versions, for scripts and notebooks.

Invariants
  * It is a value: two versions never change, and so neither does what changed between them.
  * Tables are read when they are asked for; what a diff holds itself, of few changes all of them,
    is not read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from indexer.artifact.diff.compare import CHANGES, entries_in
from indexer.artifact.diff.diff import Diff
from indexer.artifact.handle import COMPARING_THREADS
from indexer.changes import ChangeKind, DiffSummary, Tally
from indexer.console import shown
from indexer.errors import InvalidSetting
from indexer.library.portals import streamed
from indexer.limits import CATALOG_ROWS_MAX
from indexer.places import Place, open_workspace
from indexer.records import VersionRecord
from indexer.runner import Portal
from workers.threads import Threads

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, repr=False)
class VersionDiff:
    """What changed from the version `old` to the version `new`, below `prefix`."""

    old: VersionRecord
    new: VersionRecord
    prefix: bytes
    place: Place
    found: Diff

    @property
    def summary(self) -> DiffSummary:
        """How much changed, by kind, and how many shards were read to find out."""
        return self.found.summary

    @property
    def added(self) -> pa.Table:
        """The entries that only the newer version has, with the columns of an entry."""
        return entries_in(self._table(ChangeKind.ADDED), "after")

    @property
    def removed(self) -> pa.Table:
        """The entries that only the older version has, with the columns of an entry."""
        return entries_in(self._table(ChangeKind.REMOVED), "before")

    @property
    def changed(self) -> pa.Table:
        """The entries that both have and that are not the same.

        Columns are `path`, `kind` (`content`, or `identity` where the bytes are the same), and the
        entry `before` and `after`.
        """
        return self._table(ChangeKind.CONTENT, ChangeKind.IDENTITY)

    @property
    def renamed(self) -> pa.Table:
        """The entries that have another path now; columns are those of `changed`."""
        return self._table(ChangeKind.RENAMED)

    def tables(self, *kinds: ChangeKind | str) -> Iterator[pa.Table]:
        """The changes of these kinds, or all, in key order, as tables like `changed`.

        However many there are, a few shards' worth is in memory at a time. Raises `InvalidSetting`
        for what is no kind, and `CorruptContent`.
        """
        wanted = [_kind(kind) for kind in kinds]
        held = self.found.at_hand(wanted)
        if held is not None:
            return iter([held])
        return streamed(self._opened(), lambda diff: diff.tables(wanted))

    def folders(self) -> pa.Table:
        """What changed one level below the prefix: a folder, or an entry, a row.

        Columns are `path`, a count for each kind, `bytes_before` and `bytes_after`. What was
        renamed from one folder to another was removed from the one and added to the other.
        """
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        with self._opened() as portal:
            after: bytes | None = None
            while True:
                page = portal.run(
                    lambda diff, after=after: diff.folders(after, CATALOG_ROWS_MAX)  # type: ignore[misc]
                )
                for folder in page.folders:
                    total = sum(folder.tallies.values(), Tally())
                    counts = {str(kind): one.objects for kind, one in folder.tallies.items()}
                    sums = {"bytes_before": total.bytes_before, "bytes_after": total.bytes_after}
                    rows.append({"path": folder.path, **counts, **sums})
                after = page.next
                if after is None:
                    break
        columns = [*(str(kind) for kind in ChangeKind), "bytes_before", "bytes_after"]
        fields = [pa.field("path", pa.binary()), *(pa.field(name, pa.int64()) for name in columns)]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    def __bool__(self) -> bool:
        return bool(self.summary.changes)

    def __repr__(self) -> str:
        return f"<{self._title}: {self._counts}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{kind}</td><td>{tally.objects:,}</td><td>{tally.bytes_before:,}</td>"
            f"<td>{tally.bytes_after:,}</td></tr>"
            for kind, tally in self.summary.tallies.items()
        )
        heads = "<tr><th></th><th>objects</th><th>bytes before</th><th>bytes after</th></tr>"
        return f"<table><caption>{escape(self._title)}</caption>{heads}{rows}</table>"

    @property
    def _title(self) -> str:
        below = f", below {shown(self.prefix)}" if self.prefix else ""
        return f"{self.old.ref} → {self.new.ref}{below}"

    @property
    def _counts(self) -> str:
        counts = ((kind, tally.objects) for kind, tally in self.summary.tallies.items())
        return ", ".join(f"{count:,} {kind}" for kind, count in counts if count) or "no changes"

    def _table(self, *kinds: ChangeKind) -> pa.Table:
        import pyarrow as pa

        tables = list(self.tables(*kinds))
        return pa.concat_tables(tables) if tables else CHANGES.empty_table()

    def _opened(self) -> Portal[Diff]:
        """The diff where it can read what it does not hold, on a thread of its own."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Diff]:
            async with (
                open_workspace(self.place, creates=False) as workspace,
                Threads(COMPARING_THREADS) as threads,
            ):
                yield self.found.over(workspace, threads)

        return Portal(opened())


def _kind(word: ChangeKind | str) -> ChangeKind:
    try:
        return ChangeKind(word)
    except ValueError:
        raise InvalidSetting(
            f"{word!r} is no kind of change: write {', '.join(ChangeKind)}."
        ) from None
