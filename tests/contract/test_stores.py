"""The stores that need no service of a cloud keep the contract of `Connection` and `Store`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from deploy.s3_server import S3Server
from indexer.errors import Ability, InvalidSetting
from indexer.keyspace import KEY_BYTES_MAX
from indexer.objects import Head
from indexer.protocols import (
    Connection,
    LoneObject,
    OpenedSource,
    S3Options,
    Store,
    StoreProperties,
)
from indexer.sources import SourceUri
from indexer.stores.memory import MemoryConnection, MemoryFacts, MemoryObject
from indexer.stores.s3 import connect
from indexer.stores.s3_list_requests import ListRequests, Parameters
from indexer.stores.s3_wire import Operation
from indexer.telemetry import Counters
from indexer.testing.past_suite import PastSuite
from indexer.testing.store_suite import PAGE_ENTRIES_MAX, Server, StoreSuite, keys_on, walk
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.unit.synthetic_s3_client import client_of

CHANGED_BY_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")
"""Characters that XML cannot hold, and the one that servers put in their place."""


class MemoryBucket:
    """A bucket in memory; ids of versions are numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[bytes, MemoryObject | None] = {}
        self.versioning = ""
        self._ids = count(1)

    def uri(self, key: str = "") -> SourceUri:
        return SourceUri("s3", self.name, key)

    def put(self, key: bytes, body: bytes) -> bool:
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        version_id = {"Enabled": str(next(self._ids)), "Suspended": "null"}.get(self.versioning)
        now = datetime.now(UTC).replace(microsecond=0)
        self.objects[key] = MemoryObject(len(body), etag, now, version_id, body=body)
        return True

    def delete(self, key: bytes) -> None:
        self.objects[key] = None

    def head(self, key: bytes) -> Head:
        found = self.objects[key]
        assert found is not None
        return found.head

    def suspend_versions(self) -> None:
        self.versioning = "Suspended"

    def keep_versions(self) -> None:
        self.versioning = "Enabled"
        for key, found in self.objects.items():
            if found is not None and found.version_id is None:
                self.objects[key] = replace(found, version_id="null")


class MemoryServer:
    """Buckets in memory, and the connection to them."""

    def __init__(self) -> None:
        self._buckets: dict[str, MemoryBucket] = {}

    def make_bucket(self) -> MemoryBucket:
        bucket = MemoryBucket(f"suite-{len(self._buckets)}")
        self._buckets[bucket.name] = bucket
        return bucket

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        yield self

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        return await self._connection(uri).open(uri, without=without, as_of=as_of)

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        return await self._connection(uri).lone_object(uri, as_of=as_of)

    async def objects(self, uri: SourceUri) -> Store:
        return await self._connection(uri).objects(uri)

    async def credentials(self) -> str:
        return "none"

    def nowhere(self) -> SourceUri:
        return SourceUri("s3", "no-such-bucket-here", "")

    def _connection(self, uri: SourceUri) -> MemoryConnection:
        bucket = self._buckets.get(uri.bucket)
        is_versioned = bucket is not None and bool(bucket.versioning)
        buckets = {} if bucket is None else {bucket.name: bucket.objects}
        return MemoryConnection(
            buckets, StoreProperties(KEY_BYTES_MAX, versions=is_versioned), PAGE_ENTRIES_MAX
        )


class TestMemoryStore(StoreSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Server:
        return MemoryServer()


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """A bucket of a server that speaks S3, filled by boto3."""

    name: str
    client: Any
    keys_put: set[bytes] = field(default_factory=set)

    def uri(self, key: str = "") -> SourceUri:
        return SourceUri("s3", self.name, key)

    def put(self, key: bytes, body: bytes) -> bool:
        try:
            self.client.put_object(Bucket=self.name, Key=key.decode(), Body=body)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise
            return False
        return True

    def delete(self, key: bytes) -> None:
        self.client.delete_object(Bucket=self.name, Key=key.decode())

    def head(self, key: bytes) -> Head:
        head = self.client.head_object(Bucket=self.name, Key=key.decode())
        return Head(
            size=head["ContentLength"],
            etag=head["ETag"].strip('"'),
            last_modified=head["LastModified"],
            version_id=head.get("VersionId"),
        )

    def keep_versions(self) -> None:
        self._set_versioning("Enabled")

    def suspend_versions(self) -> None:
        self._set_versioning("Suspended")

    def _set_versioning(self, status: str) -> None:
        configuration = {"Status": status}
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration=configuration)


