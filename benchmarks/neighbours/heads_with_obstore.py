"""Asks for objects with obstore: `head_async`, or with `--threads` `head` on a thread each.

python -m benchmarks.neighbours.heads_with_obstore BUCKET OBJECTS IN_FLIGHT ROUNDS [--threads]
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from obstore.store import S3Store

from benchmarks.asking import keys_of, rounds, run


async def main(bucket: str, objects: int, in_flight: int, count: int, *, threads: bool) -> None:
    """Asks in one of the two ways."""
    store = S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_REGION"],
        client_options={"allow_http": True},
    )
    if not threads:
        await rounds(lambda key: store.head_async(key.decode()), keys_of(objects), in_flight, count)
        return
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(in_flight) as pool:
        await rounds(
            lambda key: loop.run_in_executor(pool, store.head, key.decode()),
            keys_of(objects),
            in_flight,
            count,
        )


if __name__ == "__main__":
    run(main(sys.argv[1], *map(int, sys.argv[2:5]), threads="--threads" in sys.argv))
