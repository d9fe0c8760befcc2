"""`python -m indexer.testing.synthetic_gcs`: run the server until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import uvloop

from indexer.testing.synthetic_gcs.control import answer_of, load_bucket
from indexer.testing.synthetic_gcs.router import Router
from indexer.testing.synthetic_s3.__main__ import bucket_argument
from indexer.testing.synthetic_s3.router import Latency
from indexer.testing.synthetic_s3.server import serve


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the buckets, then serve."""
    parser = argparse.ArgumentParser(
        prog="python -m indexer.testing.synthetic_gcs",
        description="A synthetic GCS on the loopback address, for tests and benchmarks.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--bucket",
        type=bucket_argument,
        action="append",
        default=[],
        metavar="NAME[=SHAPE:COUNT]",
        help="a bucket, empty or of generated objects",
    )
    parser.add_argument(
        "--latency-ms", type=float, default=0.0, help="the time that a listing takes"
    )
    options = parser.parse_args(arguments)
    router = Router(latency=Latency(options.latency_ms / 1000))
    for name, load in options.bucket:
        load_bucket(router, name, load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(lambda request: answer_of(router, request), options.port))


if __name__ == "__main__":
    main()
