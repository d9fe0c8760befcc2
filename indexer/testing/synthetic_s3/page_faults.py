"""Pages as a server cuts them that may be faulty.

Invariants
  * What strikes a page is counted by the injector, which alone draws lots.
  * However wrong a page is, following its token or marker comes to an end, unless the fault is that
    it does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from indexer.testing.synthetic_s3.blocks import Style
from indexer.testing.synthetic_s3.faults import Faults, Injector
from indexer.testing.synthetic_s3.paging import Mark, Page, Span, cut_page
from indexer.testing.synthetic_s3.queries import ListQuery
from indexer.testing.synthetic_s3.state import NULL_VERSION_ID, Bucket

MINIO_MARKER = b"[minio_cache:v2,return:]"

_ROW = re.compile(rb"(<\w+>)(.*)(</\w+>)", re.DOTALL)
_ELEMENT = re.compile(rb"<(\w+)>.*?</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing request with all that its answer depends on."""

    bucket: Bucket
    query: ListQuery
    style: Style
    faults: Faults
    """Those that touch this request."""

    injector: Injector

    def cut(self, after: Mark | None, limit: int) -> Page:
        prefix, delimiter = self.query.prefix, self.query.delimiter
        return cut_page(
            *(self.bucket, self.style),
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            limit=limit,
        )

    def strike(self, fault: str) -> None:
        self.injector.struck[fault] += 1


def faulty_page(listing: Listing) -> Page:
    """The page that answers, with everything done to it. Raises S3Error `AccessDenied`."""
    faults = listing.faults
    after = _start(listing)
    limit = listing.injector.page_keys(faults, listing.query.keys_max)
    page = _displaced_page(listing, after, limit) or listing.cut(after, limit)
    if faults.deny_prefix and _shows(page, faults.deny_prefix.encode()):
        listing.injector.deny("deny_prefix")
    if faults.silent_stop_keys and page.is_truncated:
        listing.strike("silent_stop_keys")
        page.is_truncated = False
    if faults.repeat_page:
        listing.strike("repeat_page")
        page.is_truncated = True
    if listing.injector.is_empty_page_due(faults):
        page = _emptied(listing, page, after)
    if faults.order == "shuffle":
        listing.strike("shuffle")
        page.spans = singles(page)
        listing.injector.shuffle(page.spans)
    elif faults.order == "swap":
        _swap_over_boundary(listing, page)
    if faults.markers_apart:
        listing.strike("markers_apart")
        page.spans = sorted(singles(page), key=_is_marker)
    return page


def singles(page: Page) -> list[Span]:
    """The rows of a page, one in each span."""
    return [single for span in page.spans for single in span.singles()]


def shuffled_elements(row: bytes, injector: Injector) -> bytes:
    """The same row, its elements in random order."""
    match = _ROW.fullmatch(row)
    assert match is not None
    elements: list[bytes] = [element[0] for element in _ELEMENT.finditer(match[2])]
    injector.shuffle(elements)
    return b"".join((match[1], *elements, match[3]))


def just_before(key: bytes) -> bytes:
    """A string below `key` and above nearly every other that is: its last character lowered."""
    text = key.decode()
    if text[-1] == "\0":
        return text[:-1].encode()
    # Surrogates, which lie below U+E000, are no characters.
    lowered = "\ud7ff" if text[-1] == "\ue000" else chr(ord(text[-1]) - 1)
    return (text[:-1] + lowered + "\U0010ffff").encode()


def _start(listing: Listing) -> Mark | None:
    """Where the page begins after all."""
    query, faults = listing.query, listing.faults
    after = query.after
    if after is None or faults.repeat_page:
        return None
    is_token = query.token is not None or after.version_id is not None
    if faults.ignore_start_after and query.operation != "ListObjects" and not is_token:
        listing.strike("ignore_start_after")
        return None
    if faults.inclusive_markers and not is_token:
        listing.strike("inclusive_markers")
        return Mark(just_before(after.key))
    if faults.minio_markers:
        return after._replace(key=after.key.removesuffix(MINIO_MARKER))
    return after


def _displaced_page(listing: Listing, after: Mark | None, limit: int) -> Page | None:
    """After a swap: the page that begins with the row the one before should have ended with."""
    displaced = listing.injector.displaced.get(after.key) if after is not None else None
    if displaced is None:
        return None
    page = listing.cut(after, max(limit - 1, 1))
    page.spans[:0] = cut_page(listing.bucket, listing.style, prefix=displaced, limit=1).spans
    page.last = page.last or after
    return page


def _emptied(listing: Listing, page: Page, after: Mark | None) -> Page:
    """A page without rows whose mark lies between `after` and the first row there was."""
    starts = [span.first_key for span in page.spans[:1]] + page.common_prefixes[:1]
    if not starts:
        return page
    mark = just_before(min(starts))
    if after is not None and mark <= after.key:
        return page
    listing.strike("empty_page")
    return Page([], [], Mark(mark, NULL_VERSION_ID), None, is_truncated=True)


def _swap_over_boundary(listing: Listing, page: Page) -> None:
    """Show the next page's first row instead of the last one, which then opens the next page."""
    if page.following is None or page.common_prefixes or page.row_count <= 1:
        return
    kept, taken = page.spans[-1].last_key, page.following.first_key
    versions = listing.bucket.versions(taken)
    if len(versions) > 1 or len(listing.bucket.versions(kept)) > 1:
        return
    rows, start, stop = page.spans.pop()
    page.spans += [Span(rows, start, stop - 1), page.following]
    page.last = Mark(taken, versions[0].version_id)
    listing.injector.displaced[taken] = kept
    listing.strike("swap")


def _is_marker(span: Span) -> bool:
    """Whether the first row of a span is a delete marker."""
    return bytes(span.rows.slice(span.start, span.start + 1)).startswith(b"<DeleteMarker>")


def _shows(page: Page, prefix: bytes) -> bool:
    return any(span.first_key.startswith(prefix) for span in singles(page))
