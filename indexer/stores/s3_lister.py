"""The two list operations of S3 on one prefix of one bucket.

Invariants
  * A key that is asked for is told relative to the prefix, and lies below it.
  * What comes back is a listing: an error inside of a 200 response is raised.
  * Making a request and parsing a page block the loop for some milliseconds each; of both, all jobs
    together do only so many in one turn of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from indexer.errors import AccessDenied, BrokenListing, VersionsDenied, said_of
from indexer.keyspace import Key
from indexer.limits import PAGE_ROWS
from indexer.stores.s3_errors import server_error, translated
from indexer.stores.s3_wire import Listing, Operation, error_in, parse_listing
from workers.turns import Turns


class S3Lister:
    """The two list operations on one prefix of one bucket."""

    def __init__(
        self, client: Any, bucket: str, prefix: str, payer: str | None, turns: Turns
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._payer = payer
        self._turns = turns
        self.prefix = prefix

    @property
    def uri(self) -> str:
        """The folder's canonical URI."""
        return f"s3://{self._bucket}/{self.prefix}"

    @staticmethod
    def operation(*, versions: bool) -> Operation:
        """The name of the operation that lists objects, or versions."""
        return "ListObjectVersions" if versions else "ListObjectsV2"

    async def list(
        self,
        *,
        versions: bool,
        after: Key | None,
        below: Key = Key(b""),
        token: str | None = None,
        rows: int = PAGE_ROWS,
    ) -> Listing:
        """One response: at most `rows` keys after `after`, all below `below`."""
        parameters: dict[str, Any] = {
            "Bucket": self._bucket,
            "Prefix": self._key(below),
            "MaxKeys": rows,
            "EncodingType": "url",
        }
        if self._payer:
            parameters["RequestPayer"] = self._payer
        if versions:
            parameters |= self._version_markers(after, token)
            call = self._client.list_object_versions
        else:
            if token is not None:
                parameters["ContinuationToken"] = token
            elif after is not None:
                parameters["StartAfter"] = self._key(after)
            call = self._client.list_objects_v2
        await self._turns.take()
        try:
            with translated(self.uri):
                body: bytes = (await call(**parameters))["Body"]
        except AccessDenied as error:
            if versions:
                raise VersionsDenied(str(error)) from error
            raise
        if said := error_in(body):
            raise server_error(self.uri, *said)
        await self._turns.take()
        with said_of(self.uri):
            return parse_listing(body, self.operation(versions=versions), self.prefix.encode())

    def _version_markers(self, after: Key | None, token: str | None) -> Mapping[str, str]:
        if token is not None:
            key, version = json.loads(token)
            return {"KeyMarker": key} | ({"VersionIdMarker": version} if version else {})
        return {} if after is None else {"KeyMarker": self._key(after)}

    def _key(self, relative: Key) -> str:
        try:
            return self.prefix + relative.decode()
        except UnicodeDecodeError as error:
            raise BrokenListing(f"{self.uri}: the server lists {relative!r}, no UTF-8") from error
