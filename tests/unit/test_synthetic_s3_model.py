"""The synthetic S3 server without its network: pages against a model, requests in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.testing.synthetic_s3.blocks import BLOCK_KEYS_MAX, Blocks, Style
from indexer.testing.synthetic_s3.page_faults import just_before
from indexer.testing.synthetic_s3.paging import Mark, cut_page
from indexer.testing.synthetic_s3.router import Latency
from indexer.testing.synthetic_s3.state import Bucket
from indexer.testing.synthetic_s3.wire import BadRequest, RequestParser

KEY = st.text("ab/", min_size=1, max_size=4).map(str.encode)
EDIT = st.tuples(st.sampled_from(["put", "delete", "remove"]), KEY, st.integers(0, 3))


@given(
    start=st.sets(KEY),
    edits=st.lists(EDIT),
    is_versioned=st.booleans(),
    prefix=st.sampled_from([b"", b"a", b"a/", b"b"]),
    size=st.integers(1, 5),
)
@settings(max_examples=200)
def test_pages_are_the_model_cut_up(
    start: set[bytes],
    edits: list[tuple[str, bytes, int]],
    *,
    is_versioned: bool,
    prefix: bytes,
    size: int,
) -> None:
    bucket = Bucket("model", created_s=0, keys=sorted(start), versioned=is_versioned)
    model = {key: [bucket.versions(key)[0].version_id] for key in start}
    marked: set[str] = set()
    for action, key, number in edits:
        ids = model.setdefault(key, [])
        if action == "put":
            written = bucket.put(key, b"", now_s=0).version_id
            model[key] = [written, *ids] if is_versioned else [written]
        elif action == "delete":
            marker = bucket.delete(key, now_s=0)
            assert (marker is not None) == is_versioned
            model[key] = [marker.version_id, *ids] if marker else []
            marked |= {marker.version_id} if marker else set()
        elif number < len(ids):
            assert bucket.delete_version(key, ids.pop(number)) is not None
    below = [(key, one) for key in sorted(model) for one in model[key] if key.startswith(prefix)]
    live = [key for key, ids in sorted(model.items()) if ids and ids[0] not in marked]
    for url in (False, True):
        versions = pages_of(bucket, Style(versions=True, url=url), prefix, size)
        assert versions == below
        objects = pages_of(bucket, Style(versions=False, url=url), prefix, size)
        assert [key for key, _ in objects] == [key for key in live if key.startswith(prefix)]


def pages_of(
    bucket: Bucket, style: Style, prefix: bytes, size: int
) -> list[tuple[bytes, str | None]]:
    shown: list[tuple[bytes, str | None]] = []
    after: Mark | None = None
    while True:
        page = cut_page(bucket, style, prefix=prefix, after=after, limit=size)
        for span in page.spans:
            for single in span.singles():
                row = bytes(single.rows.slice(single.start, single.stop))
                found = row.partition(b"<VersionId>")[2].partition(b"<")[0].decode()
                shown.append((single.first_key, found or None))
        assert page.row_count <= size
        if not page.is_truncated:
            return shown
        assert page.row_count == size
        after = page.last


def test_blocks_split_and_stay_sorted() -> None:
    blocks = Blocks([b"m"])
    truth = {b"m"}
    for number in range(4 * BLOCK_KEYS_MAX):
        key = b"%06d" % (number * 7919 % 100_003)
        blocks.add(key)
        truth.add(key)
    for key in sorted(truth)[::3]:
        blocks.remove(key)
        truth.discard(key)
    assert len(blocks) > 4
    assert [key for number in range(len(blocks)) for key in blocks[number].keys] == sorted(truth)
    assert all(key in blocks for key in truth)


@given(st.text(min_size=1, max_size=3))
def test_just_before_is_utf8_and_smaller(text: str) -> None:
    before = just_before(text.encode())
    assert before < text.encode()
    assert before.decode() != text


def test_requests_may_come_in_pieces() -> None:
    inner = b"5;chunk-signature=aa\r\nhello\r\n0\r\nx-amz-checksum-crc32:xyz=\r\n\r\n"
    chunked = (
        b"PUT /b/k?x=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Encoding: aws-chunked\r\n\r\n"
        b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    ) % (9, inner[:9], len(inner) - 9, inner[9:])
    plain = b"PUT /b/l HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    whole = list(RequestParser().feed(chunked + plain))
    parser = RequestParser()
    pieces = [request for byte in chunked + plain for request in parser.feed(bytes((byte,)))]
    assert pieces == whole
    assert [(one.path, one.query, one.body) for one in whole] == [
        ("/b/k", "x=1", b"hello"),
        ("/b/l", "", b"abc"),
    ]
    assert whole[0].headers["x-amz-checksum-crc32"] == "xyz="
    assert "content-encoding" not in whole[0].headers
    with pytest.raises(BadRequest):
        list(RequestParser().feed(b"nonsense\r\n\r\n"))


def test_latency_is_fixed_or_log_normal_and_seeded() -> None:
    assert {Latency(0.2).draw_s() for _ in range(3)} == {0.2}
    latency, twin = Latency(0.2, 0.5, seed=3), Latency(0.2, 0.5, seed=3)
    draws = sorted(latency.draw_s() for _ in range(1000))
    assert draws == sorted(twin.draw_s() for _ in range(1000))
    assert 0.18 < draws[500] < 0.22, "the median"
    assert 1.5 < draws[841] / draws[500] < 1.8, "one sigma up: e to the power of 0.5"
