"""Folders and single URLs of web servers, and redirects between them.

Invariants
  * Servers are scripted, on loopback; the real ones are met in the contract tests.
  * Each fault ends in the right answer or in one error that says where; nothing waits for long.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

import pytest

from indexer import errors
from indexer.errors import IndexerError, StoreUnavailable, UsageError
from indexer.keyspace import Key
from indexer.limits import HTTP_DEPTH_MAX, HTTP_REDIRECTS_MAX
from indexer.objects import SIZE_UNKNOWN, Pin
from indexer.sources import parse_source
from indexer.stores import http_folders
from indexer.stores.http import HTTPConnection, HTTPStore
from indexer.testing.store_suite import keys_on, read, rows_on, walk
from tests.unit.scripted_web_server import (
    ScriptedServer,
    index,
    redirect,
    response,
)
from tests.unit.web_stores import (
    MODIFIED,
    error_of_head,
    opened,
    served,
    store_of,
)

# --- folders --------------------------------------------------------------------------------------


async def test_a_tree_is_walked_below_its_root_alone(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    web_server.answers["/x/"] = index(
        "../", "/", "./", "", "b/", "a", "/x/c", "/y/", "?C=N", "//z/", "b"
    )
    web_server.answers["/x/b/"] = index("../", "../b/", "/x/b/", "/x/", "/x/b/d")
    source = await opened(web_connection, web_server.url + "x/")
    assert keys_on(await walk(source.store)) == [b"a", b"b", b"b/d", b"c"]
    assert [request.path for request in web_server.asked] == ["/x/", "/x/b/"]
    assert {row["size"] for row in rows_on(await walk(source.store)).values()} == {SIZE_UNKNOWN}
    assert source.opened_at == datetime(2026, 11, 25, 19, tzinfo=UTC)
    assert source.folder == source.record["uri"] == web_server.url + "x/"


async def test_a_listing_that_begins_anew_sees_what_is_there_now(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a")
    assert keys_on(await walk(store)) == [b"a"]
    web_server.answers["/"] = index("b")
    assert keys_on(await walk(store)) == [b"b"]


async def test_objects_are_asked_for_as_they_are_linked(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "p%2Bq", "d%2B/", "%ff")
    web_server.answers["/d%2B/"] = index("e", "f%3A")
    for path in ("/p%2Bq", "/d%2B/e", "/d%2B/f%3A", "/%FF"):
        web_server.answers[path] = response(headers={"ETag": '"1"'}, body=b"abc")
    rows = rows_on(await walk(store))
    root = web_server.url
    assert {key: row.get("uri") for key, row in rows.items()} == {
        b"d+/e": root + "d%2B/e",
        b"d+/f:": root + "d%2B/f%3A",
        b"p+q": root + "p%2Bq",
        b"\xff": None,
    }
    for key, row in rows.items():
        head = await store.head(Key(key))
        assert (head.uri, head.size) == (row.get("uri"), 3)
    cold = await store_of(web_connection, web_server)
    web_server.asked.clear()
    for key in rows:
        assert await read(cold, key, Pin(3, "1")) == b"abc"
    assert web_server.asked_for("/p+q") == []
    # Below a folder that was not read, what was quoted is tried first.
    assert [request.path for request in web_server.asked if "d" in request.path][:4] == [
        "/d+/e",
        "/d%2B/",
        "/d%2B/e",
        "/d%2B/f%3A",
    ]


async def test_a_folder_that_is_gone_is_empty(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a", "gone/", "z")
    assert keys_on(await walk(store)) == [b"a", b"z"]
    for path in ("nothing/", "nothing"):
        source = await opened(web_connection, web_server.url + path)
        assert keys_on(await walk(source.store)) == []
        assert source.warnings == (
            (f"{web_server.url}{path}: the server has no such folder.",) if path[-1] == "/" else ()
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
        (index("a")[:-40], StoreUnavailable, "was cut off on its way"),
        (index("a").replace(b"</html>", b"</htxx>"), StoreUnavailable, "ends in the middle"),
        (index("a%2Fb"), errors.BrokenListing, "which no file can have"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", StoreUnavailable, "is not HTTP"),
        (b"", StoreUnavailable, "cannot be reached"),
    ],
)
async def test_a_listing_that_fails_says_why(
    web_server: ScriptedServer, web_connection: HTTPConnection, answer: bytes, kind: type, said: str
) -> None:
    web_server.answers["/"] = index("a", "b/", "c")
    web_server.answers["/b/"] = web_server.answers["/d/"] = answer
    for url in (web_server.url, web_server.url + "d/"):
        with pytest.raises(kind) as caught:
            await walk((await opened(web_connection, url)).store)
        assert said in str(caught.value)
        assert f"{web_server.url}{'d' if url.endswith('d/') else 'b'}/" in str(caught.value)


async def test_depth_has_a_bound(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    endless = index("../", "a", "loop/")
    for depth in range(HTTP_DEPTH_MAX + 3):
        web_server.answers["/" + "loop/" * depth] = endless
    source = await opened(web_connection, web_server.url)
    with pytest.raises(UsageError, match=f"folders more than {HTTP_DEPTH_MAX} deep"):
        await walk(source.store)
    assert len(web_server.asked) <= HTTP_DEPTH_MAX + 1


async def test_folders_have_a_bound(
    web_server: ScriptedServer, web_connection: HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}/" for number in range(20)]
    web_server.answers["/"] = index(*names)
    for name in names:
        web_server.answers["/" + name] = index("a")
    for folders_max, is_refused in ((21, False), (20, True)):
        folders = http_folders.Folders(
            web_connection._client, web_server.url, web_connection._threads, folders_max=folders_max
        )
        store = HTTPStore(web_connection._client, web_server.url, folders)
        if is_refused:
            with pytest.raises(UsageError, match="more than 20 folders"):
                await walk(store)
        else:
            assert len(keys_on(await walk(store))) == 20


async def test_few_names_are_kept_and_the_same_is_listed(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    names = [f"{number:02}%2B/" for number in range(6)]
    web_server.answers["/"] = index(*names)
    for name in names:
        web_server.answers["/" + name] = index(*(f"{number}" for number in range(9)))
    folders = http_folders.Folders(
        web_connection._client, web_server.url, web_connection._threads, names_cached_max=1
    )
    store = HTTPStore(web_connection._client, web_server.url, folders, page_entries=4)
    rows = rows_on(await walk(store))
    assert len(rows) == 54
    assert all(
        row["uri"].startswith(f"{web_server.url}{key[:2].decode()}%2B/")
        for key, row in rows.items()
    )
    assert len(folders._kept) == 1


@pytest.mark.parametrize("says_length", [True, False])
async def test_pages_have_a_bound(
    web_server: ScriptedServer,
    web_connection: HTTPConnection,
    monkeypatch: pytest.MonkeyPatch,
    *,
    says_length: bool,
) -> None:
    monkeypatch.setattr(http_folders, "HTTP_PAGE_BYTES_MAX", 1_000)
    page = index(*(f"{number:04}" for number in range(100)))
    if not says_length:
        page = page.replace(b"Content-Length", b"X-Length")
    web_server.answers["/"] = page
    with pytest.raises(UsageError, match="more than 1,000 bytes, which is the limit"):
        await opened(web_connection, web_server.url)


# --- redirects ------------------------------------------------------------------------------------


async def test_redirects_below_are_followed(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    web_server.answers["/data/"] = redirect("/data/v2/", HTTPStatus.FOUND)
    web_server.answers["/data/v2/"] = index("a", "b/")
    web_server.answers["/data/v2/b/"] = index("c")
    web_server.answers["/data/v2/a"] = redirect(f"{web_server.url}data/v2/a?signed=1#x")
    web_server.answers["/data/v2/a?signed=1"] = response(body=b"abc")
    source = await opened(web_connection, web_server.url + "data")
    rows = rows_on(await walk(source.store))
    assert {key: row["uri"] for key, row in rows.items()} == {
        b"a": web_server.url + "data/v2/a",
        b"b/c": web_server.url + "data/v2/b/c",
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
    web_server: ScriptedServer, web_connection: HTTPConnection, location: str, said: str
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = redirect(location.format(port=web_server.port))
    error = await error_of_head(store, b"a")
    assert isinstance(error, UsageError)
    assert said in str(error)
    assert "secret" not in str(error)
    assert f"{web_server.url}a redirects" in str(error)
    web_server.answers["/b/"] = redirect("https://elsewhere.example/b/")
    with pytest.raises(UsageError, match="another origin"):
        await opened(web_connection, web_server.url + "b/")


async def test_redirects_that_never_end_are_refused(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = redirect("/a")
    assert "from one redirect to the next" in str(await error_of_head(store, b"a"))
    assert len(web_server.asked_for("/a")) == HTTP_REDIRECTS_MAX + 1
    web_server.answers["/a"] = response(HTTPStatus.FOUND)
    assert "answered 302" in str(await error_of_head(store, b"a"))


# --- single URLs ----------------------------------------------------------------------------------


async def test_a_lone_object_is_one_url(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    web_server.answers["/a%20b"] = served(b"abc", '"1"')
    web_server.answers["/get?file=x/y"] = served(b"queried", None, MODIFIED)
    web_server.answers["/?id=5"] = served(b"root")
    web_server.answers["/a%20b/"] = response(HTTPStatus.FORBIDDEN)
    for url, path, uri, body in (
        ("a%20b", b"a b", None, b"abc"),
        ("get?file=x/y", b"get", "get?file=x/y", b"queried"),
        ("?id=5", b"?id=5", "?id=5", b"root"),
    ):
        source = parse_source(web_server.url + url)
        found = await web_connection.lone_object(source)
        assert found is not None
        (row,) = found.row.to_pylist()
        assert (row["path"], row["size"]) == (path, len(body))
        assert row.get("uri") == (uri and web_server.url + uri)
        pin = Pin(len(body), "1" if uri is None else None, None, row.get("mtime_ns"))
        assert await read(found.store, path, pin) == body
        head = await found.store.head(Key(path))
        assert (head.size, head.uri) == (len(body), row.get("uri"))
        assert keys_on(await walk((await web_connection.open(source)).store)) == []


@pytest.mark.parametrize(
    "location", ["/dir/", "dir/", "http://127.0.0.1:{port}/dir/", "http://inside:8080/dir/"]
)
async def test_a_url_that_leads_to_its_folder_is_no_object(
    web_server: ScriptedServer, web_connection: HTTPConnection, location: str
) -> None:
    web_server.answers["/dir"] = redirect(location.format(port=web_server.port))
    web_server.answers["/dir/"] = index("a")
    uri = parse_source(web_server.url + "dir")
    assert await web_connection.lone_object(uri) is None
    assert keys_on(await walk((await web_connection.open(uri)).store)) == [b"a"]


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
    web_server: ScriptedServer, web_connection: HTTPConnection, answer: bytes
) -> None:
    web_server.answers["/a/"] = answer
    source = await opened(web_connection, web_server.url + "a")
    assert keys_on(await walk(source.store)) == []
    assert source.folder == web_server.url + "a/"


async def test_a_lone_object_that_is_denied_is_an_error(
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    web_server.answers["/a"] = response(HTTPStatus.FORBIDDEN)
    with pytest.raises(errors.AccessDenied, match="/a: access is denied"):
        await web_connection.lone_object(parse_source(web_server.url + "a"))


async def test_there_is_no_earlier_time(web_connection: HTTPConnection) -> None:
    now = datetime.now(UTC)
    for call in (web_connection.open, web_connection.lone_object):
        with pytest.raises(errors.InvalidSetting, match="keep no versions"):
            await call(parse_source("http://host/a"), as_of=now)
