"""The three listings: a page of rows becomes the document that answers the request.

Invariants
  * Versions and delete markers are interleaved in key order, newest first (unless a fault says
    otherwise), each with its id and whether it is the latest.
  * Without faults nothing is done per row: the document is an opening, slices of rendered rows, and
    an end.
"""

from __future__ import annotations

from indexer.testing.synthetic_s3.blocks import Style
from indexer.testing.synthetic_s3.faults import Injector
from indexer.testing.synthetic_s3.page_faults import (
    MINIO_MARKER,
    Listing,
    faulty_page,
    shuffled_elements,
    singles,
)
from indexer.testing.synthetic_s3.paging import Mark, Page
from indexer.testing.synthetic_s3.queries import ListQuery, next_token
from indexer.testing.synthetic_s3.render import document, element, written
from indexer.testing.synthetic_s3.state import Bucket


def list_page(bucket: Bucket, query: ListQuery, injector: Injector) -> list[bytes | memoryview]:
    """The document that answers a listing, in pieces. Raises S3Error `AccessDenied`."""
    faults = injector.touching(query.operation)
    style = Style(
        versions=query.operation == "ListObjectVersions",
        url=query.url and not faults.ignore_encoding,
        oldest_first=faults.versions_oldest_first,
    )
    listing = Listing(bucket, query, style, faults, injector)
    page = faulty_page(listing)
    root = b"ListVersionsResult" if style.versions else b"ListBucketResult"
    return document(root, (_opening(listing, page), *_rows(listing, page), _end(listing, page)))


def _opening(listing: Listing, page: Page) -> bytes:
    """Everything before the rows. The places of tokens and markers differ by operation."""
    query, url = listing.query, listing.style.url
    told = {
        "ListObjects": _told_v1,
        "ListObjectsV2": _told_v2,
        "ListObjectVersions": _told_versions,
    }[query.operation]
    return b"".join(
        (
            element("Name", listing.bucket.name),
            element("Prefix", written(query.prefix, url=url)),
            *told(listing, page),
            element("MaxKeys", str(query.keys_max)),
            element("Delimiter", written(query.delimiter, url=url) if query.delimiter else None),
            element("EncodingType", "url" if url else None),
            element("IsTruncated", "true" if page.is_truncated else "false"),
        )
    )


def _told_v2(listing: Listing, page: Page) -> list[bytes]:
    query, url = listing.query, listing.style.url
    token = next_token(listing.bucket.name, query, page.last) if page.is_truncated else None
    start_after = written(query.start_after, url=url) if query.start_after else None
    count = page.row_count + len(page.common_prefixes) + listing.faults.key_count_offset
    return [
        element("NextContinuationToken", token),
        element("ContinuationToken", query.token),
        element("StartAfter", start_after),
        element("KeyCount", str(count)),
    ]


def _told_v1(listing: Listing, page: Page) -> list[bytes]:
    """As AWS, NextMarker comes with a delimiter only; and on an empty page, which has no keys."""
    query, url = listing.query, listing.style.url
    marker = query.after.key if query.after else b""
    is_told = page.is_truncated and (query.delimiter or not page.spans)
    next_marker = written(page.last.key, url=url) if page.last and is_told else None
    return [element("Marker", written(marker, url=url)), element("NextMarker", next_marker)]


def _told_versions(listing: Listing, page: Page) -> list[bytes]:
    url = listing.style.url
    marker = listing.query.after or Mark(b"")
    told = [
        element("KeyMarker", written(marker.key, url=url)),
        element("VersionIdMarker", marker.version_id or ""),
    ]
    if page.is_truncated and page.last is not None:
        suffix = MINIO_MARKER if listing.faults.minio_markers else b""
        told += [
            element("NextKeyMarker", written(page.last.key + suffix, url=url)),
            element("NextVersionIdMarker", page.last.version_id),
        ]
    return told


def _rows(listing: Listing, page: Page) -> list[bytes | memoryview]:
    if not listing.faults.shuffle_elements:
        return [span.rows.slice(span.start, span.stop) for span in page.spans]
    listing.strike("shuffle_elements")
    return [
        shuffled_elements(bytes(span.rows.slice(span.start, span.stop)), listing.injector)
        for span in singles(page)
    ]


def _end(listing: Listing, page: Page) -> bytes:
    return b"".join(
        element("CommonPrefixes", element("Prefix", written(prefix, url=listing.style.url)))
        for prefix in page.common_prefixes
    )
