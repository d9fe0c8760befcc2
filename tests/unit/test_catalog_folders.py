"""Folders of a catalog's versions: shown after each commit, and after their index was lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from indexer.catalog import folders
from indexer.catalog.catalog import Catalog
from indexer.catalog.folders import FolderIndexes
from indexer.errors import Busy, CorruptContent, NoSuchVersion, UnusableDataFolder
from indexer.folders import FolderIndexBuilder
from indexer.limits import TEMPORARY_FILE_AGE_S
from indexer.manifest import Manifest
from indexer.records import Folder, FolderPage
from indexer.testing.commits import make_shard, manifest_of, put_and_commit
from workers.clock import SystemClock

SHARDS = (
    make_shard({"a/1": 1, "a/2": 2, "a/b/1": 3}),
    make_shard({"a/b/2": 4, "c": 5}),
    make_shard({"d/": 0, "d/1": 6}),
)
MANIFEST = manifest_of(*SHARDS)
ROOT = [b"a/", b"c", b"d/"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest_asyncio.fixture
async def catalog(data: Path) -> AsyncIterator[Catalog]:
    async with Catalog.open(data, SystemClock()) as catalog:
        yield catalog


@pytest.fixture
def index(data: Path) -> Path:
    """The file of the index."""
    name = MANIFEST.digest.removeprefix("sha256:")
    return data / "folders" / name[:2] / f"{name}.db"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests of which an index was made, in order."""
    made: list[str] = []
    build = FolderIndexes.build

    async def watch(self: FolderIndexes, manifest: Manifest, *rest: folders.Take) -> None:
        made.append(manifest.digest)
        await build(self, manifest, *rest)

    monkeypatch.setattr(FolderIndexes, "build", watch)
    return made


def names(page: FolderPage) -> list[bytes]:
    return [child.path for child in page.children]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def state_of(path: Path) -> os.stat_result:
    return path.stat()


def lose(path: Path, left: bytes | None = None) -> None:
    """Removes a file, or leaves something else in its place."""
    path.unlink()
    if left is not None:
        path.write_bytes(left)


async def page(catalog: Catalog, prefix: bytes = b"", after: bytes | None = None) -> list[bytes]:
    return names(await catalog.folders.page(MANIFEST.digest, prefix, after))


