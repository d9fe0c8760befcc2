"""Opening a data folder, and its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from indexer.catalog.database import Database
from indexer.catalog.facts import Facts
from indexer.catalog.folder import DataFolder, FolderBlobStore
from indexer.catalog.folders import FolderIndexes, Folders
from indexer.catalog.garbage import Garbage
from indexer.catalog.labels import Labels
from indexer.catalog.leases import Leases
from indexer.catalog.reader import Reader
from indexer.catalog.retention import Retention
from indexer.catalog.runs import Runs
from indexer.catalog.tracker import CatalogTracker
from indexer.content import ContentStore
from indexer.limits import DATA_FOLDER_THREADS
from workers.clock import Clock
from workers.threads import Threads


@dataclass(frozen=True, slots=True)
class Catalog:
    """An open catalog: `async with Catalog.open(folder, clock) as catalog`."""

    folder: DataFolder
    content: ContentStore
    tracker: CatalogTracker
    reader: Reader
    folders: Folders
    labels: Labels
    retention: Retention
    garbage: Garbage
    leases: Leases
    runs: Runs
    facts: Facts

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, clock: Clock) -> AsyncIterator[Catalog]:
        """The catalog in the folder at `path`, made on first use.

        Raises `UnusableDataFolder`, and `Temporary` when another process holds it too long.
        """
        async with Threads(DATA_FOLDER_THREADS) as threads:
            folder = await threads.run(DataFolder.prepare, path, clock.now())
            async with Database.open(folder, clock) as database:
                files = FolderBlobStore(folder.path, threads)
                content = ContentStore(files)
                indexes = FolderIndexes(files, content, threads)
                leases, runs = Leases(folder.path), Runs(database, clock)
                tracker = CatalogTracker(
                    database,
                    files,
                    content,
                    indexes,
                    leases=leases,
                    runs=runs,
                    threads=threads,
                    clock=clock,
                )
                retention = Retention(database, clock)
                yield cls(
                    folder=folder,
                    content=content,
                    tracker=tracker,
                    reader=Reader(database),
                    folders=Folders(indexes, tracker.manifest),
                    labels=Labels(database, clock),
                    retention=retention,
                    garbage=Garbage(
                        folder.path, database, files, leases, retention, threads=threads
                    ),
                    leases=leases,
                    runs=runs,
                    facts=Facts(database, clock),
                )
