"""Daemons for asynchronous programs.

Invariants
  * Settings mean what they do for `indexer.open`: how objects are reached from here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from indexer import client
from indexer.client import Client
from indexer.library.settings import ReachSettings, arguments
from indexer.places import place_of, settings_of
from indexer.protocols import SourceOptions


@asynccontextmanager
async def connect(
    url: str,
    *,
    options: SourceOptions | None = None,
    log: Any = None,
    **given: Unpack[ReachSettings],
) -> AsyncIterator[Client]:
    """The daemon at `url`, asked nothing yet. Raises `InvalidReference` for what is no URL.

    The settings say how objects of versions are reached when they are read, which is done from
    here; `options` do in place of all of them. `log` is a structured logger; without one, warnings
    are written to standard error.
    """
    chosen = options or place_of(settings_of(arguments(given, ReachSettings))).defaults.options
    async with client.connect(url, options=chosen, log=log) as connected:
        yield connected
