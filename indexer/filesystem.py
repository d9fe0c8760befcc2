"""Versions as a file system for fsspec: `indexer://project/artifact:v3/path/of/an/entry`.

    pandas.read_csv("indexer://vision/images:latest/index.csv")
    pyarrow.dataset.dataset("vision/tables:v3/train", filesystem=IndexerFileSystem())

Invariants
  * It is read-only, and what it reads are the original objects as they were recorded: another state
    of one is an error, never its bytes.
  * A reference means the same version for as long as a file system lives, and in copies of it that
    were pickled: an alias is looked up when it is first used, and not again.
  * It works from any thread, where a loop runs and where none does, and after a fork; what it holds
    open belongs to the process that opened it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn

from fsspec.asyn import AsyncFileSystem, get_loop, sync
from fsspec.spec import AbstractBufferedFile

from indexer.artifact.files import VersionFiles
from indexer.artifact.handle import Handle
from indexer.artifact.recorded import InMemory
from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidReference,
    InvalidSetting,
    NoSuchObject,
    NoSuchVersion,
    ObjectChanged,
    UsageError,
)
from indexer.limits import FILE_BLOCK_BYTES, FILE_SYSTEM_CLOSE_TIMEOUT_S
from indexer.places import REACH_SETTINGS, Place, open_workspace, place_of, settings_of
from indexer.records import Entry, Folder
from indexer.telemetry import new_logger
from indexer.texts import path_bytes, path_text
from indexer.workspace import Workspace, collect

PROTOCOL: Final = "indexer"

OPTIONS: Final = frozenset(("in_flight", "requests_per_s", *REACH_SETTINGS))
"""Storage options that are settings of how sources are reached."""

_PATH: Final = re.compile(r"([^/]+/[^/]+)(?:/(.*))?", re.DOTALL)
"""A version's reference, and a path in it."""


class IndexerFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """The versions on a data folder or a daemon, read-only.

    `data` or `server` say where versions are kept; other options are settings of how their sources
    are reached, by the names of `indexer.open`. A `place` says all of that at once. `pins` says
    which versions references mean that were looked up before.
    """

    protocol = PROTOCOL
    root_marker = ""
    cachable = False  # an alias is looked up by each file system
    async_impl = True
    default_block_size: ClassVar[int] = FILE_BLOCK_BYTES

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        server: str | None = None,
        place: Place | None = None,
        pins: Mapping[str, str] | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        batch_size: int | None = None,
        use_listings_cache: bool = False,
        **settings: object,
    ) -> None:
        super().__init__(
            asynchronous=asynchronous,
            loop=loop,
            batch_size=batch_size,
            use_listings_cache=use_listings_cache,
        )
        if unknown := settings.keys() - OPTIONS:
            raise InvalidSetting(
                f"{min(unknown)!r} is no option of this file system: it has data, server, "
                f"{', '.join(sorted(OPTIONS))}."
            )
        where = {"data": None if data is None else str(data), "server": server}
        self._pid: int = os.getpid()
        self._place = place or place_of(settings_of({**where, **settings}))
        self._pins = dict(pins or {})
        self._session: _Session | None = None
        self._inherited: list[_Session] = []

    def __reduce__(self) -> Any:
        make, (kind, arguments, options) = super().__reduce__()
        return make, (kind, arguments, {**options, "pins": dict(self._pins)})

    @property
    def loop(self) -> Any:
        """The loop that its requests run on, another one after a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = get_loop()
        return self._loop

    # --- what there is

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        with _as_os_errors():
            ref, inner = _split(path)
            if ref is None:
                await self._above(path)
                return _folder_info(path)
            files = await self._files(ref)
            if inner:
                entry = await files.entry(inner)
                if entry is not None:
                    return _entry_info(ref, entry)
                if not await files.has_below(inner + b"/"):
                    raise NoSuchObject(f"there is no {path_text(inner)!r} in {files.record.ref}.")
            return _folder_info(path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's
        path = self._strip_protocol(path)
        with _as_os_errors():
            ref, inner = _split(path)
            if ref is None:
                found = [_folder_info(name) for name in await self._above(path)]
            else:
                found = await self._ls_version(ref, inner)
        return found if detail else [info["name"] for info in found]

    async def _ls_version(self, ref: str, inner: bytes) -> list[dict[str, Any]]:
        files = await self._files(ref)
        folder = inner and inner + b"/"
        found = [
            _entry_info(ref, child)
            if isinstance(child, Entry)
            else _folder_info(_joined(ref, child.path[:-1]), child)
            async for child in files.children(folder)
            # What has no name in its folder (a mark of the folder, `a//b`) has no place in a tree.
            if not child.path.removeprefix(folder).startswith(b"/") and child.path != folder
        ]
        if not found:
            entry = await files.entry(inner) if inner else None
            if entry is not None:
                return [_entry_info(ref, entry)]
            if inner and not await files.has_below(folder):
                raise NoSuchObject(f"there is no {path_text(inner)!r} in {files.record.ref}.")
        return found

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002 - fsspec's
        **options: Any,
    ) -> Any:
        """All files below a path, those too that have no place in a tree, such as `a//b`."""
        path = self._strip_protocol(path)
        ref, inner = _split(path)
        if ref is None or maxdepth is not None:
            # A glob says what names begin with, which narrows nothing here.
            options.pop("prefix", None)
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **options)
        found: dict[str, dict[str, Any]] = {}
        with _as_os_errors():
            files = await self._files(ref)
            entry = await files.entry(inner) if inner else None
            if entry is not None:
                found[path] = _entry_info(ref, entry)
            async for each in files.entries(inner and inner + b"/"):
                info = _entry_info(ref, each)
                if not info["name"].endswith("/"):
                    found[info["name"]] = info
        if withdirs and found.keys() - {path}:
            for name in [path, *_folders_of(found, path)]:
                found.setdefault(name, _folder_info(name))
        ordered = dict(sorted(found.items()))
        return ordered if options.get("detail") else list(ordered)

    async def _above(self, path: str) -> list[str]:
        """The projects or, of one, its artifacts. Raises `NoSuchVersion`."""
        workspace = (await self._opened()).workspace
        if not path:
            return [one.name for one in await collect(workspace.projects, lambda one: one.name)]

        async def artifacts(**page: Any) -> Any:
            return await workspace.artifacts(path, **page)

        return [str(one.name) for one in await collect(artifacts, lambda one: one.name.artifact)]

    # --- what is in it

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        with _as_os_errors():
            files, inner = await self._file(path)
            entry = await files.entry(inner)
            if entry is None:
                if await files.has_below(inner + b"/"):
                    raise _is_folder(path)
                raise NoSuchObject(f"{path}: there is no such entry in {files.record.ref}.")
            memory = InMemory(entry.size)
            first, last, _step = slice(start, end).indices(entry.size)
            if first < last or not entry.size:
                is_whole = (first, last) == (0, entry.size)
                await files.read(inner, memory, start=first, end=None if is_whole else last)
        return b"".join(memory.pieces)

    async def _get_file(
        self, rpath: str, lpath: str | Path, callback: Any = None, **_: Any
    ) -> None:
        path, target = self._strip_protocol(rpath), Path(lpath)
        if (await self._info(path))["type"] == "directory":
            await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
            return
        files, inner = await self._file(path)
        temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{id(target):x}")
        try:
            with await asyncio.to_thread(temporary.open, "wb") as file, _as_os_errors():
                await files.read(inner, _FileSink(file, callback))
            await asyncio.to_thread(temporary.replace, target)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> IndexerFile:
        if mode != "rb":
            _refuse(path)
        info = self.info(path)
        if info["type"] != "file":
            raise _is_folder(path)
        options = {name: value for name, value in options.items() if name != "autocommit"}
        if options.get("block_size") is None:
            options["block_size"] = self.default_block_size
        return IndexerFile(self, path, mode, size=info["size"], **options)

    async def _file(self, path: str) -> tuple[VersionFiles, bytes]:
        ref, inner = _split(path)
        if ref is None or not inner:
            raise _is_folder(path)
        return await self._files(ref), inner

    def created(self, path: str) -> datetime | None:
        """When the object was last written, as it was recorded."""
        modified: datetime | None = self.info(path).get("last_modified")
        return modified

    modified = created

    # --- what cannot be done

    async def _rm_file(self, path: str, **_: Any) -> None:
        _refuse(path)

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        del path1
        _refuse(path2)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        del value, mode
        _refuse(path)

    async def _put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **_: Any) -> None:
        del lpath, mode
        _refuse(rpath)

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: FBT001, FBT002 - fsspec's
        del create_parents
        _refuse(path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - fsspec's
        del exist_ok
        _refuse(path)

    # --- what is open

    async def _files(self, ref: str) -> VersionFiles:
        """The version that a reference means. Raises `InvalidReference` and `NoSuchVersion`."""
        session = await self._opened()
        async with session.opening:
            if ref not in session.files:
                files = await session.open(self._pins.get(ref, ref))
                self._pins[ref] = files.record.ref
                session.files[ref] = files
        return session.files[ref]

    async def _opened(self) -> _Session:
        session = self._session
        if session is not None and session.pid != os.getpid():
            # Of the process that this one was forked from: left alone, and never closed from here.
            self._inherited.append(session)
            session = None
        if session is None:
            session = self._session = _Session(self._place)
            session.start(asyncio.get_running_loop())
            weakref.finalize(self, session.stop).atexit = False
        try:
            # Others may wait for the same; who is cancelled takes nothing from them.
            await asyncio.shield(asyncio.wrap_future(session.ready))
        except IndexerError:
            if self._session is session:
                # It may do better later, as when there is a data folder.
                self._session = None
                session.stop()
            raise
        return session


class IndexerFile(AbstractBufferedFile):  # type: ignore[misc]
    """An entry that was opened for reading, at any place, in blocks that are kept."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = sync(self.fs.loop, self.fs._cat_file, self.path, start, end)  # noqa: SLF001
        return data


