"""Whatever a server sends as a listing: a page comes out or one error, by both ways of reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from indexer.errors import BrokenListing, IndexerError, StoreUnavailable
from indexer.keyspace import Key
from indexer.limits import S3_PAGE_BYTES_MAX
from indexer.stores.s3_wire import Listing, Operation, Question, error_in, parse_listing
from tests.unit.s3_dialects import (
    TIME,
    Row,
    listings,
    parse,
    parse_slowly,
    read_slowly,
    render,
)

OPERATIONS: tuple[Operation, ...] = ("ListObjects", "ListObjectsV2", "ListObjectVersions")
PIECES = [
    *(b"<Key>", b"</Key>", b"<Key/>", b"<Size>", b"</Size>", b"<Contents>", b"</Contents>"),
    *(b"<Version>", b"</Version>", b"<DeleteMarker>", b"</DeleteMarker>", b"<IsLatest>true"),
    *(b"<IsTruncated>true</IsTruncated>", b"<IsTruncated>", b"</IsTruncated>", b"true", b"false"),
    *(b"<EncodingType>url</EncodingType>", b"<NextKeyMarker>a</NextKeyMarker>", b"<KeyCount>2"),
    *(b"&amp;", b"&#38;", b"&#x1;", b"&#0;", b"&#xd800;", b"&a;", b"&", b"&amp", b"&quot;"),
    *(b"%", b"%41", b"%00", b"%FF", b"+", b"\x00", b"\x01", b"\r", b"\n", b"\xff", b"\xef\xbf\xbd"),
    *(b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x ?>", b"<!DOCTYPE a>", b"<!ENTITY a 'b'>"),
    *(b"9" * 30, b"-1", b"1_0", b"1e3", b" 1", b"9999-12-31T23:59:59Z", b"2024-02-30T00:00:00Z"),
    *(b"</ListBucketResult>", b"<a:b xmlns:a='c'>", b" xmlns='d'", b"/", b"<", b">", b'"'),
]

Mutation = Callable[[bytes], bytes]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Something that may befall a body: a piece that is lost, comes twice, moves, or gets in."""
    at, until, to = (draw(st.floats(0, 1)) for _ in range(3))
    kind = draw(st.sampled_from(["lose", "repeat", "move", "insert", "replace", "cut"]))
    piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)))

    def mutate(body: bytes) -> bytes:
        first, last = sorted((int(at * len(body)), int(until * len(body))))
        first, last = (_element(body, first) if to > 0.5 else (first, last)) or (first, last)
        taken, rest, place = body[first:last], body[:first] + body[last:], int(to * len(body))
        if kind == "lose":
            return rest
        if kind == "cut":
            return body[:last]
        if kind == "replace":
            return body[:first] + piece + body[last:]
        inserted = {"repeat": taken, "move": taken, "insert": piece}[kind]
        body = rest if kind == "move" else body
        return body[:place] + inserted + body[place:]

    return mutate


def _element(body: bytes, place: int) -> tuple[int, int] | None:
    """Where the first element without others that begins after a place begins and ends."""
    found = re.compile(rb"<(\w+)>[^<]*</\1>").search(body, place)
    return found and found.span()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    rows, dialect, versions = draw(listings())
    body = render(rows, dialect, versions=versions, more=draw(st.booleans()))
    for mutate in draw(st.lists(mutations(), max_size=4)):
        body = mutate(body)
    return body


QUESTIONS = st.builds(
    Question,
    st.sampled_from(OPERATIONS),
    st.sampled_from([b"", b"a", b"data/"]),
    st.sampled_from([None, Key(b""), Key(b"a")]),
    st.sampled_from([None, TIME, TIME + timedelta(days=1)]),
)


def outcome(read: Callable[[bytes, Question], Listing], body: bytes, question: Question) -> object:
    """What comes of a body: a listing, or an error of ours; any other one fails the test."""
    try:
        found = read(body, question)
    except IndexerError as error:
        return error
    assert found.rows.num_rows <= found.entries == len(found.keys)
    found.rows.validate(full=True)
    return found


