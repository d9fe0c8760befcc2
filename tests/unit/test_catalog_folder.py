"""The data folder: what makes it usable, and that its files are whole."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from indexer.catalog.folder import DataFolder, FolderBlobStore
from indexer.errors import Temporary, UnusableDataFolder
from indexer.limits import DATABASE_BUSY_TIMEOUT_S, TEMPORARY_FILE_AGE_S
from workers.threads import Threads

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MARK = "bucket-indexer data folder, format 1\n"


class StepClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def monotonic(self) -> float:
        return self.time_s

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.time_s)

    async def sleep(self, seconds: float) -> None:
        self.time_s += seconds
        await asyncio.sleep(0)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderBlobStore]:
    async with Threads(2) as threads:
        yield FolderBlobStore(tmp_path, threads)


# --- the folder


def test_a_folder_is_made_on_first_use(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where"
    folder = DataFolder.prepare(path, NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert files_in(path) == {"format": MARK.encode()}
    assert folder.database == path / "catalog.db"
    DataFolder.prepare(path, NOW)
    assert files_in(path) == {"format": MARK.encode()}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UnusableDataFolder, match="is a file"):
            DataFolder.prepare(path, NOW)
    assert files_in(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("text", ["bucket-indexer data folder, format 2\n", "", "something else"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "format").write_text(text)
    words = "newer version" if "2" in text else "no data folder"
    with pytest.raises(UnusableDataFolder, match=words):
        DataFolder.prepare(tmp_path, NOW)
    assert files_in(tmp_path) == {"format": text.encode()}


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "format").write_text(MARK)
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # whom no mode stops
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(UnusableDataFolder, match="cannot be written"):
        DataFolder.prepare(tmp_path, NOW)
    tmp_path.chmod(0o700)
    assert files_in(tmp_path) == {"format": MARK.encode()}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_what_the_system_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnusableDataFolder, match=words) as raised:
        DataFolder.prepare(tmp_path / "data", NOW)
    assert str(tmp_path / "data") in str(raised.value)
    assert files_in(tmp_path) == {}


def test_what_was_half_written_is_swept_when_it_is_old(tmp_path: Path) -> None:
    for place in (".", "shards", "blobs"):
        (tmp_path / place).mkdir(exist_ok=True)
        for name, age_s in ((".tmp-old", TEMPORARY_FILE_AGE_S + 1), (".tmp-new", 1.0)):
            path = tmp_path / place / name
            path.touch()
            os.utime(path, (NOW.timestamp() - age_s,) * 2)
    DataFolder.prepare(tmp_path, NOW)
    assert set(files_in(tmp_path)) == {"format", ".tmp-new", "shards/.tmp-new", "blobs/.tmp-new"}


async def test_a_locked_folder_is_waited_for(tmp_path: Path) -> None:
    folder, clock = DataFolder.prepare(tmp_path, NOW), StepClock()
    order: list[str] = []

    async def second() -> None:
        async with folder.lock(clock):
            order.append("second")

    async with asyncio.TaskGroup() as group, folder.lock(clock):
        group.create_task(second())
        await clock.sleep(1.0)
        await clock.sleep(1.0)
        order.append("first")
    assert order == ["first", "second"]


async def test_the_wait_for_a_locked_folder_ends(tmp_path: Path) -> None:
    folder, clock = DataFolder.prepare(tmp_path, NOW), StepClock()
    async with folder.lock(clock):
        with pytest.raises(Temporary, match="another process"):
            async with folder.lock(clock):
                pytest.fail("two hold one lock")
    assert DATABASE_BUSY_TIMEOUT_S <= clock.time_s < DATABASE_BUSY_TIMEOUT_S + 1


# --- its files


async def test_a_name_is_kept(store: FolderBlobStore, tmp_path: Path) -> None:
    name = "shards/" + "ab" * 32
    assert not await store.has(name)
    with pytest.raises(FileNotFoundError):
        await store.get(name)
    await store.put(name, b"data")
    assert await store.has(name)
    assert await store.get(name) == b"data"
    assert files_in(tmp_path) == {f"shards/ab/{'ab' * 32}.parquet": b"data"}


@pytest.mark.parametrize("name", ["shards/abcd", "blobs/ab", "blobs/a", "abcd", "a", "a.b-c/0.1"])
async def test_any_name_is_a_file_of_its_own(store: FolderBlobStore, name: str) -> None:
    await store.put(name, b"data")
    assert await store.get(name) == b"data"
    await store.delete(name)
    assert not await store.has(name)
    await store.delete(name)


@pytest.mark.parametrize("name", ["", "..", "../a", "a/../b", "/a", "a/b/c", "A", ".tmp-a", "a/"])
async def test_no_name_leads_elsewhere(store: FolderBlobStore, name: str) -> None:
    with pytest.raises(AssertionError):
        await store.put(name, b"data")


async def test_the_first_content_stays(store: FolderBlobStore) -> None:
    await store.put("blobs/abcd", b"first")
    await store.put("blobs/abcd", b"second")
    assert await store.get("blobs/abcd") == b"first"


async def test_putting_one_name_at_once_leaves_one_file(
    store: FolderBlobStore, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(store.put("blobs/abcd", b"%d" % number * 1000))
    assert len(set(await store.get("blobs/abcd"))) == 1
    assert list(files_in(tmp_path)) == ["blobs/ab/abcd"]


async def test_what_is_absent_is_named_and_the_rest_kept(store: FolderBlobStore) -> None:
    names = ["shards/aa", "shards/bb", "shards/cc"]
    await store.put(names[1], b"data")
    path = store.path_of(names[1])
    os.utime(path, (1, 1))
    assert await store.keep(names) == {names[0], names[2]}
    assert path.stat().st_mtime > 1
    await store.settle([names[1]])


async def test_a_file_is_whole_or_not_there(
    store: FolderBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        await store.put("blobs/aa", b"data")
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UnusableDataFolder, match="disk is full"):
            await store.put("blobs/ab", b"data")
    assert files_in(tmp_path) == {"blobs/aa/aa": b"data"}
    await store.put("blobs/ab", b"data")
    assert await store.get("blobs/ab") == b"data"


async def test_a_file_is_flushed_before_it_has_its_name(
    store: FolderBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "blobs" / "ab" / "ab"
    flushed: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append((is_folder, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    await store.put("blobs/ab", b"data")
    assert flushed[-2:] == [(False, False), (True, True)]
