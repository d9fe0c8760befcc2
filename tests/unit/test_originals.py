"""The objects that entries reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.artifact.originals import Original, Originals
from indexer.errors import AccessDenied
from indexer.manifest import Manifest, SourceRef
from indexer.objects import Pin
from indexer.protocols import SourceOptions
from indexer.servers import ResilientServers
from indexer.stores.memory import MemoryFacts
from indexer.telemetry import new_logger
from workers.clock import SystemClock


async def test_an_entry_names_no_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    manifest = Manifest((SourceRef(f"file://{tmp_path}/"),), ())
    own = Original(b"a", Pin(6), f"file://{tmp_path}/secret")
    opening = ResilientServers.open(
        SourceOptions(), facts=MemoryFacts(), clock=SystemClock(), log=new_logger()
    )
    async with opening as servers, Originals.open(manifest, servers) as originals:
        store, key = await originals.place(Original(b"secret", Pin(6)))
        assert (await store.head(key)).size == 6
        with pytest.raises(AccessDenied, match="secret: entries may not name files"):
            await originals.place(own)
