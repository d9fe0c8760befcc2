"""Stores of real folders for tests, and what threads without rights see of them.

Invariants
  * A test that runs as root asks the kernel as somebody else where rights matter, and is skipped
    where that cannot be done.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest

from indexer.keyspace import Key, KeyRange
from indexer.objects import Pin
from indexer.page import paths_of
from indexer.protocols import FileOptions, ListedPage, Symlinks
from indexer.sources import SourceUri
from indexer.stores.file import FileConnection, FileStore
from workers.threads import Threads

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

NOBODY = 65_534


def uri_of(path: Path | str) -> SourceUri:
    """The URI of a file or, if a slash ends it, of a folder."""
    return SourceUri("file", "", str(path).lstrip("/"))


async def opened(path: Path, threads: Threads, symlinks: Symlinks = "inside") -> FileStore:
    source = await FileConnection(threads, FileOptions(symlinks)).open(uri_of(f"{path}/"))
    assert isinstance(source.store, FileStore)
    return source.store


async def pages_of(store: FileStore, *, by_token: bool = False) -> list[ListedPage]:
    pages = [await store.list_page(KeyRange())]
    while pages[-1].more:
        if by_token:
            pages.append(await store.list_page(KeyRange(), token=pages[-1].token))
        else:
            pages.append(await store.list_page(KeyRange(pages[-1].last)))
    return pages


async def keys_of(store: FileStore) -> list[bytes]:
    return [path for page in await pages_of(store) for path in paths_of(page.rows)]


async def pin_of(store: FileStore, key: bytes) -> Pin:
    head = await store.head(Key(key))
    return Pin(head.size, mtime_ns=head.mtime_ns)


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - descriptors are no paths


class UnprivilegedThreads(Threads):
    """Threads whose calls the kernel grants what it grants anybody."""

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await super().run(_as_nobody, function, arguments)


def _as_nobody(function: Callable[[*Arguments], Result], arguments: tuple[*Arguments]) -> Result:
    with _file_system_user(NOBODY):
        return function(*arguments)


@contextmanager
def _file_system_user(user: int) -> Iterator[None]:
    """Makes this thread alone another user where files are concerned; capabilities go with it."""
    if os.getuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("as root, nothing is denied here")
    set_user = ctypes.CDLL(None).setfsuid
    set_user(user)
    try:
        assert set_user(user) == user, "the system does not let this thread be somebody else"
        yield
    finally:
        set_user(0)