@given(body=st.binary(max_size=300), question=QUESTIONS)
def test_any_bytes_give_a_page_or_an_error(body: bytes, question: Question) -> None:
    for closed in (body, body + b"</ListBucketResult>", body + b"</ListVersionsResult>"):
        outcome(parse_listing, closed, question)
        outcome(read_slowly, closed, question)
        error_in(closed + b"</Error>")


@given(body=bodies(), question=QUESTIONS)
def test_any_damage_gives_a_page_or_an_error_and_both_ways_agree(
    body: bytes, question: Question
) -> None:
    quickly = outcome(parse_listing, body, question)
    slowly = outcome(read_slowly, body, question)
    if isinstance(slowly, Listing):
        assert quickly == slowly
    elif isinstance(quickly, Listing):
        # Damage that lies in what neither way reads, where only lxml looks at it.
        assert not is_xml(body)


def is_xml(body: bytes) -> bool:
    try:
        etree.fromstring(body, etree.XMLParser(resolve_entities=False, huge_tree=True))
    except etree.XMLSyntaxError:
        return False
    return True


# --- what is refused whatever it says ------------------------------------------------------------

BOMB = b"""<!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>"""
FILE = b'<!DOCTYPE x [<!ENTITY d SYSTEM "file:///etc/hostname">]>'
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


@pytest.mark.parametrize("declared", [BOMB, FILE, b"<!DOCTYPE html>", b"<!DOCTYPE a SYSTEM 'b'>"])
@pytest.mark.parametrize("key", ["a", "KEY"])
def test_document_types_are_refused(declared: bytes, key: str) -> None:
    body = render([Row(key)]).replace(DECLARATION, DECLARATION + declared)
    body = body.replace(b"<Key>KEY", b"<Key>&d;")
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="document type"):
            read(body)


@pytest.mark.parametrize("encoding", ["UTF-7", "UTF-16", "ISO-8859-1", "EBCDIC-CP-US"])
def test_other_encodings_are_refused(encoding: str) -> None:
    body = render([Row("a")]).replace(b'"UTF-8"', b'"%b"' % encoding.encode())
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing, match="not UTF-8"):
            read(body)
    with pytest.raises(StoreUnavailable, match="cut off"):
        parse(render([Row("a")]).decode().encode("utf-16"))


def test_a_body_that_is_too_long_is_refused() -> None:
    body = render([Row("a")])
    padding = b" " * (S3_PAGE_BYTES_MAX - len(body))
    assert parse(body.replace(DECLARATION, DECLARATION + padding)).entries == 1
    with pytest.raises(BrokenListing, match="longer than 16,777,216 bytes"):
        parse(body.replace(DECLARATION, DECLARATION + padding + b" "))


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        (b"<Key>a</Key>", b"<Key>a</Key><Key>b</Key>"),
        (b"<Key>a</Key>", b"<Key>a<b/>c</Key>"),
        (b"<Size>1</Size>", b"<Size>-1</Size>"),
        (b"<Size>1</Size>", b"<Size>1_0</Size>"),
        (b"<Size>1</Size>", b"<Size>99999999999999999999</Size>"),
        (b"<IsTruncated>false", b"<IsTruncated>fals"),
        (b"<IsTruncated>false", b"<IsTruncated>true</IsTruncated><IsTruncated>false"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(written: bytes, instead: bytes) -> None:
    body = render([Row("a")])
    assert body.count(written) == 1
    for read in (parse, parse_slowly):
        with pytest.raises(BrokenListing):
            read(body.replace(written, instead))


def test_deep_nesting_is_no_trouble() -> None:
    nested = b"<a>" * 100_000 + b"</a>" * 100_000
    body = render([Row("a")]).replace(b"<Contents>", nested + b"<Contents>")
    assert parse(body).entries == 1
    with pytest.raises(BrokenListing, match="no XML: Excessive depth"):
        parse_slowly(body)