class _Session:
    """A place that is open on one loop, until it is told to stop; one task opens and closes it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stack = AsyncExitStack()
        self.pid = os.getpid()
        self.ready: Future[None] = Future()
        self.workspace: Workspace
        self.files: dict[str, VersionFiles] = {}
        self.opening = asyncio.Lock()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Opens it, which is done when `ready` is."""
        self._loop = loop
        self._stopping = asyncio.Event()
        self._held = asyncio.run_coroutine_threadsafe(self._hold(), loop)
        # Before the interpreter ends, and the loop's thread with it.
        atexit.register(self._close)

    async def open(self, ref: str) -> VersionFiles:
        """A version, whose objects can be read until this is stopped."""
        handle = await Handle.open(self.workspace, ref)
        manifest = await handle.manifest()
        originals = await self._stack.enter_async_context(handle.originals())
        return VersionFiles(self.workspace, handle.record, manifest, originals)

    async def _hold(self) -> None:
        try:
            async with (
                open_workspace(self._place, log=new_logger(), creates=False) as self.workspace,
                self._stack,
            ):
                self.ready.set_result(None)
                await self._stopping.wait()
        except BaseException as error:
            if self.ready.done():
                raise
            self.ready.set_exception(error)

    def stop(self) -> None:
        """Lets it close; may be called from any thread, and waits for nothing."""
        if self.pid != os.getpid():
            return
        atexit.unregister(self._close)
        with suppress(RuntimeError):  # the loop is closed, and with it all that was open
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _close(self) -> None:
        """Lets it close, and waits for that if its loop still runs."""
        self.stop()
        if self.pid == os.getpid() and self._loop.is_running():
            with suppress(Exception):
                self._held.result(FILE_SYSTEM_CLOSE_TIMEOUT_S)


class _FileSink:
    """Bytes of an object on their way into a file. See `protocols.Sink`."""

    def __init__(self, file: Any, callback: Any) -> None:
        self._file = file
        self._callback = callback

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._file.write, data)
        if self._callback is not None:
            self._callback.relative_update(len(data))

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()


def _split(path: str) -> tuple[str | None, bytes]:
    """The version that a path is in, and the path there; None above of all versions."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None, b""
    return match[1], path_bytes(match[2] or "")


def _joined(ref: str, path: bytes) -> str:
    return f"{ref}/{path_text(path)}"


def _folders_of(names: Iterable[str], root: str) -> set[str]:
    """The folders below `root` that these files are in, but for those without a name."""
    folders: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while len(folder) > len(root) and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return {folder for folder in folders if not folder.endswith("/")}


def _folder_info(name: str, folder: Folder | None = None) -> dict[str, Any]:
    info: dict[str, Any] = {"name": name, "size": 0, "type": "directory"}
    if folder is not None:
        info |= {"objects": folder.objects, "bytes": folder.size_bytes}
    return info


def _entry_info(ref: str, entry: Entry) -> dict[str, Any]:
    return {
        "name": _joined(ref, entry.path),
        "size": entry.size,
        "type": "file",
        "uri": entry.uri,
        "etag": entry.etag,
        "version_id": entry.version_id,
        "checksum": entry.checksum,
        "checksum_algorithm": entry.checksum_algorithm,
        "last_modified": entry.last_modified,
    }


def _is_folder(path: str) -> OSError:
    return IsADirectoryError(errno.EISDIR, "this is a folder", path)


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, "versions are read-only; snapshot what is to be in one", path)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Raises what users of file systems expect, in the words of our own errors."""
    try:
        yield
    except (NoSuchObject, NoSuchVersion, InvalidReference) as error:
        raise FileNotFoundError(errno.ENOENT, str(error)) from error
    except AccessDenied as error:
        raise PermissionError(errno.EACCES, str(error)) from error
    except ObjectChanged as error:
        raise OSError(errno.ESTALE, str(error)) from error
    except UsageError:
        raise
    except IndexerError as error:
        raise OSError(errno.EIO, str(error)) from error
