"""Links: where the bytes of a version's entries are fetched from, by whoever speaks HTTP.

Invariants
  * A link says whether it is pinned: whether no other bytes than the recorded ones can come of it.
  * Nothing is fetched, and no object is asked for; a store is asked once at most where it is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from indexer.artifact.entries import Selection, read_entries
from indexer.artifact.originals import Originals, originals_of
from indexer.errors import InvalidSetting
from indexer.limits import LINK_EXPIRES_S_MAX
from indexer.manifest import Manifest
from indexer.protocols import LinkAccess
from indexer.workspace import Workspace

_EXPIRY: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class EntryLink:
    """Where an entry's bytes are fetched from, see `protocols.Link`; it has `size` of them."""

    path: bytes
    url: str
    size: int
    is_pinned: bool
    access: LinkAccess


async def links_of(
    workspace: Workspace,
    manifest: Manifest,
    originals: Originals,
    *,
    selection: Selection,
    of_moment: bool,
    expires_s: int,
) -> AsyncIterator[EntryLink]:
    """The links of the entries that are selected, in order."""
    async for table in read_entries(workspace, manifest, selection.prefix):
        rows = table.take(pa.array(selection.of(table), pa.int64()))
        for original in originals_of(rows, of_moment=of_moment):
            link = await originals.link(original, expires_s=expires_s)
            yield EntryLink(original.path, link.url, original.pin.size, link.is_pinned, link.access)


def check_expiry(expires_s: float) -> int:
    """A time for which links hold, in seconds. Raises `InvalidSetting`."""
    if not 1 <= expires_s <= LINK_EXPIRES_S_MAX:
        raise InvalidSetting(
            f"links hold for 1 second to {LINK_EXPIRES_S_MAX:,} (7 days), and {expires_s:,.0f} "
            f"were asked for."
        )
    return int(expires_s)


def parse_expiry(text: str) -> int:
    """The seconds that `90s`, `30m`, `1h` and `7d` mean. Raises `InvalidSetting`."""
    match = _EXPIRY.fullmatch(text)
    if match is None:
        raise InvalidSetting(f"{text!r} is no time to expire: write one such as 90s, 30m, 1h, 7d.")
    return check_expiry(int(match[1]) * _SECONDS[match[2]])
