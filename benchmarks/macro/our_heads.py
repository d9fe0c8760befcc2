"""Asks for objects through our store, wrapped as a job has it.

python -m benchmarks.macro.our_heads BUCKET OBJECTS IN_FLIGHT ROUNDS
"""

from __future__ import annotations

import sys

from benchmarks.asking import keys_of, rounds, run
from indexer.keyspace import Key
from indexer.protocols import S3Options
from indexer.runner import collect_garbage_seldom
from indexer.sources import parse_source
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import connect
from indexer.stores.wrappers import Limiters, ResilientConnection
from indexer.telemetry import Counters
from workers.caps import Caps
from workers.clock import SystemClock
from workers.limiter import Limiter
from workers.retry import Retry


async def main(bucket: str, objects: int, in_flight: int, count: int) -> None:
    """Opens the bucket as a job does, and asks for what the rounds want."""
    counters, clock = Counters(), SystemClock()
    async with connect(S3Options(), MemoryFacts(), counters) as connection:
        resilient = ResilientConnection(
            connection,
            "s3",
            caps=Caps(in_flight),
            limiters=Limiters(*(Limiter.fixed(in_flight) for _ in range(3))),
            retry=Retry(),
            first_contact=Retry(),
            on_retry=lambda *_: None,
            counters=counters,
            clock=clock,
        )
        source = await resilient.open(parse_source(f"s3://{bucket}"))
        collect_garbage_seldom()
        await rounds(lambda key: source.store.head(Key(key)), keys_of(objects), in_flight, count)


if __name__ == "__main__":
    run(main(sys.argv[1], *map(int, sys.argv[2:])))
