"""An ordered walk of a tree of folders that can only be asked for the names in one folder.

    Tree(children).list_names(keys)

Invariants
  * Paths come in byte order. The names of a folder are sorted with a slash behind those of folders,
    so that going through them depth first is the order of the whole paths.
  * A walk begins after any key, whether it exists or not, and asks for no folder that has nothing
    behind that key or nothing up to the range's end. It asks for names only that it was told of.
  * Between two calls nothing is kept but names that were read, so many at most: a folder with more
    is gone through by windows, each of which is another pass over it. Whatever is dropped is read
    again.
  * A listing that begins at the very first key reads every folder anew.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from indexer.errors import IndexerError
from indexer.keyspace import Key, KeyRange
from indexer.limits import (
    PAGE_ROWS,
    TREE_FOLDERS_AT_ONCE,
    TREE_NAMES_CACHED_MAX,
    TREE_WINDOW_NAMES,
    TREE_WINDOW_NAMES_MAX,
    TREE_WINDOW_SLACK,
)
from indexer.page import is_ascending

NAMES_LOOKED_AHEAD: Final = 4
"""Where folders are read ahead, so many names a folder are looked through for them."""


@dataclass(frozen=True, slots=True)
class Window:
    """Names in a folder from some name on, ascending strictly; `more` says that others follow.

    The name of a folder ends in a slash, and no name has a slash elsewhere or is one. Only a window
    without names that follow may be empty.
    """

    names: Sequence[bytes]
    more: bool = False


Children: TypeAlias = Callable[[bytes, bytes, int], Awaitable[Window]]
"""`await children(folder, start, names_max)`: the first names of a folder that are not less than
`start`, at most `names_max`. The folder is its path from the root, with a slash at its end unless
it is the root. One that is not there is empty."""


@dataclass(frozen=True, slots=True)
class NamesPage:
    """A page of paths. `more` is true exactly if another one follows in the range."""

    paths: list[bytes]
    more: bool

    @property
    def token(self) -> str | None:
        """Goes on after the page."""
        return self.paths[-1].hex() if self.more else None


class Tree:
    """Lists the paths of a tree. Many calls may be under way at once.

    `folders_at_once` folders at most are asked for at the same moment, some of them ahead of the
    walk. `names_cached_max` names are kept at most. A folder is first asked for `window_names`
    names, then for `window_names_max` at a time: those are asked for one after the other.
    """

    def __init__(
        self,
        children: Children,
        *,
        page_entries: int = PAGE_ROWS,
        folders_at_once: int = TREE_FOLDERS_AT_ONCE,
        window_names: int = TREE_WINDOW_NAMES,
        window_names_max: int = TREE_WINDOW_NAMES_MAX,
        names_cached_max: int = TREE_NAMES_CACHED_MAX,
    ) -> None:
        assert page_entries > 0
        assert 0 < window_names <= window_names_max
        self._children = children
        self._page_entries = page_entries
        self._window_names = window_names
        self._window_names_max = window_names_max
        self._cache = _Cache(names_cached_max)
        # One folder always takes the same lock, so that whoever wants it too waits for it.
        self._asking = [asyncio.Lock() for _ in range(folders_at_once)]
        self._asking_for_many = asyncio.Lock()

    async def list_names(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> NamesPage:
        """The first paths of `keys` below the folder `prefix`, or those after the token's page."""
        assert not prefix or prefix.endswith(b"/"), "a prefix is a folder"
        after = keys.after if token is None else Key(bytes.fromhex(token))
        if after is None and not prefix:
            self._cache.clear()
        if after is not None and after > prefix and not after.startswith(prefix):
            return NamesPage([], more=False)
        paths = await self._paths(prefix, after, keys.through, self._page_entries + 1)
        more = len(paths) > self._page_entries
        return NamesPage(paths[: self._page_entries], more)

    @property
    def names_cached(self) -> int:
        """How many names are kept."""
        return self._cache.names

    async def _paths(
        self, prefix: bytes, after: bytes | None, through: bytes | None, paths_max: int
    ) -> list[bytes]:
        paths: list[bytes] = []
        # Where to go on in each folder on the way down. Windows are not held here, as reading
        # another folder may take long: on the way up they are in the cache, or are read again.
        places = [(prefix, _first_name(prefix, after))]
        ahead = 1
        while places:
            folder, start = places.pop()
            window = await self._window(folder, start)
            names = window.names
            for index in range(bisect_left(names, start), len(names)):
                path = folder + names[index]
                if through is not None and path > through:
                    return paths
                if path.endswith(b"/"):
                    places.append((folder, _following(names[index])))
                    places.append((path, _first_name(path, after)))
                    if not places[-1][1] and path not in self._cache:
                        near = names[index : index + ahead * NAMES_LOOKED_AHEAD]
                        await self._read_ahead(folder, near, through, ahead)
                        ahead = min(2 * ahead, len(self._asking))
                    break
                paths.append(path)
                if len(paths) == paths_max:
                    return paths
            else:
                if window.more:
                    places.append((folder, _following(names[-1])))
        return paths

    async def _read_ahead(
        self, folder: bytes, names: Sequence[bytes], through: bytes | None, folders_max: int
    ) -> None:
        """Reads the next folders side by side: most have less than a page, and reading waits."""
        paths = [folder + name for name in names if name.endswith(b"/")][:folders_max]
        wanted = [path for path in paths if through is None or path <= through]
        if len(wanted) > 1:
            async with asyncio.TaskGroup() as group:
                for path in wanted:
                    group.create_task(self._try(path))

    async def _try(self, folder: bytes) -> None:
        # The error is for whoever comes to the folder, which this walk may never do.
        with suppress(IndexerError):
            await self._window(folder, b"")

    async def _window(self, folder: bytes, start: bytes) -> Window:
        """A window that begins at `start` or before, and ends behind it unless it is the last."""
        if window := self._cache.get(folder, start):
            return window
        async with self._asking[hash(folder) % len(self._asking)]:
            if window := self._cache.get(folder, start):
                return window
            if self._cache.drop(folder):
                async with self._asking_for_many:
                    window = await self._children(folder, start, self._window_names_max)
            else:
                window = await self._children(folder, start, self._window_names)
            assert is_ascending(window.names)
            assert window.names or not window.more
            self._cache.put(folder, start, window)
            return window


