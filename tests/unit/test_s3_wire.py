"""Listing responses as different servers write them, read by both ways of reading them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing, IndexerError, StoreUnavailable
from indexer.page import etag_texts, paths_of
from indexer.stores.headers import unquoted
from indexer.stores.s3_wire import error_in
from tests.unit.s3_dialects import (
    AWS,
    MD5,
    MINIO,
    PLAIN,
    Dialect,
    Row,
    dictionaries,
    expected,
    is_fast,
    listings,
    parse,
    parse_slowly,
    prefixed,
    render,
)

# --- both ways agree -----------------------------------------------------------------------------


@given(
    listing=listings(),
    prefix=st.sampled_from(["", "data/", "a b/ü+%/"]),
    seed=st.integers(0, 9),
    more=st.booleans(),
)
def test_both_ways_of_reading_say_what_was_written(
    listing: tuple[list[Row], Dialect, bool], prefix: str, seed: int, *, more: bool
) -> None:
    rows, dialect, versions = listing
    body = render(rows, dialect, versions=versions, more=more, prefix=prefix, seed=seed)
    for read in (parse, parse_slowly):
        found = read(body, versions=versions, prefix=prefix)
        assert dictionaries(found.rows) == expected(rows, dialect, versions=versions)
        assert found.entries == len(rows)
        assert found.first == (rows[0].key.encode() if rows else None)
        assert found.last == (rows[-1].key.encode() if rows else None)
        assert found.more is more
        assert found.is_url_encoded is (dialect.url is not None)
        assert found.first_is_latest
    assert parse(body, versions=versions, prefix=prefix) == parse_slowly(
        body, versions=versions, prefix=prefix
    )


@pytest.mark.parametrize("dialect", [AWS, MINIO], ids=["aws", "minio"])
@pytest.mark.parametrize("versions", [False, True])
def test_usual_pages_are_read_the_fast_way(dialect: Dialect, *, versions: bool) -> None:
    owner = "<Owner><ID>1</ID><DisplayName>me</DisplayName></Owner>"
    rows = [Row(f"a b/{number:04d}+é.jpg", extras=(owner,)) for number in range(1000)]
    assert is_fast(render(rows, dialect, versions=versions), versions=versions)


@pytest.mark.parametrize("versions", [False, True])
def test_a_page_without_rows_is_read_the_fast_way(*, versions: bool) -> None:
    # Some servers echo what was asked for without encoding it, which need not be XML then.
    body = render([], versions=versions, more=True, head=["<StartAfter>\x01\x02</StartAfter>"])
    assert is_fast(body, versions=versions)
    assert parse(body, versions=versions).more


@pytest.mark.parametrize(
    "odd",
    [
        Row("b", extras=("<Owner><ID>1</ID></Owner>",)),
        Row("b", etag='a"b'),
        Row("b", etag="a&b"),
        Row("b", extras=("<Comment/>",)),
    ],
    ids=["element", "quote", "entity", "empty"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_unlike_the_others_is_read_slowly(odd: Row, place: int) -> None:
    rows = [Row("a"), Row("c")]
    rows.insert(place, odd)
    rows = [replace(row, key=key) for row, key in zip(rows, "abc", strict=True)]
    body = render(rows)
    assert not is_fast(body)
    assert dictionaries(parse(body).rows) == expected(rows, AWS, versions=False)


def test_rows_with_checksums_among_others_are_read_the_fast_way() -> None:
    checksums = (
        "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    )
    body = render([Row("a"), Row("b", extras=(checksums,)), Row("c")])
    assert is_fast(body)
    assert paths_of(parse(body).rows) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"<Contents>", b'<Contents xml:lang="en">', 1),
        lambda body: body.replace(b"<Key>b", b"<Key >b"),
        lambda body: body.replace(b"<Contents>", b"<Contents><!-- a comment -->"),
        lambda body: body.replace(b"<IsTruncated>", b"<!-- x --><?instruction?><IsTruncated>"),
        lambda body: body.replace(b"<Key>b</Key>", b"<Key><![CDATA[b]]></Key>"),
        prefixed,
    ],
    ids=["attribute", "blank", "comment in row", "comment", "cdata", "prefixed"],
)
def test_other_ways_to_write_the_same(change: Callable[[bytes], bytes]) -> None:
    body = render([Row("a"), Row("b"), Row("c")], more=True)
    changed = change(body)
    assert changed != body
    assert parse(changed) == parse(body)


def test_a_prefixed_page_without_rows_is_not_taken_for_the_end() -> None:
    assert parse(prefixed(render([], more=True))).more


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("%2525", "%25"),
        ("%E6%97%A5", "日"),
        ("a%0D%0A%01%1F", "a\r\n\x01\x1f"),
        ("a&amp;b", "a&b"),
        ("%EF%BF%BF", "\uffff"),
        ("%zz", "%zz"),
    ],
)
def test_keys_are_decoded_where_the_response_says_so(written: str, key: str) -> None:
    body = render([Row("KEY")], replace(AWS, url=lambda _: written))
    body = body.replace(f"<Prefix>{written}</Prefix>".encode(), b"<Prefix></Prefix>")
    assert paths_of(parse(body).rows) == paths_of(parse_slowly(body).rows) == [key.encode()]


@pytest.mark.parametrize("key", ["a+b", "a%20b", "%25", "a&b<c>", "'\""])
def test_keys_are_left_alone_where_it_does_not(key: str) -> None:
    body = render([Row(key)], PLAIN)
    assert paths_of(parse(body).rows) == paths_of(parse_slowly(body).rows) == [key.encode()]


def test_a_reference_to_what_xml_forbids_is_what_it_says() -> None:
    body = render([Row("KEY")], PLAIN).replace(b"<Key>KEY", b"<Key>a&#x1;&#31;b")
    assert paths_of(parse(body).rows) == [b"a\x01\x1fb"]
    # lxml refuses it, so that in rows of different shapes it is an error.
    with pytest.raises(BrokenListing, match="no XML"):
        parse_slowly(body)


@pytest.mark.parametrize(
    "reference", ["&#x0;", "&#xD800;", "&#x110000;", "&#99999999;", "&x;", "&", "&#;", "&amp"]
)
def test_a_reference_to_nothing_is_an_error(reference: str) -> None:
    body = render([Row("KEY")], PLAIN).replace(b"<Key>KEY", f"<Key>a{reference}".encode())
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing):
            read(body)


@pytest.mark.parametrize("text", ["\ufffd", "a\rb"])
def test_a_character_that_xml_may_have_changed_is_an_error(text: str) -> None:
    body = render([Row("a"), Row("KEY")], PLAIN).replace(b"<Key>KEY", f"<Key>{text}".encode())
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="does not URL-encode keys"):
            read(body)
    for read in (parse, parse_slowly):
        assert paths_of(read(render([Row(text)])).rows) == [text.encode()]


def test_keys_need_not_be_utf8() -> None:
    body = render([Row("KEY")]).replace(b"<Key>KEY", b"<Key>a%80%FE")
    assert paths_of(parse(body).rows) == [b"a\x80\xfe"]


def test_a_byte_that_is_in_no_utf8_text_is_an_error() -> None:
    body = render([Row("KEY"), Row("b")]).replace(b"<Key>KEY", b"<Key>a%FFb")
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="not UTF-8"):
            read(body)


@pytest.mark.parametrize("key", ["data2/a", "dat", "a"])
def test_a_key_outside_of_the_prefix_is_an_error(key: str) -> None:
    body = render([Row("data/a"), Row(key), Row("data/z")])
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="outside of the prefix"):
            read(body, prefix="data/")


def test_the_key_that_equals_the_prefix_has_the_empty_path() -> None:
    found = parse(render([Row(""), Row("data/")], prefix="data/"), prefix="data/")
    assert paths_of(found.rows) == [b"", b"data/"]
    assert found.first == b""


# --- bodies that cannot be believed --------------------------------------------------------------


@pytest.mark.parametrize("versions", [False, True])
def test_a_body_cut_off_anywhere_is_never_a_short_listing(*, versions: bool) -> None:
    body = render([Row("a"), Row("b")], versions=versions).rstrip()
    for end in range(len(body)):
        with pytest.raises(StoreUnavailable, match="cut off"):
            parse(body[:end], versions=versions)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_count_that_lies_is_an_error(difference: int) -> None:
    body = render([Row("a"), Row("b")])
    body = body.replace(b"<KeyCount>2<", b"<KeyCount>%d<" % (2 + difference))
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="keys and lists 2"):
            read(body)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"<Size>1<", b"<Size>one<", 1),
        lambda body: body.replace(b"<Size>1<", b"<Size><", 1),
        lambda body: body.replace(b"<Size>1</Size>", b""),
        lambda body: body.replace(b"2024-02-29", b"2023-02-29", 1),
        lambda body: body.replace(b"<Key>a</Key>", b""),
        lambda body: body.replace(b"<Key>a</Key>", b"<Key>a"),
        lambda body: body.replace(b"<Contents>", b"", 1),
        lambda body: body.replace(b"STANDARD", b"\xff\xfe", 1),
    ],
    ids=["no number", "no size", "no sizes", "no day", "no key", "open", "unopened", "no text"],
)
def test_a_row_that_cannot_be_read_is_an_error(change: Callable[[bytes], bytes]) -> None:
    body = change(render([Row("a"), Row("b")]))
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing):
            read(body)


@given(st.data())
def test_damage_is_an_error_of_ours_or_shows_in_the_damaged_row_alone(data: st.DataObject) -> None:
    rows = [Row(key) for key in ("aaa", "bbb", "ccc")]
    body = render(rows)
    place = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:place] + data.draw(st.binary(max_size=3)) + body[place + 1 :]
    try:
        found = parse(damaged)
    except IndexerError:
        return
    assert found.entries == 3
    assert len(set(paths_of(found.rows)) & {b"aaa", b"bbb", b"ccc"}) >= 2


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\n\n   "])
def test_an_error_in_a_200_is_seen(declaration: str) -> None:
    body = f"{declaration}<Error><Code>SlowDown</Code><Message>Less, please.</Message></Error>\n"
    assert error_in(body.encode()) == ("SlowDown", "Less, please.")


def test_an_error_without_a_code_is_a_failure_of_the_server() -> None:
    assert error_in(b"<Error/></Error>") == ("InternalError", "")


def test_a_listing_is_no_error() -> None:
    assert error_in(render([Row("<Error>"), Row("</Error>")])) is None
    assert error_in(b"") is None


# --- ETags and times -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "etag", [MD5, f"{MD5}-1", f"{MD5}-10000", "opaque", MD5.upper(), f"{MD5}-0"]
)
def test_etags_come_out_as_they_are(etag: str) -> None:
    assert dictionaries(parse(render([Row("a", etag=etag)])).rows)[0]["etag"] == etag


@pytest.mark.parametrize(
    ("quoted", "etag"), [('"a"', "a"), ('W/"a"', 'W/"a"'), ("a", "a"), ('"', '"')]
)
def test_only_outer_quotes_are_taken_off(quoted: str, etag: str) -> None:
    assert unquoted(quoted) == etag
    body = render([Row("a")]).replace(f"&quot;{MD5}&quot;".encode(), escape(quoted).encode())
    assert etag_texts(parse(body).rows).to_pylist() == [etag]


def test_an_empty_etag_is_none() -> None:
    rows = [Row("a", etag=""), Row("b")]
    assert [row["etag"] for row in dictionaries(parse(render(rows)).rows)] == [None, MD5]


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05.678Z", datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)),
        ("2024-01-02T03:04:05.678901Z", datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)),
        ("2024-01-02T03:04:05.678901234Z", datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)),
        ("2024-01-02T03:04:05+01:00", datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC)),
    ],
)
def test_times_are_kept_to_the_millisecond(written: str, time: datetime) -> None:
    body = render([Row("a")]).replace(b"2024-02-29T23:59:59.000Z", written.encode())
    assert dictionaries(parse(body).rows)[0]["time"] == time


# --- versions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Versions:
    """A short way to write version listings: `a` a version, `-` a marker, capital the latest."""

    text: str
    rows: list[Row] = field(default_factory=list)

    def body(self, **options: Any) -> bytes:
        rows = [
            Row(
                key=mark[0].lower(),
                version_id=f"v{number}",
                is_latest=mark[0].isupper(),
                is_marker=mark.endswith("-"),
            )
            for number, mark in enumerate(self.text.split())
        ]
        return render(rows, versions=True, **options)


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("A B C", "v0 v1 v2"),
        ("A a a B b", "v0 v3"),
        ("A- a B C- c D", "v2 v5"),
        ("A- B- C-", ""),
        ("A a- a B- b- C", "v0 v5"),
        ("a a- B", "v2"),
    ],
)
def test_the_newest_version_of_a_key_counts_if_it_is_an_object(text: str, live: str) -> None:
    body = Versions(text).body()
    for read in (parse, parse_slowly):
        found = read(body, versions=True)
        assert [row["version_id"] for row in dictionaries(found.rows)] == live.split()
        assert found.entries == len(text.split())
        assert found.first_is_latest is text[0].isupper()
        assert found.last == text.rstrip("-")[-1].lower().encode()


@pytest.mark.parametrize("text", ["A b B", "A a b B c C", "A B C- b-", "B A", "C- B- A"])
def test_versions_in_another_order_can_be_done_without(text: str) -> None:
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing) as caught:
            read(Versions(text).body(), versions=True)
        assert caught.value.do_without == "versions"


def test_versions_of_which_none_is_the_latest_can_be_done_without() -> None:
    body = Versions("A B").body().replace(b"<IsLatest>true</IsLatest>", b"")
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing) as caught:
            read(body, versions=True)
        assert caught.value.do_without == "versions"


# --- cursors -------------------------------------------------------------------------------------


def test_a_continuation_token_is_given_back_as_it_is() -> None:
    head = ["<NextContinuationToken>1+a%2B&amp;b/==</NextContinuationToken>"]
    for read in (parse, parse_slowly):
        assert read(render([Row("a")], more=True, head=head)).token == "1+a%2B&b/=="


@pytest.mark.parametrize(
    ("written", "marker"),
    [
        ("a%20b%2Bc", "a b+c"),
        ("a+b", "a b"),
        ("key%5Bminio_cache%3Av2%2Creturn%3A%5D", "key[minio_cache:v2,return:]"),
    ],
)
def test_version_markers_are_a_pair_of_which_the_key_is_decoded(written: str, marker: str) -> None:
    head = [
        f"<NextKeyMarker>{written}</NextKeyMarker>",
        "<NextVersionIdMarker>a+b%20</NextVersionIdMarker>",
    ]
    body = Versions("A B").body(more=True, head=head)
    for read in (parse, parse_slowly):
        found = read(body, versions=True)
        assert json.loads(found.token or "") == [marker, "a+b%20"]
        assert found.last == b"b"


def test_a_marker_that_is_no_text_is_an_error() -> None:
    body = Versions("A").body(more=True, head=["<NextKeyMarker>a%FF</NextKeyMarker>"])
    with pytest.raises(BrokenListing):
        parse(body, versions=True)
