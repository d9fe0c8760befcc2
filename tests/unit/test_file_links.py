"""Links and special files below a folder: what is taken for what, and that nothing leads out.

Invariants
  * A race is played by doing what another process could do, at the moment at which it would hurt.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import pytest_asyncio

from indexer.errors import NoSuchObject
from indexer.keyspace import Key, KeyRange
from indexer.objects import Pin
from indexer.page import paths_of
from indexer.protocols import FileOptions, Symlinks
from indexer.stores.file import FileConnection
from indexer.stores.file_left_out import LeftOut
from indexer.testing.store_suite import Bytes
from tests.unit.file_folders import keys_of, opened, pages_of, pin_of, uri_of
from workers.threads import Threads

SECRET = b"what nobody asked for"
TIMEOUT_S = 20.0


@pytest_asyncio.fixture
async def threads() -> AsyncIterator[Threads]:
    async with Threads(4) as threads:
        yield threads


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beside one that holds a secret."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside / "deep", root / "dir"):
        folder.mkdir(parents=True)
    (outside / "secret").write_bytes(SECRET)
    (outside / "deep" / "secret").write_bytes(SECRET)
    (root / "a.txt").write_bytes(b"a")
    (root / "dir" / "b.txt").write_bytes(b"bb")
    return root


@pytest.fixture
def linked(root: Path) -> Path:
    """The same with links of every kind."""
    outside = root.parent / "outside"
    (outside / "back").symlink_to(root / "a.txt")
    (outside / "deep" / "back").symlink_to(root / "dir")
    targets: dict[str, str | Path] = {
        "to-file": "a.txt",
        "to-file-absolute": root / "a.txt",
        "to-link": "to-file",
        "to-dir": "dir",
        "dir/to-above": "../a.txt",
        "back-by-outside": outside / "back",
        "dir-by-outside": "../outside/deep/back",
        "out-file": "../outside/secret",
        "out-dir": outside,
        "nothing": "no-such-file",
        "itself": "itself",
        "dir/up": "..",
        "to-root": root,
    }
    for name, target in targets.items():
        (root / name).symlink_to(target)
    return root


FILES = [b"a.txt", b"dir/b.txt"]
INSIDE = sorted(
    [
        *(*FILES, b"dir/to-above", b"to-file", b"to-file-absolute", b"to-link", b"back-by-outside"),
        *(b"to-dir/b.txt", b"to-dir/to-above", b"dir-by-outside/b.txt", b"dir-by-outside/to-above"),
    ]
)
FOLLOWED = sorted(
    [*INSIDE, b"out-file", b"out-dir/secret", b"out-dir/back", b"out-dir/deep/secret"]
)


@pytest.mark.parametrize(
    ("symlinks", "keys", "notices"),
    [
        ("skip", FILES, {"13 symbolic links were left out."}),
        (
            "inside",
            INSIDE,
            {
                "2 symbolic links that lead out of the folder were left out.",
                "2 symbolic links that lead nowhere were left out.",
                "4 symbolic links to folders that they lie in were left out.",
            },
        ),
        (
            "follow",
            [*FOLLOWED, b"out-dir/deep/back/b.txt", b"out-dir/deep/back/to-above"],
            {
                "2 symbolic links that lead nowhere were left out.",
                "5 symbolic links to folders that they lie in were left out.",
            },
        ),
    ],
)
async def test_links_are_taken_by_policy(
    linked: Path, threads: Threads, symlinks: Symlinks, keys: list[bytes], notices: set[str]
) -> None:
    store = await opened(linked, threads, symlinks)
    assert store.notices() == ()
    for _ in range(2):
        assert await keys_of(store) == sorted(keys)
        assert set(store.notices()) == notices, "each is counted once"
    for key in keys:
        sink = Bytes()
        await store.read(Key(key), await pin_of(store, key), sink)
        is_secret = key.endswith((b"secret", b"out-file"))
        assert sink.data == (SECRET if is_secret else b"bb" if key.endswith(b"b.txt") else b"a")
    left_out = {*FOLLOWED, b"dir/up/a.txt", b"to-root/a.txt", b"itself", b"nothing"} - {*keys}
    for key in left_out:
        with pytest.raises(NoSuchObject):
            await store.head(Key(key))
        with pytest.raises(NoSuchObject):
            await store.read(Key(key), Pin(1), Bytes())
        (found,) = await store.digests([(Key(key), Pin(1))], "md5")
        assert isinstance(found, NoSuchObject)


@pytest.mark.parametrize("symlinks", ["inside", "follow"])
async def test_folders_that_link_to_each_other_come_to_an_end(
    root: Path, threads: Threads, symlinks: Symlinks
) -> None:
    names = ("one", "two", "three")
    for name in names:
        (root / name).mkdir()
        (root / name / "file").write_bytes(b"")
        for other in names:
            (root / name / other).symlink_to(f"../{other}")
    store = await opened(root, threads, symlinks)
    async with asyncio.timeout(TIMEOUT_S):
        keys = await keys_of(store)
    # Every way through the three that comes to none of them twice.
    assert len(keys) == len(FILES) + 3 + 6 + 6
    assert b"one/two/three/file" in keys
    assert store.notices() == ("33 symbolic links to folders that they lie in were left out.",)


async def test_a_root_may_be_a_link(linked: Path, threads: Threads) -> None:
    (linked.parent / "alias").symlink_to("root")
    assert await keys_of(await opened(linked.parent / "alias", threads)) == INSIDE


@pytest.mark.parametrize("symlinks", ["skip", "inside", "follow"])
@pytest.mark.parametrize(
    "key",
    [b"../outside/secret", b"dir/../../outside/secret", b".", b"..", b"", b"dir/", b"a\0b", b"/"],
)
async def test_no_key_leads_out(
    root: Path, threads: Threads, key: bytes, symlinks: Symlinks
) -> None:
    store = await opened(root, threads, symlinks)
    with pytest.raises(NoSuchObject):
        await store.head(Key(key))
    with pytest.raises(NoSuchObject):
        await store.read(Key(key), Pin(len(SECRET)), Bytes())
    (found,) = await store.digests([(Key(key), Pin(len(SECRET)))], "md5")
    assert isinstance(found, NoSuchObject)
    page = await store.list_page(KeyRange(), prefix=Key(key.rpartition(b"/")[0] + b"/"))
    assert set(paths_of(page.rows)) <= {b"dir/b.txt"}


# --- races


def swap(path: Path, target: Path) -> None:
    """Puts a link in the place of a file or folder, as one step."""
    link = path.with_name(path.name + "~link")
    link.symlink_to(target)
    os.rename(path, path.with_name(path.name + "~old"))  # noqa: PTH104 - as the system calls it
    os.rename(link, path)  # noqa: PTH104 - as above


def just_after(
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    function: str,
    name: bytes,
    act: Callable[[], None],
) -> list[bytes]:
    """Lets `act` happen right after the first call of a function of the system for that name."""
    original = getattr(module, function)
    happened: list[bytes] = []

    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        found = original(path, *arguments, **options)
        if isinstance(path, bytes) and path.endswith(name) and not happened:
            happened.append(path)
            act()
        return found

    monkeypatch.setattr(module, function, call)
    return happened


@pytest.mark.parametrize("symlinks", ["skip", "inside"])
async def test_a_file_is_swapped_for_a_link_when_it_was_listed(
    root: Path, threads: Threads, symlinks: Symlinks
) -> None:
    (root / "victim").write_bytes(bytes(len(SECRET)))
    store, pin = await opened(root, threads, symlinks), Pin(len(SECRET))
    assert b"victim" in await keys_of(store)
    swap(root / "victim", root.parent / "outside" / "secret")
    sink = Bytes()
    with pytest.raises(NoSuchObject):
        await store.read(Key(b"victim"), pin, sink)
    assert sink.data == b""
    (found,) = await store.digests([(Key(b"victim"), pin)], "md5")
    assert isinstance(found, NoSuchObject)


@pytest.mark.parametrize("symlinks", ["skip", "inside"])
async def test_a_folder_is_swapped_for_a_link_when_it_was_opened(
    root: Path, threads: Threads, symlinks: Symlinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dir" / "secret").write_bytes(b"mine")
    store = await opened(root, threads, symlinks)
    outside = root.parent / "outside"
    happened = just_after(monkeypatch, os, "open", b"dir", lambda: swap(root / "dir", outside))
    sink = Bytes()
    await store.read(Key(b"dir/secret"), Pin(4), sink)
    assert happened
    assert sink.data == b"mine"


@pytest.mark.parametrize("symlinks", ["skip", "inside"])
async def test_a_folder_is_swapped_for_a_link_when_it_was_listed(
    root: Path, threads: Threads, symlinks: Symlinks
) -> None:
    (root / "dir" / "secret").write_bytes(b"")
    store = await opened(root, threads, symlinks)
    assert b"dir/secret" in await keys_of(store)
    swap(root / "dir", root.parent / "outside")
    with pytest.raises(NoSuchObject):
        await store.read(Key(b"dir/secret"), Pin(len(SECRET)), Bytes())
    with pytest.raises(NoSuchObject):
        await store.head(Key(b"dir/secret"))
    page = await store.list_page(KeyRange(Key(b"dir/")))
    # The names were known, and are names no more; the folder that was moved away is another one.
    assert paths_of(page.rows) == []
    assert await keys_of(store) == [b"a.txt", b"dir~old/b.txt", b"dir~old/secret"]


@pytest.mark.parametrize("name", [b"target", b"target/secret"])
@pytest.mark.parametrize("key", [b"link/secret", b"file-link"])
async def test_what_a_link_was_resolved_to_is_swapped(
    root: Path, threads: Threads, name: bytes, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a resolved path and its use are two moments; what is used is what is opened."""
    (root / "target").mkdir()
    (root / "target" / "secret").write_bytes(bytes(len(SECRET)))
    (root / "link").symlink_to("target")
    (root / "file-link").symlink_to("target/secret")
    store = await opened(root, threads)
    victim = root / os.fsdecode(name)
    outside = root.parent / "outside"
    target = outside if name == b"target" else outside / "secret"
    happened = just_after(monkeypatch, os.path, "realpath", b"link", lambda: swap(victim, target))
    with pytest.raises(NoSuchObject):
        await store.read(Key(key), Pin(len(SECRET)), Bytes())
    assert happened