class _Cache:
    """One window a folder, those used last, with so many names in all."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._windows: OrderedDict[bytes, tuple[bytes, Window]] = OrderedDict()
        self.names = 0

    def __contains__(self, folder: bytes) -> bool:
        return folder in self._windows

    def get(self, folder: bytes, start: bytes) -> Window | None:
        begins, window = self._windows.get(folder, (b"", None))
        if window is None or start < begins or (window.more and start > window.names[-1]):
            return None
        self._windows.move_to_end(folder)
        return window

    def put(self, folder: bytes, start: bytes, window: Window) -> None:
        self.drop(folder)
        self._windows[folder] = (start, window)
        self.names += _weight(folder, window)
        while self.names > self._names_max:
            self.drop(next(iter(self._windows)))

    def drop(self, folder: bytes) -> bool:
        """Whether there was a window, and others follow it: the folder is a large one."""
        _, window = self._windows.pop(folder, (b"", None))
        if window is None:
            return False
        self.names -= _weight(folder, window)
        return window.more

    def clear(self) -> None:
        self._windows.clear()
        self.names = 0


class LeastNames:
    """Takes the names of a folder in any order, some of them perhaps twice, and keeps a window.

    Holds `TREE_WINDOW_SLACK` times `names_max` names at most, however many there are.
    """

    def __init__(self, start: bytes, names_max: int) -> None:
        self._start = start
        self._end: bytes | None = None
        self._names_max = names_max
        self._held: list[bytes] = []
        self._held_max = max(names_max + 1, int(names_max * TREE_WINDOW_SLACK))

    def wants(self, name: bytes) -> bool:
        """Whether the name of a folder or of anything else may belong to the window."""
        return name + b"/" >= self._start and (self._end is None or name < self._end)

    def add(self, name: bytes) -> None:
        """Takes a name, with a slash at its end if it is a folder's."""
        if name < self._start or (self._end is not None and name >= self._end):
            return
        self._held.append(name)
        if len(self._held) > self._held_max:
            # Of the names beyond the window one is kept, so that it is known that there are some.
            self._held = sorted(set(self._held))[: self._names_max + 1]
            if len(self._held) > self._names_max:
                self._end = self._held[-1]

    @property
    def window(self) -> Window:
        """The window of the names that were added."""
        held = sorted(set(self._held))
        return Window(held[: self._names_max], more=len(held) > self._names_max)


def window_of(names: Iterable[bytes], start: bytes, names_max: int) -> Window:
    """The window of a folder with these names."""
    least = LeastNames(start, names_max)
    for name in names:
        least.add(name)
    return least.window


def _weight(folder: bytes, window: Window) -> int:
    """A folder without names takes some memory too, and long paths take more."""
    return len(window.names) + 1 + len(folder) // 64


def _first_name(folder: bytes, after: bytes | None) -> bytes:
    """No name in the folder that is less has anything behind `after`."""
    if after is None or not after.startswith(folder):
        return b""
    name, slash, _ = after[len(folder) :].partition(b"/")
    return name + slash if slash else _following(name)


def _following(name: bytes) -> bytes:
    """The least string of bytes that is greater."""
    return name + b"\0"
