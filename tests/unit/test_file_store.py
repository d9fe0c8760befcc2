"""Files that change, vanish or may not be read, names that are no text, and large folders.

Invariants
  * Whatever happens, as many descriptors are open afterwards as before.
  * What the system would say of a broken disk is said in its place; all else is real.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from indexer.checksums import ALGORITHMS, new_hash
from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidSetting,
    NoSuchObject,
    ObjectChanged,
    StoreUnavailable,
)
from indexer.keyspace import Key, KeyRange
from indexer.limits import (
    HANDED_ON_BYTES_MAX,
    HASH_BATCH_BYTES_MAX,
    HASH_BATCH_FILES_MAX,
    PAGE_ROWS,
)
from indexer.objects import Pin
from indexer.page import is_ascending, paths_of
from indexer.protocols import FileOptions
from indexer.sources import parse_source
from indexer.stores import file_bytes
from indexer.stores.file import FileConnection, FileStore
from indexer.stores.file_bytes import hash_batches
from indexer.stores.file_root import Root
from indexer.testing.store_suite import Bytes
from tests.unit.file_folders import (
    UnprivilegedThreads,
    keys_of,
    open_descriptors,
    opened,
    pages_of,
    pin_of,
    uri_of,
)
from tests.unit.listing_runs import Listed, list_slice
from workers.simulated import VirtualClock
from workers.threads import Threads

LONG = HANDED_ON_BYTES_MAX * 2 + 1
TIMEOUT_S = 20.0


@pytest_asyncio.fixture
async def threads() -> AsyncIterator[Threads]:
    async with Threads(4) as threads:
        yield threads


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() <= before


class Acting:
    """A sink that does something after its first piece. See `protocols.Sink`."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)
        if len(self.pieces) == 1:
            self.act()

    def restart(self) -> None:
        pytest.fail("a file is read on in the middle")


def write_in_place(path: Path, data: bytes) -> None:
    """Writes a file over, as an older one, so that its time differs however coarse the clock is."""
    path.write_bytes(data)
    said = path.stat()
    os.utime(path, ns=(said.st_atime_ns, said.st_mtime_ns - 10**9))


# --- files that change


