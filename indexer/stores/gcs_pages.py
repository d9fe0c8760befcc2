"""Pages of GCS made of its responses: of live objects, or as of a moment.

Invariants
  * Entries ascend; of a listing of generations, those of one key follow one another.
  * A key is on a page as of a moment only when all of its generations have been told, and has at
    most one row there.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import BrokenListing
from indexer.keyspace import Key
from indexer.page import Page, join_pages
from indexer.protocols import ListedPage
from indexer.stores.gcs_wire import Listing


def past(rows: Page, after: Key | None) -> Page:
    """The rows without those of the key `after` that they begin with."""
    paths = rows.column("path")
    count = 0
    while count < rows.num_rows and paths[count].as_py() == after:
        count += 1
    return rows.slice(count)


def page_of_rows(entries: Page, rows: Page, token: str | None) -> ListedPage:
    """A page that lists `entries` and shows `rows` of them."""
    paths, count = entries.column("path"), entries.num_rows
    return ListedPage(
        rows=rows,
        entries=count,
        first=Key(paths[0].as_py()) if count else None,
        last=Key(paths[count - 1].as_py()) if count else None,
        more=token is not None,
        token=token,
    )


class Generations:
    """Responses that follow one another, of all generations of the keys after `after`."""

    def __init__(self, after: Key | None) -> None:
        self._after = after
        self._rows: list[Page] = []
        self._shown: list[pa.Array] = []

    def page(self, listing: Listing) -> ListedPage | None:
        """With one more response, the page of all keys that were told whole.

        None while there is no such key, and more to come. Raises `BrokenListing` when the keys
        descend.
        """
        self._add(listing)
        rows = self._rows[0]
        if len(self._rows) > 1:
            rows = join_pages(self._rows).combine_chunks().to_batches()[0]
        shown = pa.concat_arrays(self._shown)
        if listing.token is not None:
            whole = _rows_before_last_key(rows)
            if not whole:
                return None
            rows, shown = rows.slice(0, whole), shown.slice(0, whole)
        page = page_of_rows(rows, _newest(rows.filter(shown)), None)
        if listing.token is None:
            return page
        assert page.last is not None
        return replace(page, more=True, token=json.dumps(page.last.decode()))

    def _add(self, listing: Listing) -> None:
        rows = past(listing.rows, self._after)
        shown = listing.shown
        if rows.num_rows and shown is not None:
            self._rows.append(rows)
            self._shown.append(shown.slice(listing.rows.num_rows - rows.num_rows))
        elif not self._rows:
            self._rows.append(rows)
            self._shown.append(pa.array([], pa.bool_()))
        paths = rows.column("path")
        if pc.any(pc.greater(paths[:-1], paths[1:])).as_py():
            raise BrokenListing("the server lists generations out of the order of their names")


def _rows_before_last_key(rows: Page) -> int:
    if not rows.num_rows:
        return 0
    paths = rows.column("path")
    return int(pc.sum(pc.not_equal(paths, paths[-1])).as_py())


def _newest(rows: Page) -> Page:
    """The row of the newest generation of each key.

    There is more than one where a server ends a generation a little after the next one began.
    """
    paths = rows.column("path")
    if not pc.any(pc.equal(paths[:-1], paths[1:])).as_py():
        return rows
    newest: dict[bytes, int] = {}
    numbers = list(map(int, rows.column("version_id").to_pylist()))
    for row, path in enumerate(paths.to_pylist()):
        before = newest.get(path)
        if before is None or numbers[row] > numbers[before]:
            newest[path] = row
    return rows.take(pa.array(newest.values(), pa.int64()))
