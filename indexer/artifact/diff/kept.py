"""kept: the diffs that were asked for last, kept for whoever pages through them.

Invariants
  * At most `DIFFS_KEPT_MAX` are kept, and `DIFFS_AT_ONCE_MAX` are found at once.
  * A diff that several ask for at the same time is found once.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from indexer.artifact.diff.diff import Diff, find_diff
from indexer.limits import DIFFS_AT_ONCE_MAX, DIFFS_KEPT_MAX
from indexer.workspace import Workspace
from workers.slots import Slots
from workers.threads import Threads

_Key = tuple[str, str, bytes]


class Diffs:
    """Diffs of versions in a workspace, by the digests of their manifests."""

    def __init__(self, workspace: Workspace, threads: Threads) -> None:
        self._workspace = workspace
        self._threads = threads
        self._slots = Slots(DIFFS_AT_ONCE_MAX)
        self._kept: dict[_Key, Diff] = {}
        self._finding: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def of(self, old: str, new: str, prefix: bytes = b"") -> Diff:
        """What changed below a prefix. Raises `NoSuchVersion` and `CorruptContent`."""
        key = (old, new, prefix)
        # A lock, not a task that all wait for: if its finder is cancelled, the next one finds.
        async with self._finding.setdefault(key, asyncio.Lock()):
            diff = self._kept.pop(key, None) or await self._find(key)
            # The least recently used are forgotten first.
            self._kept[key] = diff
            while len(self._kept) > DIFFS_KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            return diff

    async def _find(self, key: _Key) -> Diff:
        old, new, prefix = key
        await self._slots.acquire()
        try:
            return await find_diff(
                self._workspace,
                await self._workspace.manifest(old),
                await self._workspace.manifest(new),
                threads=self._threads,
                prefix=prefix,
            )
        finally:
            self._slots.release()