CHANGES: dict[str, Callable[[Path], object]] = {
    "as long": lambda path: write_in_place(path, b"x" * LONG),
    "longer": lambda path: write_in_place(path, b"x" * LONG * 2),
    "shorter": lambda path: os.truncate(path, LONG - 1),
    "empty": lambda path: os.truncate(path, 0),
    "touched": lambda path: os.utime(path, (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, threads: Threads, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LONG))
    store = await opened(tmp_path, threads)
    pin = await pin_of(store, b"file")
    sink = Acting(lambda: change(path))
    with pytest.raises(ObjectChanged, match=str(uri_of(path))):
        await store.read(Key(b"file"), pin, sink)
    assert sum(map(len, sink.pieces)) < LONG, "the last piece is only given when all is well"
    anew = Bytes()
    with pytest.raises(ObjectChanged):
        await store.read(Key(b"file"), pin, anew)
    assert anew.data == b"", "what is known to be another file is not read at all"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_file_that_changes_while_it_is_hashed(
    tmp_path: Path,
    threads: Threads,
    change: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * LONG)
    store = await opened(tmp_path, threads)
    objects = [(Key(key), await pin_of(store, key)) for key in (b"a", b"b", b"c")]
    original = os.readv
    changed: list[int] = []

    def change_after_reading(fd: int, buffers: Any) -> int:
        count = original(fd, buffers)
        if bytes(buffers[0][:1]) == b"b" and not changed:
            changed.append(fd)
            change(tmp_path / "b")
        return count

    monkeypatch.setattr(os, "readv", change_after_reading)
    first, second, third = await store.digests(objects, "sha256")
    assert (first, third) == tuple(hashlib.sha256(name * LONG).digest() for name in (b"a", b"c"))
    assert isinstance(second, ObjectChanged)
    assert str(uri_of(tmp_path / "b")) in str(second)


async def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(
    tmp_path: Path, threads: Threads
) -> None:
    path = tmp_path / "file"
    for act in (path.unlink, lambda: (tmp_path / "new").replace(path)):
        path.write_bytes(bytes(LONG))
        (tmp_path / "new").write_bytes(b"new")
        store = await opened(tmp_path, threads)
        sink = Acting(act)
        await store.read(Key(b"file"), await pin_of(store, b"file"), sink)
        assert b"".join(sink.pieces) == bytes(LONG)
        assert max(map(len, sink.pieces)) == HANDED_ON_BYTES_MAX


async def test_parts_are_read_exactly(tmp_path: Path, threads: Threads) -> None:
    body = bytes(range(251)) * 20_000
    (tmp_path / "file").write_bytes(body)
    store = await opened(tmp_path, threads)
    pin = await pin_of(store, b"file")
    for start, end in [
        *((0, None), (0, 0), (7, 7), (1, HANDED_ON_BYTES_MAX), (1, HANDED_ON_BYTES_MAX + 1)),
        *((HANDED_ON_BYTES_MAX, 3 * HANDED_ON_BYTES_MAX), (len(body) - 1, None), (len(body), None)),
        *((5, len(body) + 100), (len(body) + 1, None)),
    ]:
        sink = Bytes()
        await store.read(Key(b"file"), pin, sink, start=start, end=end)
        assert sink.data == body[start:end]


async def test_what_is_removed_is_missing(tmp_path: Path, threads: Threads) -> None:
    for name in ("gone/file", "dir/file", "dir/stays", "stays"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    store = await opened(tmp_path, threads)
    objects = [(Key(key), await pin_of(store, key)) for key in await keys_of(store)]
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "dir" / "file").unlink()
    found = await store.digests(objects, "md5")
    one = hashlib.md5(b"1", usedforsecurity=False).digest()
    assert [each if isinstance(each, bytes) else type(each) for each in found] == [
        *(NoSuchObject, one, NoSuchObject, one)
    ]
    for key in (b"gone/file", b"dir/file"):
        with pytest.raises(NoSuchObject, match=os.fsdecode(key)):
            await store.read(Key(key), Pin(1), Bytes())
    # What was read of the folders is still known: names without a row.
    page = await store.list_page(KeyRange(Key(b"")))
    assert paths_of(page.rows) == [b"dir/stays", b"stays"]
    assert (page.entries, page.first, page.last, page.more) == (4, b"dir/file", b"stays", False)
    assert await keys_of(store) == [b"dir/stays", b"stays"]


async def test_a_root_that_is_not_there_has_no_files(tmp_path: Path, threads: Threads) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path / ("n" * 300)):
        page = await (await opened(path, threads)).list_page(KeyRange())
        assert (page.entries, page.more, page.first) == (0, False, None)


# --- what the system says


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that anybody may come to; that of `tmp_path` is for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


async def test_what_may_not_be_read_is_named(public: Path) -> None:
    modes = {"": 0o755, "closed": 0o700, "no-names": 0o711, "no-files": 0o744, "open/denied": 0o600}
    for folder in ("closed", "no-names", "no-files", "open"):
        (public / folder).mkdir()
        (public / folder / "file").write_bytes(b"1")
    (public / "open" / "denied").write_bytes(b"1")
    for path, mode in modes.items():
        # Whoever is not root has what others have, and the files are its own.
        (public / path).chmod(mode if os.getuid() == 0 else mode & 0o077 | (mode & 0o007) << 6)
    try:
        async with UnprivilegedThreads(4) as threads:
            await _check_denials(public, threads)
    finally:
        for folder in ("", "closed", "no-names", "no-files"):
            (public / folder).chmod(0o700)


