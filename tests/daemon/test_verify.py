"""What a daemon proves of its versions, and what is proven of it from elsewhere."""

from __future__ import annotations

from pathlib import Path

import indexer
from indexer.artifact.handle import Handle
from indexer.references import parse_reference
from indexer.wire.jobs import SnapshotOrder
from tests.daemon.daemons import running_daemon

REF = parse_reference("p/a:v0")


async def test_damage_is_seen_there_and_from_here(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("a", "b"):
        (files / name).write_text(name)
    async with running_daemon(tmp_path / "data") as (url, _), indexer.connect(url) as client:
        await client.snapshot(SnapshotOrder(uri=f"file://{files}/", name="p/a"))
        handle = await Handle.open(client, REF)
        whole = await handle.verify_structure()
        assert whole.is_right
        assert await client.prove(REF) == whole
        assert (await handle.verify()).is_right
        (files / "a").unlink()
        assert (await handle.verify()).kinds == {"gone": 1}

        (shard,) = (tmp_path / "data/shards").rglob("*.parquet")
        kept = shard.read_bytes()
        shard.chmod(0o600)
        shard.write_bytes(kept.replace(b"PAR1", b"PAR2"))
        for report in (await handle.verify_structure(), await client.prove(REF)):
            assert {c.name for c in report.checks if not c.is_right} == {"shards", "tiles"}
        shard.write_bytes(kept)
        name = handle.record.digest.removeprefix("sha256:")
        (root,) = (tmp_path / "data/blobs").rglob(name)
        root.unlink()
        for report in (await handle.verify_structure(), await client.prove(REF)):
            assert report.checks[0].name == "manifest"
            assert report.checks[0].wrong == 1
            assert not any(check.is_right for check in report.checks)
