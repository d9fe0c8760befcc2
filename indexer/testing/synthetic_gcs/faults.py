"""What a bucket of the synthetic GCS can do wrong, and when it does it.

Invariants
  * The same faults, seed and order of requests give the same misbehaviour.
  * What strikes a request is counted under its name, so that a test can tell that it happened.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Annotated

import msgspec

from indexer.testing.synthetic_s3.faults import Delivery

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The misbehaviour of one bucket; without arguments there is none. Zero or empty means off.

    `..._every=n` strikes every n-th answer to the operations in question, 1 all of them.
    """

    seed: int = 7

    operations: tuple[str, ...] = ()
    """The only operations that are touched (`list`, `get`, `media`, `bucket`); empty: all."""

    # Refusals
    error_first: _Count = 0
    """So many requests are refused before one is served."""

    error_status: int = 503
    error_reason: str = "backendError"
    error_body: str = ""
    """Sent as it is instead of GCS's JSON."""

    retry_after: str = ""
    """Refusals carry this Retry-After."""

    token: str = ""
    """Only requests with this access token are served; the others get a 401."""

    unauthorized_after: _Count = 0
    """After so many requests all get a 401."""

    deny: tuple[str, ...] = ()
    """Operations that are refused with a 403."""

    deny_prefix: str = ""
    """Objects below this prefix may not be read, and listings that would show one are refused."""

    requester_pays: bool = False
    """Requests without userProject are refused."""

    redirect_to: str = ""
    """Every answer is a 302 to this URL."""

    # Pages
    page_entries_max: Annotated[int, msgspec.Meta(ge=1)] = 5000
    short_pages: bool = False
    """Pages of random length, from one entry to as many as there could be."""

    empty_page_every: _Count = 0
    """Every n-th page has no entry, and a token for where it began."""

    ignore_start_offset: bool = False
    repeat_seam: bool = False
    """A page by token begins with the last entry of the page before."""

    same_token: bool = False
    """A page's token is for that very page."""

    # Delivery
    garbage_every: _Count = 0
    """A page of HTML."""

    error_body_every: _Count = 0
    """An error, with status 200."""

    cut_body_every: _Count = 0
    reset_every: _Count = 0
    stall_every: _Count = 0
    drip_every: _Count = 0
    pack_for_the_way: bool = False
    """Bodies of objects come packed, which they are not as they are stored."""

    ignore_range: bool = False


class Injector:
    """Decides, request by request, which of a bucket's faults strike."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.struck: Counter[str] = Counter()
        self._chance = Random(faults.seed)
        self._requests = 0
        self._pages = 0
        self._answers = 0

    def touching(self, operation: str) -> Faults:
        """The faults that may strike this operation."""
        if self.faults.operations and operation not in self.faults.operations:
            return _NO_FAULTS
        return self.faults

    def count(self) -> int:
        """How many requests there were, with this one."""
        self._requests += 1
        return self._requests

    def page_entries(self, faults: Faults, asked: int) -> int:
        """How many entries the next page may have, when `asked` were asked for."""
        if faults is self.faults:
            self._pages += 1
        if _is_due(self._pages, faults.empty_page_every):
            self.struck["empty_page"] += 1
            return 0
        limit = min(asked, faults.page_entries_max)
        if faults.short_pages:
            self.struck["short_pages"] += 1
            limit = self._chance.randint(1, limit)
        return limit

    def delivery(self, operation: str) -> tuple[Delivery, str]:
        """How the next answer to `operation` is to leave, and what takes the place of its body."""
        faults = self.touching(operation)
        if faults is self.faults:
            self._answers += 1
        ways: tuple[tuple[str, Delivery, int], ...] = (
            ("stall", "stall", faults.stall_every),
            ("reset", "reset", faults.reset_every),
            ("cut_body", "cut_body", faults.cut_body_every),
            ("drip", "drip", faults.drip_every),
            ("garbage", "whole", faults.garbage_every),
            ("error_body", "whole", faults.error_body_every),
        )
        for name, way, every in ways:
            if _is_due(self._answers, every):
                self.struck[name] += 1
                return way, name
        return "whole", ""


_NO_FAULTS = Faults()


def _is_due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0
