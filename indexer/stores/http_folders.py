"""The folders of a web server, each read from its index page once.

Invariants
  * What a folder's page links to is asked for by that link, whatever quoting it has. So a folder's
    address is known from the page above it, and the same tree gives the same addresses whoever asks
    first.
  * Index pages are bounded in bytes, entries, depth and number; of their names so many are kept,
    and pages that were dropped are read again.
  * A folder that is gone has nothing in it. Any other failure is one of the listing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from indexer.errors import NoSuchObject, UsageError
from indexer.limits import (
    HTTP_DEPTH_MAX,
    HTTP_FOLDERS_MAX,
    HTTP_NAMES_CACHED_MAX,
    HTTP_PAGE_BYTES_MAX,
    HTTP_PATH_BYTES_MAX,
    TREE_FOLDERS_AT_ONCE,
)
from indexer.sources import PATH_SAFE
from indexer.stores.http_client import Answer, HTTPClient, shown
from indexer.stores.http_index import NoIndexPage, read_index, same_url
from indexer.stores.tree import Window
from workers.threads import Threads

_INDEX_TYPES: Final = frozenset(("text/html", "application/xhtml+xml", "application/json"))


@dataclass(frozen=True, slots=True)
class Folder:
    """What an index page says: names ascending, those of folders with a slash at their end.

    `url` is the page's own. `urls` are the addresses of names that quoting them does not give.
    """

    url: str
    names: list[bytes]
    urls: dict[bytes, str]

    def url_of(self, name: bytes) -> str:
        """The address of a name, which the page need not have."""
        return self.urls.get(name) or self.url + quote(name, safe=PATH_SAFE)


class Folders:
    """The folders below a root, by path: with a slash at the end, and empty for the root."""

    def __init__(
        self,
        client: HTTPClient,
        root: str,
        threads: Threads,
        *,
        folders_max: int = HTTP_FOLDERS_MAX,
        names_cached_max: int = HTTP_NAMES_CACHED_MAX,
    ) -> None:
        self._client = client
        self._root = root
        self._threads = threads
        self._folders_max = folders_max
        self._names_cached_max = names_cached_max
        self._kept: OrderedDict[bytes, Folder] = OrderedDict()
        self._names_kept = 0
        self._asked: set[int] = set()
        self._asking = [asyncio.Lock() for _ in range(TREE_FOLDERS_AT_ONCE)]

    async def open(self) -> Answer:
        """Reads the root anew, and returns the answer for its headers.

        Raises `NoSuchObject` if there is none, and `NoIndexPage` if it is another page.
        """
        self.start_again()
        answer, folder = await self._ask(b"", self._root)
        self._keep(b"", folder)
        return answer

    def start_again(self) -> None:
        """Forgets every page."""
        self._kept.clear()
        self._asked.clear()
        self._names_kept = 0

    async def children(self, folder: bytes, start: bytes, names_max: int) -> Window:
        """See `tree.Children`."""
        names = (await self.folder(folder)).names
        first = bisect_left(names, start)
        return Window(names[first : first + names_max], more=len(names) > first + names_max)

    async def folder(self, path: bytes) -> Folder:
        """The folder at a path. One that is not there is empty."""
        if found := self._found(path):
            return found
        if path.count(b"/") > HTTP_DEPTH_MAX:
            raise UsageError(
                f"{shown(self._root)} has folders more than {HTTP_DEPTH_MAX} deep, which is the "
                f"limit: {path[:200]!r}. Most likely a link leads to a folder above it; remove it, "
                f"or name the folders below one by one."
            )
        # The way up is asked for first, so that no lock is held that is waited for above.
        above, name = _split(path)
        url = (await self.folder(above)).url_of(name) if path else self._root
        async with self._asking[hash(path) % len(self._asking)]:
            if found := self._found(path):
                return found
            try:
                _, found = await self._ask(path, url)
            except NoSuchObject:
                found = Folder(url, [], {})
            self._keep(path, found)
            return found

    async def url_of(self, path: bytes) -> str:
        """The address of a file, as its folder's page links it."""
        above, name = _split(path)
        return (await self.folder(above)).url_of(name)

    def likely_url_of(self, path: bytes) -> str:
        """The address of a file as far as it is known without asking."""
        above, name = _split(path)
        found = self._kept.get(above)
        return self._root + quote(path, safe=PATH_SAFE) if found is None else found.url_of(name)

    async def _ask(self, path: bytes, url: str) -> tuple[Answer, Folder]:
        self._asked.add(hash(path))
        if len(self._asked) > self._folders_max:
            raise UsageError(
                f"{shown(self._root)} has more than {self._folders_max:,} folders, which is the "
                f"limit for a web server. Name the folders below it as sources of their own, or "
                f"write the addresses of the files into a list of URLs."
            )
        async with self._client.request("GET", url) as answer:
            kind = (answer.header("Content-Type") or "text/html").partition(";")[0].strip().lower()
            if kind not in _INDEX_TYPES:
                raise NoIndexPage(shown(url), f"it is {kind[:64]!r}, not a page")
            body = await self._client.body(
                answer, bytes_max=HTTP_PAGE_BYTES_MAX, what="the index of one folder"
            )
        base = answer.url.partition("?")[0]
        if not base.endswith("/"):
            raise NoIndexPage(shown(url), f"it leads to {shown(answer.url)}, which is no folder")
        return answer, await self._threads.run(_folder, body, base, path)

    def _found(self, path: bytes) -> Folder | None:
        if found := self._kept.get(path):
            self._kept.move_to_end(path)
        return found

    def _keep(self, path: bytes, folder: Folder) -> None:
        self._kept[path] = folder
        self._names_kept += _weight(folder)
        # The newest one stays in any case: somebody is about to use it.
        while self._names_kept > self._names_cached_max and len(self._kept) > 1:
            self._names_kept -= _weight(self._kept.popitem(last=False)[1])


def _folder(body: bytes, url: str, path: bytes) -> Folder:
    names: list[bytes] = []
    urls: dict[bytes, str] = {}
    for found in read_index(body, url):
        name = found.name + b"/" * found.is_folder
        if len(path) + len(name) > HTTP_PATH_BYTES_MAX:
            raise UsageError(
                f"{url}: a path below has more than {HTTP_PATH_BYTES_MAX:,} bytes, which is the "
                f"limit. Most likely a link leads to a folder above it."
            )
        names.append(name)
        if not same_url(found.url, url + quote(name, safe=PATH_SAFE)):
            urls[name] = found.url
    names.sort()
    return Folder(url, names, urls)


def _split(path: bytes) -> tuple[bytes, bytes]:
    """The folder that a path lies in, and its name there; a folder's with the slash at its end."""
    end = path.rfind(b"/", 0, len(path) - 1) + 1
    return path[:end], path[end:]


def _weight(folder: Folder) -> int:
    return 1 + len(folder.names) + 2 * len(folder.urls)