async def test_a_link_that_is_none_any_more_when_it_is_read_is_gone(
    root: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "real").mkdir()
    (root / "real" / "a").write_bytes(b"a")
    (root / "link").symlink_to("real")
    store = await opened(root, threads)

    def swapped(path: bytes, **_: Any) -> bytes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(NoSuchObject):
        await store.head(Key(b"link/a"))


async def test_a_folder_that_is_swapped_all_the_time_never_tells_the_secret(
    root: Path, threads: Threads
) -> None:
    stop = Event()
    real, other = root / "swapped", root / "other"
    real.mkdir()
    (real / "secret").write_bytes(b"mine")

    def swap_to_and_fro() -> None:
        while not stop.is_set():
            os.rename(real, other)  # noqa: PTH104 - as the system calls it
            real.symlink_to("../outside")
            real.unlink()
            os.rename(other, real)  # noqa: PTH104 - as above

    swapper = Thread(target=swap_to_and_fro)
    swapper.start()
    read = 0
    try:
        store = await opened(root, threads)
        for _ in range(150):
            for page in await pages_of(store):
                sizes = dict(zip(paths_of(page.rows), page.rows["size"].to_pylist(), strict=True))
                assert sizes.get(b"swapped/secret", 4) == 4
                assert b"swapped/deep/secret" not in sizes
            sink = Bytes()
            with suppress(NoSuchObject):
                await store.read(Key(b"swapped/secret"), Pin(4), sink)
                read += 1
            assert sink.data in {b"", b"mine"}
    finally:
        stop.set()
        swapper.join()
    assert read > 0


