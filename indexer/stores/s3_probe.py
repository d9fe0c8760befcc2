"""What an S3 server honours: known from its name, or asked once with a few list requests.

Invariants
  * A probe changes nothing.
  * Facts that could not be learned (fewer than four keys are there) are the cautious ones, and are
    not kept.
  * What a server does not honour is done in another way that it does, or ends in an error; it is
    never taken on trust.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from indexer.errors import VersionsDenied
from indexer.keyspace import KEY_BYTES_MAX, Key
from indexer.limits import PAGE_ROWS, SMALL_PAGE_ENTRIES
from indexer.page import is_ascending, paths_of
from indexer.stores.s3_list_requests import UnknownOperation
from indexer.stores.s3_lister import S3Lister
from indexer.stores.s3_versions import VersionOrder
from indexer.stores.s3_wire import Listing

PROBE_KEYS: Final = 3
PROBE_EMPTY_PAGES_MAX: Final = 3

_DIRECTORIES_TOKEN: Final = re.compile(rb"\[\w+_cache:")
"""In the token of MinIO, which may stand behind a proxy that puts its own name for the server's."""

LOSES_VERSIONS: Final = frozenset(("VERSITYGW",))
"""Servers whose listings of versions, gone on with by their own markers, leave out versions and
whole keys without a sign (versitygw 1.8.0 looks for a version id in every key that follows)."""

