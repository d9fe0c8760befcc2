"""Web servers as stores: folders by their index pages, single URLs, and lists of URLs.

Invariants
  * A listing tells names alone; size, ETag and time of each object are asked for by HEAD.
  * Of a folder nothing is listed but what lies below its own URL.
  * A row has a `uri` exactly if quoting its path does not give the URL that the index links.
  * Nothing of a server is kept beyond the source that was opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import ClientSession

from indexer.errors import (
    Ability,
    AccessDenied,
    IndexerError,
    InvalidSetting,
    NoSuchObject,
    NoSuchSource,
)
from indexer.keyspace import Key, KeyRange
from indexer.limits import (
    HTTP_PATH_BYTES_MAX,
    MIB,
    PAGE_ROWS,
    REQUEST_TIMEOUT_S,
    URL_LIST_BYTES_MAX,
)
from indexer.objects import SIZE_UNKNOWN, Head, Pin, page_of_heads
from indexer.protocols import ListedPage, LoneObject, OpenedSource, Sink, StoreProperties
from indexer.sources import FILE_SCHEME, LIST_PREFIX, SourceUri
from indexer.stores.http_client import Answer, HTTPClient, RedirectRefused, open_session, shown
from indexer.stores.http_environment import netrc_file
from indexer.stores.http_folders import Folders
from indexer.stores.http_index import NoIndexPage, linked_uri
from indexer.stores.http_object import Grades, head_url, read_url
from indexer.stores.tree import Tree
from indexer.stores.url_list import ListedUrl, UrlStore, read_url_list
from indexer.telemetry import Counters
from workers.shared import Shared
from workers.threads import Threads

READING_THREADS = 1
"""What is read there is Python's work, of which only one thread does any at a time."""


