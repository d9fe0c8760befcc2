"""found: an object as it was recorded is no finding; any other state names both."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from indexer.artifact.found import is_as_recorded, what_is_found
from indexer.artifact.originals import Original
from indexer.errors import (
    AccessDenied,
    BrokenListing,
    IndexerError,
    NoSuchObject,
    NoSuchSource,
    ObjectChanged,
    StoreUnavailable,
)
from indexer.objects import Checksum, Head, Pin

URI = "s3://bucket/a"
BY_ETAG = Original(b"a", Pin(3, etag="e1"))
BY_VERSION = Original(b"a", Pin(3, etag="e1", version_id="v1"))
BY_NULL = Original(b"a", Pin(3, etag="e1", version_id="null"))
BY_TIME = Original(b"a", Pin(3, mtime_ns=1_500_000_000))
BY_SECOND = Original(b"a", Pin(3, mtime_ns=2_000_000_000))
BY_SIZE = Original(b"a", Pin(3))
TWO_SECONDS = datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("original", "head", "is_same"),
    [
        (BY_ETAG, Head(3, etag="e1"), True),
        (BY_ETAG, Head(3, etag="e1", version_id="v9"), True),
        (BY_ETAG, Head(3, etag='W/"e1"'), True),
        (BY_ETAG, Head(4, etag="e1"), False),
        (BY_ETAG, Head(3, etag="e2"), False),
        (BY_ETAG, Head(3), False),
        (BY_VERSION, Head(3, etag="e1", version_id="v1"), True),
        (BY_VERSION, Head(3, etag="other, of its metadata", version_id="v1"), True),
        (BY_VERSION, Head(3, etag="e1", version_id="v2"), False),
        (BY_NULL, Head(3, etag="e2"), False),
        (BY_NULL, Head(3, etag="e1"), True),
        (BY_TIME, Head(3, mtime_ns=1_500_000_000, last_modified=TWO_SECONDS), True),
        (BY_TIME, Head(3, mtime_ns=1_500_000_001), False),
        (BY_SECOND, Head(3, etag="new", last_modified=TWO_SECONDS), True),
        (BY_TIME, Head(3, etag="new", last_modified=TWO_SECONDS), False),
        (BY_TIME, Head(3), False),
        (BY_SIZE, Head(3, etag="e1"), True),
        (BY_SIZE, Head(2), False),
    ],
)  # fmt: skip
def test_identity_decides(original: Original, head: Head, *, is_same: bool) -> None:
    assert is_as_recorded(original, head) == is_same
    finding = what_is_found(original, head, URI)
    assert (finding is None) == is_same
    if finding is not None:
        assert finding.kind == "changed"
        assert finding.found is not None
        assert finding.recorded in finding.sentence
        assert finding.found in finding.sentence
        assert finding.sentence.startswith(URI)


def test_a_checksum_tells_more_than_an_etag() -> None:
    recorded = replace(BY_ETAG, checksum=Checksum("crc32c", b"1234"))
    told = Head(3, etag="e1", checksum=Checksum("crc32c", b"1234"))
    assert is_as_recorded(recorded, told)
    assert is_as_recorded(recorded, replace(told, checksum=Checksum("md5", b"5678")))
    assert not is_as_recorded(recorded, replace(told, checksum=Checksum("crc32c", b"5678")))


@pytest.mark.parametrize(
    ("original", "error", "kind", "said"),
    [
        (BY_ETAG, NoSuchObject(), "gone", "is gone: 3 bytes, ETag e1 was recorded"),
        (BY_VERSION, NoSuchObject(), "gone", "version is not kept any more"),
        (BY_ETAG, NoSuchSource(f"{URI}: there is no such bucket."), "gone", "no such bucket"),
        (BY_ETAG, AccessDenied(f"{URI}: denied."), "denied", "denied"),
        (BY_ETAG, ObjectChanged(f"{URI}: was written."), "changed", "was written"),
        (BY_ETAG, StoreUnavailable("refused"), "unavailable", "refused"),
        (BY_ETAG, BrokenListing("nonsense"), "failed", "nonsense"),
    ],
)
def test_errors_are_findings(original: Original, error: IndexerError, kind: str, said: str) -> None:
    finding = what_is_found(original, error, URI)
    assert finding is not None
    assert finding.kind == kind
    assert finding.found is None
    assert said in finding.sentence
    assert finding.sentence.count(URI) == 1
    assert finding.sentence.endswith(".")
    assert not finding.sentence.endswith("..")
