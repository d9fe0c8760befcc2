"""Hashes the objects of a bucket with aiobotocore and hashlib, so many at once.

python -m benchmarks.neighbours.md5_with_aiobotocore BUCKET IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.asking import run

CHUNK_BYTES = 1 << 20


async def main(bucket: str, in_flight: int) -> None:
    """Hashes what `get_object` gives as it comes, with as many connections as requests."""
    read: list[int] = []
    config = AioConfig(max_pool_connections=in_flight)
    async with get_session().create_client("s3", config=config) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        left = iter([one["Key"] async for page in pages for one in page["Contents"]])

        async def work() -> None:
            for key in left:
                answer = await client.get_object(Bucket=bucket, Key=key)
                md5, size_bytes = hashlib.md5(usedforsecurity=False), 0
                async with answer["Body"] as body:
                    async for chunk in body.iter_chunks(CHUNK_BYTES):
                        md5.update(chunk)
                        size_bytes += len(chunk)
                md5.hexdigest()
                read.append(size_bytes)

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work())
    print(json.dumps({"objects": len(read), "bytes": sum(read)}))


if __name__ == "__main__":
    run(main(sys.argv[1], int(sys.argv[2])))
