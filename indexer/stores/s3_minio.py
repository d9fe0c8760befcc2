"""What MinIO needs: where it says that a listing ends, it is asked again in a way that it answers.

MinIO finds the place to begin by one component of the path after the other (`WalkDir` in its
`cmd/metacache-walk.go`). Beside a directory on the way, `a/`, it walks the neighbours whose names
go on with a character below the slash, `a-b/` and `a.txt`. They come before the place to begin, so
nothing of them is shown; but they count for the length of the page. A thousand such objects use a
page up: it comes back short or empty, and claims to be the last one.

Invariants
  * What a page shows is right, and nothing is missing before its last key; only its word for the
    end is not believed, where it was asked to begin within a directory.
  * No such neighbour is met by a request that begins at the first key of its prefix, or after a
    name in the very directory that is its prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from indexer.errors import BrokenListing
from indexer.keyspace import Key, KeyRange
from indexer.protocols import ListedPage

Ask: TypeAlias = Callable[[Key | None, Key], Awaitable[ListedPage]]
"""Asks for a page after a key, or from the first one, of the keys that begin with a prefix."""

_ABOVE_SLASH: Final = b"0"
"""The character after the slash: `a0` is above all that lies below `a/`, and nothing is between."""


async def page_after(ask: Ask, keys: KeyRange, prefix: Key) -> ListedPage:
    """The page that follows `keys.after` below a directory, whose word for the end holds.

    Where it says that there is more, nothing may follow all the same. Most pages take one request,
    those with neighbours in the way two, and the end of all takes up to three a directory.
    """
    page = await ask(keys.after, prefix)
    if page.more or keys.after is None or keys.after.find(b"/", len(prefix)) < 0:
        return page
    if page.entries:
        return replace(page, more=True)
    for after, narrower in _ways_on(keys.after, keys.through, prefix):
        page = await ask(after, narrower)
        if page.entries:
            # Its token is for another prefix.
            return replace(page, more=True, token=None)
        if page.more:
            raise BrokenListing("the server says that there is more and does not list it")
    return page


def _ways_on(after: Key, through: Key | None, prefix: Key) -> Iterator[tuple[Key | None, Key]]:
    """What to ask for, one after the other, until one of the answers shows a key: the next one.

    First what is left of the directories that `after` lies in, the largest first, as neighbours are
    rare in each; when even the smallest has nothing left, what comes beyond each, from the smallest
    on.
    """
    slashes = [place for place in range(len(prefix), len(after)) if after[place] == ord("/")]
    for slash in slashes:
        yield after, Key(after[: slash + 1])
    for slash in reversed(slashes):
        above = Key(after[:slash] + _ABOVE_SLASH)
        if through is not None and above > through:
            return
        yield None, above
        yield above, Key(after[: after.rfind(b"/", 0, slash) + 1])
