"""Whether a bucket keeps versions, and what that means for a look at it as it was.

Invariants
  * A bucket that keeps no versions, or of which that is not known, is not shown as it was.
  * The server's clock says what is in the future, never this machine's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from indexer.errors import Ability, AccessDenied, InvalidSetting, said_of
from indexer.stores.headers import parse_date
from indexer.stores.s3_errors import translated
from indexer.stores.s3_versions import VersionOrder

CAVEATS: Final = (
    "The server's own times decide what was there, and it tells them to the second.",
    "Versions that were deleted for good since, by id or by a lifecycle rule, cannot be seen.",
    "An object that was uploaded in parts may count from the moment at which its upload began.",
)
"""What a user must know of every look at a bucket as it was."""

SUSPENDED: Final = (
    "Versioning of this bucket is suspended: what was overwritten since cannot be seen as it was."
)

_GRAIN: Final = timedelta(seconds=2)
"""Of the Date that a server tells: in seconds, and some look at the clock but once in each."""

_UNKNOWN_CODES: Final = frozenset(("NotImplemented", "MethodNotAllowed", "501", "405"))
_DENIED_CODES: Final = frozenset(("AccessDenied", "403", "Forbidden"))


@dataclass(frozen=True, slots=True)
class Versioning:
    """Whether a bucket keeps versions; what its server calls itself, and when it said so.

    A suspended bucket still holds versions and is `on`. Who may not ask is told `unknown`.
    """

    state: Literal["on", "off", "unknown"]
    server: str
    is_suspended: bool = False
    answered_at: datetime | None = None


async def ask_versioning(client: Any, bucket: str) -> Versioning:
    """Asks whether a bucket keeps versions. Raises what is wrong with bucket or credentials."""
    uri = f"s3://{bucket}"
    with said_of(uri), translated(uri):
        try:
            response = await client.get_bucket_versioning(Bucket=bucket)
        except client.exceptions.ClientError as error:
            response = error.response
            code = response.get("Error", {}).get("Code", "")
            if code in _UNKNOWN_CODES:
                return _versioning("off", response)
            if code in _DENIED_CODES:
                return _versioning("unknown", response)
            raise
    return _versioning("on" if response.get("Status") else "off", response)


def check_moment(
    uri: str, as_of: datetime, versioning: Versioning, without: Collection[Ability]
) -> tuple[str, ...]:
    """What must be told of a bucket that is shown as it was.

    Raises `InvalidSetting` or `AccessDenied` where it cannot be.
    """
    if versioning.state == "off":
        raise InvalidSetting(
            f"{uri} keeps no versions, so its state at an earlier moment cannot be known; turn "
            f"versioning on, or leave --as-of out."
        )
    if versioning.state == "unknown":
        raise AccessDenied(
            f"{uri}: whether it keeps versions may not be asked, so its state at an earlier moment "
            f"cannot be known. --as-of needs s3:GetBucketVersioning and s3:ListBucketVersions."
        )
    if "versions" in without:
        raise InvalidSetting(
            f"{uri}: its versions cannot be listed, so its state at an earlier moment cannot be "
            f"known; leave --as-of out."
        )
    now = versioning.answered_at
    if now is not None and as_of >= now + _GRAIN:
        raise InvalidSetting(
            f"{uri}: {as_of.isoformat()} is in the future by the server's clock, which says "
            f"{now.isoformat()}. Give --as-of an earlier moment."
        )
    return (*CAVEATS, SUSPENDED) if versioning.is_suspended else CAVEATS


def check_order(uri: str, order: VersionOrder | None) -> None:
    """Raises `InvalidSetting` where the order of versions does not tell what came first."""
    if order not in (None, "newest first"):
        raise InvalidSetting(
            f"{uri}: the server does not list versions and marks of deletion in the order in which "
            f"they were made, so its state at an earlier moment cannot be known; leave --as-of out."
        )


def _versioning(state: Literal["on", "off", "unknown"], response: Mapping[str, Any]) -> Versioning:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return Versioning(
        state,
        str(headers.get("server", "unknown")),
        is_suspended=response.get("Status") == "Suspended",
        answered_at=parse_date(headers.get("date")),
    )
