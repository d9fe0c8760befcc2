"""Web servers keep the contract of `Connection` and `Store`: nginx, Apache and Python's own.

Invariants
  * The servers are real ones, each with every format of its index pages.
  * Keys that a file system or a server cannot have are refused when they are put, so many exactly.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from deploy.web_server import Kind
from indexer.errors import UsageError
from indexer.keyspace import Key
from indexer.objects import Head, Pin
from indexer.protocols import Connection
from indexer.sources import PATH_SAFE, SourceUri, parse_source
from indexer.stores.http import connect
from indexer.stores.http_index import NoIndexPage
from indexer.telemetry import Counters
from indexer.testing.store_suite import (
    HOSTILE_KEYS,
    PAGE_ENTRIES_MAX,
    Filled,
    Server,
    StoreSuite,
    fill,
    keys_on,
    read,
    walk,
)
from tests.conftest import WebFolder

Start = Callable[[Kind], WebFolder]


@dataclass(frozen=True, slots=True)
class ServedFolder:
    """A folder that a web server shows; `hides_dots` says that it does not list names like .a."""

    folder: Path
    url: str
    hides_dots: bool

    def uri(self, key: str = "") -> SourceUri:
        return parse_source(self.url + quote(key.encode(), safe=PATH_SAFE))

    def put(self, key: bytes, body: bytes) -> bool:
        parts = key.decode().split("/")
        if "" in parts or (self.hides_dots and any(part.startswith(".") for part in parts)):
            return False
        path = self.folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.stat().st_mtime if path.exists() else None
            path.write_bytes(body)
            if before is not None:
                # Of a file that is written anew within a second servers say the same as before.
                os.utime(path, (before + 1, before + 1))
        except OSError:  # a file lies where a folder would have to, or a name is too long
            return False
        return True

    def delete(self, key: bytes) -> None:
        (self.folder / key.decode()).unlink()

    def head(self, key: bytes) -> Head:
        request = urllib.request.Request(str(self.uri(key.decode())), method="HEAD")  # noqa: S310 - a server on loopback
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            etag = answer.headers["ETag"]
            return Head(
                # Apache leaves it out where there is nothing.
                size=int(answer.headers["Content-Length"] or 0),
                etag=etag and (etag if etag.startswith("W/") else etag.strip('"')),
                last_modified=parsedate_to_datetime(answer.headers["Last-Modified"]),
            )

    def keep_versions(self) -> None:
        raise AssertionError

    def suspend_versions(self) -> None:
        raise AssertionError


@dataclass(frozen=True, slots=True)
class ServedFolders:
    """A web server of which every bucket is a folder."""

    web: WebFolder
    style: str
    hides_dots: bool = False

    def make_bucket(self) -> ServedFolder:
        name = f"suite-{uuid4().hex}"
        folder = self.web.folder / name
        folder.mkdir()
        return ServedFolder(folder, f"{self.web.server.urls[self.style]}{name}/", self.hides_dots)

    def nowhere(self) -> SourceUri:
        raise AssertionError

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        async with connect(Counters(), page_entries=PAGE_ENTRIES_MAX) as connection:
            yield connection


class WebSuite(StoreSuite):
    keeps_versions = False
    etags_are_md5 = False
    has_buckets = False

    # Empty components, names of more than 255 bytes, and what lies below a file.
    refused_max = 14

    async def test_no_more_keys_are_refused_than_must_be(self, hostile: Filled) -> None:
        assert len(hostile.refused) == self.refused_max
        assert len(hostile.keys) + self.refused_max == len(HOSTILE_KEYS)


class TestNginx(WebSuite):
    refused_max = 17  # and those that begin with a dot

    @pytest.fixture(scope="class", params=["html", "json", "bare"])
    @classmethod
    def server(cls, web_folder: Start, request: pytest.FixtureRequest) -> Server:
        return ServedFolders(web_folder("nginx"), request.param, hides_dots=True)


class TestApache(WebSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def hostile(cls, server: Server) -> Filled:
        filled = fill(server.make_bucket(), HOSTILE_KEYS)
        # Within a second of a file's time its ETag is a weak one, and then becomes a strong one.
        time.sleep(1.2)
        return filled

    @pytest.fixture(scope="class", params=["plain", "pre", "table"])
    @classmethod
    def server(cls, web_folder: Start, request: pytest.FixtureRequest) -> Server:
        return ServedFolders(web_folder("apache"), request.param)


class TestPython(WebSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, web_folder: Start) -> Server:
        return ServedFolders(web_folder("python"), "python")


# --- names that are no text ----------------------------------------------------------------------

NAMES = (b"\xff\xfe", b"caf\xe9/\xe9t\xe9", b"a\xc3", b"\xed\xb3\xbf", b"ok/\xf0\x9f", "é".encode())


@pytest.mark.parametrize(
    ("kind", "style"),
    [("nginx", "html"), ("nginx", "json"), ("apache", "pre"), ("apache", "table")],
)
async def test_names_that_are_no_text(web_folder: Start, kind: Kind, style: str) -> None:
    bucket = ServedFolders(web_folder(kind), style).make_bucket()
    for name in NAMES:
        path = os.path.join(os.fsencode(bucket.folder), name)  # noqa: PTH118 - of bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - of bytes
        with open(path, "wb") as file:  # noqa: ASYNC230, PTH123 - of bytes
            file.write(name)
    async with connect(Counters()) as connection:
        store = (await connection.open(bucket.uri())).store
        assert keys_on(await walk(store)) == sorted(NAMES)
        for name in NAMES:
            head = await store.head(Key(name))
            assert await read(store, name, Pin(head.size, head.etag)) == name
            assert head.uri is None


async def test_names_that_are_no_text_are_others_to_python(web_folder: Start) -> None:
    bucket = ServedFolders(web_folder("python"), "python").make_bucket()
    (bucket.folder / os.fsdecode(b"\xff")).write_bytes(b"abc")
    async with connect(Counters()) as connection:
        store = (await connection.open(bucket.uri())).store
        # It quotes what Python makes of such a name, and knows it by that.
        assert keys_on(await walk(store)) == [b"\xed\xb3\xbf"]
        assert await read(store, b"\xed\xb3\xbf", Pin(3)) == b"abc"


@pytest.mark.parametrize("kind", ["nginx", "apache"])
async def test_a_folder_with_a_page_of_its_own_is_refused(web_folder: Start, kind: Kind) -> None:
    web = web_folder(kind)
    for style in web.server.urls:
        bucket = ServedFolders(web, style).make_bucket()
        bucket.put(b"site/index.html", b"<html><title>Welcome</title></html>")
        async with connect(Counters()) as connection:
            store = (await connection.open(bucket.uri())).store
            if kind == "nginx":
                with pytest.raises(NoIndexPage, match="site/ is no index page that is known"):
                    await walk(store)
            else:  # it is told to show the folder all the same
                assert keys_on(await walk(store)) == [b"site/index.html"]


async def test_a_link_to_a_folder_above_is_refused(web_folder: Start) -> None:
    bucket = ServedFolders(web_folder("nginx"), "html").make_bucket()
    bucket.put(b"a/b", b"")
    (bucket.folder / "a" / "up").symlink_to("..")
    async with connect(Counters()) as connection:
        store = (await connection.open(bucket.uri())).store
        with pytest.raises(UsageError, match="a link leads to a folder above"):
            await walk(store)
