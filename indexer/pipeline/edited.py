"""edited: a page, and what was found out of its rows since it was listed.

Invariants
  * Nothing is copied until a page is asked for; a page of which nothing is new is itself.
  * What a HEAD said of a row replaces all that was listed of it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from indexer.keyspace import Key
from indexer.objects import SIZE_UNKNOWN, Checksum, Head, Pin, pin_of
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
    """A page that is being enriched: its columns, and by row what was found out since.

    With `of_moment` its rows are of a moment that is past, at which an object without versions of
    its own was the version called `null`.
    """

    def __init__(self, page: Page, *, of_moment: bool = False) -> None:
        self._page = page
        self._of_moment = of_moment
        self.heads: dict[int, Head] = {}
        self.checksums: dict[int, Checksum] = {}
        self.gone: set[int] = set()

    def left(self) -> list[int]:
        """The rows whose objects are there."""
        return [row for row in range(self._page.num_rows) if row not in self.gone]

    def key(self, row: int) -> Key:
        """The key of a row."""
        return Key(self._paths[row])

    def has_version(self, row: int) -> bool:
        """Whether a version id is known of a row, be it `null`."""
        return self._told(row, "version_id") is not None

    def pin(self, row: int) -> Pin:
        """What the object of a row must be."""
        head = self.heads.get(row)
        return pin_of(
            self._told(row, "size"),
            self._etags[row] if head is None else head.etag,
            self._told(row, "version_id"),
            self._told(row, "mtime_ns"),
            of_moment=self._of_moment,
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
        told = Pin(self._of("size", row), self._etags[row], None, self._of("mtime_ns", row))
        is_same = (
            told.size == head.size
            and told.etag in (None, head.etag)
            and told.mtime_ns in (None, head.mtime_ns)
        )
        return told.size != SIZE_UNKNOWN and not is_same

    def settled(self) -> Page:
        """All rows as they are known now, from which on they are told apart from what is new."""
        if self.heads or self.checksums:
            page = self._page
            columns = {name: page.column(name) for name in page.schema.names}
            columns |= self._columns_of_heads() | self._columns_of_checksums()
            self._page = make_page(columns)
            self.heads, self.checksums = {}, {}
            for name in ("_lists", "_etags"):
                self.__dict__.pop(name, None)
        return self._page

    def page(self) -> Page:
        """The rows as they are known now, without those that are gone."""
        page = self.settled()
        if not self.gone:
            return page
        left = page.take(pa.array(self.left(), pa.int64()))
        return make_page(dict(zip(left.schema.names, left.columns, strict=True)))

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

    def _told(self, row: int, name: str) -> Any:
        """What is known of a row now."""
        head = self.heads.get(row)
        return self._of(name, row) if head is None else getattr(head, name)

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
