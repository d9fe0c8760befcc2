"""Lists a bucket of GCS with gcloud-aio-storage and prints how many objects it holds.

python -m benchmarks.neighbours.with_gcloud_aio BUCKET
"""

from __future__ import annotations

import asyncio
import sys

from gcloud.aio.storage import Storage


async def main(bucket: str) -> None:
    """Counts what `list_objects` tells, a page after the other."""
    count, token = 0, ""
    async with Storage() as storage:
        while True:
            page = await storage.list_objects(bucket, params={"pageToken": token} if token else {})
            count += len(page.get("items", ()))
            token = page.get("nextPageToken", "")
            if not token:
                break
    print(count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
