"""What a bucket's server can do wrong, and the decisions when it does it.

Invariants
  * The same faults, seed and order of requests give the same misbehaviour.
  * Faults are decided here and nowhere else; nothing here reads or writes a socket or a bucket.
  * What strikes a request is counted under its name, so that a test can tell that it happened. How
    documents are written (encoding, KeyCount, order of versions, markers) is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, TypeVar

import msgspec

from indexer.testing.synthetic_s3.errors import S3Error

LIST_OPERATIONS = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions"})

OBJECT_OPERATIONS = frozenset({"GetObject", "HeadObject"})

SKEW_S_MAX = 900.0
"""How far S3 lets the clock of a client be from its own."""

Delivery = Literal[
    "whole", "error_body", "truncate_body", "cut_body", "reset", "stall", "drip"
]  # fmt: skip
"""How an answer leaves: as it is · as status 200 with an `<Error>` document · cut short, with the
Content-Length of what is left · cut short, with the Content-Length of all · half of it, then the
connection is reset · never · byte by byte, slowly."""

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Row = TypeVar("_Row")


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The misbehaviour of one bucket; without arguments there is none. Zero or empty means off.

    `..._every=n` strikes every n-th answer to the operations in question, 1 all of them.
    """

    seed: int = 7

    operations: tuple[str, ...] = ()
    """The only operations that are touched (`ListObjectVersions`, `HeadObject`, ...); empty: all
    that a fault makes sense for."""

    # Refusals
    error_first: _Count = 0
    """So many requests are refused before one is served."""

    error_probability: _Probability = 0.0
    error_code: str = "SlowDown"
    """What the two above answer: a code that `errors.ERRORS` knows."""

    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Refusals carry this Retry-After."""

    deny_anonymous: bool = False
    """Requests without a signature are refused (403)."""

    deny_versions: bool = False
    """ListObjectVersions is refused (403), as without the right s3:ListBucketVersions."""

    deny_prefix: str = ""
    """A listing is refused (403) if its prefix lies below this one, or if its page would show a
    key that does (AWS looks at the request alone)."""

    deny_objects: str = ""
    """GetObject and HeadObject are refused (403) for keys that begin so."""

    expired_key: str = ""
    """Credentials with this access key are refused as expired."""

    clock_ahead_s: float = 0.0
    """The server's clock is so far ahead; what is signed for another time is refused."""

    redirect_region: str = ""
    """The bucket lives in this region; requests signed for another one are sent away."""

    redirect_status: Literal[301, 307, 400] = 301
    """301 PermanentRedirect, 307 TemporaryRedirect or 400 AuthorizationHeaderMalformed."""

    # Pages
    page_keys_max: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Pages hold no more than this, however many were asked for."""

    short_pages: bool = False
    """Pages of random length, from one row to as many as there could be."""

    empty_page_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Every n-th page is empty and truncated, with a token or marker that moves forward."""

    order: Literal["", "shuffle", "swap"] = ""
    """Rows of each page in random order, or the last row of a page traded for the first of the
    next."""

    repeat_page: bool = False
    """Always the first page, truncated: start-after, token and markers are ignored."""

    extra_keys: _Count = 0
    """Rows beyond max-keys on each page."""

    silent_stop_keys: _Count = 0
    """A page ends after so many rows and claims to be the last."""

    ignore_start_after: bool = False
    """start-after, and a key-marker without version-id-marker, are ignored; tokens are not."""

    ignore_encoding: bool = False
    """encoding-type is ignored: keys come escaped for XML and EncodingType is not echoed."""

    lack_v2: bool = False
    """ListObjectsV2 is refused (501), as by servers that know ListObjects alone."""

    ignore_list_type: bool = False
    """list-type is ignored: ListObjectsV2 is answered as ListObjects, without its parameters."""

    key_count_offset: int = 0
    """KeyCount is wrong by this much."""

    shuffle_elements: bool = False
    """The elements of each row come in random order."""

    versions_oldest_first: bool = False
    markers_apart: bool = False
    """Delete markers come after the versions of a page, not where their keys stand."""

    inclusive_markers: bool = False
    """A listing begins with its start-after or key-marker, not after it, where neither a token nor
    a version-id-marker is given."""

    minio_markers: bool = False
    """NextKeyMarker is `KEY[minio_cache:v2,return:]`, which is understood as a key-marker too."""

    # Delivery
    error_body_every: _Count = 0
    truncate_body_every: _Count = 0
    reset_every: _Count = 0
    stall_every: _Count = 0
    drip_every: _Count = 0

    def __post_init__(self) -> None:
        if self.empty_page_every == 1:
            raise ValueError("empty_page_every must be 0, or at least 2 to ever get anywhere")


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides whether a request is refused.

    `access_key` and `region` are those that it is signed with, None if it is not signed; `prefix`
    is that of a listing. `ahead_s` is how far the time of its signature is ahead of the server's
    true time.
    """

    operation: str
    key: bytes = b""
    prefix: str = ""
    access_key: str | None = None
    region: str | None = None
    ahead_s: float | None = None


class Injector:
    """Decides, request by request, which of a bucket's faults strike."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.struck: Counter[str] = Counter()
        """How often each fault struck, by its name."""

        self.displaced: dict[bytes, bytes] = {}
        """For `order="swap"`: after this key comes that one, although it is smaller."""

        self._chance = Random(faults.seed)
        self._requests = 0
        self._pages = 0
        self._answers = 0

    def touching(self, operation: str) -> Faults:
        """The faults that may strike this operation."""
        if self.faults.operations and operation not in self.faults.operations:
            return _NO_FAULTS
        return self.faults

    def refuse(self, asked: Asked) -> None:
        """Raises S3Error if this request is to be refused before it is served."""
        faults = self.touching(asked.operation)
        self._refuse_by_signature(faults, asked)
        self._refuse_by_place(faults, asked)
        if faults is self.faults:
            self._requests += 1
        is_due = 0 < self._requests <= faults.error_first
        if is_due or self._chance.random() < faults.error_probability:
            self.struck["error"] += 1
            delay_s = faults.retry_after_s
            headers = () if delay_s is None else (("Retry-After", f"{delay_s:g}"),)
            raise S3Error(faults.error_code, headers=headers)

    def deny(self, fault: str) -> None:
        """Raises S3Error `AccessDenied`, always."""
        self.struck[fault] += 1
        raise S3Error("AccessDenied")

    def page_keys(self, faults: Faults, asked: int) -> int:
        """How many rows the next page may have, when `asked` were asked for."""
        if asked == 0:
            return 0
        limit = min(asked, faults.page_keys_max) + faults.extra_keys
        if faults.extra_keys:
            self.struck["extra_keys"] += 1
        if faults.silent_stop_keys:
            limit = min(limit, faults.silent_stop_keys)
        if faults.short_pages:
            self.struck["short_pages"] += 1
            limit = self._chance.randint(1, limit)
        return limit

    def is_empty_page_due(self, faults: Faults) -> bool:
        if faults is self.faults:
            self._pages += 1
        return _is_due(self._pages, faults.empty_page_every)

    def shuffle(self, rows: list[_Row]) -> None:
        self._chance.shuffle(rows)

    def delivery(self, operation: str) -> Delivery:
        """How the next answer to `operation` is to leave."""
        faults = self.touching(operation)
        if faults is self.faults:
            self._answers += 1
        ways: tuple[tuple[Delivery, int], ...] = (
            ("stall", faults.stall_every),
            ("reset", faults.reset_every),
            ("truncate_body", faults.truncate_body_every),
            ("error_body", faults.error_body_every),
            ("drip", faults.drip_every),
        )
        for way, every in ways:
            if _is_due(self._answers, every):
                self.struck[way] += 1
                return way
        return "whole"

    def _refuse_by_signature(self, faults: Faults, asked: Asked) -> None:
        if faults.deny_anonymous and asked.region is None:
            self.deny("deny_anonymous")
        if faults.expired_key and asked.access_key == faults.expired_key:
            self.struck["expired_key"] += 1
            raise S3Error("ExpiredToken")
        if asked.ahead_s is not None and abs(asked.ahead_s - faults.clock_ahead_s) > SKEW_S_MAX:
            self.struck["clock"] += 1
            raise S3Error("RequestTimeTooSkewed")

    def _refuse_by_place(self, faults: Faults, asked: Asked) -> None:
        if faults.redirect_region and asked.region not in (None, faults.redirect_region):
            self.struck["redirect"] += 1
            code = {301: "PermanentRedirect", 307: "TemporaryRedirect"}.get(
                faults.redirect_status, "AuthorizationHeaderMalformed"
            )
            raise S3Error(
                code,
                headers=(("x-amz-bucket-region", faults.redirect_region),),
                details=(("Region", faults.redirect_region),),
            )
        if faults.lack_v2 and asked.operation == "ListObjectsV2":
            self.struck["lack_v2"] += 1
            raise S3Error("NotImplemented")
        if faults.deny_versions and asked.operation == "ListObjectVersions":
            self.deny("deny_versions")
        is_denied = faults.deny_prefix and asked.prefix.startswith(faults.deny_prefix)
        if is_denied and asked.operation in LIST_OPERATIONS:
            self.deny("deny_prefix")
        is_denied = faults.deny_objects and asked.key.startswith(faults.deny_objects.encode())
        if is_denied and asked.operation in OBJECT_OPERATIONS:
            self.deny("deny_objects")


_NO_FAULTS = Faults()


def _is_due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0
