"""Health: whether the parts that a daemon needs do work, asked when somebody asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from indexer import __version__
from indexer.errors import IndexerError
from indexer.limits import DISK_FREE_BYTES_MIN, MIB
from indexer.wire.tracking import Health as HealthDocument
from workers.threads import Threads


class Health:
    """Asks the catalog, by `ping`, and the disk that the data folder is on."""

    def __init__(self, data: Path, ping: Callable[[], Awaitable[None]]) -> None:
        self._data = data
        self._ping = ping

    async def readiness(self, threads: Threads, *, is_stopping: bool) -> HealthDocument:
        """Whether snapshots can be made and answers given."""
        checks = {
            "jobs": "stopping" if is_stopping else "ok",
            "catalog": await self._catalog(),
            "disk": await threads.run(self._disk),
        }
        is_ready = all(word == "ok" for word in checks.values())
        return HealthDocument(
            status="ok" if is_ready else "unavailable", version=__version__, checks=checks
        )

    async def _catalog(self) -> str:
        try:
            await self._ping()
        except IndexerError as error:
            return str(error)
        return "ok"

    def _disk(self) -> str:
        try:
            free_bytes = shutil.disk_usage(self._data).free
        except OSError as error:
            return f"the data folder cannot be read: {error.strerror}"
        if not os.access(self._data, os.W_OK | os.X_OK):
            return "the data folder cannot be written"
        if free_bytes < DISK_FREE_BYTES_MIN:
            return f"{free_bytes // MIB} MiB are free, and {DISK_FREE_BYTES_MIN // MIB} are needed"
        return "ok"
