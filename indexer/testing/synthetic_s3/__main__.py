"""`python -m indexer.testing.synthetic_s3`: run the server until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import uvloop

from indexer.testing.keysets import SEED, SHAPES
from indexer.testing.synthetic_s3.control import Load, answer_of, load_bucket
from indexer.testing.synthetic_s3.router import Latency, Router
from indexer.testing.synthetic_s3.server import serve
from indexer.testing.synthetic_s3.state import Buckets


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the buckets, then serve."""
    options = _parser().parse_args(arguments)
    buckets = Buckets(now=time.time)
    loads = dict(options.bucket) | {
        name: Load() for name in options.versioned if name not in dict(options.bucket)
    }
    for name, load in loads.items():
        versioned = name in options.versioned
        load_bucket(buckets, name, Load(shape=load.shape, count=load.count, versioned=versioned))
    latency = Latency(options.latency_ms / 1000, options.latency_sigma, options.seed)
    router = Router(buckets, latency=latency, access_key=options.access_key)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(lambda request: answer_of(router, request), options.port))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m indexer.testing.synthetic_s3",
        description="A synthetic S3 server on the loopback address, for tests and benchmarks.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--bucket",
        type=bucket_argument,
        action="append",
        default=[],
        metavar="NAME[=SHAPE:COUNT]",
        help=f"a bucket, empty or of generated objects; shapes are {', '.join(SHAPES)}",
    )
    parser.add_argument(
        "--versioned", action="append", default=[], metavar="NAME", help="a versioned bucket"
    )
    parser.add_argument(
        "--latency-ms", type=float, default=0.0, help="the (median) time that a listing takes"
    )
    parser.add_argument(
        "--latency-sigma", type=float, default=0.0, help="spread of log-normal latencies; 0: none"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the latencies")
    parser.add_argument("--access-key", help="the only access key that is accepted")
    return parser


def bucket_argument(text: str) -> tuple[str, Load]:
    """The name of a bucket, and what `NAME[=SHAPE:COUNT]` loads into it."""
    name, _, rest = text.partition("=")
    if not rest:
        return name, Load()
    shape, _, count = rest.partition(":")
    if shape not in SHAPES or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{rest!r} is not SHAPE:COUNT")
    return name, Load(shape=shape, count=int(count))


if __name__ == "__main__":
    main()