async def _check_denials(root: Path, threads: Threads) -> None:
    store = await opened(root, threads)
    for folder in ("closed", "no-names", "no-files"):
        after = Key(folder.encode() + b"/")
        with pytest.raises(AccessDenied, match=str(uri_of(f"{root}/{folder}/"))):
            await store.list_page(KeyRange(after, Key(after + b"~")))
        if folder != "no-names":
            with pytest.raises(AccessDenied):
                await store.head(Key(after + b"file"))
    with pytest.raises(AccessDenied):
        await store.list_page(KeyRange())
    # A folder that may be passed through need not be one that may be listed.
    assert (await store.head(Key(b"no-names/file"))).size == 1
    pin = await pin_of(store, b"open/denied")
    with pytest.raises(AccessDenied, match=str(uri_of(root / "open/denied"))):
        await store.read(Key(b"open/denied"), pin, Bytes())
    found = await store.digests(
        [(Key(key), Pin(1)) for key in (b"closed/file", b"open/denied", b"open/file")], "md5"
    )
    assert [type(each) for each in found] == [AccessDenied, AccessDenied, bytes]
    connection = FileConnection(threads, FileOptions())
    for folder in ("closed/", "no-names/", "closed/below/"):
        with pytest.raises(AccessDenied, match=str(uri_of(f"{root}/{folder}"))):
            await connection.open(uri_of(f"{root}/{folder}"))
    with pytest.raises(AccessDenied):
        await connection.lone_object(uri_of(root / "closed" / "file"))


