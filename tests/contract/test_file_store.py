"""Folders of this machine keep the contract of `Connection` and `Store`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from indexer.objects import Head
from indexer.protocols import Connection, FileOptions
from indexer.sources import SourceUri
from indexer.stores.file import FileConnection
from indexer.testing.store_suite import PAGE_ENTRIES_MAX, Server, StoreSuite
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of real files, whose keys are their paths in it."""

    path: Path

    def uri(self, key: str = "") -> SourceUri:
        return SourceUri("file", "", f"{self.path}/{key}".lstrip("/"))

    def put(self, key: bytes, body: bytes) -> bool:
        parts = key.split(b"/")
        if {b"", b".", b".."} & set(parts):
            return False
        path = os.path.join(os.fsencode(self.path), key)  # noqa: PTH118 - keys are bytes
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - as above
            # As careful tools do it; a file that is written over in place may keep its time.
            with open(path + b"~new" * (len(parts[-1]) < 250), "wb") as file:  # noqa: PTH123 - as above
                file.write(body)
            os.replace(file.name, path)  # noqa: PTH105 - as above
        except OSError:
            return False
        return True

    def delete(self, key: bytes) -> None:
        (self.path / os.fsdecode(key)).unlink()

    def head(self, key: bytes) -> Head:
        said = (self.path / os.fsdecode(key)).stat()
        return Head(
            size=said.st_size,
            mtime_ns=said.st_mtime_ns,
            last_modified=datetime.fromtimestamp(said.st_mtime, UTC),
        )

    def keep_versions(self) -> None:
        pytest.fail("a file system keeps no versions")

    def suspend_versions(self) -> None:
        pytest.fail("a file system keeps no versions")


class Folders:
    """Folders beside each other, and the connection to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = count()

    def make_bucket(self) -> Folder:
        path = self._path / f"suite-{next(self._numbers)}"
        path.mkdir()
        return Folder(path)

    def nowhere(self) -> SourceUri:
        return Folder(self._path / "no-such-folder-here").uri()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        async with Threads(4) as threads:
            yield FileConnection(threads, FileOptions(), page_entries=PAGE_ENTRIES_MAX)


class TestFile(StoreSuite):
    # Names that are empty or longer than 255 bytes, and files below a file.
    refused_max = 14
    keeps_versions = False
    etags_are_md5 = False
    has_buckets = False

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Server:
        return Folders(tmp_path_factory.mktemp("folders"))
