"""Whole snapshots of servers that misbehave: the version is exactly the truth, or there is none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deploy.s3_server import S3Server
from indexer import errors
from indexer.app import App, SourceOptions, open_app
from indexer.artifact.entries import read_entries
from indexer.errors import IndexerError, LimitExceeded, NoSuchVersion
from indexer.job import Snapshot
from indexer.page import etag_texts
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import Consistency
from indexer.references import parse_name, parse_source
from indexer.stores import s3_client
from indexer.stores.s3_client import S3Options
from indexer.testing.buckets import body_of, etag_of, fill
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.testing.synthetic_s3.state import generated_content
from tests.unit.synthetic_s3_client import client_of
from workers.clock import SystemClock

NAME = parse_name("project/artifact")
KEYS = sorted(
    [b"data/big/%05d.jpg" % number for number in range(700)]
    + [b"data/tree/%02d/%02d/%d" % (a, b, c) for a in range(10) for b in range(10) for c in range(5)]
    + [f"data/odd/{name}".encode() for name in ("a b+c%25", "é", "日本/語", "#?", "\U0001f600", "a&b<")]
    + [b"data/" + b"z" * 200, b"data/one/", b"data/one//two"]
)
PAGES = {"page_keys_max": 100}
"""Small pages, so that few keys make many of them."""

Options = dict[str, Any]


class QuickClock(SystemClock):
    """A clock on which waiting for another attempt takes no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("plain", KEYS)
        server.load("versioned", KEYS, versioned=True)
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticS3) -> None:
    for bucket in ("plain", "versioned"):
        server.faults(bucket)
        server.reset_counters(bucket)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local-server")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-server-secret")
    monkeypatch.setattr(s3_client, "REQUEST_TIMEOUT_S", 0.5)


@dataclass(frozen=True, slots=True)
class Desk:
    """An open data folder, and the server that its snapshots are of."""

    app: App
    endpoint_url: str

    async def snapshot(
        self, source: str = "s3://plain/data/", *, in_flight: int = 16, **request: Any
    ) -> Snapshot:
        options = S3Options(endpoint_url=self.endpoint_url, region="us-east-1")
        asked = SnapshotRequest(parse_source(source), NAME, **request)
        return await self.app.snapshot(asked, SourceOptions(options, in_flight))

    async def rows(self) -> list[dict[str, Any]]:
        """The entries of the newest version."""
        latest = await self.app.catalog.reader.version(NAME, "latest")
        return await self.rows_of(latest.digest)

    async def rows_of(self, digest: str) -> list[dict[str, Any]]:
        manifest = await self.app.catalog.tracker.manifest(digest)
        found: list[dict[str, Any]] = []
        async for table in read_entries(self.app.catalog.content, manifest):
            etags = pa.chunked_array(etag_texts(table)).to_pylist()
            found += [
                {
                    "path": row["path"],
                    "size": row["size"],
                    "etag": etag,
                    "version_id": row.get("version_id"),
                }
                for row, etag in zip(table.to_pylist(), etags, strict=True)
            ]
        return found

    async def has_nothing(self) -> bool:
        """Whether there is no version at all."""
        try:
            await self.app.catalog.reader.version(NAME, "latest")
        except NoSuchVersion:
            return not await self.app.catalog.reader.projects(after=None, limit=9)
        return False


@pytest.fixture
def desk(tmp_path: Path, server: SyntheticS3) -> Callable[[], Any]:
    """Opens a data folder of its own."""

    @asynccontextmanager
    async def open_desk(endpoint_url: str = server.endpoint_url) -> AsyncIterator[Desk]:
        async with open_app(tmp_path / "data", QuickClock()) as app:
            yield Desk(app, endpoint_url)

    return open_desk


def truth(*, versions: bool, keys: Sequence[bytes] = KEYS) -> list[dict[str, Any]]:
    """The entries of a source `…/data/` of generated objects."""
    return [
        {
            "path": key.removeprefix(b"data/"),
            "size": len(content),
            "etag": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "version_id": f"{0:016x}{crc32(key):016x}" if versions else None,
        }
        for key, content in ((key, generated_content(key)) for key in keys)
    ]
