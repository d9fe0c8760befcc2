"""GCS: a source's objects, five thousand a request, in key order, each with its generation.

Invariants
  * A key that is asked for lies below the source's prefix; what is said of it elsewhere is relative
    to that prefix.
  * Ranges are `(after, through]` here and `[startOffset, endOffset)` there; they are turned into
    one another in `_offsets` and `past` alone.
  * A page token is used with the very offsets that it was given for: both travel together.
  * Live objects alone are listed or, as of a moment, the one generation of each key that was live
    then; of a key whose generations a response has not all told, none is shown yet.
  * The end of a listing is a response without a page token, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Final

from indexer.errors import (
    Ability,
    AccessDenied,
    BrokenListing,
    InvalidSetting,
    NoSuchObject,
    said_of,
)
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange, next_character
from indexer.limits import (
    EMPTY_PAGES_MAX,
    GCS_PAGE_BYTES_MAX,
    GCS_PAGE_ROWS,
    PAGES_PER_TURN_MAX,
    REQUEST_TIMEOUT_S,
)
from indexer.objects import Head, Pin, page_of_heads
from indexer.protocols import (
    GCSOptions,
    Link,
    ListedPage,
    LoneObject,
    OpenedSource,
    Sink,
    StoreProperties,
)
from indexer.sources import SourceUri
from indexer.stores.gcs_client import (
    Access,
    EndpointChoice,
    GCSClient,
    GCSSession,
    open_session,
    quoted,
)
from indexer.stores.gcs_pages import Generations, page_of_rows, past
from indexer.stores.gcs_read import read_object
from indexer.stores.gcs_wire import (
    BUCKET_FIELDS,
    LISTING_FIELDS,
    OBJECT_FIELDS,
    VERSIONS_FIELDS,
    BucketFacts,
    Listing,
    parse_bucket,
    parse_listing,
    parse_object,
)
from indexer.stores.headers import parse_date
from indexer.telemetry import Counters
from workers.clock import Clock, SystemClock
from workers.shared import Shared
from workers.turns import Turns

UNKNOWN: Final = "unknown"

SERIALLY: Final = "The server's listing broke its own rules; it was listed serially."
VERSIONING_UNKNOWN: Final = (
    "Whether the bucket keeps versions is not known (the permission for it is "
    "storage.buckets.get), so objects that were replaced or deleted since may be missing."
)


@asynccontextmanager
async def connect(
    options: GCSOptions,
    counters: Counters,
    *,
    turns: Turns | None = None,
    clock: Clock | None = None,
    sessions: Shared[Access, GCSSession] | None = None,
    endpoint: EndpointChoice | None = None,
    page_rows: int = GCS_PAGE_ROWS,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> AsyncIterator[GCSConnection]:
    """A connection to GCS for as long as the context is open. See `protocols.Connection`.

    Connections of one loop share `turns`, in which they parse pages, and `sessions`. The rest is
    for tests: another endpoint, which is asked with credentials unless it is an emulator, shorter
    pages and waits. Raises `MissingCredentials` and `InvalidSetting`.
    """
    access = Access.of(options, endpoint)
    opening = (
        open_session(access, clock or SystemClock()) if sessions is None else sessions.lease(access)
    )
    async with opening as session:
        client = GCSClient(
            session, counters, user_project=options.user_project, timeout_s=timeout_s
        )
        yield GCSConnection(client, turns or Turns(PAGES_PER_TURN_MAX), page_rows)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a bucket was asked, None where it may not be, and when by the server's clock."""

    facts: BucketFacts | None
    asked_at: datetime | None

    @property
    def versioning(self) -> str:
        if self.facts is None:
            return UNKNOWN
        return "on" if self.facts.keeps_versions else "off"


