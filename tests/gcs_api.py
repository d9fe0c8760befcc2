"""A small client of GCS's JSON API for tests: it makes buckets and writes objects.

Invariants
  * It shares no code with the store under test.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from indexer.objects import Head
from indexer.protocols import Connection, GCSOptions
from indexer.sources import SourceUri
from indexer.stores.gcs import GCSConnection, connect
from indexer.stores.gcs_client import EndpointChoice
from indexer.telemetry import Counters
from indexer.testing.store_suite import PAGE_ENTRIES_MAX

TIMEOUT_S = 60.0


class ApiError(Exception):
    """The server did not do what it was asked for."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:200]!r}")
        self.status = status


@dataclass(frozen=True, slots=True)
class GCSApi:
    """Calls to one endpoint."""

    endpoint_url: str

    def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of the answer. Raises `ApiError`."""
        query = urlencode(parameters or {}, quote_via=quote, safe="")
        address = urlsplit(self.endpoint_url)
        assert address.hostname is not None
        connection = HTTPConnection(address.hostname, address.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"{path}?{query}", body, dict(headers or {}))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ApiError(response.status, answer)
        return answer

    def make_bucket(self, *, versioned: bool = False) -> GCSBucket:
        """A bucket of a name never used before."""
        name = f"suite-{uuid4().hex}"
        document = {"name": name, "versioning": {"enabled": versioned}}
        self.call(
            "POST", "/storage/v1/b", {"project": "tests"}, json.dumps(document).encode(), JSON
        )
        return GCSBucket(self, name)


JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class GCSBucket:
    """A bucket under test. See `store_suite.Bucket`."""

    api: GCSApi
    name: str

    def uri(self, key: str = "") -> SourceUri:
        return SourceUri("gs", self.name, key)

    def put(self, key: bytes, body: bytes) -> bool:
        """Writes an object; False where the server does not take the name."""
        try:
            self.write(key, body)
        except ApiError as error:
            if error.status >= 500:
                raise
            return False
        return True

    def write(self, key: bytes, body: bytes, **parameters: str) -> dict[str, Any]:
        """Writes an object, and what the server says of it."""
        sent = {"uploadType": "media", "name": key.decode(), **parameters}
        path = f"/upload/storage/v1/b/{self.name}/o"
        found: dict[str, Any] = json.loads(
            self.api.call("POST", path, sent, body, {"Content-Type": "application/octet-stream"})
        )
        return found

    def delete(self, key: bytes) -> None:
        self.api.call("DELETE", self._path(key))

    def object(self, key: bytes) -> dict[str, Any]:
        """What the server says of an object."""
        found: dict[str, Any] = json.loads(self.api.call("GET", self._path(key)))
        return found

    def head(self, key: bytes) -> Head:
        found = self.object(key)
        return Head(
            size=int(found["size"]),
            version_id=found["generation"],
            last_modified=datetime.fromisoformat(found["updated"]),
        )

    def keep_versions(self) -> None:
        self._set_versioning(on=True)

    def suspend_versions(self) -> None:
        self._set_versioning(on=False)

    def _set_versioning(self, *, on: bool) -> None:
        document = {"versioning": {"enabled": on}}
        self.api.call(
            "PATCH", f"/storage/v1/b/{self.name}", {}, json.dumps(document).encode(), JSON
        )

    def _path(self, key: bytes) -> str:
        return f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}"


@asynccontextmanager
async def connected_to(
    url: str,
    *,
    counters: Counters | None = None,
    is_emulator: bool = True,
    page_rows: int = 50,
    timeout_s: float = 20.0,
    **options: Any,
) -> AsyncIterator[GCSConnection]:
    """A connection to the server at a URL, whose pages are short; `options` are `GCSOptions`."""
    async with connect(
        GCSOptions(**options),
        counters or Counters(),
        endpoint=EndpointChoice(url, "the test", is_emulator=is_emulator),
        page_rows=page_rows,
        timeout_s=timeout_s,
    ) as connection:
        yield connection


@dataclass(frozen=True, slots=True)
class GCS:
    """A server that speaks the JSON API. See `store_suite.Server`."""

    api: GCSApi

    def make_bucket(self) -> GCSBucket:
        return self.api.make_bucket()

    def nowhere(self) -> SourceUri:
        return SourceUri("gs", "no-such-bucket-here", "")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        async with connected_to(self.api.endpoint_url, page_rows=PAGE_ENTRIES_MAX) as connection:
            yield connection
