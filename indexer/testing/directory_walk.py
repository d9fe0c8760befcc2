"""A server that keeps objects as files and looks for keys in its directories, as MinIO does.

Invariants
  * A walk stops after so many objects, wherever it is, and what was found is then all there is: the
    page claims to be the last one, and it may show objects of the directories around without those
    that come before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from indexer.keyspace import Key
from indexer.protocols import ListedPage
from indexer.stores.memory import MemoryObject, MemoryStore, make_token, page_of, read_token


class WalkedBucket:
    """A bucket of keys, none of which lies below another one, or is a directory's own.

    A page has at most `page_entries` objects, and a walk stops after `spare` more.
    """

    def __init__(self, keys: Sequence[bytes], *, page_entries: int, spare: int) -> None:
        self._keys = sorted(keys)
        self._objects = {key: MemoryObject(len(key), "etag") for key in keys}
        self._page_entries = page_entries
        self._spare = spare

    async def ask(self, after: Key | None, prefix: Key, *, rows: int | None = None) -> ListedPage:
        """The page after a key, as a walk finds it."""
        entries_max = min(rows or self._page_entries, self._page_entries)
        directory = prefix[: prefix.rfind(b"/") + 1]
        walk = _Walk(self._keys, after or b"", entries_max + self._spare)
        found = list(walk.scan(directory, prefix[len(directory) :]))
        found = [key for key in found if after is None or key > after]
        shown, more = found[:entries_max], len(found) > entries_max
        return ListedPage(
            rows=page_of((key, self._objects[key]) for key in shown),
            entries=len(shown),
            first=Key(shown[0]) if shown else None,
            last=Key(shown[-1]) if shown else None,
            more=more,
            token=make_token(Key(shown[-1]), prefix) if more else None,
        )

    async def go_on(self, token: str, prefix: Key) -> ListedPage:
        """The page that a token leads to, for which a walk is done that does not stop."""
        store = MemoryStore(self._objects, page_entries=self._page_entries)
        return store.page_after(read_token(token, prefix), prefix)


class _Walk:
    """One walk: objects below a directory in key order, from about a key on."""

    def __init__(self, keys: Sequence[bytes], begin: bytes, objects_max: int) -> None:
        self._keys = keys
        self._begin = begin
        self._objects_left = objects_max

    def scan(self, directory: bytes, name_prefix: bytes = b"") -> Iterator[bytes]:
        """The objects below a directory whose names there have a prefix.

        Names are compared with the first one to be looked at as if all were directories, so those
        that come after it only as directories would are looked at too.
        """
        if not self._objects_left:
            return
        is_on_the_way = self._begin.startswith(directory)
        first = self._begin[len(directory) :].partition(b"/")[0] if is_on_the_way else b""
        waiting: list[bytes] = []
        for name, is_object in sorted(self._entries(directory)):
            if not self._objects_left:
                return
            if not name.startswith(name_prefix) or name + b"/" < first:
                continue
            path = directory + name
            while waiting and waiting[-1] < path:
                yield from self.scan(waiting.pop())
            if is_object:
                self._objects_left = max(0, self._objects_left - 1)
                yield path
            else:
                waiting.append(path + b"/")
        while waiting:
            yield from self.scan(waiting.pop())

    def _entries(self, directory: bytes) -> set[tuple[bytes, bool]]:
        rests = (key[len(directory) :] for key in self._keys if key.startswith(directory))
        parts = (rest.partition(b"/") for rest in rests)
        return {(name, not slash) for name, slash, _ in parts}