class GCSConnection:
    """Opens sources on one endpoint with one set of credentials."""

    def __init__(self, client: GCSClient, turns: Turns, page_rows: int = GCS_PAGE_ROWS) -> None:
        self._client = client
        self._turns = turns
        self._page_rows = page_rows

    async def credentials(self) -> str:
        """See `protocols.Connection`."""
        return self._client.credentials

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`. Generations are never done without: they cost nothing."""
        asked = await self._ask_bucket(uri)
        warnings = []
        if as_of is not None:
            _check_versioning(uri, asked)
            if asked.facts is None:
                warnings.append(VERSIONING_UNKNOWN)
        if "parallel" in without:
            warnings.append(SERIALLY)
        endpoint = self._client.endpoint
        folder = uri.folder
        store = self._store(folder.bucket, folder.key, as_of, parallel="parallel" not in without)
        return OpenedSource(
            folder=str(folder),
            store=store,
            record={
                "uri": str(folder),
                "endpoint": endpoint.url,
                "endpoint_from": endpoint.origin,
                "location": UNKNOWN if asked.facts is None else asked.facts.location,
                "server": "emulator" if endpoint.is_emulator else "GCS",
                "versioning": asked.versioning,
                "operation": "objects.list" if as_of is None else "objects.list of versions",
            },
            warnings=tuple(warnings),
            opened_at=asked.asked_at,
        )

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        if uri.names_folder:
            return None
        if as_of is not None:
            _check_versioning(uri, await self._ask_bucket(uri))
        store = self._store(uri.bucket, uri.parent.key, as_of)
        path = uri.last_component
        try:
            head = await store.head(Key(path))
        except (NoSuchObject, AccessDenied):
            # Without the right to read objects a request is denied, whether there is one or not.
            return None
        return LoneObject(page_of_heads([(path, head)]), store)

    async def objects(self, uri: SourceUri) -> GCSStore:
        """See `protocols.Connection`."""
        return self._store(uri.bucket, uri.parent.key, None)

    def _store(
        self, bucket: str, prefix: str, as_of: datetime | None, *, parallel: bool = True
    ) -> GCSStore:
        properties = StoreProperties(
            KEY_BYTES_MAX - len(prefix.encode()), parallel=parallel, versions=True, links=True
        )
        place = Place(bucket, prefix, self._page_rows, as_of)
        return GCSStore(self._client, place, properties, self._turns)

    async def _ask_bucket(self, uri: SourceUri) -> _Asked:
        """Raises `NoSuchSource`; who may list a bucket need not have the right to ask for it."""
        said = f"{uri.scheme}://{uri.bucket}"
        answer = await self._client.ask(
            f"b/{quoted(uri.bucket)}",
            {"fields": BUCKET_FIELDS, "prettyPrint": "false"},
            uri=said,
            asked="bucket",
            allowed={HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN},
        )
        asked_at = parse_date(answer.headers.get("Date"))
        if answer.status == HTTPStatus.OK:
            with self._client.understood(answer, uri=said, asked="bucket"):
                return _Asked(parse_bucket(answer.body), asked_at)
        error = self._client.error_of(answer, uri=said, asked="bucket")
        is_let_in = answer.status == HTTPStatus.FORBIDDEN or self._client.is_anonymous
        if isinstance(error, AccessDenied) and is_let_in:
            return _Asked(None, asked_at)
        raise error


def _check_versioning(uri: SourceUri, asked: _Asked) -> None:
    if asked.facts is not None and not asked.facts.keeps_versions:
        raise InvalidSetting(
            f"{uri}: the bucket {uri.bucket} keeps no versions, so what it held at an earlier "
            f"moment is not known. Turn on Object Versioning for the future, or leave the time out."
        )


@dataclass(frozen=True, slots=True)
class Place:
    """What a store shows: the objects below a prefix, now or as of a moment, so many a page."""

    bucket: str
    prefix: str
    page_rows: int
    as_of: datetime | None = None

    @property
    def uri(self) -> str:
        """The folder's canonical URI."""
        return f"gs://{self.bucket}/{self.prefix}"


class GCSStore:
    """The objects of one place. See `protocols.Store`."""

    def __init__(
        self, client: GCSClient, place: Place, properties: StoreProperties, turns: Turns
    ) -> None:
        assert place.page_rows > 0
        self._client = client
        self._place = place
        self._properties = properties
        self._turns = turns

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        if self._place.as_of is not None:
            return await self._page_as_of(keys, prefix, token)
        if token is None:
            offsets, cursor = self._offsets(keys), None
        else:
            cursor, offsets = json.loads(token)
        listing = await self._list(prefix, offsets, cursor)
        rows = listing.rows if token is not None else past(listing.rows, keys.after)
        return page_of_rows(rows, rows, listing.token and json.dumps([listing.token, offsets]))

    async def _page_as_of(self, keys: KeyRange, prefix: Key, token: str | None) -> ListedPage:
        """The generations that were live at the moment.

        A response may end between the generations of a key. Such a key is left to the next page,
        which begins after the last key that was told whole; responses are asked for until there is
        one. So the token is that key, and the server's own are used within a call alone.
        """
        after = keys.after if token is None else Key(json.loads(token).encode())
        offsets = self._offsets(KeyRange(after, keys.through))
        cursor: str | None = None
        told = Generations(after)
        for _ in range(EMPTY_PAGES_MAX):
            listing = await self._list(prefix, offsets, cursor)
            if listing.token is not None and listing.token == cursor:
                break
            cursor = listing.token
            with said_of(self._place.uri):
                page = told.page(listing)
            if page is not None:
                return page
        raise BrokenListing(f"{self._place.uri}: the server tells of the same key for ever")

    async def _list(self, below: Key, offsets: Mapping[str, str], cursor: str | None) -> Listing:
        is_as_of = self._place.as_of is not None
        parameters = {
            "prefix": self._name(below),
            **offsets,
            "maxResults": str(self._place.page_rows),
            "projection": "noAcl",
            "fields": VERSIONS_FIELDS if is_as_of else LISTING_FIELDS,
            "prettyPrint": "false",
        }
        if is_as_of:
            parameters["versions"] = "true"
        if cursor is not None:
            parameters["pageToken"] = cursor
        answer = await self._client.ask(
            f"b/{quoted(self._place.bucket)}/o",
            parameters,
            uri=self._place.uri,
            asked="listing",
            bytes_max=GCS_PAGE_BYTES_MAX,
        )
        await self._turns.take()
        with self._client.understood(answer, uri=self._place.uri, asked="listing"):
            return parse_listing(answer.body, self._place.prefix.encode(), as_of=self._place.as_of)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`; a checksum is always told."""
        del checksum
        if self._place.as_of is not None and version_id is None:
            return await self._head_as_of(key)
        parameters = {"fields": OBJECT_FIELDS, "prettyPrint": "false"}
        if version_id is not None:
            parameters["generation"] = version_id
        uri = self._uri_of(key)
        answer = await self._client.ask(self._path(key), parameters, uri=uri, asked="object")
        with self._client.understood(answer, uri=uri, asked="object"):
            return parse_object(answer.body)

    async def _head_as_of(self, key: Key) -> Head:
        keys = KeyRange(None, key)
        token: str | None = None
        while True:
            # All that is listed begins with the key, so it comes first, if there is any of it.
            page = await self._page_as_of(keys, key, token)
            if page.rows.num_rows and page.rows.column("path")[0].as_py() == key:
                version_id = page.rows.column("version_id")[0].as_py()
                return await self.head(key, version_id=version_id)
            if page.entries or not page.more:
                raise NoSuchObject(f"{self._uri_of(key)}: there was no such object at that time.")
            token = page.token

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        if self._place.as_of is not None and pin.version_id is None:
            head = await self._head_as_of(key)
            pin = replace(pin, version_id=head.version_id)
        await read_object(
            self._client, self._path(key), self._uri_of(key), pin, sink, start=start, end=end
        )

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link:
        """See `protocols.Linking`."""
        place = self._place
        return self._client.link(place.bucket, self._name(key), pin.version_id, expires_s=expires_s)

    def _offsets(self, keys: KeyRange) -> dict[str, str]:
        """The range as GCS takes it.

        `startOffset` is the first name that may come, so that the key before the range comes too
        and is left out by `past`. `endOffset` is the first name that may not; what comes beyond
        the range is left to the caller.
        """
        offsets = {}
        if keys.after is not None:
            offsets["startOffset"] = self._name(keys.after)
        if keys.through is not None and (beyond := name_beyond(self._name(keys.through))):
            offsets["endOffset"] = beyond
        return offsets

    def _name(self, relative: Key) -> str:
        try:
            return self._place.prefix + relative.decode()
        except UnicodeDecodeError as error:
            raise BrokenListing(
                f"{self._place.uri}: the server lists {relative!r}, no UTF-8"
            ) from error

    def _path(self, key: Key) -> str:
        return f"b/{quoted(self._place.bucket)}/o/{quoted(self._name(key))}"

    def _uri_of(self, key: Key) -> str:
        return self._place.uri + key.decode("utf-8", "replace")


def name_beyond(name: str) -> str | None:
    """A name that is greater than `name`, and no greater than it has to be; None if there is none.

    The next one of all would be the name and U+0000, which no request should hold; nothing but
    names with U+0000 in them lies between that and the name with U+0001. Where that is too long, a
    character is replaced by the next one.
    """
    if len(name.encode()) < KEY_BYTES_MAX:
        return name + "\x01"
    for end in reversed(range(len(name))):
        following = next_character(name[end])
        if following is not None and len((name[:end] + following).encode()) <= KEY_BYTES_MAX:
            return name[:end] + following
    return None
