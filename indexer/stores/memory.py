"""Objects in memory, listed as a store lists them: the reference that other stores are held to.

Invariants
  * A page is cut by its number of entries alone, as S3 does it: it may go on beyond the range.
  * A key whose object was deleted has an entry and no row where versions are kept, and nothing at
    all where they are not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from indexer.errors import Ability, InvalidSetting, NoSuchObject, NoSuchSource, ObjectChanged
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.limits import PAGE_ROWS
from indexer.objects import Head, Pin, page_of_heads
from indexer.page import Page
from indexer.protocols import ListedPage, LoneObject, OpenedSource, Sink, StoreProperties
from indexer.sources import SourceUri


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """What a store says of an object, and its bytes if they are ever read.

    `etag` is without quotes.
    """

    size: int
    etag: str
    last_modified: datetime | None = None
    version_id: str | None = None
    storage_class: str | None = None
    body: bytes | None = None

    @property
    def head(self) -> Head:
        """What is said of it."""
        return Head(
            size=self.size,
            etag=self.etag,
            version_id=self.version_id,
            last_modified=self.last_modified,
            storage_class=self.storage_class,
        )


Objects: TypeAlias = Mapping[bytes, MemoryObject | None]
"""The newest version of each key: an object, or None where that was deleted."""


class MemoryStore:
    """A sorted dictionary of objects. See `protocols.Store`."""

    def __init__(
        self,
        objects: Objects,
        *,
        properties: StoreProperties | None = None,
        page_entries: int = PAGE_ROWS,
    ) -> None:
        assert page_entries > 0
        self._properties = properties or StoreProperties(KEY_BYTES_MAX)
        self._page_entries = page_entries
        keeps_deleted = self._properties.versions
        self._objects = {k: o for k, o in objects.items() if o is not None or keeps_deleted}
        self._keys = sorted(self._objects)

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._properties

    def put(self, key: bytes, found: MemoryObject | None) -> None:
        """Writes an object, or notes with None that it was deleted."""
        if found is None and not self._properties.versions:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = found

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        return self.page_after(keys.after if token is None else read_token(token, prefix), prefix)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`; what it knows without reading is in its rows."""
        del checksum
        return self._found(key, version_id).head

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        found = self._found(key, pin.version_id)
        is_same = (found.size, found.etag) == (pin.size, pin.etag or found.etag)
        if pin.version_id in (None, "null") and not is_same:
            raise ObjectChanged(f"{key!r} was written since it was listed")
        assert found.body is not None
        await sink.write(found.body[start:end])

    def _found(self, key: Key, version_id: str | None) -> MemoryObject:
        found = self._objects.get(key)
        if found is None or version_id not in (None, found.version_id):
            raise NoSuchObject(f"there is no object {key!r}")
        return found

    def page_after(
        self, after: Key | None, prefix: Key = Key(b""), entries_max: int | None = None
    ) -> ListedPage:
        """The next entries below `prefix` that come after a key, which need not exist."""
        start = bisect_left(self._keys, prefix)
        if after is not None:
            start = max(start, bisect_right(self._keys, after))
        end = start + (entries_max or self._page_entries)
        listed = [key for key in self._keys[start:end] if key.startswith(prefix)]
        following = self._keys[start + len(listed) : start + len(listed) + 1]
        more = any(key.startswith(prefix) for key in following)
        return ListedPage.of_keys(
            page_of((key, self._objects[key]) for key in listed),
            listed,
            more=more,
            token=make_token(Key(listed[-1]), prefix) if more else None,
        )


def make_token(last: Key, prefix: Key) -> str:
    """The token of a page below a prefix that ended with this key."""
    return f"{prefix.hex()}/{last.hex()}"


def read_token(token: str, prefix: Key) -> Key:
    """The last key of the page that gave the token, which must have been below that prefix."""
    given_for, _, last = token.partition("/")
    assert given_for == prefix.hex(), "a token is for the prefix that it was given for"
    return Key(bytes.fromhex(last))


@dataclass(frozen=True, slots=True)
class MemoryConnection:
    """Buckets of objects by full key. See `protocols.Connection`.

    Opening a source takes its objects as they are at that moment.
    """

    buckets: Mapping[str, Objects]
    properties: StoreProperties = field(default_factory=lambda: StoreProperties(KEY_BYTES_MAX))
    page_entries: int = PAGE_ROWS

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`; it keeps the newest versions alone."""
        _check_now(uri, as_of)
        properties = replace(
            self.properties,
            parallel=self.properties.parallel and "parallel" not in without,
            versions=self.properties.versions and "versions" not in without,
        )
        store, folder = self._below(uri.folder, properties), str(uri.folder)
        return OpenedSource(folder=folder, store=store, record={"uri": folder})

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        _check_now(uri, as_of)
        key = uri.key.encode()
        found = None if uri.names_folder else self._bucket(uri).get(key)
        if found is None:
            return None
        objects = {uri.last_component: self._seen(found, self.properties)}
        return LoneObject(page_of(objects.items()), MemoryStore(objects))

    async def objects(self, uri: SourceUri) -> MemoryStore:
        """See `protocols.Connection`."""
        return self._below(uri.parent, self.properties)

    async def credentials(self) -> str:
        """See `protocols.Connection`."""
        return "none"

    def _below(self, folder: SourceUri, properties: StoreProperties) -> MemoryStore:
        prefix = folder.key.encode()
        return MemoryStore(
            {
                key.removeprefix(prefix): self._seen(found, properties)
                for key, found in self._bucket(folder).items()
                if key.startswith(prefix)
            },
            properties=replace(properties, key_bytes_max=properties.key_bytes_max - len(prefix)),
            page_entries=self.page_entries,
        )

    def _bucket(self, uri: SourceUri) -> Objects:
        if uri.bucket not in self.buckets:
            raise NoSuchSource(f"{uri}: there is no such bucket.")
        return self.buckets[uri.bucket]

    @staticmethod
    def _seen(found: MemoryObject | None, properties: StoreProperties) -> MemoryObject | None:
        if found is None or properties.versions:
            return found
        return replace(found, version_id=None)


def _check_now(uri: SourceUri, as_of: datetime | None) -> None:
    if as_of is not None:
        raise InvalidSetting(f"{uri} keeps no older versions; leave --as-of out.")


def page_of(entries: Iterable[tuple[bytes, MemoryObject | None]]) -> Page:
    """The objects among the entries as a page, in the order given."""
    return page_of_heads((key, entry.head) for key, entry in entries if entry is not None)


class MemoryFacts:
    """What endpoints were found to honour. See `protocols.EndpointFacts`."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[str, Any]] = {}

    async def get_facts(self, endpoint: str) -> dict[str, Any] | None:
        """See `protocols.EndpointFacts`."""
        return self._facts.get(endpoint)

    async def put_facts(self, endpoint: str, facts: dict[str, Any]) -> None:
        """See `protocols.EndpointFacts`."""
        self._facts[endpoint] = facts
