"""Daemons for tests, in this process: on a data folder of their own, listening on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from indexer.app import App, open_app, open_daemon
from indexer.defaults import Defaults
from indexer.protocols import S3Options, SourceOptions
from indexer.telemetry import new_logger
from indexer.testing.synthetic_s3 import SyntheticS3


@asynccontextmanager
async def running_daemon(
    data: Path, server: SyntheticS3 | None = None, *, jobs: int = 4, log: Any = None
) -> AsyncIterator[tuple[str, App]]:
    """The URL of a daemon, which finds S3 at `server`, and its app."""
    log = log or new_logger("error")
    s3 = S3Options(endpoint_url=server.endpoint_url, region="us-east-1") if server else S3Options()
    async with (
        open_app(data, defaults=Defaults(options=SourceOptions(s3=s3)), log=log) as app,
        open_daemon(app, host="127.0.0.1", port=0, running_max=jobs, log=log) as daemon,
    ):
        yield daemon.url, app


@asynccontextmanager
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Plain HTTP to a daemon."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session
