"""edited: a page, and what was found out of its rows since it was listed.

Invariants
  * Nothing is copied until the page is asked for; a page of which nothing is new is itself.
  * What a HEAD said of a row replaces all that was listed of it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from indexer.keyspace import Key
from indexer.objects import Checksum, Head, Pin
from indexer.page import SCHEMA, Page, etag_texts, make_page, pack_etags, paths_of

_COLUMNS_OF_HEAD: Final = (
    "size", "uri", "version_id", "mtime_ns", "last_modified", "storage_class",
)  # fmt: skip
_COLUMNS_OF_CHECKSUM: Final = {
    "checksum_algorithm": "algorithm",
    "checksum_type": "type",
    "checksum": "value",
}


class EditedPage:
    """A page that is being enriched: its columns, and by row what was found out since."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.heads: dict[int, Head] = {}
        self.checksums: dict[int, Checksum] = {}
        self.gone: set[int] = set()

    def left(self) -> list[int]:
        """The rows whose objects are there."""
        return [row for row in range(self._page.num_rows) if row not in self.gone]

    def key(self, row: int) -> Key:
        """The key of a row."""
        return Key(self._paths[row])

    def pin(self, row: int) -> Pin:
        """What the object of a row must be. A version id of `null` pins nothing."""
        head = self.heads.get(row)
        if head is not None:
            return Pin(head.size, head.etag, head.version_id, head.mtime_ns)
        version_id = self._of("version_id", row)
        return Pin(
            size=self._of("size", row),
            etag=self._etags[row],
            version_id=None if version_id == "null" else version_id,
            mtime_ns=self._of("mtime_ns", row),
        )

    def checksum(self, row: int) -> Checksum | None:
        """The checksum that is known of a row."""
        if row in self.checksums:
            return self.checksums[row]
        if row in self.heads:
            return self.heads[row].checksum
        algorithm = self._of("checksum_algorithm", row)
        if algorithm is None:
            return None
        return Checksum(algorithm, self._of("checksum", row), self._of("checksum_type", row))

    def is_listed_otherwise(self, row: int, head: Head) -> bool:
        """Whether a HEAD tells of another state than the listing, as far as that told one."""
        size, etag = self._of("size", row), self._etags[row]
        return size >= 0 and (size, etag or head.etag) != (head.size, head.etag)

    def page(self, *, only_left: bool = True) -> Page:
        """The rows as they are known now; without those that are gone, if `only_left`."""
        page = self._page
        if self.heads or self.checksums:
            columns = {name: page.column(name) for name in page.schema.names}
            columns |= self._columns_of_heads() | self._columns_of_checksums()
            page = make_page(columns)
        if self.gone and only_left:
            page = make_page(
                dict(zip(page.schema.names, page.take(pa.array(self.left())).columns, strict=True))
            )
        return page

    def _columns_of_heads(self) -> dict[str, pa.Array]:
        if not self.heads:
            return {}
        columns = {
            name: self._replaced(
                name, {row: getattr(head, name) for row, head in self.heads.items()}
            )
            for name in _COLUMNS_OF_HEAD
        }
        etags = list(self._etags)
        for row, head in self.heads.items():
            etags[row] = head.etag
        return columns | pack_etags([None if etag is None else etag.encode() for etag in etags])

    def _columns_of_checksums(self) -> dict[str, pa.Array]:
        found = {row: head.checksum for row, head in self.heads.items()} | self.checksums
        return {
            column: self._replaced(
                column, {row: one and getattr(one, name) for row, one in found.items()}
            )
            for column, name in _COLUMNS_OF_CHECKSUM.items()
        }

    def _replaced(self, name: str, values: dict[int, Any]) -> pa.Array:
        column = list(self._column(name))
        for row, value in values.items():
            column[row] = value
        return pa.array(column, SCHEMA.field(name).type)

    def _of(self, name: str, row: int) -> Any:
        return self._column(name)[row]

    def _column(self, name: str) -> list[Any]:
        if name not in self._lists:
            has_it = name in self._page.schema.names
            values = self._page.column(name).to_pylist() if has_it else [None] * self._page.num_rows
            self._lists[name] = values
        return self._lists[name]

    @cached_property
    def _lists(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def _paths(self) -> list[bytes]:
        return paths_of(self._page)

    @cached_property
    def _etags(self) -> list[str | None]:
        return etag_texts(self._page).to_pylist()  # type: ignore[no-any-return]
