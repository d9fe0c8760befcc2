"""What an S3 server honours: known from its name, or asked once with two list requests.

Invariants
  * A probe changes nothing.
  * Facts that could not be learned (fewer than three keys are there) are the cautious ones, and are
    not kept.
"""

from __future__ import annotations

import base64
import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from indexer.keyspace import Key
from indexer.limits import PAGE_ROWS, SMALL_PAGE_ENTRIES
from indexer.page import is_ascending, paths_of
from indexer.stores.s3_lister import S3Lister

PROBE_KEYS: Final = 3

_DIRECTORIES_TOKEN: Final = re.compile(rb"\[\w+_cache:")
"""In the token of MinIO, which may stand behind a proxy that puts its own name for the server's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an endpoint honours; None where that could not be learned.

    `starts_after`: a listing can begin after any key. `encodes_urls`: keys come URL-encoded, so
    that control characters survive XML. `says_more`: a page that is cut off says so. `is_ordered`:
    keys come in byte order. `caps_pages`: it sends no more keys than asked for. `page_entries`: as
    many it was seen to send on one page.
    """

    server: str
    resume: Literal["range", "directory"] = "range"
    starts_after: bool | None = None
    encodes_urls: bool | None = None
    says_more: bool | None = None
    is_ordered: bool | None = None
    caps_pages: bool | None = None
    page_entries: int = 0
    is_known: bool = False

    @property
    def is_conclusive(self) -> bool:
        """Whether everything was learned."""
        return self.starts_after is not None and self.says_more is not None

    @property
    def resumes(self) -> bool:
        """Whether ranges can be listed in parallel; where unknown, pages are checked anyway."""
        return self.starts_after is not False

    def end_believed_below(self, *, versions: bool, parallel: bool) -> int | None:
        """See `protocols.StoreProperties`; what holds of objects need not hold of versions.

        A server that cuts pages short and does not say so has shown no page longer than that.
        """
        if not parallel:
            return 0
        if self.is_known:
            return None
        return min(SMALL_PAGE_ENTRIES, self.page_entries) if self.says_more and not versions else 0

    def document(self) -> dict[str, Any]:
        """The facts as they are kept."""
        return asdict(self)


def known_facts(server: str) -> Facts | None:
    """The facts of servers whose code or documentation settles them; None for the others."""
    resume: dict[str, Literal["range", "directory"]] = {"AmazonS3": "range", "MinIO": "directory"}
    name = server.partition("/")[0]
    if name not in resume:
        return None
    return Facts(server, resume[name], *(True,) * 5, is_known=True)


def read_facts(document: dict[str, Any]) -> Facts:
    """The facts that `Facts.document` gave."""
    return Facts(**document)


async def probe(lister: S3Lister, server: str) -> Facts:
    """Asks for a page, then for three keys after its first one, and compares.

    Raises what the list operation raises.
    """
    page = await lister.list(versions=False, after=None)
    keys = paths_of(page.rows)
    if len(keys) <= PROBE_KEYS:
        return Facts(server, encodes_urls=page.is_url_encoded)
    probed = await lister.list(versions=False, after=Key(keys[0]), rows=PROBE_KEYS)
    following = paths_of(probed.rows)
    return Facts(
        server,
        resume="directory" if _is_of_directories(probed.token) else "range",
        starts_after=bool(following) and following == keys[1 : 1 + len(following)],
        encodes_urls=page.is_url_encoded,
        says_more=probed.more if len(keys) > 1 + len(following) else None,
        is_ordered=is_ascending(keys) and is_ascending(following),
        caps_pages=len(keys) <= PAGE_ROWS and len(following) <= PROBE_KEYS,
        page_entries=len(keys),
    )


def _is_of_directories(token: str | None) -> bool:
    """Whether a token is of a server that begins in the middle by looking through directories."""
    try:
        return _DIRECTORIES_TOKEN.search(base64.b64decode(token or "")) is not None
    except ValueError:
        return False
