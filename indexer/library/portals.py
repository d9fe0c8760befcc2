"""What verbs of the library share: rows that come one by one, and whether progress is shown.

Invariants
  * What is asked for row by row is asked on one thread, and is closed when nobody asks any more.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

from indexer.console import Console, is_watched
from indexer.runner import Portal

Item = TypeVar("Item")
Resource = TypeVar("Resource")


def streamed(
    opened: Portal[Resource], start: Callable[[Resource], AsyncGenerator[Item]]
) -> Iterator[Item]:
    """What an asynchronous generator yields, each item made when it is asked for."""
    with opened as portal:
        items: AsyncGenerator[Item] | None = None

        async def following(resource: Resource) -> Item | None:
            nonlocal items
            items = items or start(resource)
            return await anext(items, None)

        async def close(_: Resource) -> None:
            if items is not None:
                await items.aclose()

        try:
            while (item := portal.run(following)) is not None:
                yield item
        finally:
            if not sys.is_finalizing():
                portal.run(close)


def console_for(progress: bool | None) -> Console:  # noqa: FBT001 - three answers, not a switch
    """Where progress is shown: if it is to be, or where somebody watches."""
    return Console(is_quiet=not (is_watched(sys.stderr) if progress is None else progress))
