"""Originals: the objects that a version references, read where they are, as they were recorded.

Invariants
  * Bytes of another state than the recorded one are never taken for an entry's: they are asked for
    by version id or generation, else with the condition that the ETag or time is still the same.
  * A source's server is reached when the first of its objects is asked for, and as its scan had
    reached it where the options leave that open. Nothing of it is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import pyarrow as pa

from indexer.entries import source_of, uri_of
from indexer.errors import AccessDenied
from indexer.keyspace import Key
from indexer.manifest import Manifest, SourceRef
from indexer.objects import Checksum, Head, Pin, pin_of
from indexer.page import etag_texts
from indexer.protocols import (
    Connection,
    Link,
    Linking,
    OpenedSource,
    Reach,
    Servers,
    Sink,
    SourceOptions,
    Store,
)
from indexer.sources import BUCKET_SCHEMES, FILE_SCHEME, SourceUri, parse_source
from indexer.telemetry import Counters

_HAVE_LINKS: Final = tuple(f"{scheme}://" for scheme in BUCKET_SCHEMES)
"""How URIs begin that no web client understands."""


@dataclass(frozen=True, slots=True)
class Original:
    """An entry's object as it was recorded.

    `uri` is there where it does not follow from the version's sources and the path.
    """

    path: bytes
    pin: Pin
    uri: str | None = None
    checksum: Checksum | None = None


def originals_of(rows: pa.Table, *, of_moment: bool = False) -> Iterator[Original]:
    """The objects of rows. `of_moment` if their version is as of a moment that was past."""
    none = [None] * rows.num_rows
    columns: dict[str, list[Any]] = {
        name: rows.column(name).to_pylist() for name in rows.schema.names
    }
    etags = etag_texts(rows).to_pylist()
    version_ids, times, uris, algorithms, types, sums = (
        columns.get(name, none)
        for name in (
            "version_id", "mtime_ns", "uri", "checksum_algorithm", "checksum_type", "checksum",
        )
    )  # fmt: skip
    for row, path in enumerate(columns["path"]):
        yield Original(
            path=path,
            pin=pin_of(
                columns["size"][row],
                etags[row],
                version_ids[row],
                times[row],
                of_moment=of_moment,
            ),
            uri=uris[row],
            checksum=None
            if algorithms[row] is None
            else Checksum(algorithms[row], sums[row], types[row]),
        )


class Originals:
    """The objects of one version, for as long as the context of `open` lasts.

    `in_flight` is the most requests that are made at once.
    """

    def __init__(
        self, manifest: Manifest, reach: Reach, stack: AsyncExitStack, *, in_flight: int
    ) -> None:
        self.in_flight = in_flight
        self._sources = manifest.sources
        self._reach = reach
        self._stack = stack
        self._stores: dict[str, Store] = {}
        self._connections: dict[str, Connection] = {}
        self._opening = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        manifest: Manifest,
        servers: Servers,
        *,
        options: SourceOptions | None = None,
        records: Sequence[Mapping[str, Any]] = (),
        counters: Counters | None = None,
    ) -> AsyncIterator[Originals]:
        """The objects of a manifest's entries; nothing is connected yet.

        `records` are what the sources were opened with when they were scanned.
        """
        options = options or servers.options
        reach = servers.reach(options, counters or Counters(), records)
        async with AsyncExitStack() as stack:
            yield cls(manifest, reach, stack, in_flight=options.in_flight)

    def uri_of(self, original: Original) -> str:
        """The URI of an object."""
        return original.uri or uri_of(self._sources, original.path)

    async def listed(self, source: SourceRef, *, as_of: datetime | None = None) -> OpenedSource:
        """A source to be listed anew. See `protocols.Connection.open`."""
        uri = parse_source(source.uri)
        return await (await self._connection(uri)).open(uri, as_of=as_of)

    async def place(self, original: Original) -> tuple[Store, Key]:
        """The store of an object, and its key there.

        Raises what reaching its server raises, `InvalidReference` for a URI of its own that names
        nothing which can be read, and `AccessDenied` for one that names a file of this machine,
        which no scan records.
        """
        if original.uri is not None:
            uri = parse_source(original.uri)
            if uri.scheme == FILE_SCHEME:
                raise AccessDenied(
                    f"{original.uri}: entries may not name files of their own; this version was "
                    f"not made by a scan, and its file is not read."
                )
            connection = await self._connection(uri)
            return await connection.objects(uri), Key(uri.last_component)
        source = source_of(self._sources, original.path)
        store = self._stores.get(source.uri)
        if store is None:
            uri = parse_source(source.uri)
            store = await (await self._connection(uri)).objects(uri)
            self._stores[source.uri] = store
        return store, Key(original.path.removeprefix(source.path_prefix))

    async def read(
        self, original: Original, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """Writes bytes `start` up to (not with) `end` of an object into `sink`.

        See `protocols.Store.read`.
        """
        store, key = await self.place(original)
        await store.read(key, original.pin, sink, start=start, end=end)

    async def head(self, original: Original, *, checksum: bool = False) -> Head:
        """What the store says of the recorded version of an object; of what is there now where no
        version was recorded. See `protocols.Store.head`.
        """
        store, key = await self.place(original)
        return await store.head(key, version_id=original.pin.version_id, checksum=checksum)

    async def link(self, original: Original, *, expires_s: int) -> Link:
        """Where an object is fetched from by a plain GET; where its store has no other way to say
        it, that is its URI.
        """
        if original.uri is None and self.uri_of(original).startswith(_HAVE_LINKS):
            store, key = await self.place(original)
            if store.properties.links:
                return await cast("Linking", store).link(key, original.pin, expires_s=expires_s)
        return Link(self.uri_of(original))

    async def _connection(self, uri: SourceUri) -> Connection:
        """The connection to the server of a source, or to the host of an object's own URI."""
        place = str(uri) if uri.names_folder else f"{uri.scheme}://{uri.bucket}"
        async with self._opening:
            if place not in self._connections:
                reached = await self._stack.enter_async_context(self._reach(uri))
                self._connections[place] = reached.connection
        return self._connections[place]
