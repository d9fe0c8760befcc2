"""The trackers that need no service keep the contract of `Tracker`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from indexer.catalog.catalog import Catalog
from indexer.protocols import Tracker
from indexer.testing.tracker_suite import OpenTracker, TrackerSuite
from indexer.trackers.memory import MemoryTracker
from workers.clock import SystemClock


class TestMemoryTracker(TrackerSuite):
    @pytest.fixture
    def trackers(self) -> OpenTracker:
        tracker = MemoryTracker(SystemClock())

        @asynccontextmanager
        async def open_tracker() -> AsyncIterator[Tracker]:
            yield tracker

        return open_tracker


class TestCatalogTracker(TrackerSuite):
    @pytest.fixture
    def trackers(self, tmp_path: Path) -> OpenTracker:
        @asynccontextmanager
        async def open_tracker() -> AsyncIterator[Tracker]:
            async with Catalog.open(tmp_path / "data", SystemClock()) as catalog:
                yield catalog.tracker

        return open_tracker
