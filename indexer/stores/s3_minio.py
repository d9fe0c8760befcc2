"""What MinIO needs: a listing that goes on within a directory is kept clear of its neighbours.

MinIO finds the place to begin by one component of the path after the other (`WalkDir` in its
`cmd/metacache-walk.go`). Beside a directory on the way, `a/`, it walks the neighbours whose names
go on with a character below the slash, `a-b/` and `a.txt`. They come before the place to begin, so
nothing of them is shown, but they count for the length of the walk, which has some sixty objects to
spare. More of them than that, and the page lacks keys and claims to be the last one: with a
thousand it is empty, whatever comes.

Invariants
  * A request begins within a directory only where its neighbours are known to be few. Where they
    are not, the directory itself is listed, and then what comes beyond it: a request that begins at
    the first key of its prefix, or after a name in the very directory that is its prefix, meets no
    neighbours.
  * What is known of neighbours was seen on a page that showed all of them, or asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from indexer.errors import BrokenListing
from indexer.keyspace import Key, KeyRange
from indexer.limits import PAGE_ROWS
from indexer.protocols import ListedPage

NEIGHBOURS_MAX: Final = 60
"""A walk for a page of n keys has n / 16 + 4 objects to spare: 66 of a thousand."""

DIRECTORIES_KNOWN_MAX: Final = 10_000
"""Directories that are remembered: some for each range that is being listed would do."""

_ABOVE_SLASH: Final = b"0"
"""The character after the slash: `a0` is above all that lies below `a/`, and nothing is between."""

assert PAGE_ROWS // 16 + 4 > NEIGHBOURS_MAX


class Ask(Protocol):
    """Asks for at most `rows` keys after a key, or from the first one, that have a prefix.

    The second part of the answer are all keys that were listed, shown or not. A deleted object may
    be among them, which the walk does not count: a directory then seems more crowded than it is.
    """

    async def __call__(
        self, after: Key | None, prefix: Key, *, rows: int = PAGE_ROWS
    ) -> tuple[ListedPage, Sequence[bytes]]: ...


class Directories:
    """Pages of one source on MinIO, and what they have told of its directories."""

    def __init__(self, ask: Ask, *, neighbours_max: int = NEIGHBOURS_MAX) -> None:
        self._ask = ask
        self._neighbours_max = neighbours_max
        self._crowded: dict[Key, bool] = {}

    async def page_after(self, keys: KeyRange, prefix: Key) -> ListedPage:
        """The page that follows `keys.after` below a directory.

        Where it says that there is more, nothing may follow all the same. Most pages take one
        request, and one more for each directory on the way of which nothing is known; or all of
        them at the end, as neighbours may have come since.
        """
        after = keys.after
        if after is None:
            return await self._page(after, prefix)
        crowded = await self._crowded_directory(after, prefix)
        if crowded is None:
            page = await self._page(after, prefix)
            if not page.more:
                crowded = await self._crowded_directory(after, prefix, looks_again=True)
            if crowded is None:
                return page
        page = await self._page(after, crowded)
        for start, narrower in _beyond(crowded, keys.through, prefix):
            if page.entries or page.more:
                break
            page = await self._page(start, narrower)
        if page.more and not page.entries:
            raise BrokenListing("the server says that there is more and does not list it")
        # Its token is for another prefix, and so is its word for the end.
        return replace(page, more=True, token=None) if page.entries else page

    async def _page(self, after: Key | None, prefix: Key) -> ListedPage:
        page, keys = await self._ask(after, prefix)
        if page.last is not None:
            self._learn(keys, page.last, after, prefix)
        return page

    async def _crowded_directory(
        self, after: Key, prefix: Key, *, looks_again: bool = False
    ) -> Key | None:
        """The smallest directory with many neighbours among those that a key lies in."""
        for directory in reversed(list(_directories(after, prefix))):
            is_crowded = None if looks_again else self._crowded.get(directory)
            if is_crowded is None:
                is_crowded = await self._look(directory)
                self._know(directory, is_crowded=is_crowded)
            if is_crowded:
                return directory
        return None

    async def _look(self, directory: Key) -> bool:
        """Whether a directory has many neighbours."""
        page, keys = await self._ask(None, Key(directory[:-1]), rows=self._neighbours_max + 1)
        neighbours = _count(keys[: bisect_left(keys, directory)])
        # Old versions may fill the page.
        goes_on = page.more and page.last is not None and page.last < directory
        return goes_on or neighbours > self._neighbours_max

    def _learn(self, keys: Sequence[bytes], last: Key, after: Key | None, prefix: Key) -> None:
        """Counts the neighbours of the directories in which the next page begins."""
        for directory in _directories(last, prefix):
            name = directory[:-1]
            neighbours = _count(keys[bisect_left(keys, name) : bisect_left(keys, directory)])
            if neighbours > self._neighbours_max:
                self._know(directory, is_crowded=True)
            elif after is None or after < name:
                self._know(directory, is_crowded=False)

    def _know(self, directory: Key, *, is_crowded: bool) -> None:
        if len(self._crowded) >= DIRECTORIES_KNOWN_MAX:
            self._crowded.clear()
        self._crowded[directory] = is_crowded


def _count(keys: Sequence[bytes]) -> int:
    """How many objects there are; versions of one have the same key."""
    return len(set(keys))


def _directories(key: Key, prefix: Key) -> Iterator[Key]:
    """The directories below a prefix that a key lies in, the largest first."""
    slash = key.find(b"/", len(prefix))
    while slash >= 0:
        yield Key(key[: slash + 1])
        slash = key.find(b"/", slash + 1)


def _beyond(directory: Key, through: Key | None, prefix: Key) -> Iterator[tuple[Key | None, Key]]:
    """What to ask for to see the first key after a directory, one after the other until it is seen.

    In each directory around it, from the smallest on: the name that follows it in order, and what
    comes after that name.
    """
    while len(directory) > len(prefix):
        above = Key(directory[:-1] + _ABOVE_SLASH)
        if through is not None and above > through:
            return
        directory = Key(directory[: directory.rfind(b"/", 0, -1) + 1])
        yield None, above
        yield above, directory