async def test_what_was_committed_is_shown(
    catalog: Catalog, data: Path, index: Path, builds: list[str]
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    assert files_in(data / "folders") == [index]
    root = await catalog.folders.page(MANIFEST.digest)
    assert names(root) == ROOT
    assert root.children[0] == Folder(b"a/", 4, 10)
    assert await page(catalog, b"a/") == [b"a/1", b"a/2", b"a/b/"]
    assert await page(catalog, b"a/b/") == [b"a/b/1", b"a/b/2"]
    assert await page(catalog, b"d/") == [b"d/", b"d/1"]
    assert await page(catalog, b"a/", b"a/2") == [b"a/b/"]
    assert builds == [MANIFEST.digest]


async def test_pages_are_cut(catalog: Catalog) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    first = await catalog.folders.page(MANIFEST.digest, limit=2)
    assert (names(first), first.next) == (ROOT[:2], b"c")
    second = await catalog.folders.page(MANIFEST.digest, b"", first.next, 2)
    assert (names(second), second.next) == (ROOT[2:], None)


async def test_an_empty_version_is_shown(catalog: Catalog) -> None:
    await put_and_commit(catalog.tracker)
    assert await catalog.folders.page(manifest_of().digest) == FolderPage((), None)


async def test_of_a_version_that_is_not_there_nothing_is_made(catalog: Catalog, data: Path) -> None:
    with pytest.raises(NoSuchVersion):
        await page(catalog)
    assert not (data / "folders").exists()


async def test_a_commit_that_changes_nothing_makes_no_index(
    catalog: Catalog, index: Path, builds: list[str]
) -> None:
    first = await put_and_commit(catalog.tracker, *SHARDS)
    before = state_of(index)
    second = await put_and_commit(catalog.tracker, *SHARDS)
    assert state_of(index) == before
    lose(index)
    third = await put_and_commit(catalog.tracker, *SHARDS)
    assert files_in(index.parent) == [index]
    assert len(builds) == 2
    assert (second.created, third.created) == (False, False)
    assert first.version.wandb_digest == third.version.wandb_digest is not None


# --- an index that is lost


@pytest.mark.parametrize("content", [None, b"", b"something else" * 1_000])
async def test_an_index_that_is_lost_is_made_anew(
    catalog: Catalog, index: Path, builds: list[str], content: bytes | None
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    lose(index, content)
    assert await page(catalog) == ROOT
    assert await page(catalog, b"d/") == [b"d/", b"d/1"]
    assert len(builds) == 2


async def test_pages_share_what_one_of_them_makes(
    catalog: Catalog, index: Path, builds: list[str]
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    lose(index)
    async with asyncio.TaskGroup() as group:
        pages = [group.create_task(page(catalog)) for _ in range(8)]
    assert [task.result() for task in pages] == [ROOT] * 8
    assert len(builds) == 2


async def test_a_page_does_not_wait_for_ever(
    catalog: Catalog, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    lose(index)
    monkeypatch.setattr(folders, "FOLDER_INDEX_WAIT_S_MAX", 0.01)
    async with catalog.folders._turn():
        with pytest.raises(Busy):
            await page(catalog)
    assert await page(catalog) == ROOT


async def test_two_catalogs_may_make_the_same_index_at_once(data: Path, index: Path) -> None:
    async with Catalog.open(data, SystemClock()) as one, Catalog.open(data, SystemClock()) as two:
        await put_and_commit(one.tracker, *SHARDS)
        lose(index)
        async with asyncio.TaskGroup() as group:
            pages = [group.create_task(page(catalog)) for catalog in (one, two) for _ in range(2)]
        assert [task.result() for task in pages] == [ROOT] * 4
        assert files_in(data / "folders") == [index]


# --- what goes wrong


async def test_what_was_half_written_is_taken_away(
    catalog: Catalog, data: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    lose(index)
    last = SHARDS[2].ref.digest
    lose(data / "shards" / last[:2] / f"{last}.parquet", SHARDS[1].data)
    # With few rows waiting, the file is there before the last shard is looked at.
    monkeypatch.setattr("indexer.folders.FOLDER_ROWS_WAITING_MAX", 1)
    with pytest.raises(CorruptContent):
        await page(catalog)
    assert files_in(data / "folders") == []


async def test_a_page_that_is_given_up_leaves_nothing(
    catalog: Catalog, data: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    lose(index)
    monkeypatch.setattr("indexer.folders.FOLDER_ROWS_WAITING_MAX", 1)
    loop = asyncio.get_running_loop()
    add = FolderIndexBuilder.add
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(page(catalog))

        def cancel(*arguments: object) -> None:
            add(*arguments)  # type: ignore[arg-type]
            loop.call_soon_threadsafe(reading.cancel)

        monkeypatch.setattr(FolderIndexBuilder, "add", cancel)
    assert reading.cancelled()
    assert files_in(data / "folders") == []


async def test_an_index_that_cannot_be_written_fails_the_commit(
    catalog: Catalog, data: Path
) -> None:
    (data / "folders").touch()
    with pytest.raises(UnusableDataFolder, match="is a file"):
        await put_and_commit(catalog.tracker, *SHARDS)


async def test_an_index_that_stays_unreadable_is_told(
    catalog: Catalog, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)

    def spoil(_: FolderIndexBuilder, temporary: Path, path: Path) -> None:
        path.write_bytes(b"")

    monkeypatch.setattr(folders, "_finish", spoil)
    lose(index)
    with pytest.raises(UnusableDataFolder, match="just made"):
        await page(catalog)


async def test_what_others_left_half_written_is_swept(catalog: Catalog, data: Path) -> None:
    await put_and_commit(catalog.tracker, *SHARDS)
    now_s = datetime.now(UTC).timestamp()
    for name, age_s in ((".tmp-old", TEMPORARY_FILE_AGE_S + 60), (".tmp-new", 1.0)):
        (data / "folders" / name).touch()
        os.utime(data / "folders" / name, (now_s - age_s,) * 2)
    async with Catalog.open(data, SystemClock()):
        left = [path.name for path in files_in(data / "folders")]
    assert ".tmp-new" in left
    assert ".tmp-old" not in left
