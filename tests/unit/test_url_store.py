"""Lists of URLs as stores.

Invariants
  * Servers are scripted, on loopback; the real ones are met in the contract tests.
  * Each fault ends in the right answer or in one error that says where; nothing waits for long.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer import errors
from indexer.errors import UsageError
from indexer.keyspace import Key, KeyRange
from indexer.objects import Pin
from indexer.page import paths_of
from indexer.sources import parse_source
from indexer.stores import http
from indexer.stores.http import HTTPConnection, connect
from indexer.stores.url_list import UrlStore
from indexer.telemetry import Counters
from indexer.testing.store_suite import keys_on, read, rows_on, walk
from tests.unit.scripted_web_server import (
    ScriptedServer,
    response,
)
from tests.unit.web_stores import (
    MODIFIED,
    opened,
    served,
)

# --- lists of URLs --------------------------------------------------------------------------------


async def test_a_list_is_listed_told_of_and_read(
    web_server: ScriptedServer, web_connection: HTTPConnection, tmp_path: Path
) -> None:
    async with ScriptedServer() as other:
        urls = [f"{web_server.url}{number:02}" for number in range(9)] + [other.url + "x?y=1"]
        for number in range(9):
            web_server.answers[f"/{number:02}"] = served(b"x" * number, f'"{number}"')
        other.answers["/x?y=1"] = served(b"other", None, MODIFIED)
        text = "# list\n" + "\n".join([*urls, urls[0]])
        web_server.answers["/list.txt"] = response(body=text.encode())
        (tmp_path / "a list.txt").write_text(text)
        for uri in (f"urls+{web_server.url}list.txt", f"urls+{(tmp_path / 'a list.txt').as_uri()}"):
            source = await opened(web_connection, uri)
            assert source.folder == uri
            assert await web_connection.lone_object(parse_source(uri)) is None
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
    web_server: ScriptedServer, web_connection: HTTPConnection
) -> None:
    urls = [f"http://h/{folder}/{number}" for folder in "abc" for number in range(5)]
    web_server.answers["/list"] = response(body="\n".join(urls).encode())
    async with connect(Counters(), page_entries=2) as small:
        store = (await opened(small, f"urls+{web_server.url}list")).store
    keys = [url.removeprefix("http://").encode() for url in urls]
    for by_token in (False, True):
        assert keys_on(await walk(store, by_token=by_token)) == keys
        assert keys_on(await walk(store, prefix=b"h/b/", by_token=by_token)) == keys[5:10]
    page = await store.list_page(KeyRange(after=Key(b"h/b/2~")))
    assert paths_of(page.rows) == keys[8:10]
    end = await store.list_page(KeyRange(after=Key(keys[-1])))
    assert (end.entries, end.more, end.first) == (0, False, None)


async def test_a_list_that_cannot_be_had(
    web_server: ScriptedServer,
    web_connection: HTTPConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(errors.NoSuchSource, match="nothing at this address"):
        await opened(web_connection, f"urls+{web_server.url}list")
    with pytest.raises(errors.NoSuchSource, match="there is no such file"):
        await opened(web_connection, f"urls+file://{tmp_path}/list")
    with pytest.raises(errors.NoSuchSource, match="cannot be read"):
        await opened(web_connection, f"urls+file://{tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.NoSuchSource, match="no regular file"):
        await opened(web_connection, f"urls+file://{tmp_path}/pipe")
    monkeypatch.setattr(http, "URL_LIST_BYTES_MAX", 10)
    (tmp_path / "list").write_text("https://host/a\n")
    with pytest.raises(UsageError, match="limit"):
        await opened(web_connection, f"urls+file://{tmp_path}/list")
    web_server.answers["/list"] = response(body=b"https://host/a\n")
    with pytest.raises(UsageError, match="limit for a list of URLs"):
        await opened(web_connection, f"urls+{web_server.url}list")
