"""The list operations of S3 on one prefix of one bucket.

Invariants
  * A key that is asked for is told relative to the prefix, and lies below it.
  * What comes back is a listing: an error inside of a 200 response is raised.
  * Making a request and parsing a page block the loop for some milliseconds each; of both, all jobs
    together do only so many in one turn of it.
  * Where a moment is asked for, versions of that moment come or an error: never what is there now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from indexer.errors import (
    AccessDenied,
    BrokenListing,
    UsageError,
    VersionsDenied,
    said_of,
)
from indexer.keyspace import Key
from indexer.limits import PAGE_ROWS, VERSION_PAGES_MAX
from indexer.stores.s3_errors import server_error
from indexer.stores.s3_list_requests import Lists
from indexer.stores.s3_versions import VersionOrder
from indexer.stores.s3_wire import (
    Listing,
    Operation,
    Question,
    error_in,
    parse_listing,
    parse_order,
)
from workers.turns import Turns

_BEGINNING: Final[Mapping[Operation, str]] = {
    "ListObjects": "Marker",
    "ListObjectsV2": "StartAfter",
    "ListObjectVersions": "KeyMarker",
}
_GOING_ON: Final[Mapping[Operation, str]] = {
    "ListObjects": "Marker",
    "ListObjectsV2": "ContinuationToken",
}


class S3Lister:
    """The list operations on one prefix of one bucket.

    Where `has_v2` is false, objects are listed by ListObjects. With `as_of`, versions are those of
    that moment.
    """

    def __init__(
        self,
        requests: Lists,
        bucket: str,
        prefix: str,
        turns: Turns,
        *,
        as_of: datetime | None = None,
    ) -> None:
        self._requests = requests
        self._bucket = bucket
        self._turns = turns
        self._as_of = as_of
        self.prefix = prefix
        self.has_v2 = True

    @property
    def uri(self) -> str:
        """The canonical URI of what is listed."""
        return f"s3://{self._bucket}/{self.prefix}"

    def operation(self, *, versions: bool) -> Operation:
        """The name of the operation that lists objects, or versions."""
        if versions:
            return "ListObjectVersions"
        return "ListObjectsV2" if self.has_v2 else "ListObjects"

    async def list(
        self,
        *,
        versions: bool,
        after: Key | None,
        below: Key = Key(b""),
        token: str | None = None,
        rows: int = PAGE_ROWS,
    ) -> Listing:
        """One response: at most `rows` keys after `after`, all below `below`.

        Raises `UnknownOperation` where the server does not know the operation.
        """
        operation = self.operation(versions=versions)
        told: Key | None = None
        if token is not None:
            place, told = self._going_on(operation, token)
        else:
            place = {} if after is None else {_BEGINNING[operation]: self._key(after)}
            # Some servers begin with the very key that they are to begin after.
            told = after
        body = await self._ask(operation, below, place, rows)
        with said_of(self.uri), self._as_asked():
            question = Question(operation, self.prefix.encode(), told, self._as_of)
            listing = parse_listing(body, question)
        return self._with_told(listing, listing.last or told) if versions else listing

    async def list_decided(
        self,
        *,
        versions: bool,
        after: Key | None,
        below: Key = Key(b""),
        token: str | None = None,
        rows: int = PAGE_ROWS,
    ) -> Listing:
        """Like `list`, but goes on while nothing that came decides on a key that was not told yet.

        Raises `UsageError` when there are too many of them.
        """
        listing = await self.list(
            versions=versions, after=after, below=below, token=token, rows=rows
        )
        pages = 1
        while listing.is_undecided and listing.more:
            if listing.token in (None, token):
                raise BrokenListing(f"{self.uri}: the server does not go on when asked to")
            if pages == VERSION_PAGES_MAX:
                raise UsageError(
                    f"{self.uri}: {listing.keys[-1]!r} has more than {pages * rows:,} versions "
                    f"after that moment, too many to look through. Choose a later one."
                )
            token = listing.token
            following = await self.list(
                versions=versions, after=None, below=below, token=token, rows=rows
            )
            listing = replace(
                following,
                entries=listing.entries + following.entries,
                keys=[*listing.keys[-1:], *following.keys],
                first_is_latest=listing.first_is_latest,
            )
            pages += 1
        return listing

    async def version_order(
        self, *, after: Key | None = None, rows: int = PAGE_ROWS
    ) -> tuple[VersionOrder | None, Sequence[bytes]]:
        """In which order versions are listed, if one page shows it, and the keys of that page."""
        place = {} if after is None else {"KeyMarker": self._key(after)}
        body = await self._ask("ListObjectVersions", Key(b""), place, rows)
        with said_of(self.uri):
            return parse_order(body, self.prefix.encode())

    async def _ask(
        self, operation: Operation, below: Key, place: Mapping[str, str], rows: int
    ) -> bytes:
        """The body that answers."""
        parameters: dict[str, str | int] = {
            "Prefix": self._key(below),
            "MaxKeys": rows,
            "EncodingType": "url",
            **place,
        }
        await self._turns.take()
        with self._denials(operation), said_of(self.uri):
            body = await self._requests.ask(operation, self.uri, parameters)
            if said := error_in(body):
                raise server_error(self.uri, *said)
        await self._turns.take()
        return body

    @contextmanager
    def _denials(self, operation: Operation) -> Iterator[None]:
        """Tells what it means that versions may not be listed."""
        try:
            yield
        except AccessDenied as error:
            if operation != "ListObjectVersions":
                raise
            if self._as_of is None:
                raise VersionsDenied(str(error)) from error
            raise AccessDenied(
                f"{error} What was there at an earlier moment is known from versions alone, which "
                f"need s3:ListBucketVersions."
            ) from error

    @contextmanager
    def _as_asked(self) -> Iterator[None]:
        """Lets no job do without versions when it asked for a moment."""
        try:
            yield
        except BrokenListing as error:
            if self._as_of is not None and error.do_without == "versions":
                error.do_without = None
            raise

    def _going_on(self, operation: Operation, token: str) -> tuple[Mapping[str, str], Key | None]:
        """The parameters by which a listing goes on, and the key that was told already."""
        if operation != "ListObjectVersions":
            return {_GOING_ON[operation]: token}, None
        key, version, *told = json.loads(token)
        place = {"KeyMarker": key} | ({"VersionIdMarker": version} if version else {})
        return place, Key(bytes.fromhex(told[0])) if told else None

    @staticmethod
    def _with_told(listing: Listing, told: Key | None) -> Listing:
        """The listing, its token saying which key is not to be told again."""
        if listing.token is None or told is None:
            return listing
        return replace(listing, token=json.dumps([*json.loads(listing.token), told.hex()]))

    def _key(self, relative: Key) -> str:
        try:
            return self.prefix + relative.decode()
        except UnicodeDecodeError as error:
            raise BrokenListing(f"{self.uri}: the server lists {relative!r}, no UTF-8") from error
