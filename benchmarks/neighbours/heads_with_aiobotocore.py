"""Asks for objects with aiobotocore's `head_object`.

python -m benchmarks.neighbours.heads_with_aiobotocore BUCKET OBJECTS IN_FLIGHT ROUNDS
"""

from __future__ import annotations

import sys

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.asking import keys_of, rounds, run


async def main(bucket: str, objects: int, in_flight: int, count: int) -> None:
    """Asks with as many connections as there are requests."""
    config = AioConfig(max_pool_connections=in_flight)
    async with get_session().create_client("s3", config=config) as client:
        await rounds(
            lambda key: client.head_object(Bucket=bucket, Key=key.decode()),
            keys_of(objects),
            in_flight,
            count,
        )


if __name__ == "__main__":
    run(main(sys.argv[1], *map(int, sys.argv[2:])))
