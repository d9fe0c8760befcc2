"""What tests of the store for web servers share: an object, a folder, how they are asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

import pytest

from indexer.errors import IndexerError
from indexer.keyspace import Key
from indexer.protocols import OpenedSource, Store
from indexer.sources import parse_source
from indexer.stores.http import HTTPConnection, HTTPStore
from tests.unit.scripted_web_server import (
    Request,
    Scripted,
    ScriptedServer,
    index,
    response,
)

TIMEOUT_S = 20.0
TIMEOUT_SHORT_S = 0.5
"""Where a server makes us wait, and long enough for one that does not."""
HUNG_S = 60.0

MODIFIED = "Tue, 24 Nov 2026 12:00:00 GMT"
MODIFIED_NS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9

BODY = bytes(range(256)) * 2_000


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
