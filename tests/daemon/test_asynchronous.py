"""Every verb of a version on a daemon, asynchronously, beside the same verb that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import indexer
from indexer.artifact.handle import Handle
from indexer.changes import ChangeKind
from indexer.errors import InvalidReference, Mismatch, NoSuchVersion
from indexer.wire.jobs import SnapshotOrder
from tests.daemon.daemons import running_daemon

BEFORE = {"t.csv": "path,n\na/1,1\na/2,2\n", "a/1": "1", "a/2": "2"}
AFTER = {**BEFORE, "a/2": "two", "a/3": "3"}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with running_daemon(tmp_path / "data") as (url, _), indexer.connect(url) as client:
        for name, files in (("before", BEFORE), ("after", AFTER)):
            for path, text in files.items():
                (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / path).write_text(text)
            await client.snapshot(SnapshotOrder(uri=f"file://{tmp_path}/{name}/", name="p/a"))
        yield url


@pytest.fixture
async def there(url: str) -> AsyncIterator[Handle]:
    async with indexer.connect(url) as client:
        yield await client.open("p/a:latest")


@pytest.fixture
async def here(url: str) -> indexer.Version:
    return await asyncio.to_thread(indexer.open, "p/a:latest", server=url)


async def test_what_is_read_is_the_same(there: Handle, here: indexer.Version) -> None:
    assert there.record == here.record
    found = [table async for table in there.entries("a/", exclude=["a/1"])]
    assert found == await asyncio.to_thread(lambda: list(here.entries("a/", exclude=["a/1"])))
    assert [table.column("path").to_pylist() for table in found] == [[b"a/2", b"a/3"]]
    frames = await there.to_pandas("a/"), await asyncio.to_thread(here.to_pandas, "a/")
    assert frames[0].equals(frames[1])
    links = [link async for link in there.urls("a/", expires=timedelta(minutes=5))]
    assert links == await asyncio.to_thread(lambda: list(here.urls("a/")))
    assert await there.lineage() == await asyncio.to_thread(here.lineage)
    assert await there.verify("a/") == await asyncio.to_thread(here.verify, "a/")
    structure = await asyncio.to_thread(lambda: here.verify(structure=True))
    assert await there.verify_structure() == structure
    with pytest.raises(NoSuchVersion):
        await there.beside("v9")
    with pytest.raises(InvalidReference):
        await there.beside("p/b/c/d")


async def test_what_changed_is_the_same(there: Handle, here: indexer.Version) -> None:
    waited = await asyncio.to_thread(lambda: here.diff("v0", prefix="a/"))
    async with there.diff("v0", prefix="a/") as diff:
        assert diff.summary == waited.summary
        added = [table async for table in diff.tables([ChangeKind.ADDED])]
        assert [table.column("path").to_pylist() for table in added] == [[b"a/3"]]
        assert [folder.path for folder in (await diff.folders()).folders] == [b"a/2", b"a/3"]


async def test_tables_are_asked_alike(there: Handle, here: indexer.Version) -> None:
    pytest.importorskip("duckdb")
    old = await there.beside("v0")
    sql = "SELECT e.path, b.size FROM entries e JOIN b.entries b USING (path) ORDER BY 1"
    rows = await there.query(sql, prefix=b"a/", versions={"b": old})
    assert rows.to_pylist() == [{"path": "a/1", "size": 1}, {"path": "a/2", "size": 1}]
    waited = await asyncio.to_thread(lambda: here.query(sql, prefix="a/", versions={"b": "v0"}))
    assert rows.table == waited.table
    assert (await there.tables()).to_pylist()[0]["path"] == "t.csv"
    table = await there.table("t.csv", media="path")
    assert table.table.column("entry_size").to_pylist() == [1, 3]
    before = await there.table("t.csv", media="path", of=old)
    assert before.table.column("entry_size").to_pylist() == [1, 1]
    assert (await there.compare_table("t.csv", "v0", key="path")).counts["changed"] == 0


async def test_what_is_said_of_a_version_is_seen_by_others(url: str, there: Handle) -> None:
    changed = await there.change(notes="seen", metadata={"a": 1}, add_tags=["good"])
    assert (changed.record.notes, changed.record.tags) == ("seen", ("good",))
    await changed.set_alias("best")
    changed = await changed.expire_after(timedelta(days=1))
    here = await asyncio.to_thread(indexer.open, "p/a:best", server=url)
    assert here.record == changed.record
    old = await there.beside("v0")
    await old.remove()
    with pytest.raises(NoSuchVersion):
        await there.beside("v0")


async def test_what_is_lost_is_raised_when_the_rest_is_there(there: Handle, tmp_path: Path) -> None:
    result = await there.download(tmp_path / "out", prefix="a/")
    assert (result.objects, (tmp_path / "out/a/2").read_text()) == (3, "two")
    (tmp_path / "after/a/1").write_text("overwritten")
    with pytest.raises(Mismatch, match="a/1: the object was overwritten"):
        await there.download(tmp_path / "again")
    assert (tmp_path / "again/t.csv").read_text() == AFTER["t.csv"]
    result = await there.download(tmp_path / "again", allow_missing=True)
    assert result.failed == 1
