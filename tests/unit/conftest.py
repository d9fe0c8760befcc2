"""Fixtures of tests of web servers: one that answers as a test has it, and a connection to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from indexer.stores.http import HTTPConnection, connect
from indexer.telemetry import Counters
from tests.unit.scripted_web_server import ScriptedServer
from tests.unit.web_stores import HUNG_S, TIMEOUT_S


@pytest_asyncio.fixture
async def web_server() -> AsyncIterator[ScriptedServer]:
    """A server without answers yet."""
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture
async def web_connection() -> AsyncIterator[HTTPConnection]:
    """A connection that gives up soon."""
    async with asyncio.timeout(HUNG_S), connect(Counters(), timeout_s=TIMEOUT_S) as connection:
        yield connection
