"""What GCS says, in columns: listings, objects, buckets, errors, and any bytes in their place."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing, IndexerError, StoreUnavailable
from indexer.objects import Checksum
from indexer.page import paths_of
from indexer.stores.gcs_wire import (
    FailedAnswer,
    failure_in,
    parse_bucket,
    parse_listing,
    parse_object,
)

MOMENT = datetime(2024, 2, 29, 12, tzinfo=UTC)
MD5, CRC32C = bytes(range(16)), bytes(range(200, 204))

Item = dict[str, Any]


def item(name: str = "a", **fields: Any) -> Item:
    """What GCS says of an object; a field that is None is left out."""
    told = {
        "name": name,
        "size": "12",
        "generation": "1709208000000000",
        "updated": "2024-02-29T12:00:00.123Z",
        "storageClass": "STANDARD",
        "md5Hash": b64encode(MD5).decode(),
        "crc32c": b64encode(CRC32C).decode(),
        **fields,
    }
    return {name: value for name, value in told.items() if value is not None}


def listing(*items: Item, **more: Any) -> bytes:
    return json.dumps({"items": items, **more}).encode()


def test_a_row_says_what_the_item_says() -> None:
    found = parse_listing(listing(item("dir/é"), nextPageToken="on"), b"dir/")
    assert found.rows.to_pylist() == [
        {
            "path": "é".encode(),
            "size": 12,
            "version_id": "1709208000000000",
            "checksum_algorithm": "md5",
            "checksum_type": "full_object",
            "checksum": MD5,
            "last_modified": datetime(2024, 2, 29, 12, 0, 0, 123_000, UTC),
            "storage_class": "STANDARD",
        }
    ]
    assert (found.token, found.shown) == ("on", None)


@pytest.mark.parametrize("body", [b"{}", b'{"items":[]}', b' {"kind": "storage#objects"} '])
def test_no_items_are_an_empty_page(body: bytes) -> None:
    found = parse_listing(body, b"dir/")
    assert (found.rows.num_rows, found.token) == (0, None)


def test_a_page_without_items_may_go_on() -> None:
    assert parse_listing(b'{"nextPageToken":"on"}', b"").token == "on"
    assert parse_listing(b'{"nextPageToken":""}', b"").token is None


def test_composite_objects_have_a_crc32c() -> None:
    items = [item("a"), item("b", md5Hash=None), item("c", md5Hash=None, crc32c=None), item("d")]
    rows = parse_listing(listing(*items), b"").rows.to_pylist()
    assert [(row["checksum_algorithm"], row["checksum"]) for row in rows] == [
        ("md5", MD5),
        ("crc32c", CRC32C),
        (None, None),
        ("md5", MD5),
    ]
    assert [row["checksum_type"] for row in rows] == ["full_object"] * 2 + [None, "full_object"]


@given(
    md5s=st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20),
    one_lacks=st.booleans(),
)
def test_checksums_are_the_bytes_that_base64_says(md5s: list[bytes], *, one_lacks: bool) -> None:
    texts: list[str | None] = [b64encode(md5).decode() for md5 in md5s]
    expected = list(md5s)
    if one_lacks:
        texts[0], expected[0] = None, CRC32C
    items = [item(f"{n:03}", md5Hash=text) for n, text in enumerate(texts)]
    assert parse_listing(listing(*items), b"").rows.column("checksum").to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "====", "A" * 24, "A" * 22 + "=A", "A" * 21 + "===", "!" * 22 + "==", "Å" * 24,
     "=" * 24, b64encode(bytes(15)).decode(), b64encode(bytes(17)).decode(), "A" * 46 + "=="],
)  # fmt: skip
def test_a_checksum_that_is_none_is_an_error(text: str) -> None:
    other = item("b", md5Hash="A" * 22 + "==")
    with pytest.raises(BrokenListing):
        parse_listing(listing(item("a", md5Hash=text), other), b"")


def test_padding_of_one_text_does_not_count_for_another() -> None:
    texts = ["A" * 24, "A" * 20 + "===="]
    with pytest.raises(BrokenListing):
        parse_listing(listing(*(item(t, md5Hash=t) for t in texts)), b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T12:00:00Z", MOMENT),
        ("2024-02-29T12:00:00.5Z", MOMENT + timedelta(milliseconds=500)),
        ("2024-02-29T12:00:00.123999999Z", MOMENT + timedelta(milliseconds=123)),
        ("2024-02-29T13:00:00.123456+01:00", MOMENT + timedelta(milliseconds=123)),
    ],
)
def test_times_are_told_to_the_millisecond(text: str, expected: datetime) -> None:
    rows = parse_listing(listing(item(updated=text)), b"").rows
    assert rows.column("last_modified").to_pylist() == [expected]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "-1"}, {"size": "x"}, {"size": ""}, {"size": None}, {"size": 12}, {"size": "1.5"},
        {"size": str(2**63)}, {"generation": "-5"}, {"generation": "x"}, {"generation": None},
        {"name": None}, {"name": 1}, {"updated": "yesterday"}, {"updated": 5},
        {"md5Hash": "no base64 at all"}, {"crc32c": 7}, {"storageClass": []},
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_broken_listing(wrong: Item) -> None:
    second = {name: value for name, value in (item("b") | wrong).items() if value is not None}
    with pytest.raises(BrokenListing):
        parse_listing(listing(item("a"), second), b"")


@pytest.mark.parametrize("name", ["other/a", "dir", "", "Dir/a"])
def test_names_outside_of_the_prefix_are_an_error(name: str) -> None:
    with pytest.raises(BrokenListing, match="outside of the prefix b'dir/'"):
        parse_listing(listing(item("dir/a"), item(name)), b"dir/")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Welcome</html>", listing(item())[:-1], listing(item())[:40],
     b'{"items":[{"name":"\\ud800"}]}', b'{"items":[{"name":"\xff"}]}', b'{"x":' * 100_000],
)  # fmt: skip
def test_what_is_no_json_may_come_right(body: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="no JSON"):
        parse_listing(body, b"")


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'{"items":5}', b'{"items":[[]]}'])
def test_json_that_is_no_listing_is_a_broken_one(body: bytes) -> None:
    with pytest.raises(BrokenListing):
        parse_listing(body, b"")


@pytest.mark.parametrize("error", [{"code": 503, "message": "later"}, "no", 5, []])
def test_an_error_is_never_an_empty_listing(error: object) -> None:
    body = json.dumps({"kind": "x", "error": error}).encode()
    for parse in (parse_listing, lambda body, _: parse_bucket(body)):
        with pytest.raises(FailedAnswer):
            parse(body, b"")


def test_an_error_in_the_place_of_an_object() -> None:
    with pytest.raises(FailedAnswer):
        parse_object(b'{"error":{"code":500}}')
    with pytest.raises(BrokenListing):
        parse_object(b"{}")


# --- as of a moment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("created", "deleted", "is_shown"),
    [
        ("2024-02-29T12:00:00.000Z", None, True),
        ("2024-02-29T12:00:00.001Z", None, False),
        ("2024-02-29T11:59:59Z", "2024-02-29T12:00:00Z", False),
        ("2024-02-29T11:59:59Z", "2024-02-29T12:00:00.000000001Z", True),
        ("2024-02-29T13:00:00+02:00", "2024-02-29T10:00:01-02:00", True),
        ("2024-02-29T12:00:00.000Z", "2024-02-29T12:00:00.000Z", False),
    ],
)
def test_what_was_live_at_a_moment(created: str, deleted: str | None, *, is_shown: bool) -> None:
    body = listing(item(timeCreated=created, timeDeleted=deleted))
    found = parse_listing(body, b"", as_of=MOMENT)
    assert found.shown is not None
    assert found.shown.to_pylist() == [is_shown]


@pytest.mark.parametrize("created", [None, "soon"])
def test_a_generation_without_its_time_is_an_error(created: str | None) -> None:
    with pytest.raises(BrokenListing):
        parse_listing(listing(item(timeCreated=created)), b"", as_of=MOMENT)


# --- objects, buckets, errors --------------------------------------------------------------------


def test_an_object_says_what_a_row_says() -> None:
    head = parse_object(json.dumps(item("any", md5Hash=None)).encode())
    assert (head.size, head.version_id, head.etag) == (12, "1709208000000000", None)
    assert head.last_modified == datetime(2024, 2, 29, 12, 0, 0, 123_000, UTC)
    assert head.checksum == Checksum("crc32c", CRC32C)


def test_a_bucket_says_whether_it_keeps_versions() -> None:
    assert not parse_bucket(b'{"location":"EU"}').keeps_versions
    assert not parse_bucket(b'{"versioning":{"enabled":false}}').keeps_versions
    on = parse_bucket(b'{"location":"EU","versioning":{"enabled":true},"name":"b"}')
    assert (on.keeps_versions, on.location) == (True, "EU")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"code":403,"message":"m","errors":[{"reason":"r"}]}}', (403, "r", "m")),
        (b'{"error":{"code":403,"status":"DENIED"}}', (403, "DENIED", "")),
        (b'{"error":{"errors":[],"message":5}}', (0, "", "5")),
        (b'{"error":{"errors":[7],"code":"4"}}', (0, "", "")),
    ],
)
def test_errors_are_read_as_far_as_they_can_be(body: bytes, expected: tuple[int, str, str]) -> None:
    found = failure_in(body)
    assert found is not None
    assert (found.status, found.reason, found.message) == expected


@pytest.mark.parametrize("body", [b"", b"no", b"{}", b'{"error":"x"}', b"[]", b"[" * 100_000])
def test_what_tells_of_no_error(body: bytes) -> None:
    assert failure_in(body) is None


# --- anything ------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*item(), "timeCreated", "timeDeleted"])
VALUES = ANY_JSON | st.sampled_from(
    ["0", "-1", str(2**63 - 1), "2262-04-12T00:00:00Z", "0001-01-01T00:00:00Z", "A" * 22 + "=="]
)
MUTATED = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([item("a"), item("b", md5Hash=None, timeCreated="2024-02-29T12:00:00Z")]),
    st.dictionaries(FIELDS, VALUES, max_size=2),
)


def check_any(body: bytes, prefix: bytes = b"", as_of: datetime | None = None) -> None:
    """The bytes are a page, or an error of ours."""
    try:
        found = parse_listing(body, prefix, as_of=as_of)
    except (IndexerError, FailedAnswer):
        return
    for row in found.rows.to_pylist():
        assert row["size"] >= 0
        assert int(row["version_id"]) >= 0
        assert len(row.get("checksum") or CRC32C) in (4, 16)
    assert all(isinstance(path, bytes) for path in paths_of(found.rows))
    assert found.shown is None or len(found.shown) == found.rows.num_rows


@given(st.binary(max_size=200))
def test_any_bytes_are_a_page_or_an_error(body: bytes) -> None:
    check_any(body)
    for parse in (parse_object, parse_bucket):
        try:
            parse(body)
        except (IndexerError, FailedAnswer):
            continue
    failure_in(body)


@given(items=st.lists(MUTATED, max_size=3), more=ANY_JSON, is_as_of=st.booleans())
def test_any_items_are_a_page_or_an_error(items: list[Item], more: Any, *, is_as_of: bool) -> None:
    body = json.dumps({"items": items, "nextPageToken": more}).encode()
    check_any(body, as_of=MOMENT if is_as_of else None)


@given(ANY_JSON)
def test_any_json_is_a_page_or_an_error(document: Any) -> None:
    for body in (document, {"items": document}, {"error": document}):
        text = json.dumps(body).encode()
        check_any(text)
        failure_in(text)


@given(st.data())
def test_damage_is_an_error_or_shows_in_the_damaged_row_alone(data: st.DataObject) -> None:
    body = listing(item("aaa"), item("bbb"), item("ccc"))
    place = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:place] + data.draw(st.binary(max_size=3)) + body[place + 1 :]
    try:
        found = parse_listing(damaged, b"")
    except (IndexerError, FailedAnswer):
        return
    # But for the word `items` itself, without which there are none.
    if b'"items"' in damaged:
        assert found.rows.num_rows == 3
        assert len(set(paths_of(found.rows)) & {b"aaa", b"bbb", b"ccc"}) >= 2


def test_the_checksums_of_the_tests_are_real() -> None:
    from indexer.testing.synthetic_gcs.state import crc32c

    # The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
    assert crc32c(b"123456789") == 0xE3069283
    assert struct.pack(">I", crc32c(b"")) == bytes(4)
