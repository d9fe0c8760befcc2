"""One object of a web server: by what it is told apart, and that what changed is not read.

Invariants
  * Servers are scripted, on loopback; the real ones are met in the contract tests.
  * Each fault ends in the right answer or in one error that says where; nothing waits for long.
"""

from __future__ import annotations

from http import HTTPStatus

import pytest

from indexer import errors
from indexer.errors import StoreUnavailable
from indexer.keyspace import Key
from indexer.objects import Head, Pin
from indexer.stores.http import HTTPConnection
from indexer.testing.store_suite import Bytes, read
from tests.unit.scripted_web_server import (
    Answer,
    Request,
    Scripted,
    ScriptedServer,
    index,
    redirect,
    response,
)
from tests.unit.web_stores import (
    BODY,
    MODIFIED,
    MODIFIED_NS,
    error_of_head,
    served,
    store_of,
)

# --- what is said of an object --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "head"),
    [
        ({"ETag": '"abc"'}, Head(3, "abc")),
        ({"ETag": 'W/"abc"', "Last-Modified": MODIFIED}, Head(3, 'W/"abc"')),
        ({"ETag": "bare"}, Head(3, "bare")),
        ({"ETag": '"\x80\udcff"'}, Head(3, "\x80\xff")),
        ({"ETag": '""', "Last-Modified": MODIFIED}, Head(3, mtime_ns=MODIFIED_NS)),
        ({"Last-Modified": MODIFIED}, Head(3, mtime_ns=MODIFIED_NS)),
        ({"Last-Modified": "yesterday"}, Head(3)),
        ({"Last-Modified": "Tue, 24 Nov 9999 12:00:00 GMT"}, Head(3)),
        ({}, Head(3)),
    ],
)
async def test_objects_are_told_apart_by_the_best_there_is(
    web_server: ScriptedServer, web_connection: HTTPConnection, headers: dict[str, str], head: Head
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = response(headers=headers, body=b"abc")
    found = await store.head(Key(b"a"))
    assert (found.size, found.mtime_ns) == (head.size, head.mtime_ns)
    if head.etag is not None and not head.etag.isascii():
        assert found.etag is not None
        assert await read(store, b"a", Pin(3, found.etag)) == b"abc"
    else:
        assert found.etag == head.etag


async def test_weaker_grades_are_counted(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a", "b", "c", "d")
    assert store.notices() == ()
    web_server.answers["/a"] = web_server.answers["/b"] = response(headers={"ETag": '"1"'})
    await store.head(Key(b"a"))
    await store.head(Key(b"b"))
    assert store.notices() == ()
    web_server.answers["/c"] = response(headers={"Last-Modified": MODIFIED})
    web_server.answers["/d"] = response()
    await store.head(Key(b"c"))
    await store.head(Key(b"d"))
    assert store.notices() == (
        "1 of 4 objects have no ETag; they are told apart by size and modification time.",
        "1 of 4 objects have neither ETag nor Last-Modified; they are told apart by size alone.",
    )


@pytest.mark.parametrize(
    "status", [HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.OK]
)
@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize("ranges", [True, False])
async def test_where_head_says_nothing_a_get_is_made(
    web_server: ScriptedServer,
    web_connection: HTTPConnection,
    status: HTTPStatus,
    size: int,
    *,
    ranges: bool,
) -> None:
    store = await store_of(web_connection, web_server, "a")
    body = b"x" * size
    get = served(body, '"1"') if ranges else None

    def answer(request: Request) -> Answer:
        if request.method == "HEAD":
            return response(status, length=None)
        return get.answer(request) if get else response(headers={"ETag": '"1"'}, body=body)

    web_server.answers["/a"] = Scripted(answer)
    head = await store.head(Key(b"a"))
    assert head.size == size
    # An answer that no range can be had from need not tell of the object.
    assert head.etag == (None if ranges and not size else "1")
    assert [request.method for request in web_server.asked_for("/a")] == ["HEAD", "GET"]


async def test_an_object_without_a_size_is_an_error(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a")
    chunked = {"Transfer-Encoding": "chunked"}
    web_server.answers["/a"] = response(headers=chunked, body=b"3\r\nabc\r\n0\r\n\r\n", length=None)
    error = await error_of_head(store, b"a")
    assert not error.is_retryable
    assert f"{web_server.url}a: the server does not say how large it is" in str(error)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', None])
@pytest.mark.parametrize("ranges", [True, False])
async def test_parts_are_read_whether_or_not_the_server_knows_ranges(
    web_server: ScriptedServer, web_connection: HTTPConnection, etag: str | None, *, ranges: bool
) -> None:
    store = await store_of(web_connection, web_server, "a")
    modified = MODIFIED if etag is None else None
    headers = {"ETag": etag} if etag else {"Last-Modified": MODIFIED}
    web_server.answers["/a"] = (
        served(BODY, etag, modified) if ranges else response(headers=headers, body=BODY)
    )
    head = await store.head(Key(b"a"))
    pin = Pin(head.size, head.etag, None, head.mtime_ns)
    for start, end in ((0, None), (1, None), (300_000, 300_010), (0, 10), (len(BODY) - 1, None)):
        assert await read(store, b"a", pin, start, end) == BODY[start:end]
    for start, end in ((len(BODY), None), (5, 5)):
        assert await read(store, b"a", pin, start, end) == b""
    asked = [request.headers for request in web_server.asked_for("/a") if request.method == "GET"]
    assert {headers.get("accept-encoding") for headers in asked} == {"identity"}
    assert {headers.get("if-match") for headers in asked} == {'"1"' if etag == '"1"' else None}
    since = {headers.get("if-unmodified-since") for headers in asked}
    assert since == {MODIFIED if etag is None else None}


@pytest.mark.parametrize(
    ("pin", "answer"),
    [
        (Pin(3, "1"), response(HTTPStatus.PRECONDITION_FAILED)),
        (Pin(3, "1"), response(headers={"ETag": '"2"'}, body=b"abc")),
        (Pin(3, "1"), response(body=b"abc")),
        (Pin(3, 'W/"1"'), response(headers={"ETag": 'W/"2"'}, body=b"abc")),
        (Pin(3, None, None, MODIFIED_NS), response(body=b"abc")),
        (
            Pin(3, None, None, MODIFIED_NS),
            response(headers={"Last-Modified": "Tue, 24 Nov 2026 12:00:01 GMT"}, body=b"abc"),
        ),
        (Pin(3), response(body=b"abcd")),
        (Pin(3), response(body=b"ab")),
        (Pin(0), response(body=b"a")),
        (Pin(3), response(body=b"abcd", length=None)),
    ],
)
async def test_an_object_that_changed_is_noticed(
    web_server: ScriptedServer, web_connection: HTTPConnection, pin: Pin, answer: bytes
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = answer
    with pytest.raises(errors.ObjectChanged, match=f"{web_server.url}a") as caught:
        await read(store, b"a", pin)
    assert not caught.value.is_retryable


async def test_a_part_of_what_changed_is_noticed(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a")
    for body, start in ((b"abcd", 1), (b"a", 2)):
        web_server.answers["/a"] = served(body)
        with pytest.raises(errors.ObjectChanged, match=r"has . bytes now, and had 3"):
            await read(store, b"a", Pin(3), start)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response(body=BODY[:1000], length=len(BODY)), "was cut off on its way"),
        (response(body=BODY[:1000], length=None), "ended after 1,000 of"),
        (
            response(HTTPStatus.PARTIAL_CONTENT, {"Content-Range": "bytes 0-9/512000"}, b"x" * 10),
            "other bytes than",
        ),
        (response(HTTPStatus.PARTIAL_CONTENT, body=b"x" * 10), "other bytes than"),
        (response(HTTPStatus.SERVICE_UNAVAILABLE), "fewer requests (503"),
        (response(HTTPStatus.BAD_GATEWAY), "the server failed (502"),
    ],
)
async def test_a_body_that_is_not_whole_may_be_tried_again(
    web_server: ScriptedServer, web_connection: HTTPConnection, answer: bytes, said: str
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = answer
    with pytest.raises(StoreUnavailable) as caught:
        await read(store, b"a", Pin(len(BODY)), 1)
    assert said in str(caught.value)


async def test_what_is_gone_is_gone(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a", "dir")
    web_server.answers["/dir"] = redirect("/dir/")
    web_server.answers["/dir/"] = index("x")
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        web_server.answers["/a"] = response(status)
        for key in (b"a", b"dir", b"never"):
            with pytest.raises(errors.NoSuchObject):
                await read(store, key, Pin(3))
            assert isinstance(await error_of_head(store, key), errors.NoSuchObject)


async def test_an_error_of_the_sink_is_its_own(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    class FullDisk(Bytes):
        async def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = served(BODY)
    with pytest.raises(OSError, match="No space left"):
        await store.read(Key(b"a"), Pin(len(BODY)), FullDisk())