_WORDS: Final = {True: "yes", False: "no", None: "not known"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What an endpoint honours; None where that could not be learned.

    `starts_after`: a listing can begin after any key, whether that is there or not. `encodes_urls`:
    keys come URL-encoded, so that control characters survive XML. `says_more`: a page that is cut
    off says so. `is_ordered`: keys come in byte order. `caps_pages`: it sends no more keys than
    asked for. `page_entries`: as many it was seen to send on one page. `has_v2`: it knows
    ListObjectsV2. `versions` is the order in which it lists them, `versions_start_after` for them
    what `starts_after` is for objects.
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
    has_v2: bool | None = None
    versions: VersionOrder | None = None
    versions_start_after: bool | None = None

    @property
    def is_conclusive(self) -> bool:
        """Whether everything was learned that is asked of objects."""
        return self.starts_after is not None and self.says_more is not None

    @property
    def lists_versions(self) -> bool:
        """Whether newest versions come first; where unknown, pages are checked anyway."""
        return self.versions != "out of order"

    def resumes(self, *, versions: bool) -> bool:
        """Whether ranges can be listed in parallel; where unknown, pages are checked anyway."""
        can_begin = self.versions_start_after if versions else self.starts_after
        return can_begin is not False and self.starts_after is not False

    def end_believed_below(self, *, versions: bool, parallel: bool) -> int | None:
        """See `protocols.StoreProperties`; what holds of objects need not hold of versions.

        A server that cuts pages short and does not say so has shown no page longer than that.
        """
        if not parallel:
            return 0
        if self.is_known:
            return None
        return min(SMALL_PAGE_ENTRIES, self.page_entries) if self.says_more and not versions else 0

    def abilities(self, *, keeps_versions: bool) -> Mapping[str, str]:
        """The facts in words, and where they are from."""
        kept: str = self.versions or "in an order not known yet"
        if self.versions == "markers apart":
            kept = "newest first, marks of deletion apart"
        elif not self.lists_versions:
            kept = "listed out of order or in part"
        return {
            "list_objects_v2": _WORDS[self.has_v2],
            "starts_after_a_key": _WORDS[self.starts_after],
            "url_encoding": _WORDS[self.encodes_urls],
            "ordered": _WORDS[self.is_ordered],
            "says_where_a_page_is_cut": _WORDS[self.says_more],
            "versions": kept if keeps_versions else "not kept in this bucket",
            "known_from": f"the server's name, {self.server}" if self.is_known else "its answers",
        }

    def document(self) -> dict[str, Any]:
        """The facts as they are kept."""
        return asdict(self)


def known_facts(server: str) -> Facts | None:
    """The facts of servers whose code or documentation settles them; None for the others."""
    resume: dict[str, Literal["range", "directory"]] = {"AmazonS3": "range", "MinIO": "directory"}
    name = server.partition("/")[0]
    if name not in resume:
        return None
    return Facts(
        server,
        resume[name],
        *(True,) * 5,
        is_known=True,
        has_v2=True,
        versions="newest first",
        versions_start_after=True,
    )


def read_facts(document: dict[str, Any]) -> Facts:
    """The facts that `Facts.document` gave."""
    return Facts(**document)


class ProbingLister(S3Lister):
    """A lister that does not ask again what was answered before, as `answers` has it.

    Each question has its own try, so a series of them goes on where it failed.
    """

    answers: dict[str, Any]

    async def list(self, **asked: Any) -> Listing:
        """See `S3Lister.list`."""
        name = repr((self.has_v2, asked))
        if name not in self.answers:
            self.answers[name] = await super().list(**asked)
        return self.answers[name]  # type: ignore[no-any-return]

    async def version_order(self, **asked: Any) -> tuple[VersionOrder | None, Sequence[bytes]]:
        """See `S3Lister.version_order`."""
        name = repr(("versions", asked))
        if name not in self.answers:
            self.answers[name] = await super().version_order(**asked)
        return self.answers[name]  # type: ignore[no-any-return]


async def probe(lister: S3Lister, server: str) -> Facts:
    """Asks for a page, and then for what comes after a key that is not there, and compares.

    A server that goes on with the key after that would leave one out without a sign. The lister
    lists by ListObjects from then on if the server does not know ListObjectsV2, or does not honour
    its start-after. Raises what the list operation raises.
    """
    page = await _first_page(lister)
    facts = await _facts(lister, server, page)
    if facts.starts_after is False and lister.has_v2:
        lister.has_v2 = False
        try:
            older = await _facts(lister, server, await lister.list(versions=False, after=None))
        except UnknownOperation:
            older = facts
        if older.starts_after:
            return older
        lister.has_v2 = True
    return facts


async def _facts(lister: S3Lister, server: str, page: Listing) -> Facts:
    """What follows from the first page, and from what comes after its keys."""
    keys = paths_of(page.rows)
    facts = Facts(server, encodes_urls=page.is_url_encoded, has_v2=lister.has_v2)
    if len(keys) <= PROBE_KEYS:
        return facts
    after, expected = _place(keys, lister.prefix)
    probed = await _page_after(lister, after)
    following = paths_of(probed.rows)
    return replace(
        facts,
        resume="directory" if _is_of_directories(probed.token) else "range",
        starts_after=bool(following) and following == expected[: len(following)],
        says_more=probed.more if len(expected) > len(following) else None,
        is_ordered=is_ascending(keys) and is_ascending(following),
        caps_pages=len(keys) <= PAGE_ROWS and len(following) <= PROBE_KEYS,
        page_entries=len(keys),
    )


async def _page_after(lister: S3Lister, after: Key) -> Listing:
    """A few keys after one; a server may send pages without any before."""
    page = await lister.list(versions=False, after=after, rows=PROBE_KEYS)
    for _ in range(PROBE_EMPTY_PAGES_MAX):
        if page.entries or not page.more or page.token is None:
            break
        page = await lister.list(versions=False, after=None, token=page.token, rows=PROBE_KEYS)
    return page


async def probe_versions(lister: S3Lister, facts: Facts) -> Facts:
    """The facts, with those of versions, if a page of them tells.

    Raises what the list operation raises, but that versions may not be listed: that is for the
    listing to say.
    """
    if facts.server.partition("/")[0] in LOSES_VERSIONS:
        return replace(facts, versions="out of order")
    try:
        order, keys = await lister.version_order()
        keys = sorted(set(keys))
        starts_after = None
        if order != "out of order" and (between := _between(keys, lister.prefix)) is not None:
            _, later = await lister.version_order(after=between, rows=PROBE_KEYS)
            starts_after = min(later) == keys[1] if later else None
    except VersionsDenied:
        return facts
    return replace(facts, versions=order, versions_start_after=starts_after)


async def _first_page(lister: S3Lister) -> Listing:
    """The first page, in whichever way the server lists objects."""
    try:
        page = await lister.list(versions=False, after=None)
        if not page.is_v1:
            return page
    except UnknownOperation as unknown:
        lister.has_v2 = False
        try:
            return await lister.list(versions=False, after=None)
        except UnknownOperation:
            raise unknown from None
    lister.has_v2 = False
    return await lister.list(versions=False, after=None)


def _place(keys: Sequence[bytes], prefix: str) -> tuple[Key, Sequence[bytes]]:
    """Where to begin, so that it shows whether a server begins there, and the keys that follow.

    That is before all but a few keys: of too few that follow nothing can be learned.
    """
    for row in range(len(keys) - PROBE_KEYS):
        if (between := _between(keys[row:], prefix)) is not None:
            return between, keys[row + 1 :]
    # There is no room between them. What begins at the first one might be a listing from the start.
    return Key(keys[1]), keys[2:]


def _between(keys: Sequence[bytes], prefix: str) -> Key | None:
    """A key that is not there between the first two that are; None where there is no room."""
    if len(keys) < 2:  # noqa: PLR2004 - two
        return None
    between = keys[0] + b"!"
    is_free = keys[0] < between < keys[1]
    is_free = is_free and len(prefix.encode()) + len(between) <= KEY_BYTES_MAX
    return Key(between) if is_free else None


def _is_of_directories(token: str | None) -> bool:
    """Whether a token is of a server that begins in the middle by looking through directories."""
    try:
        return _DIRECTORIES_TOKEN.search(base64.b64decode(token or "")) is not None
    except ValueError:
        return False
