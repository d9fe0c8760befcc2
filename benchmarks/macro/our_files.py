"""Hashes the files below a folder through our store, on so many threads.

python -m benchmarks.macro.our_files FOLDER THREADS
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.asking import run
from benchmarks.measure import RunFailed
from indexer.keyspace import Key, KeyRange
from indexer.objects import Pin
from indexer.protocols import FileOptions, Store
from indexer.sources import parse_source
from indexer.stores.file import FileConnection, FileStore
from workers.threads import Threads


async def main(folder: str, slots: int) -> None:
    """Hashes them once to warm up, and prints what the second time took."""
    async with Threads(slots) as threads:
        source = await FileConnection(threads, FileOptions()).open(parse_source(f"{folder}/"))
        assert isinstance(source.store, FileStore)
        files = await _listed(source.store)
        await _hash(source.store, files)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        await _hash(source.store, files)
        figures = {
            "wall_s": time.perf_counter() - started_s,
            "cpu_s": time.process_time() - started_cpu_s,
            "bytes": sum(pin.size for _, pin in files),
        }
    print(json.dumps({"objects": len(files), **figures}))


async def _listed(store: Store) -> list[tuple[Key, Pin]]:
    files: list[tuple[Key, Pin]] = []
    after, token, more = None, None, True
    while more:
        page = await store.list_page(KeyRange(after), token=token)
        after, token, more = page.last or after, page.token, page.more
        columns = (page.rows.column(name).to_pylist() for name in ("path", "size", "mtime_ns"))
        files += [
            (Key(path), Pin(size, mtime_ns=mtime_ns))
            for path, size, mtime_ns in zip(*columns, strict=True)
        ]
    return files


async def _hash(store: FileStore, files: list[tuple[Key, Pin]]) -> None:
    for found in await store.digests(files, "md5"):
        if not isinstance(found, bytes):
            raise RunFailed(str(found)) from found


if __name__ == "__main__":
    run(main(sys.argv[1], int(sys.argv[2])))
