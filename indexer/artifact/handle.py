"""Handle: a version, and what whoever uses it may ask of it; asynchronous.

Invariants
  * It works on a data folder and on a daemon alike: all that it is told it asks of a `Workspace`.
  * What it says of the version was true when it was opened; what the version holds never changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from indexer.artifact.download import DownloadOptions, DownloadResult, Tally, download
from indexer.artifact.entries import read_entries
from indexer.artifact.originals import Originals
from indexer.manifest import Manifest
from indexer.records import VersionRecord
from indexer.references import VersionRef, parse_reference
from indexer.telemetry import Counters
from indexer.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Handle:
    """A version that was opened."""

    workspace: Workspace
    record: VersionRecord

    @classmethod
    async def open(cls, workspace: Workspace, ref: VersionRef | str) -> Handle:
        """The version that `ref` names. Raises `InvalidReference` and `NoSuchVersion`."""
        wanted = parse_reference(ref) if isinstance(ref, str) else ref
        return cls(workspace, await workspace.version(wanted))

    @property
    def ref(self) -> VersionRef:
        """The version by its number, which never means another one."""
        return VersionRef(self.record.name, f"v{self.record.number}")

    async def manifest(self) -> Manifest:
        """What it holds: its sources and shards."""
        return await self.workspace.manifest(self.record.digest)

    async def entries(self, prefix: bytes = b"") -> AsyncIterator[pa.Table]:
        """The entries whose paths start with `prefix`, in key order, a table a shard.

        Raises `CorruptContent`.
        """
        async for table in read_entries(self.workspace, await self.manifest(), prefix):
            yield table

    @property
    def is_of_moment(self) -> bool:
        """Whether it is as of a moment that was past when it was made."""
        return self.record.as_of is not None

    async def download(
        self,
        root: Path,
        options: DownloadOptions | None = None,
        *,
        counters: Counters | None = None,
        tally: Tally | None = None,
    ) -> DownloadResult:
        """Makes files of its objects below a folder. See `artifact.download`."""
        return await download(self, root, options, counters=counters, tally=tally)

    @asynccontextmanager
    async def originals(self, counters: Counters | None = None) -> AsyncIterator[Originals]:
        """The objects that it references, to be read where they are."""
        manifest = await self.manifest()
        created, *_ = await self.workspace.scans(self.ref, limit=1)
        async with (
            self.workspace.servers() as servers,
            Originals.open(
                manifest, servers, records=created.sources, counters=counters
            ) as originals,
        ):
            yield originals
