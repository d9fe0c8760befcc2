"""Cut one page out of a bucket's rows: from where, up to how many, rolled up by a delimiter.

Invariants
  * A page without a delimiter is a few slices of rendered rows, whatever its length: nothing is
    done per row.
  * Pages that follow one another by their `last` mark show each row exactly once, in order, as long
    as nobody writes in between; a version that is deleted in between loses no other row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from indexer.testing.synthetic_s3.blocks import Rows, Style
from indexer.testing.synthetic_s3.render import in_order, rows_of
from indexer.testing.synthetic_s3.state import NULL_VERSION_ID, Bucket, sequence_of

_BYTE_MAX = 0xFF


class Mark(NamedTuple):
    """The last thing a page showed: a key, one version of it, or a common prefix."""

    key: bytes
    version_id: str | None = None


class Span(NamedTuple):
    """The rows from `start` up to but without `stop` of one block."""

    rows: Rows
    start: int
    stop: int

    @property
    def first_key(self) -> bytes:
        return self.rows.keys[self.start]

    @property
    def last_key(self) -> bytes:
        return self.rows.keys[self.stop - 1]

    def singles(self) -> Iterator[Span]:
        """The same rows, one in each span."""
        return (Span(self.rows, row, row + 1) for row in range(self.start, self.stop))


@dataclass(slots=True)
class Page:
    """What one answer shows. Faults change it, so it is not frozen."""

    spans: list[Span]
    common_prefixes: list[bytes]
    last: Mark | None
    """None if the page shows nothing."""

    following: Span | None
    """The row after the page, None at the end of the listing."""

    is_truncated: bool

    @property
    def row_count(self) -> int:
        return sum(span.stop - span.start for span in self.spans)


def cut_page(
    bucket: Bucket,
    style: Style,
    *,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    after: Mark | None = None,
    limit: int,
) -> Page:
    """The next `limit` rows and common prefixes below `prefix` that come after the mark."""
    page = Page([], [], None, None, is_truncated=False)
    if limit == 0:  # as AWS: an empty page that is the last one
        return page
    cursor = _Cursor(bucket, style, prefix)
    cursor.begin(after)
    room = limit
    while room and (rows := cursor.rows()) is not None:
        start = cursor.row
        group = _common_prefix(rows.keys[start], prefix, delimiter)
        if group is not None:
            if after is None or group != after.key:  # a mark on it means that it has been shown
                page.common_prefixes.append(group)
                page.last = Mark(group)
                room -= 1
            cursor.seek(end_of_prefix(group))
            continue
        stop = start + 1 if delimiter else _stop(rows, start, start + room, prefix)
        page.spans.append(Span(rows, start, stop))
        page.last = _mark(bucket, style, page.spans[-1])
        room -= stop - start
        cursor.row = stop
    if (rows := cursor.rows()) is not None:
        page.following = Span(rows, cursor.row, cursor.row + 1)
        page.is_truncated = True
    return page


def end_of_prefix(prefix: bytes) -> bytes:
    """The smallest string above all that begin with `prefix`, which is UTF-8 and not empty."""
    assert prefix
    assert prefix[-1] < _BYTE_MAX
    return prefix[:-1] + bytes((prefix[-1] + 1,))


class _Cursor:
    """A place among the rows of a bucket: a block, and a row in it that need not exist."""

    def __init__(self, bucket: Bucket, style: Style, prefix: bytes) -> None:
        self.row = 0
        self._bucket = bucket
        self._style = style
        self._prefix = prefix
        self._block = 0

    def begin(self, after: Mark | None) -> None:
        """Go to the first row below the prefix that comes after the mark."""
        if after is None or after.key < self._prefix:
            self.seek(self._prefix)
            return
        rows = self.seek(after.key)
        if after.version_id is None:
            self.row = bisect_right(rows.keys, after.key)
        else:
            self.row += self._versions_passed(after.key, after.version_id)

    def seek(self, key: bytes) -> Rows:
        """Go to the first row of `key` or of what follows it."""
        blocks = self._bucket.blocks
        self._block = blocks.number(key)
        rows = rows_of(self._bucket, blocks[self._block], self._style)
        self.row = bisect_left(rows.keys, key)
        return rows

    def rows(self) -> Rows | None:
        """The rows that hold the current one; None at the end of the prefix."""
        blocks = self._bucket.blocks
        while self._block < len(blocks):
            rows = rows_of(self._bucket, blocks[self._block], self._style)
            if self.row < len(rows.keys):
                return rows if rows.keys[self.row].startswith(self._prefix) else None
            self._block, self.row = self._block + 1, 0
        return None

    def _versions_passed(self, key: bytes, version_id: str) -> int:
        """How many versions of `key` come before the mark or are it.

        A null version that is gone leaves no trace of its place: all are shown again then.
        """
        versions = in_order(self._bucket.versions(key), self._style)
        for passed, version in enumerate(versions, 1):
            if version.version_id == version_id:
                return passed
        if version_id == NULL_VERSION_ID:
            return 0
        mark = sequence_of(version_id)
        if self._style.oldest_first:
            return sum(version.sequence < mark for version in versions)
        return sum(version.sequence > mark for version in versions)


def _common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    if not delimiter:
        return None
    place = key.find(delimiter, len(prefix))
    return None if place < 0 else key[: place + len(delimiter)]


def _stop(rows: Rows, start: int, stop: int, prefix: bytes) -> int:
    """The end of the rows from `start` that are below the prefix, `stop` at most."""
    stop = min(stop, len(rows.keys))
    if rows.keys[stop - 1].startswith(prefix):
        return stop
    return bisect_left(rows.keys, end_of_prefix(prefix), start, stop)


def _mark(bucket: Bucket, style: Style, span: Span) -> Mark:
    """The mark on the last row of a span."""
    key = span.last_key
    if not style.versions:
        return Mark(key)
    place = span.stop - 1 - bisect_left(span.rows.keys, key)
    return Mark(key, in_order(bucket.versions(key), style)[place].version_id)