class MinIOBucket(S3Bucket):
    """MinIO stores `/a` as `a`, and never lists what lies below an object (`a/b` beside `a`)."""

    def put(self, key: bytes, body: bytes) -> bool:
        parts = key.removesuffix(b"/").split(b"/")
        ancestors = {b"/".join(parts[:end]) for end in range(1, len(parts))}
        if ancestors & {b"", *self.keys_put}:
            return False
        if not super().put(key, body):
            return False
        self.keys_put.add(key)
        return True


class VersitygwBucket(MinIOBucket):
    """Versity's gateway keeps objects as files, too, and lists keys without URL-encoding them."""

    def put(self, key: bytes, body: bytes) -> bool:
        is_changed = b"//" in key or CHANGED_BY_XML.search(key.decode()) is not None
        return not is_changed and super().put(key, body)


_ask = ListRequests.ask


async def ask_short_page(
    self: ListRequests, operation: Operation, uri: str, parameters: Parameters
) -> bytes:
    """Asks for a page of few entries."""
    rows = min(int(parameters["MaxKeys"]), PAGE_ENTRIES_MAX)
    return await _ask(self, operation, uri, {**parameters, "MaxKeys": rows})


@dataclass(frozen=True, slots=True)
class S3:
    """A server that speaks S3, with boto3's client of it."""

    client: Any
    endpoint_url: str
    kind: type[S3Bucket] = S3Bucket

    def make_bucket(self) -> S3Bucket:
        name = f"suite-{uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return self.kind(name, self.client)

    def nowhere(self) -> SourceUri:
        return SourceUri("s3", "no-such-bucket-here", "")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        options = S3Options(endpoint_url=self.endpoint_url, region="us-east-1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ListRequests, "ask", ask_short_page)
            async with connect(options, MemoryFacts(), Counters()) as connection:
                yield connection


@pytest.fixture(scope="module", autouse=True)
def credentials(_clean_environment: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "local-server")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "local-server-secret")
        yield


class TestMinIO(PastSuite):
    # Empty components, those of more than 255 bytes, and what lies below an object.
    refused_max = 12

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, minio: S3Server, s3_client: Callable[[S3Server], Any]) -> Server:
        return S3(s3_client(minio), minio.endpoint_url, MinIOBucket)


class TestMoto(StoreSuite):
    # Keys with line feeds.
    refused_max = 2
    # It lists delete markers after all versions, not where their keys stand.
    keeps_versions = False

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, moto_server: S3Server, s3_client: Callable[[S3Server], Any]) -> Server:
        return S3(s3_client(moto_server), moto_server.endpoint_url)


class TestSyntheticS3(PastSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[Server]:
        with SyntheticS3() as server:
            yield S3(client_of(server), server.endpoint_url)


class TestVersitygw(StoreSuite):
    # Keys that are changed on their way through XML, empty components and those of more than 255
    # bytes, and what lies below an object.
    refused_max = 17
    # It lists them, but not all of them where a page begins with a version.
    keeps_versions = False

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, versitygw: S3Server, s3_client: Callable[[S3Server], Any]) -> Server:
        return S3(s3_client(versitygw), versitygw.endpoint_url, VersitygwBucket)

    async def test_its_versions_are_not_relied_on(
        self, connection: Connection, server: Server
    ) -> None:
        bucket = server.make_bucket()
        bucket.keep_versions()
        for key in (b"a", b"b", b"b", b"c", b"d"):
            bucket.put(key, key)
        bucket.delete(b"c")
        source = await connection.open(bucket.uri())
        assert not source.store.properties.versions
        assert len(source.warnings) == 1
        assert source.record["versioning"] == "on"
        assert keys_on(await walk(source.store)) == [b"a", b"b", b"d"]
        with pytest.raises(InvalidSetting, match="leave --as-of out"):
            await connection.open(bucket.uri(), as_of=datetime.now(UTC))
