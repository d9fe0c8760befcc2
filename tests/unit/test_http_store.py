"""The store for web servers against servers that misbehave, and what it notices of objects.

Invariants
  * Servers are scripted, on loopback; the real ones are met in the contract tests.
  * Each fault ends in the right answer or in one error that says where; nothing waits for long.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest
import pytest_asyncio

from indexer import errors
from indexer.errors import IndexerError, StoreUnavailable, UsageError
from indexer.keyspace import Key, KeyRange
from indexer.limits import HTTP_DEPTH_MAX, HTTP_REDIRECTS_MAX
from indexer.objects import SIZE_UNKNOWN, Head, Pin
from indexer.page import paths_of
from indexer.protocols import OpenedSource, Store
from indexer.sources import parse_source
from indexer.stores import http, http_folders
from indexer.stores.http import HTTPConnection, HTTPStore, connect
from indexer.stores.url_list import UrlStore
from indexer.testing.store_suite import Bytes, keys_on, read, rows_on, walk
from tests.unit.scripted_web_server import (
    Answer,
    Request,
    Scripted,
    ScriptedServer,
    index,
    redirect,
    response,
)

TIMEOUT_S = 20.0
TIMEOUT_SHORT_S = 0.5
"""Where a server makes us wait, and long enough for one that does not."""
HUNG_S = 60.0

MODIFIED = "Tue, 24 Nov 2026 12:00:00 GMT"
MODIFIED_NS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9

BODY = bytes(range(256)) * 2_000


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[HTTPConnection]:
    async with asyncio.timeout(HUNG_S), connect(timeout_s=TIMEOUT_S) as connection:
        yield connection


async def opened(connection: HTTPConnection, url: str) -> OpenedSource:
    return await connection.open(parse_source(url))


async def store_of(connection: HTTPConnection, server: ScriptedServer, *hrefs: str) -> HTTPStore:
    server.answers.setdefault("/", index(*hrefs))
    store = (await opened(connection, server.url)).store
    assert isinstance(store, HTTPStore)
    return store


async def error_of_head(store: Store, key: bytes) -> IndexerError:
    with pytest.raises(IndexerError) as caught:
        await store.head(Key(key))
    return caught.value


def served(body: bytes, etag: str | None = None, modified: str | None = None) -> Scripted:
    """An object as a server that knows ranges and conditions sends it."""
    headers = {"ETag": etag, "Last-Modified": modified}
    told = {name: value for name, value in headers.items() if value is not None}

    def answer(request: Request) -> bytes:
        wanted = request.headers.get("if-match")
        if wanted is not None and wanted != etag:
            return response(HTTPStatus.PRECONDITION_FAILED)
        part = request.headers.get("range")
        if part is None:
            return response(headers=told, body=body)
        first, last = map(int, part.removeprefix("bytes=").split("-"))
        if first >= len(body):
            told_range = {"Content-Range": f"bytes */{len(body)}"}
            return response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, told_range)
        last = min(last, len(body) - 1)
        told_range = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return response(HTTPStatus.PARTIAL_CONTENT, {**told, **told_range}, body[first : last + 1])

    return Scripted(answer)


# --- folders -------------------------------------------------------------------------------------


async def test_a_tree_is_walked_below_its_root_alone(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    server.answers["/x/"] = index(
        "../", "/", "./", "", "b/", "a", "/x/c", "/y/", "?C=N", "//z/", "b"
    )
    server.answers["/x/b/"] = index("../", "../b/", "/x/b/", "/x/", "/x/b/d")
    source = await opened(connection, server.url + "x/")
    assert keys_on(await walk(source.store)) == [b"a", b"b", b"b/d", b"c"]
    assert [request.path for request in server.asked] == ["/x/", "/x/b/"]
    assert {row["size"] for row in rows_on(await walk(source.store)).values()} == {SIZE_UNKNOWN}
    assert source.opened_at == datetime(2026, 11, 25, 19, tzinfo=UTC)
    assert source.folder == source.record["uri"] == server.url + "x/"


async def test_a_listing_that_begins_anew_sees_what_is_there_now(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a")
    assert keys_on(await walk(store)) == [b"a"]
    server.answers["/"] = index("b")
    assert keys_on(await walk(store)) == [b"b"]


async def test_objects_are_asked_for_as_they_are_linked(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "p%2Bq", "d%2B/", "%ff")
    server.answers["/d%2B/"] = index("e", "f%3A")
    for path in ("/p%2Bq", "/d%2B/e", "/d%2B/f%3A", "/%FF"):
        server.answers[path] = response(headers={"ETag": '"1"'}, body=b"abc")
    rows = rows_on(await walk(store))
    root = server.url
    assert {key: row.get("uri") for key, row in rows.items()} == {
        b"d+/e": root + "d%2B/e",
        b"d+/f:": root + "d%2B/f%3A",
        b"p+q": root + "p%2Bq",
        b"\xff": None,
    }
    for key, row in rows.items():
        head = await store.head(Key(key))
        assert (head.uri, head.size) == (row.get("uri"), 3)
    cold = await store_of(connection, server)
    server.asked.clear()
    for key in rows:
        assert await read(cold, key, Pin(3, "1")) == b"abc"
    assert server.asked_for("/p+q") == []
    # Below a folder that was not read, what was quoted is tried first.
    assert [request.path for request in server.asked if "d" in request.path][:4] == [
        "/d+/e",
        "/d%2B/",
        "/d%2B/e",
        "/d%2B/f%3A",
    ]


async def test_a_folder_that_is_gone_is_empty(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a", "gone/", "z")
    assert keys_on(await walk(store)) == [b"a", b"z"]
    for path in ("nothing/", "nothing"):
        source = await opened(connection, server.url + path)
        assert keys_on(await walk(source.store)) == []
        assert source.warnings == (
            (f"{server.url}{path}: the server has no such folder.",) if path[-1] == "/" else ()
        )


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (response(HTTPStatus.FORBIDDEN), errors.AccessDenied, "access is denied (403"),
        (response(HTTPStatus.UNAUTHORIZED), errors.AccessDenied, "into the file .netrc"),
        (response(HTTPStatus.INTERNAL_SERVER_ERROR), StoreUnavailable, "the server failed (500"),
        (response(HTTPStatus.IM_A_TEAPOT), IndexerError, "answered 418"),
        (index("a", title="Welcome"), UsageError, "no index page that is known"),
        (response(body=b"\x89PNG"), UsageError, "no index page that is known"),
        (
            response(headers={"Content-Type": "video/mp4"}, body=b"x" * 999),
            UsageError,
            "'video/mp4'",
        ),
        (
            response(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b"),
            UsageError,
            "comes compressed (gzip)",
        ),
        (index("a")[:-40], StoreUnavailable, "ended before its end"),
        (index("a").replace(b"</html>", b"</htxx>"), StoreUnavailable, "ends in the middle"),
        (index("a%2Fb"), errors.BrokenListing, "which no file can have"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", StoreUnavailable, "is not HTTP"),
        (b"", StoreUnavailable, "cannot be reached"),
    ],
)
async def test_a_listing_that_fails_says_why(
    server: ScriptedServer, connection: HTTPConnection, answer: bytes, kind: type, said: str
) -> None:
    server.answers["/"] = index("a", "b/", "c")
    server.answers["/b/"] = server.answers["/d/"] = answer
    for url in (server.url, server.url + "d/"):
        with pytest.raises(kind) as caught:
            await walk((await opened(connection, url)).store)
        assert said in str(caught.value)
        assert f"{server.url}{'d' if url.endswith('d/') else 'b'}/" in str(caught.value)


async def test_depth_has_a_bound(server: ScriptedServer, connection: HTTPConnection) -> None:
    endless = index("../", "a", "loop/")
    for depth in range(HTTP_DEPTH_MAX + 3):
        server.answers["/" + "loop/" * depth] = endless
    source = await opened(connection, server.url)
    with pytest.raises(UsageError, match=f"folders more than {HTTP_DEPTH_MAX} deep"):
        await walk(source.store)
    assert len(server.asked) <= HTTP_DEPTH_MAX + 1


async def test_folders_have_a_bound(
    server: ScriptedServer, connection: HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}/" for number in range(20)]
    server.answers["/"] = index(*names)
    for name in names:
        server.answers["/" + name] = index("a")
    for folders_max, is_refused in ((21, False), (20, True)):
        folders = http_folders.Folders(
            connection._client, server.url, connection._threads, folders_max=folders_max
        )
        store = HTTPStore(connection._client, server.url, folders)
        if is_refused:
            with pytest.raises(UsageError, match="more than 20 folders"):
                await walk(store)
        else:
            assert len(keys_on(await walk(store))) == 20


async def test_few_names_are_kept_and_the_same_is_listed(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    names = [f"{number:02}%2B/" for number in range(6)]
    server.answers["/"] = index(*names)
    for name in names:
        server.answers["/" + name] = index(*(f"{number}" for number in range(9)))
    folders = http_folders.Folders(
        connection._client, server.url, connection._threads, names_cached_max=1
    )
    store = HTTPStore(connection._client, server.url, folders, page_entries=4)
    rows = rows_on(await walk(store))
    assert len(rows) == 54
    assert all(
        row["uri"].startswith(f"{server.url}{key[:2].decode()}%2B/") for key, row in rows.items()
    )
    assert len(folders._kept) == 1


@pytest.mark.parametrize("says_length", [True, False])
async def test_pages_have_a_bound(
    server: ScriptedServer,
    connection: HTTPConnection,
    monkeypatch: pytest.MonkeyPatch,
    *,
    says_length: bool,
) -> None:
    monkeypatch.setattr(http_folders, "HTTP_PAGE_BYTES_MAX", 1_000)
    page = index(*(f"{number:04}" for number in range(100)))
    if not says_length:
        page = page.replace(b"Content-Length", b"X-Length")
    server.answers["/"] = page
    with pytest.raises(UsageError, match="more than 1,000 bytes, which is the limit"):
        await opened(connection, server.url)


# --- redirects -----------------------------------------------------------------------------------


async def test_redirects_below_are_followed(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    server.answers["/data/"] = redirect("/data/v2/", HTTPStatus.FOUND)
    server.answers["/data/v2/"] = index("a", "b/")
    server.answers["/data/v2/b/"] = index("c")
    server.answers["/data/v2/a"] = redirect(f"{server.url}data/v2/a?signed=1#x")
    server.answers["/data/v2/a?signed=1"] = response(body=b"abc")
    source = await opened(connection, server.url + "data")
    rows = rows_on(await walk(source.store))
    assert {key: row["uri"] for key, row in rows.items()} == {
        b"a": server.url + "data/v2/a",
        b"b/c": server.url + "data/v2/b/c",
    }
    assert (await source.store.head(Key(b"a"))).size == 3
    assert await read(source.store, b"a", Pin(3)) == b"abc"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://elsewhere.example/a?token=secret", "https://elsewhere.example/a?…, which is an"),
        ("//elsewhere.example/a", "is another origin"),
        ("http://me:secret@127.0.0.1:{port}/a", "is another origin"),
        ("http://127.0.0.1:{port}@elsewhere.example/a", "is another origin"),
        ("http://127.0.0.1/a", "is another origin"),
        ("https://127.0.0.1:{port}/a", "is another origin"),
        ("/b", "is not below it"),
        ("/ab", "is not below it"),
        ("../", "is not below it"),
        ("/login?next=/a", "is not below it"),
        ("file:///etc/passwd", "is another origin"),
        ("http://[", "to what is no address"),
        ("\x80\udcff", "is not below it"),
    ],
)
async def test_redirects_elsewhere_are_refused(
    server: ScriptedServer, connection: HTTPConnection, location: str, said: str
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = redirect(location.format(port=server.port))
    error = await error_of_head(store, b"a")
    assert isinstance(error, UsageError)
    assert said in str(error)
    assert "secret" not in str(error)
    assert f"{server.url}a redirects" in str(error)
    server.answers["/b/"] = redirect("https://elsewhere.example/b/")
    with pytest.raises(UsageError, match="another origin"):
        await opened(connection, server.url + "b/")


async def test_a_redirect_from_https_to_http_is_refused(
    connection: HTTPConnection, own_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedServer(own_tls) as server:
        server.answers["/"] = redirect(f"http://127.0.0.1:{server.port}/")
        async with connect(timeout_s=TIMEOUT_S) as trusting:
            with pytest.raises(UsageError, match="another origin"):
                await opened(trusting, server.url)


async def test_redirects_that_never_end_are_refused(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = redirect("/a")
    assert "from one redirect to the next" in str(await error_of_head(store, b"a"))
    assert len(server.asked_for("/a")) == HTTP_REDIRECTS_MAX + 1
    server.answers["/a"] = response(HTTPStatus.FOUND)
    assert "answered 302" in str(await error_of_head(store, b"a"))


# --- single URLs ---------------------------------------------------------------------------------


async def test_a_lone_object_is_one_url(server: ScriptedServer, connection: HTTPConnection) -> None:
    server.answers["/a%20b"] = served(b"abc", '"1"')
    server.answers["/get?file=x/y"] = served(b"queried", None, MODIFIED)
    server.answers["/?id=5"] = served(b"root")
    server.answers["/a%20b/"] = response(HTTPStatus.FORBIDDEN)
    for url, path, uri, body in (
        ("a%20b", b"a b", None, b"abc"),
        ("get?file=x/y", b"get", "get?file=x/y", b"queried"),
        ("?id=5", b"?id=5", "?id=5", b"root"),
    ):
        source = parse_source(server.url + url)
        found = await connection.lone_object(source)
        assert found is not None
        (row,) = found.row.to_pylist()
        assert (row["path"], row["size"]) == (path, len(body))
        assert row.get("uri") == (uri and server.url + uri)
        pin = Pin(len(body), "1" if uri is None else None, None, row.get("mtime_ns"))
        assert await read(found.store, path, pin) == body
        head = await found.store.head(Key(path))
        assert (head.size, head.uri) == (len(body), row.get("uri"))
        assert keys_on(await walk((await connection.open(source)).store)) == []


@pytest.mark.parametrize(
    "location", ["/dir/", "dir/", "http://127.0.0.1:{port}/dir/", "http://inside:8080/dir/"]
)
async def test_a_url_that_leads_to_its_folder_is_no_object(
    server: ScriptedServer, connection: HTTPConnection, location: str
) -> None:
    server.answers["/dir"] = redirect(location.format(port=server.port))
    server.answers["/dir/"] = index("a")
    uri = parse_source(server.url + "dir")
    assert await connection.lone_object(uri) is None
    assert keys_on(await walk((await connection.open(uri)).store)) == [b"a"]


@pytest.mark.parametrize(
    "answer",
    [
        response(HTTPStatus.NOT_FOUND),
        response(HTTPStatus.FORBIDDEN),
        response(HTTPStatus.BAD_REQUEST),
        response(headers={"Content-Type": "application/zip"}, body=b"PK"),
        response(headers={"Content-Type": "text/html"}, body=b"<html>hello</html>"),
        redirect("/a"),
        redirect("https://elsewhere.example/login"),
    ],
)
async def test_what_is_below_an_object_is_nothing(
    server: ScriptedServer, connection: HTTPConnection, answer: bytes
) -> None:
    server.answers["/a/"] = answer
    source = await opened(connection, server.url + "a")
    assert keys_on(await walk(source.store)) == []
    assert source.folder == server.url + "a/"


async def test_a_lone_object_that_is_denied_is_an_error(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    server.answers["/a"] = response(HTTPStatus.FORBIDDEN)
    with pytest.raises(errors.AccessDenied, match="/a: access is denied"):
        await connection.lone_object(parse_source(server.url + "a"))


async def test_there_is_no_earlier_time(connection: HTTPConnection) -> None:
    now = datetime.now(UTC)
    for call in (connection.open, connection.lone_object):
        with pytest.raises(errors.InvalidSetting, match="keep no versions"):
            await call(parse_source("http://host/a"), as_of=now)


# --- what is said of an object -------------------------------------------------------------------


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
    server: ScriptedServer, connection: HTTPConnection, headers: dict[str, str], head: Head
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = response(headers=headers, body=b"abc")
    found = await store.head(Key(b"a"))
    assert (found.size, found.mtime_ns) == (head.size, head.mtime_ns)
    if head.etag is not None and not head.etag.isascii():
        assert found.etag is not None
        assert await read(store, b"a", Pin(3, found.etag)) == b"abc"
    else:
        assert found.etag == head.etag


async def test_weaker_grades_are_counted(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a", "b", "c", "d")
    assert store.notices() == ()
    server.answers["/a"] = server.answers["/b"] = response(headers={"ETag": '"1"'})
    await store.head(Key(b"a"))
    await store.head(Key(b"b"))
    assert store.notices() == ()
    server.answers["/c"] = response(headers={"Last-Modified": MODIFIED})
    server.answers["/d"] = response()
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
    server: ScriptedServer,
    connection: HTTPConnection,
    status: HTTPStatus,
    size: int,
    *,
    ranges: bool,
) -> None:
    store = await store_of(connection, server, "a")
    body = b"x" * size
    get = served(body, '"1"') if ranges else None

    def answer(request: Request) -> Answer:
        if request.method == "HEAD":
            return response(status, length=None)
        return get.answer(request) if get else response(headers={"ETag": '"1"'}, body=body)

    server.answers["/a"] = Scripted(answer)
    head = await store.head(Key(b"a"))
    assert head.size == size
    # An answer that no range can be had from need not tell of the object.
    assert head.etag == (None if ranges and not size else "1")
    assert [request.method for request in server.asked_for("/a")] == ["HEAD", "GET"]


async def test_an_object_without_a_size_is_an_error(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a")
    chunked = {"Transfer-Encoding": "chunked"}
    server.answers["/a"] = response(headers=chunked, body=b"3\r\nabc\r\n0\r\n\r\n", length=None)
    error = await error_of_head(store, b"a")
    assert not error.is_retryable
    assert f"{server.url}a: the server does not say how large it is" in str(error)


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', None])
@pytest.mark.parametrize("ranges", [True, False])
async def test_parts_are_read_whether_or_not_the_server_knows_ranges(
    server: ScriptedServer, connection: HTTPConnection, etag: str | None, *, ranges: bool
) -> None:
    store = await store_of(connection, server, "a")
    modified = MODIFIED if etag is None else None
    headers = {"ETag": etag} if etag else {"Last-Modified": MODIFIED}
    server.answers["/a"] = (
        served(BODY, etag, modified) if ranges else response(headers=headers, body=BODY)
    )
    head = await store.head(Key(b"a"))
    pin = Pin(head.size, head.etag, None, head.mtime_ns)
    for start, end in ((0, None), (1, None), (300_000, 300_010), (0, 10), (len(BODY) - 1, None)):
        assert await read(store, b"a", pin, start, end) == BODY[start:end]
    for start, end in ((len(BODY), None), (5, 5)):
        assert await read(store, b"a", pin, start, end) == b""
    asked = [request.headers for request in server.asked_for("/a") if request.method == "GET"]
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
    server: ScriptedServer, connection: HTTPConnection, pin: Pin, answer: bytes
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = answer
    with pytest.raises(errors.ObjectChanged, match=f"{server.url}a") as caught:
        await read(store, b"a", pin)
    assert not caught.value.is_retryable


async def test_a_part_of_what_changed_is_noticed(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    store = await store_of(connection, server, "a")
    for body, start in ((b"abcd", 1), (b"a", 2)):
        server.answers["/a"] = served(body)
        with pytest.raises(errors.ObjectChanged, match=r"has . bytes now, and had 3"):
            await read(store, b"a", Pin(3), start)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response(body=BODY[:1000], length=len(BODY)), "ended before its end"),
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
    server: ScriptedServer, connection: HTTPConnection, answer: bytes, said: str
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = answer
    with pytest.raises(StoreUnavailable) as caught:
        await read(store, b"a", Pin(len(BODY)), 1)
    assert said in str(caught.value)


async def test_what_is_gone_is_gone(server: ScriptedServer, connection: HTTPConnection) -> None:
    store = await store_of(connection, server, "a", "dir")
    server.answers["/dir"] = redirect("/dir/")
    server.answers["/dir/"] = index("x")
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        server.answers["/a"] = response(status)
        for key in (b"a", b"dir", b"never"):
            with pytest.raises(errors.NoSuchObject):
                await read(store, key, Pin(3))
            assert isinstance(await error_of_head(store, key), errors.NoSuchObject)


async def test_an_error_of_the_sink_is_its_own(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    class FullDisk(Bytes):
        async def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    store = await store_of(connection, server, "a")
    server.answers["/a"] = served(BODY)
    with pytest.raises(OSError, match="No space left"):
        await store.read(Key(b"a"), Pin(len(BODY)), FullDisk())


# --- faults of the network -----------------------------------------------------------------------


async def hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(HUNG_S)


async def drip_headers(writer: asyncio.StreamWriter) -> None:
    for byte in response(headers={"X-Long": "x" * 1_000}, body=b"abc"):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_body(writer: asyncio.StreamWriter) -> None:
    writer.write(
        response(body=b"", length=1_000).replace(
            b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n"
        )
    )
    for _ in range(1_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("answer", [hang, drip_headers, drip_body, reset])
async def test_no_server_can_make_us_wait(server: ScriptedServer, answer: Answer) -> None:
    async with asyncio.timeout(HUNG_S / 2), connect(timeout_s=TIMEOUT_SHORT_S) as connection:
        store = await store_of(connection, server, "a")
        server.answers["/a"] = server.answers["/b/"] = answer
        for attempt in (read(store, b"a", Pin(1_000)), opened(connection, server.url + "b/")):
            with pytest.raises(StoreUnavailable, match=server.url):
                await attempt


async def test_a_server_that_is_not_there(connection: HTTPConnection, unused_port: int) -> None:
    for url in (f"http://127.0.0.1:{unused_port}/", "http://no-such-host.invalid/"):
        with pytest.raises(StoreUnavailable, match=f"{url}: the server cannot be reached"):
            await opened(connection, url)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Wed, 25 Nov 2026 19:01:30 GMT"}, 90.0),
        ({"Retry-After": "Wed, 25 Nov 2020 19:01:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS])
async def test_a_server_that_asks_to_wait(
    server: ScriptedServer,
    connection: HTTPConnection,
    status: HTTPStatus,
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    store = await store_of(connection, server, "a")
    server.answers["/a"] = response(status, headers)
    error = await error_of_head(store, b"a")
    assert isinstance(error, StoreUnavailable)
    assert (error.is_throttle, error.retry_after_s) == (True, seconds)


async def test_tls_that_fails_is_said_once(
    server: ScriptedServer, connection: HTTPConnection, tls: ssl.SSLContext
) -> None:
    plain = server.url.replace("http://", "https://")
    with pytest.raises(errors.InvalidSetting, match="TLS failed"):
        await opened(connection, plain)
    async with ScriptedServer(tls) as secure:
        with pytest.raises(errors.InvalidSetting, match=r"TLS failed .*SSL_CERT_FILE"):
            await opened(connection, secure.url)
        with pytest.raises(StoreUnavailable, match="http://"):
            await opened(connection, secure.url.replace("https://", "http://"))


async def test_authorities_of_ones_own_are_trusted(own_tls: ssl.SSLContext) -> None:
    async with ScriptedServer(own_tls) as secure, connect(timeout_s=TIMEOUT_S) as connection:
        secure.answers["/"] = index("a")
        source = await opened(connection, secure.url)
        assert keys_on(await walk(source.store)) == [b"a"]


# --- the environment -----------------------------------------------------------------------------


async def test_netrc_has_names_and_passwords(
    server: ScriptedServer, connection: HTTPConnection, home: Path
) -> None:
    server.answers["/"] = response(HTTPStatus.UNAUTHORIZED)
    with pytest.raises(errors.AccessDenied, match=r"machine 127\.0\.0\.1 login NAME"):
        await opened(connection, server.url)
    assert await connection.credentials() == "none"
    (home / ".netrc").write_text("machine 127.0.0.1 login me password very-secret\n")
    async with connect(timeout_s=TIMEOUT_S) as known:
        assert await known.credentials() == f"{home / '.netrc'}, for the hosts that it names"
        with pytest.raises(errors.AccessDenied, match="does not accept") as caught:
            await opened(known, server.url)
        assert "secret" not in str(caught.value)
        server.answers["/"] = index("a")
        await opened(known, server.url)
    assert server.asked[0].headers.get("authorization") is None
    assert server.asked[-1].headers["authorization"] == "Basic bWU6dmVyeS1zZWNyZXQ="


async def test_a_netrc_that_is_broken_is_said_without_its_words(
    server: ScriptedServer, home: Path
) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me very-secret\n")
    async with connect(timeout_s=TIMEOUT_S) as connection:
        with pytest.raises(errors.InvalidSetting, match=r"\.netrc cannot be read") as caught:
            await opened(connection, server.url)
        assert "very-secret" not in str(caught.value)


async def test_proxies_are_those_of_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{server.port}")
    server.answers["http://host.invalid/"] = index("a")
    async with connect(timeout_s=TIMEOUT_S) as connection:
        source = await opened(connection, "http://host.invalid/")
        assert keys_on(await walk(source.store)) == [b"a"]
        assert server.asked[0].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers["/"] = index("b")
    async with connect(timeout_s=TIMEOUT_S) as connection:
        assert keys_on(await walk((await opened(connection, server.url)).store)) == [b"b"]
    monkeypatch.setenv("http_proxy", "socks5://me:secret@127.0.0.1:1")
    async with connect(timeout_s=TIMEOUT_S) as connection:
        with pytest.raises(errors.InvalidSetting, match="HTTP_PROXY") as caught:
            await opened(connection, "http://host.invalid/")
        assert "secret" not in str(caught.value)


# --- lists of URLs -------------------------------------------------------------------------------


async def test_a_list_is_listed_told_of_and_read(
    server: ScriptedServer, connection: HTTPConnection, tmp_path: Path
) -> None:
    async with ScriptedServer() as other:
        urls = [f"{server.url}{number:02}" for number in range(9)] + [other.url + "x?y=1"]
        for number in range(9):
            server.answers[f"/{number:02}"] = served(b"x" * number, f'"{number}"')
        other.answers["/x?y=1"] = served(b"other", None, MODIFIED)
        text = "# list\n" + "\n".join([*urls, urls[0]])
        server.answers["/list.txt"] = response(body=text.encode())
        (tmp_path / "a list.txt").write_text(text)
        for uri in (f"urls+{server.url}list.txt", f"urls+{(tmp_path / 'a list.txt').as_uri()}"):
            source = await opened(connection, uri)
            assert source.folder == uri
            assert await connection.lone_object(parse_source(uri)) is None
            store = source.store
            assert isinstance(store, UrlStore)
            rows = rows_on(await walk(store))
            assert [row["uri"] for row in rows.values()] == [
                url for _, url in sorted((url.partition("?")[0], url) for url in urls)
            ]
            for key, row in rows.items():
                head = await store.head(Key(key))
                assert head.uri == row["uri"]
                pin = Pin(head.size, head.etag, None, head.mtime_ns)
                assert len(await read(store, key, pin)) == head.size
            assert len(store.notices()) == 1
            with pytest.raises(errors.NoSuchObject):
                await store.head(Key(b"nothing"))


async def test_pages_of_a_list_begin_anywhere(
    server: ScriptedServer, connection: HTTPConnection
) -> None:
    urls = [f"http://h/{folder}/{number}" for folder in "abc" for number in range(5)]
    server.answers["/list"] = response(body="\n".join(urls).encode())
    async with connect(page_entries=2) as small:
        store = (await opened(small, f"urls+{server.url}list")).store
    keys = [url.removeprefix("http://").encode() for url in urls]
    for by_token in (False, True):
        assert keys_on(await walk(store, by_token=by_token)) == keys
        assert keys_on(await walk(store, prefix=b"h/b/", by_token=by_token)) == keys[5:10]
    page = await store.list_page(KeyRange(after=Key(b"h/b/2~")))
    assert paths_of(page.rows) == keys[8:10]
    end = await store.list_page(KeyRange(after=Key(keys[-1])))
    assert (end.entries, end.more, end.first) == (0, False, None)


async def test_a_list_that_cannot_be_had(
    server: ScriptedServer,
    connection: HTTPConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(errors.NoSuchSource, match="nothing at this address"):
        await opened(connection, f"urls+{server.url}list")
    with pytest.raises(errors.NoSuchSource, match="there is no such file"):
        await opened(connection, f"urls+file://{tmp_path}/list")
    with pytest.raises(errors.NoSuchSource, match="cannot be read"):
        await opened(connection, f"urls+file://{tmp_path}")
    monkeypatch.setattr(http, "URL_LIST_BYTES_MAX", 10)
    (tmp_path / "list").write_text("https://host/a\n")
    with pytest.raises(UsageError, match="limit"):
        await opened(connection, f"urls+file://{tmp_path}/list")
    server.answers["/list"] = response(body=b"https://host/a\n")
    with pytest.raises(UsageError, match="limit for a list of URLs"):
        await opened(connection, f"urls+{server.url}list")


# --- certificates --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that its own key signed, and that key, in one file."""
    from datetime import timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS, of a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def own_tls(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """The same, where its certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return tls


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
