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
from indexer.objects import Head
from indexer.protocols import Connection
from indexer.sources import PATH_SAFE, SourceUri, parse_source
from indexer.stores.http import connect
from indexer.testing.store_suite import (
    HOSTILE_KEYS,
    PAGE_ENTRIES_MAX,
    Filled,
    Server,
    StoreSuite,
    fill,
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
        async with connect(page_entries=PAGE_ENTRIES_MAX) as connection:
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