# --- special files


async def test_special_files_are_left_out_and_not_waited_for(root: Path, threads: Threads) -> None:
    os.mkfifo(root / "pipe")
    (root / "to-pipe").symlink_to("pipe")
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)  # The path of a socket has 108 bytes at most.
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
    special = [b"pipe", b"socket", b"to-pipe"]
    if os.getuid() == 0:
        os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        special.append(b"device")
    store = await opened(root, threads)
    async with asyncio.timeout(TIMEOUT_S):
        assert await keys_of(store) == FILES
        assert store.notices() == (f"{len(special)} pipes, sockets or devices were left out.",)
        for key in special:
            with pytest.raises(NoSuchObject):
                await store.head(Key(key))
            with pytest.raises(NoSuchObject):
                await store.read(Key(key), Pin(0), Bytes())
            connection = FileConnection(threads, FileOptions())
            assert await connection.lone_object(uri_of(root / os.fsdecode(key))) is None
    server.close()


@pytest.mark.parametrize("symlinks", ["skip", "inside", "follow"])
async def test_a_file_that_becomes_a_pipe_is_not_waited_for(
    root: Path, threads: Threads, symlinks: Symlinks
) -> None:
    (root / "link").symlink_to("a.txt")
    store = await opened(root, threads, symlinks)
    assert b"a.txt" in await keys_of(store)
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")
    async with asyncio.timeout(TIMEOUT_S):
        for key in (b"a.txt", b"link"):
            with pytest.raises(NoSuchObject):
                await store.read(Key(key), Pin(1), Bytes())
            (found,) = await store.digests([(Key(key), Pin(1))], "md5")
            assert isinstance(found, NoSuchObject)


# --- lone files, and what is counted


async def test_a_lone_file_may_be_a_link(linked: Path, threads: Threads) -> None:
    connection = FileConnection(threads, FileOptions("skip"))
    for name, body in {"out-file": SECRET, "to-link": b"a", "to-root/a.txt": b"a"}.items():
        found = await connection.lone_object(uri_of(linked / name))
        assert found is not None
        (row,) = found.row.to_pylist()
        assert (row["path"], row["size"]) == (os.fsencode(Path(name).name), len(body))
        sink = Bytes()
        pin = Pin(row["size"], mtime_ns=row["mtime_ns"])
        await found.store.read(Key(row["path"]), pin, sink)
        assert sink.data == body
    for name in ("nothing", "itself", "out-dir", "a.txt/below", "n" * 300):
        assert await connection.lone_object(uri_of(linked / name)) is None


def test_more_than_can_be_counted_is_said_to_be_more() -> None:
    left_out = LeftOut(counted_max=3)
    for number in (0, 1, 1, 0):
        left_out.note("special", b"%d" % number)
    assert left_out.sentences() == ("2 pipes, sockets or devices were left out.",)
    left_out.note("outside", b"one")
    for number in range(10):
        left_out.note("special", b"%d" % number)
    assert left_out.sentences() == (
        "1 symbolic link that leads out of the folder was left out.",
        "More than 3 pipes, sockets or devices were left out.",
    )
