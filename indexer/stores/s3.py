"""S3 and what speaks it: a source's objects, a thousand a request, in key order.

Invariants
  * A key that is asked for lies below the source's prefix; what is said of it elsewhere is relative
    to that prefix.
  * Version ids come from ListObjectVersions, of which the newest version of a key is kept if it is
    an object. A page begins after a key, never between its versions, unless the server's own cursor
    says so.
  * What a server does not honour is known before it is relied on: from its name, or from a probe
    whose answers are kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final

from indexer.errors import (
    Ability,
    AccessDenied,
    BrokenListing,
    NotFound,
)
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.limits import PAGE_ROWS, PAGES_PER_TURN_MAX
from indexer.objects import Head, Pin, page_of_heads
from indexer.protocols import (
    EndpointFacts,
    ListedPage,
    LoneObject,
    OpenedSource,
    S3Options,
    Sink,
    StoreProperties,
)
from indexer.sources import SourceUri
from indexer.stores.s3_client import chosen_endpoint
from indexer.stores.s3_clients import ClientPool, CountedClient, SharedClient
from indexer.stores.s3_errors import translated
from indexer.stores.s3_lister import S3Lister
from indexer.stores.s3_minio import Directories
from indexer.stores.s3_objects import Caller, S3Objects
from indexer.stores.s3_probe import Facts, known_facts, probe, read_facts
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
        assert as_of is None
        prefix = uri.key if uri.names_folder else uri.key + "/"
        folder = f"s3://{uri.bucket}/{prefix}"
        versioning, server = await self.versioning(uri.bucket)
        versions = versioning != "off" and "versions" not in without
        lister = S3Lister(
            self._client, uri.bucket, prefix, self._options.request_payer, self._turns
        )
        facts = known_facts(server) or await self._probed(lister, server)
        warnings = []
        if "versions" in without:
            warnings.append(UNLISTED_VERSIONS.format(reason="denied, or listed out of order"))
        if "parallel" in without:
            warnings.append("The server's listing broke its own rules; it was listed serially.")
        properties = StoreProperties(
            key_bytes_max=KEY_BYTES_MAX - len(prefix.encode()),
            parallel=facts.resumes and "parallel" not in without,
            resume=facts.resume,
            versions=versions,
            end_believed_below=facts.end_believed_below(
                versions=versions, parallel="parallel" not in without
            ),
        )
        region = self._client.meta.region_name
        return OpenedSource(
            folder=folder,
            store=S3Store(lister, S3Objects(self._caller, uri.bucket, prefix), properties),
            record={
                "uri": folder,
                "endpoint": self.endpoint,
                "endpoint_from": chosen_endpoint(self._options).origin,
                "region": region,
                "server": server,
                "versioning": versioning,
                "operation": lister.operation(versions=versions),
            },
            warnings=tuple(warnings),
        )

    async def versioning(self, bucket: str) -> tuple[str, str]:
        """`on`, `off` or `unknown` for a bucket, and what its server calls itself.

        A suspended bucket still holds versions and is `on`. Who may not ask is told `unknown`.
        """
        uri = f"s3://{bucket}"
        with translated(uri):
            try:
                response = await self._client.get_bucket_versioning(Bucket=bucket)
            except self._client.exceptions.ClientError as error:
                response = error.response
                code = response.get("Error", {}).get("Code", "")
                if code in {"NotImplemented", "MethodNotAllowed", "501", "405"}:
                    return "off", _server_of(response)
                if code not in {"AccessDenied", "403", "Forbidden"}:
                    raise
                return "unknown", _server_of(response)
        return ("on" if response.get("Status") else "off"), _server_of(response)

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        assert as_of is None
        if uri.names_folder:
            return None
        prefix = uri.parent.key
        name = Key(uri.key.removeprefix(prefix).encode())
        objects = S3Objects(self._caller, uri.bucket, prefix)
        try:
            head = await objects.head(name)
        except (NotFound, AccessDenied):
            # Without the right to read objects a HEAD is denied, whether there is one or not.
            return None
        lister = S3Lister(
            self._client, uri.bucket, prefix, self._options.request_payer, self._turns
        )
        store = S3Store(lister, objects, StoreProperties(KEY_BYTES_MAX - len(prefix.encode())))
        return LoneObject(page_of_heads([(name, head)]), store)

    async def _probed(self, lister: S3Lister, server: str) -> Facts:
        async with self._shared.asking:
            kept = await self._facts.get_facts(self.endpoint)
            if kept is not None:
                return read_facts(kept)
            facts = await probe(lister, server)
            if facts.is_conclusive:
                await self._facts.put_facts(self.endpoint, facts.document())
            return facts


class S3Store:
    """The objects below one prefix. See `protocols.Store`."""

    def __init__(self, lister: S3Lister, objects: S3Objects, properties: StoreProperties) -> None:
        self._lister = lister
        self._objects = objects
        self._properties = properties
        self._directories = Directories(self._page)

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
        return await self._page(keys.after, prefix, token=token)

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

    async def _page(
        self, after: Key | None, prefix: Key, *, token: str | None = None, rows: int = PAGE_ROWS
    ) -> ListedPage:
        versions = self._properties.versions
        listing = await self._lister.list(
            versions=versions, after=after, below=prefix, token=token, rows=rows
        )
        if not listing.first_is_latest and token is None:
            raise BrokenListing(
                f"{self._lister.uri}: the server does not list a key's newest version first",
                do_without="versions",
            )
        return ListedPage(
            rows=listing.rows,
            entries=listing.entries,
            first=listing.first,
            last=listing.last,
            more=listing.more,
            token=listing.token,
        )


def _server_of(response: Mapping[str, Any]) -> str:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("server", "unknown"))
