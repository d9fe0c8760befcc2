"""S3 and what speaks it: a source's objects, a thousand a request, in key order.

Invariants
  * A key that is asked for lies below the source's prefix; what is said of it elsewhere is relative
    to that prefix.
  * Version ids come from ListObjectVersions, of which the newest version of a key, or the newest
    one of a moment, is kept if it is an object. A page begins after a key, never between its
    versions, unless the server's own cursor says so.
  * What a server does not honour is known before it is relied on: from its name, or from a probe
    whose answers are kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from indexer.errors import (
    Ability,
    AccessDenied,
    BrokenListing,
    NotFound,
    StoreUnavailable,
)
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.limits import PAGE_ROWS, PAGES_PER_TURN_MAX
from indexer.objects import Head, Pin, page_of_heads
from indexer.page import Page, make_page, paths_of
from indexer.protocols import (
    EndpointFacts,
    Link,
    ListedPage,
    LoneObject,
    OpenedSource,
    S3Options,
    Sink,
    StoreProperties,
)
from indexer.sources import SourceUri
from indexer.stores.s3_clients import ClientPool, CountedClient, SharedClient
from indexer.stores.s3_endpoint import chosen_endpoint
from indexer.stores.s3_list_requests import ListRequests
from indexer.stores.s3_lister import S3Lister
from indexer.stores.s3_minio import Directories
from indexer.stores.s3_objects import S3Objects
from indexer.stores.s3_probe import (
    Facts,
    ProbingLister,
    known_facts,
    probe,
    probe_versions,
    read_facts,
)
from indexer.stores.s3_requests import Caller
from indexer.stores.s3_versioning import ask_versioning, check_moment, check_order
from indexer.telemetry import Counters
from workers.clock import SystemClock
from workers.turns import Turns

UNLISTED_VERSIONS: Final = (
    "Versions cannot be listed ({reason}), so entries are identified by ETag; the permission for "
    "it is s3:ListBucketVersions."
)


@asynccontextmanager
async def connect(
    options: S3Options,
    facts: EndpointFacts,
    counters: Counters,
    *,
    turns: Turns | None = None,
    clients: ClientPool | None = None,
) -> AsyncIterator[S3Connection]:
    """A connection to S3 for as long as the context is open. See `protocols.Connection`.

    Connections of one loop share `turns`, in which they ask for pages and parse them, and
    `clients`.
    """
    turns = turns or Turns(PAGES_PER_TURN_MAX)
    async with AsyncExitStack() as stack:
        if clients is None:
            clients = await stack.enter_async_context(ClientPool.open(SystemClock(), turns))
        shared = await stack.enter_async_context(clients.lease(options))
        client = CountedClient(shared.client, counters)
        caller = Caller(shared.requests, counters, options.request_payer)
        yield S3Connection(shared, client, caller, options, facts=facts, turns=turns)


class S3Connection:
    """Opens sources on one endpoint with one set of credentials."""

    def __init__(
        self,
        shared: SharedClient,
        client: CountedClient,
        caller: Caller,
        options: S3Options,
        *,
        facts: EndpointFacts,
        turns: Turns,
    ) -> None:
        self._shared = shared
        self._caller = caller
        self._client = client
        self._options = options
        self._facts = facts
        self._turns = turns
        self._probed: dict[str, Any] = {}

    @property
    def endpoint(self) -> str:
        """The endpoint's URL."""
        return str(self._client.meta.endpoint_url)

    async def credentials(self) -> str:
        """What found the credentials; not what they are."""
        if self._options.no_sign_request:
            return "none (--no-sign-request)"
        found = await self._shared.session.get_credentials()
        return str(found.method)

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`."""
        prefix = uri.key if uri.names_folder else uri.key + "/"
        folder = f"s3://{uri.bucket}/{prefix}"
        versioning = await ask_versioning(self._client, uri.bucket)
        warnings: list[str] = []
        if as_of is not None:
            warnings += check_moment(f"s3://{uri.bucket}", as_of, versioning, without)
        lister = self._lister(uri.bucket, prefix, as_of)
        wants_versions = versioning.state != "off" and "versions" not in without
        facts = await self._facts_of(uri, versioning.server, as_of, versions=wants_versions)
        lister.has_v2 = facts.has_v2 is not False
        if as_of is not None:
            check_order(f"s3://{uri.bucket}", facts.versions)
        versions = wants_versions and facts.lists_versions
        if versions != (versioning.state != "off"):
            warnings.append(UNLISTED_VERSIONS.format(reason="denied, or not listed as S3 does"))
        if "parallel" in without:
            warnings.append("The server's listing broke its own rules; it was listed serially.")
        parallel = "parallel" not in without
        properties = StoreProperties(
            key_bytes_max=KEY_BYTES_MAX - len(prefix.encode()),
            parallel=facts.resumes(versions=versions) and parallel,
            resume=facts.resume,
            versions=versions,
            end_believed_below=facts.end_believed_below(versions=versions, parallel=parallel),
            links=True,
        )
        return OpenedSource(
            folder=folder,
            store=S3Store(lister, self._objects(uri.bucket, prefix), properties),
            record={
                "uri": folder,
                "endpoint": self.endpoint,
                "endpoint_from": chosen_endpoint(self._options).origin,
                "region": self._client.meta.region_name,
                "server": versioning.server,
                "versioning": versioning.state,
                "operation": lister.operation(versions=versions),
            },
            warnings=tuple(warnings),
            abilities=facts.abilities(keeps_versions=versioning.state != "off"),
            opened_at=versioning.answered_at,
        )

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        if uri.names_folder:
            return None
        store = await self.objects(uri)
        if as_of is not None:
            row = await self._lone_row(uri, as_of)
            return None if row is None else LoneObject(row, store)
        name = Key(uri.last_component)
        try:
            head = await store.head(name)
        except (NotFound, AccessDenied):
            # Without the right to read objects a HEAD is denied, whether there is one or not.
            return None
        return LoneObject(page_of_heads([(name, head)]), store)

    async def objects(self, uri: SourceUri) -> S3Store:
        """See `protocols.Connection`."""
        prefix = uri.parent.key
        properties = StoreProperties(KEY_BYTES_MAX - len(prefix.encode()), links=True)
        lister = self._lister(uri.bucket, prefix, None)
        return S3Store(lister, self._objects(uri.bucket, prefix), properties)

    async def _lone_row(self, uri: SourceUri, as_of: datetime) -> Page | None:
        """The row of an object as it was, as a listing of its versions tells it."""
        versioning = await ask_versioning(self._client, uri.bucket)
        check_moment(f"s3://{uri.bucket}", as_of, versioning, ())
        lister = self._lister(uri.bucket, uri.key, as_of)
        # The key that is the prefix comes before all others that have it.
        listing = await lister.list_decided(versions=True, after=None)
        row = listing.rows.slice(0, 1)
        if paths_of(row) != [b""]:
            return None
        name = pa.array([uri.last_component], pa.binary())
        columns = dict(zip(row.schema.names, row.columns, strict=True))
        return make_page({**columns, "path": name})

    def _objects(self, bucket: str, prefix: str) -> S3Objects:
        return S3Objects(self._caller, bucket, prefix)

    def _lister(self, bucket: str, prefix: str, as_of: datetime | None) -> S3Lister:
        requests = ListRequests(self._caller, bucket)
        return S3Lister(requests, bucket, prefix, self._turns, as_of=as_of)

    async def _facts_of(
        self, uri: SourceUri, server: str, as_of: datetime | None, *, versions: bool
    ) -> Facts:
        """What the endpoint honours: known, kept, or asked for now, of versions if they matter."""
        known = known_facts(server)
        if known is not None:
            return known
        requests = ListRequests(self._caller, uri.bucket)
        lister = ProbingLister(requests, uri.bucket, uri.folder.key, self._turns, as_of=as_of)
        lister.answers = self._probed
        async with self._shared.asking:
            try:
                return await self._asked_facts(lister, server, versions=versions)
            except StoreUnavailable as error:
                error.was_answered = True
                raise

    async def _asked_facts(self, lister: S3Lister, server: str, *, versions: bool) -> Facts:
        kept = await self._facts.get_facts(self.endpoint)
        facts = await probe(lister, server) if kept is None else read_facts(kept)
        is_news = kept is None and facts.is_conclusive
        if versions and facts.versions is None:
            facts = await probe_versions(lister, facts)
            is_news = facts.is_conclusive and (is_news or facts.versions is not None)
        if is_news:
            await self._facts.put_facts(self.endpoint, facts.document())
        self._probed.clear()
        return facts


class S3Store:
    """The objects below one prefix. See `protocols.Store`."""

    def __init__(self, lister: S3Lister, objects: S3Objects, properties: StoreProperties) -> None:
        self._lister = lister
        self._objects = objects
        self._properties = properties
        self._directories = Directories(self._page_and_keys)

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        if self._properties.resume == "directory" and token is None:
            return await self._directories.page_after(keys, prefix)
        page, _ = await self._page_and_keys(keys.after, prefix, token=token)
        return page

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        return await self._objects.head(key, version_id=version_id, checksum=checksum)

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        await self._objects.read(key, pin, sink, start=start, end=end)

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link:
        """See `protocols.Linking`."""
        return await self._objects.link(key, pin, expires_s=expires_s)

    async def _page_and_keys(
        self, after: Key | None, prefix: Key, *, token: str | None = None, rows: int = PAGE_ROWS
    ) -> tuple[ListedPage, Sequence[bytes]]:
        versions = self._properties.versions
        listing = await self._lister.list_decided(
            versions=versions, after=after, below=prefix, token=token, rows=rows
        )
        if not listing.first_is_latest and token is None:
            raise BrokenListing(
                f"{self._lister.uri}: the server does not list a key's newest version first",
                do_without="versions",
            )
        page = ListedPage(
            rows=listing.rows,
            entries=listing.entries,
            first=listing.first,
            last=listing.last,
            more=listing.more,
            token=listing.token,
        )
        return page, listing.keys