@pytest.mark.parametrize("function", ["scandir", "open", "stat", "pread", "readv", "fstat"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
async def test_a_failing_disk_is_unavailable(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_bytes(b"1")
    store = await opened(tmp_path, threads)
    key, pin = Key(b"dir/file"), await pin_of(store, b"dir/file")
    failed: list[int] = []

    def fail(*_: Any, **__: Any) -> Any:
        failed.append(number)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, fail)
    if function not in {"pread", "readv"}:
        with pytest.raises(StoreUnavailable, match=os.strerror(number)):
            await store.list_page(KeyRange())
    if function not in {"scandir", "stat", "readv"}:
        with pytest.raises(StoreUnavailable, match=os.strerror(number)):
            await store.read(key, pin, Bytes())
    if function not in {"scandir", "stat", "pread"}:
        (found,) = await store.digests([(key, pin)], "md5")
        assert isinstance(found, StoreUnavailable)
    monkeypatch.undo()
    assert failed
    assert await keys_of(store) == [b"dir/file"]


async def test_a_body_that_ends_early_may_be_read_again(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"123")
    store = await opened(tmp_path, threads)
    pin = await pin_of(store, b"file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: b"")
        patch.setattr(os, "readv", lambda *_: 0)
        with pytest.raises(StoreUnavailable, match="ended before"):
            await store.read(Key(b"file"), pin, Bytes())
        (found,) = await store.digests([(Key(b"file"), pin)], "md5")
        assert isinstance(found, StoreUnavailable)
    sink = Bytes()
    await store.read(Key(b"file"), pin, sink)
    assert sink.data == b"123"


# --- names and times


async def test_names_that_are_no_text_are_kept_as_bytes(tmp_path: Path, threads: Threads) -> None:
    keys = [b"\x80", b"a/\xff\xfe/b", b"caf\xe9", "é".encode(), b"\xf4\x90\x80\x80"]
    try:
        for key in keys:
            path = tmp_path / os.fsdecode(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key)
    except OSError:
        pytest.skip("the file system takes no names that are not UTF-8")
    store = await opened(tmp_path, threads)
    assert await keys_of(store) == sorted(keys)
    connection = FileConnection(threads, FileOptions())
    for key in keys:
        sink = Bytes()
        await store.read(Key(key), await pin_of(store, key), sink)
        assert sink.data == key
        uri = uri_of(tmp_path / os.fsdecode(key))
        assert parse_source(str(uri)) == uri
        found = await connection.lone_object(uri)
        assert found is not None
        assert paths_of(found.row) == [key.rpartition(b"/")[2]]
    folder = uri_of(f"{tmp_path}/a/" + os.fsdecode(b"\xff\xfe/"))
    below = (await connection.open(folder)).store
    assert isinstance(below, FileStore)
    assert await keys_of(below) == [b"b"]


@pytest.mark.parametrize("mtime_ns", [-1, 0, 10**18 + 123_456_789, -(10**18), 2**63 + 10**9])
async def test_times_are_kept_to_the_nanosecond(
    tmp_path: Path, threads: Threads, mtime_ns: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    os.utime(path, ns=(0, mtime_ns))
    kept = path.stat().st_mtime_ns
    store = await opened(tmp_path, threads)
    (page,) = await pages_of(store)
    (row,) = page.rows.to_pylist()
    assert row["mtime_ns"] == min(kept, 2**63 - 1)
    head = await store.head(Key(b"file"))
    assert (head.mtime_ns, head.last_modified) == (row["mtime_ns"], row["last_modified"])
    (found,) = await store.digests([(Key(b"file"), Pin(1, mtime_ns=head.mtime_ns))], "md5")
    assert isinstance(found, bytes)


async def test_paths_may_be_longer_than_the_system_takes(tmp_path: Path, threads: Threads) -> None:
    names = [b"%d" % level * 200 for level in range(8)] * 4
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    store = await opened(tmp_path, threads)
    (key,) = await keys_of(store)
    assert key == b"/".join([*names, b"file"])
    assert len(key) > 4_096
    assert (await store.head(Key(key))).size == 0


# --- many files


async def test_a_folder_of_many_files(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"file {number:05d}" for number in range(20_000)]
    for name in names:
        os.mknod(tmp_path / name)
    store = await opened(tmp_path, threads)
    original, scans = os.scandir, []

    def scandir(fd: int) -> Any:
        scans.append(fd)
        return original(fd)

    monkeypatch.setattr(os, "scandir", scandir)
    for by_token in (False, True):
        pages = await pages_of(store, by_token=by_token)
        assert [page.entries for page in pages] == [PAGE_ROWS] * 20
        paths = [path for page in pages for path in paths_of(page.rows)]
        assert paths == [name.encode() for name in names]
        assert is_ascending(paths)
    # Of a large folder a window of names first, and then the rest.
    assert len(scans) <= 4


async def test_files_are_hashed_in_batches_and_slices(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bytes, "HASH_SLICE_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(file_bytes, "HASH_CHUNK_BYTES", 100_000)
    bodies = {}
    for number, size in enumerate([0, 1, 99_999, 3_000_000, 1_000_000, *[500] * 150, 12_000_000]):
        key = b"%d/%03d" % (number % 3, number)
        path = tmp_path / os.fsdecode(key)
        path.parent.mkdir(exist_ok=True)
        bodies[key] = os.urandom(size)
        path.write_bytes(bodies[key])
    store = await opened(tmp_path, threads)
    objects = [(Key(key), await pin_of(store, key)) for key in bodies]
    for algorithm in ALGORITHMS:
        expected = []
        for body in bodies.values():
            one = new_hash(algorithm)
            one.update(body)
            expected.append(one.digest())
        assert await store.digests(objects, algorithm) == expected
    assert await store.digests([], "md5") == []
    with pytest.raises(InvalidSetting, match="crc16"):
        await store.digests(objects, "crc16")


def test_batches_are_worth_a_call_and_no_more() -> None:
    sizes = [10] * 200 + [HASH_BATCH_BYTES_MAX // 3] * 7 + [HASH_BATCH_BYTES_MAX * 5] * 2 + [1]
    objects = [(Key(b"%d" % number), Pin(size)) for number, size in enumerate(sizes)]
    batches = list(hash_batches(objects))
    assert [each for batch in batches for each in batch] == objects
    for batch in batches:
        assert 1 <= len(batch) <= HASH_BATCH_FILES_MAX
        assert len(batch) == 1 or sum(pin.size for _, pin in batch) <= HASH_BATCH_BYTES_MAX
    assert len(batches) == 4 + 3 + 2 + 1 - 1


# --- the connection, and callers who lose interest


async def test_moments_and_credentials(tmp_path: Path, threads: Threads) -> None:
    connection = FileConnection(threads, FileOptions())
    (tmp_path / "file").write_bytes(b"")
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidSetting, match="earlier versions"):
        await connection.open(uri_of(tmp_path), as_of=moment)
    with pytest.raises(InvalidSetting, match="earlier versions"):
        await connection.lone_object(uri_of(tmp_path / "file"), as_of=moment)
    assert str(os.getuid()) in await connection.credentials()
    source = await connection.open(uri_of(tmp_path))
    assert source.folder == f"{uri_of(tmp_path)}/"
    assert source.record == {"uri": source.folder, "operation": "scandir", "symlinks": "inside"}
    with pytest.raises(NoSuchObject):
        await source.store.head(Key(b"file"), version_id="1")


async def test_a_reader_that_is_cancelled_lets_go(tmp_path: Path, threads: Threads) -> None:
    (tmp_path / "file").write_bytes(bytes(LONG))
    store = await opened(tmp_path, threads)
    pin, before = await pin_of(store, b"file"), open_descriptors()
    waits = asyncio.Event()

    class Waiting(Bytes):
        async def write(self, data: bytes) -> None:
            waits.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(store.read(Key(b"file"), pin, Waiting()))
        await waits.wait()
        assert open_descriptors() == before + 1
        reading.cancel()
    assert open_descriptors() == before


async def test_hashing_that_is_cancelled_lets_go(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bytes, "HASH_SLICE_BYTES_MAX", 1)
    monkeypatch.setattr(file_bytes, "HASH_CHUNK_BYTES", 1)
    (tmp_path / "file").write_bytes(bytes(HANDED_ON_BYTES_MAX))
    store = await opened(tmp_path, threads)
    pin, before = await pin_of(store, b"file"), open_descriptors()
    async with asyncio.TaskGroup() as group:
        hashing = group.create_task(store.digests([(Key(b"file"), pin)], "md5"))
        async with asyncio.timeout(TIMEOUT_S):
            while open_descriptors() == before:
                await asyncio.sleep(0)
        hashing.cancel()
    assert hashing.cancelled()
    assert open_descriptors() == before


async def test_a_call_that_outlasts_its_caller_closes_what_it_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(LONG))
    async with Threads(1) as threads:
        pin = await pin_of(await opened(tmp_path, threads), b"file")
    for work in ("read", "digests"):
        await _check_outlasting(tmp_path, pin, work)


async def _check_outlasting(root: Path, pin: Pin, work: str) -> None:
    loop = asyncio.get_running_loop()
    began, may_end, before = asyncio.Event(), asyncio.Event(), open_descriptors()
    async with Threads(2, cancel_wait_s_max=0.01) as threads:
        store = await opened(root, threads)

        def wait(*_: Any) -> Any:
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result(TIMEOUT_S)
            raise OSError(errno.EIO, "late")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pread", wait)
            patch.setattr(os, "readv", wait)
            call: Any = store.read(Key(b"file"), pin, Bytes())
            if work == "digests":
                call.close()
                call = store.digests([(Key(b"file"), pin)], "md5")
            async with asyncio.TaskGroup() as group:
                task = group.create_task(call)
                await began.wait()
                task.cancel()
            assert open_descriptors() > before, "the thread still has the file"
            may_end.set()
            async with asyncio.timeout(TIMEOUT_S):
                while threads.statistics().in_flight:
                    await asyncio.sleep(0.001)
    assert open_descriptors() == before


async def test_errors_of_one_page_are_one_error(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        os.mknod(tmp_path / str(number))
    store = await opened(tmp_path, threads)

    def fail(*_: Any) -> Any:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Root, "stats", fail)
    with pytest.raises(IndexerError, match="disk"):
        await store.list_page(KeyRange())


@pytest.mark.parametrize("slots", [1, 8])
async def test_a_listing_of_many_segments_misses_nothing(
    tmp_path: Path, threads: Threads, slots: int
) -> None:
    keys = [b"flat/%03d" % number for number in range(300)]
    keys += [b"wide/%02d/%d" % (number, file) for number in range(40) for file in range(5)]
    keys += [b"flat/\xff%d" % number for number in range(20)]
    keys += [b"a.txt", b"deep/1/2/3/4/file", b"flat.txt", b"flat0"]
    for key in keys:
        path = tmp_path / os.fsdecode(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = await FileConnection(threads, FileOptions(), page_entries=10).open(uri_of(tmp_path))
    listed = await list_slice(source.store, Listed(), slots=slots)
    assert listed.keys == sorted(keys)
    listed.check_tiling()
    assert listed.counters.segments > 1


async def test_when_a_folder_was_opened_is_told_by_the_clock(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with Threads(1) as threads:
        connection = FileConnection(threads, FileOptions(), clock=clock)
        source = await connection.open(parse_source(f"{tmp_path}/"))
    assert source.opened_at == clock.now()
