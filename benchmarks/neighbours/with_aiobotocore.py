"""Lists a bucket with aiobotocore's paginator and prints how many objects it holds.

python -m benchmarks.neighbours.with_aiobotocore BUCKET
"""

from __future__ import annotations

import asyncio
import sys

from aiobotocore.session import get_session


async def main(bucket: str) -> None:
    """Counts what `list_objects_v2` tells."""
    count = 0
    async with get_session().create_client("s3") as client:
        paginator = client.get_paginator("list_objects_v2")
        async for page in paginator.paginate(Bucket=bucket):
            count += len(page.get("Contents", ()))
    print(count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