@asynccontextmanager
async def connect(
    counters: Counters,
    *,
    sessions: Shared[None, ClientSession] | None = None,
    page_entries: int = PAGE_ROWS,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> AsyncIterator[HTTPConnection]:
    """A connection to web servers for as long as the context is open.

    Connections of one loop share `sessions`. `timeout_s` bounds each wait for a server.
    """
    opening = open_session() if sessions is None else sessions.lease(None)
    async with opening as session, Threads(READING_THREADS) as threads:
        client = HTTPClient(session, counters, timeout_s)
        yield HTTPConnection(client, threads, page_entries=page_entries)


class HTTPConnection:
    """Opens folders, URLs and lists of URLs. See `protocols.Connection`."""

    def __init__(
        self, client: HTTPClient, threads: Threads, *, page_entries: int = PAGE_ROWS
    ) -> None:
        self._client = client
        self._threads = threads
        self._page_entries = page_entries

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`; a folder that is not there is empty.

        Of a URI that may name an object, whatever is no folder is an empty one.
        """
        del without
        _check_now(uri, as_of)
        if uri.is_list:
            return await self._open_list(uri)
        folder = str(uri.folder)
        folders = Folders(self._client, folder, self._threads)
        try:
            if "?" in folder:
                raise NoSuchObject(f"{shown(folder)} has a query, which no folder has.")
            answer = await folders.open()
        except IndexerError as error:
            if not _means_no_folder(error, is_folder=uri.names_folder):
                raise
            said = (f"{shown(folder)}: the server has no such folder.",) if uri.names_folder else ()
            return OpenedSource(folder, UrlStore(self._client, ()), {"uri": folder}, said)
        store = HTTPStore(self._client, folder, folders, page_entries=self._page_entries)
        return _opened(folder, store, answer, "index pages")

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        _check_now(uri, as_of)
        if uri.names_folder or uri.is_list:
            return None
        url, folder, path = str(uri), str(uri.parent), uri.last_component
        own = linked_uri(folder, path, url)
        try:
            head = await head_url(self._client, url, uri=own)
        except NoSuchObject:
            return None
        except RedirectRefused as error:
            if error.names_folder:
                return None
            raise
        store = UrlStore(self._client, [ListedUrl(path, url)], has_uris=own is not None)
        return LoneObject(page_of_heads([(path, head)]), store, store.notices)

    async def objects(self, uri: SourceUri) -> HTTPStore | UrlStore:
        """See `protocols.Connection`."""
        if not uri.names_folder:
            return UrlStore(self._client, [ListedUrl(uri.last_component, str(uri))])
        folder = str(uri)
        folders = Folders(self._client, folder, self._threads)
        return HTTPStore(self._client, folder, folders, page_entries=self._page_entries)

    async def credentials(self) -> str:
        """See `protocols.Connection`."""
        file = await self._threads.run(netrc_file)
        return "none" if file is None else f"{file}, for the hosts that it names"

    async def _open_list(self, uri: SourceUri) -> OpenedSource:
        answer = None
        if uri.scheme == LIST_PREFIX + FILE_SCHEME:
            data = await self._threads.run(_read_file, "/" + uri.key, str(uri))
        else:
            url = str(uri).removeprefix(LIST_PREFIX)
            try:
                async with self._client.request("GET", url) as answer:
                    data = await self._client.body(
                        answer, bytes_max=URL_LIST_BYTES_MAX, what="a list of URLs"
                    )
            except NoSuchObject as error:
                raise NoSuchSource(str(error)) from error
        entries = await self._threads.run(read_url_list, data, shown(str(uri)))
        store = UrlStore(self._client, entries, page_entries=self._page_entries)
        return _opened(str(uri), store, answer, "list of URLs")


class HTTPStore:
    """The files below one folder of a web server. See `protocols.Store`."""

    def __init__(
        self, client: HTTPClient, root: str, folders: Folders, *, page_entries: int = PAGE_ROWS
    ) -> None:
        self._client = client
        self._root = root
        self._folders = folders
        self._tree = Tree(folders.children, page_entries=page_entries)
        self._grades = Grades()
        self._is_fresh = True

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`.

        A page that begins inside a folder needs its whole index again. Parts of objects can be
        read of any server: where one sends the whole, it is skipped up to there.
        """
        return StoreProperties(HTTP_PATH_BYTES_MAX, resume="directory", needs_head=True)

    def notices(self) -> tuple[str, ...]:
        """What a user must know of the objects that were asked for."""
        return self._grades.notices()

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        if keys.after is None and not prefix and token is None:
            # A listing that begins anew sees what is there now; the first one was just opened.
            if not self._is_fresh:
                self._folders.start_again()
            self._is_fresh = False
        page = await self._tree.list_names(keys, prefix=prefix, token=token)
        rows = [(path, Head(SIZE_UNKNOWN, uri=(await self._url(path))[1])) for path in page.paths]
        return ListedPage.of_keys(page_of_heads(rows), page.paths, more=page.more, token=page.token)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        del version_id, checksum
        url, uri = await self._url(key)
        head = await head_url(self._client, url, uri=uri)
        self._grades.count(head)
        return head

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`.

        Almost always the quoted path is the address, so that no index is read for it.
        """
        url = self._folders.likely_url_of(key)
        try:
            await read_url(self._client, url, pin, sink, start=start, end=end)
        except NoSuchObject:
            linked, _ = await self._url(key)
            if linked == url:
                raise
            await read_url(self._client, linked, pin, sink, start=start, end=end)

    async def _url(self, path: bytes) -> tuple[str, str | None]:
        """The address of a file, and the same where it does not follow from the path."""
        url = await self._folders.url_of(path)
        return url, linked_uri(self._root, path, url)


def _opened(
    folder: str, store: HTTPStore | UrlStore, answer: Answer | None, operation: str
) -> OpenedSource:
    record = {"uri": folder, "operation": operation}
    if answer is not None:
        record["server"] = (answer.header("Server") or "unknown")[:200]
    opened_at = None if answer is None else answer.date
    return OpenedSource(folder, store, record, opened_at=opened_at, notices=store.notices)


def _means_no_folder(error: IndexerError, *, is_folder: bool) -> bool:
    """Whether the answer for a folder says that there is none."""
    if isinstance(error, NoSuchObject):
        return True
    # Servers have many ways to say that nothing is below an object.
    no_folder = (NoIndexPage, RedirectRefused, AccessDenied)
    return not is_folder and (isinstance(error, no_folder) or type(error) is IndexerError)


def _check_now(uri: SourceUri, as_of: datetime | None) -> None:
    if as_of is not None:
        raise InvalidSetting(
            f"{shown(str(uri))}: web servers keep no versions, so there is no listing as of an "
            f"earlier time. Leave --as-of out."
        )


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _read_file(path: str, uri: str) -> bytes:
    try:
        # A pipe that nobody writes to would be waited for without an end.
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise NoSuchSource(f"{uri} is no regular file: write the list into one.")
            data = file.read(URL_LIST_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NoSuchSource(f"{uri}: there is no such file.") from None
    except PermissionError:
        raise AccessDenied(f"{uri}: this user may not read the file.") from None
    except OSError as error:
        raise NoSuchSource(f"{uri} cannot be read: {error.strerror}.") from error
    if len(data) > URL_LIST_BYTES_MAX:
        raise InvalidSetting(
            f"{uri} has more than {URL_LIST_BYTES_MAX // MIB:,} MiB, which is the limit for a list "
            f"of URLs. Split it, and name each part as a source with a mount of its own."
        )
    return data
