"""Hashes the objects of a bucket with obstore and hashlib, so many at once.

    python -m benchmarks.neighbours.md5_with_obstore BUCKET IN_FLIGHT [--threads]

As they come on the event loop, or with `--threads` each on a thread, as a whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from obstore.store import S3Store

from benchmarks.asking import run

CHUNK_BYTES = 1 << 20


async def main(bucket: str, in_flight: int, *, threads: bool) -> None:
    """Hashes in one of the two ways."""
    store = S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_REGION"],
        client_options={"allow_http": True},
    )
    paths = [one["path"] for batch in store.list() for one in batch]
    if threads:
        with ThreadPoolExecutor(in_flight) as pool:
            read = list(pool.map(lambda path: hashed(store, path), paths))
    else:
        read = await hashed_as_they_come(store, paths, in_flight)
    print(json.dumps({"objects": len(read), "bytes": sum(read)}))


def hashed(store: S3Store, path: str) -> int:
    """Hashes an object, and says how many bytes it has."""
    body = store.get(path).bytes()
    hashlib.md5(body, usedforsecurity=False).hexdigest()
    return len(body)


async def hashed_as_they_come(store: S3Store, paths: list[str], in_flight: int) -> list[int]:
    """Hashes objects a chunk after the other, and says how many bytes each has."""
    left, read = iter(paths), []

    async def work() -> None:
        for path in left:
            answer = await store.get_async(path)
            md5, size_bytes = hashlib.md5(usedforsecurity=False), 0
            async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                md5.update(chunk)
                size_bytes += len(chunk)
            md5.hexdigest()
            read.append(size_bytes)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return read


if __name__ == "__main__":
    run(main(sys.argv[1], int(sys.argv[2]), threads="--threads" in sys.argv))
