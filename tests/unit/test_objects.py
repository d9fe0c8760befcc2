"""Pages of heads: what is told comes back, what was not told is absent."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from indexer.objects import Checksum, Head, page_of_heads
from indexer.page import SCHEMA, etag_texts, paths_of
from indexer.pipeline.edited import EditedPage

HEADS = st.builds(
    Head,
    size=st.integers(0, 2**63 - 1),
    etag=st.none()
    | st.sampled_from(["0" * 32, "f" * 32 + "-12", "F" * 32, 'W/"a"', "", "0" * 32 + "-03"]),
    version_id=st.none() | st.sampled_from(["v1", "null"]),
    last_modified=st.none() | st.just(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    storage_class=st.none() | st.just("STANDARD"),
    checksum=st.none()
    | st.builds(
        Checksum,
        st.sampled_from(["md5", "crc32c"]),
        st.binary(min_size=1, max_size=4),
        st.sampled_from(["full_object", "composite"]),
    ),
    mtime_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
    uri=st.none() | st.just("s3://other/key"),
)
ROWS = st.dictionaries(st.binary(max_size=4), HEADS, max_size=5).map(
    lambda rows: sorted(rows.items())
)


@given(ROWS)
def test_what_heads_tell_is_in_the_page(rows: list[tuple[bytes, Head]]) -> None:
    page = page_of_heads(iter(rows))
    heads = [head for _, head in rows]
    assert paths_of(page) == [path for path, _ in rows]
    assert etag_texts(page).to_pylist() == [head.etag for head in heads]
    for name in ("size", "uri", "version_id", "mtime_ns", "last_modified", "storage_class"):
        told = [getattr(head, name) for head in heads]
        is_there = name in page.schema.names
        assert is_there == (name == "size" or any(value is not None for value in told))
        assert not is_there or page.column(name).to_pylist() == told
    edited = EditedPage(page)
    assert [edited.checksum(row) for row in range(len(rows))] == [head.checksum for head in heads]


@given(ROWS)
def test_a_page_of_heads_is_of_the_schema(rows: list[tuple[bytes, Head]]) -> None:
    page = page_of_heads(rows)
    for field in page.schema:
        assert field == SCHEMA.field(field.name)
    order = [SCHEMA.get_field_index(name) for name in page.schema.names]
    assert order == sorted(order)


def test_no_rows_are_a_page_too() -> None:
    page = page_of_heads([])
    assert page.num_rows == 0
    assert page.schema.names == ["path", "size"]
