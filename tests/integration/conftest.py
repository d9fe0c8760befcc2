"""What tests of the library on real servers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

import indexer
from indexer.library import Version


class MakeVersion(Protocol):
    """Snapshots what is below a URI, or below several by their mounts, as `p/a`."""

    def __call__(self, uri: str | dict[str, str], **order: Any) -> Version: ...


@pytest.fixture
def version_of(tmp_path: Path) -> MakeVersion:
    return lambda uri, **order: indexer.snapshot(uri, name="p/a", data=tmp_path / "data", **order)
