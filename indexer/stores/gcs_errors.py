"""The errors of GCS and of the way there in our words: one table for each.

Invariants
  * An answer is judged by the reason that its body gives, then by its status; a body that gives
    none, or is none of GCS's, leaves the status.
  * A message says what the server said in at most `SAID_CHARACTERS_MAX` characters, and never where
    a redirect leads but for its host: the rest may be signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import urlsplit

import aiohttp

from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidReference,
    InvalidSetting,
    NoSuchObject,
    NoSuchSource,
    ObjectChanged,
    StoreUnavailable,
)
from indexer.stores import network
from indexer.stores.gcs_wire import Failure, failure_in
from indexer.stores.headers import retry_after_s
from indexer.stores.network import THROTTLE_STATUSES, TRANSIENT_STATUSES, Advice

Asked = Literal["bucket", "listing", "object"]
"""What a request is about: by it a 404 tells of a bucket or of an object."""

SAID_CHARACTERS_MAX: Final = 300

THROTTLE_REASONS: Final = frozenset(
    ("rateLimitExceeded", "userRateLimitExceeded", "usageLimits.rateLimitExceeded", "slowDown")
)
TRANSIENT_REASONS: Final = frozenset(("backendError", "internalError", "gatewayTimeout"))
BILLING_REASONS: Final = frozenset(
    (
        "userProjectMissing", "userProjectInvalid", "userProjectInconsistent",
        "userProjectAccessDenied", "userProjectAccountProblem",
        "AuthenticationRequiredRequesterPays",
    )
)  # fmt: skip
_ADVICE: Final = Advice(
    place="Check the endpoint and the network.",
    tls="Check the endpoint, and write http:// for an emulator that has no certificate.",
)

PERMISSIONS: Final[Mapping[Asked, str]] = {
    "bucket": "storage.buckets.get",
    "listing": "storage.objects.list",
    "object": "storage.objects.get",
}


def server_error(
    uri: str,
    asked: Asked,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    is_anonymous: bool = False,
) -> IndexerError:
    """Our error for an answer that is none, said of `uri`."""
    failure = failure_in(body) or Failure(status, "", "")
    status = failure.status or status
    said = _said(status, failure)
    if failure.reason in THROTTLE_REASONS or status in THROTTLE_STATUSES:
        return StoreUnavailable(
            f"{uri}: the server asks for fewer requests ({said}). Try "
            f"again later, or with --requests-per-s.",
            is_throttle=True,
            retry_after_s=retry_after_s(headers),
        )
    if failure.reason in TRANSIENT_REASONS or status in TRANSIENT_STATUSES:
        return StoreUnavailable(
            f"{uri}: the server failed ({said}).", retry_after_s=retry_after_s(headers)
        )
    if failure.reason in BILLING_REASONS or "requester pays" in failure.message.lower():
        return InvalidSetting(
            f"{uri}: the requester pays for this bucket ({said}). Name a project that may be "
            f"billed as the user project with --user-project, and credentials that may use it."
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthorized(uri, asked, said, is_anonymous=is_anonymous)
    if status == HTTPStatus.FORBIDDEN:
        return AccessDenied(
            f"{uri}: access is denied ({said}). It needs the permission {PERMISSIONS[asked]}."
        )
    if status == HTTPStatus.NOT_FOUND:
        if asked == "object":
            return NoSuchObject(f"{uri}: there is no such object, or not in that generation.")
        return NoSuchSource(f"{uri}: there is no such bucket at this endpoint.")
    if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        return ObjectChanged(f"{uri}: the object is not what it was when it was listed ({said}).")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        host = urlsplit(headers.get("Location", "")).hostname or "somewhere else"
        return InvalidSetting(
            f"{uri}: the server sends us to {host} (HTTP {status}), as GCS does not. Check the "
            f"endpoint, and what stands between it and this machine."
        )
    if status == HTTPStatus.BAD_REQUEST and asked == "bucket":
        return InvalidReference(f"{uri}: the server does not take this bucket's name ({said}).")
    return IndexerError(f"{uri}: the server answered {said}.")


def _said(status: int, failure: Failure) -> str:
    words = ": ".join(filter(None, (f"{status} {failure.reason}".strip(), failure.message)))
    said = " ".join(words.split()).rstrip(".")
    return said if len(said) <= SAID_CHARACTERS_MAX else said[: SAID_CHARACTERS_MAX - 1] + "…"


def _unauthorized(uri: str, asked: Asked, said: str, *, is_anonymous: bool) -> IndexerError:
    if is_anonymous:
        return AccessDenied(
            f"{uri}: the server does not let everybody in ({said}). Use credentials that have the "
            f"permission {PERMISSIONS[asked]}, not --no-sign-request."
        )
    return AccessDenied(
        f"{uri}: the server does not accept these credentials ({said}). Log in again with "
        f"`gcloud auth application-default login`, or check GOOGLE_APPLICATION_CREDENTIALS."
    )


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raises aiohttp's errors as ours, said of `uri`. To be put around nothing but network I/O."""
    with network.translated(uri, _ADVICE):
        try:
            yield
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise InvalidSetting(
                f"{uri}: the endpoint is no URL. Give one such as http://127.0.0.1:4443."
            ) from error
