"""The errors of GCS, and of the way there, in our words."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import pytest
from yarl import URL

from indexer import errors
from indexer.errors import IndexerError, StoreUnavailable
from indexer.stores.gcs_errors import (
    SAID_CHARACTERS_MAX,
    Asked,
    server_error,
    translated,
)

URI = "gs://bucket/data/"


def body_of(status: int, reason: str, message: str = "the words of the server") -> bytes:
    detail = {"reason": reason, "message": message, "domain": "global"}
    return json.dumps({"error": {"code": status, "message": message, "errors": [detail]}}).encode()


def error_of(
    status: int,
    body: bytes = b"",
    *,
    asked: Asked = "listing",
    headers: Mapping[str, str] | None = None,
    is_anonymous: bool = False,
) -> IndexerError:
    return server_error(URI, asked, status, body, headers or {}, is_anonymous=is_anonymous)


@pytest.mark.parametrize(
    ("status", "reason", "asked", "kind"),
    [
        (400, "invalid", "listing", IndexerError),
        (400, "invalid", "bucket", errors.InvalidReference),
        (400, "required", "object", IndexerError),
        (400, "userProjectMissing", "listing", errors.InvalidSetting),
        (400, "userProjectInvalid", "bucket", errors.InvalidSetting),
        (401, "authError", "listing", errors.AccessDenied),
        (401, "required", "object", errors.AccessDenied),
        (403, "forbidden", "bucket", errors.AccessDenied),
        (403, "insufficientPermissions", "listing", errors.AccessDenied),
        (403, "userProjectAccessDenied", "listing", errors.InvalidSetting),
        (403, "rateLimitExceeded", "listing", StoreUnavailable),
        (403, "userRateLimitExceeded", "object", StoreUnavailable),
        (404, "notFound", "bucket", errors.NoSuchSource),
        (404, "notFound", "listing", errors.NoSuchSource),
        (404, "notFound", "object", errors.NoSuchObject),
        (408, "requestTimeout", "listing", StoreUnavailable),
        (412, "conditionNotMet", "object", errors.ObjectChanged),
        (416, "requestedRangeNotSatisfiable", "object", errors.ObjectChanged),
        (429, "rateLimitExceeded", "listing", StoreUnavailable),
        (500, "internalError", "listing", StoreUnavailable),
        (502, "", "listing", StoreUnavailable),
        (503, "backendError", "listing", StoreUnavailable),
        (504, "gatewayTimeout", "listing", StoreUnavailable),
        (418, "", "listing", IndexerError),
        (302, "", "listing", errors.InvalidSetting),
    ],
)
def test_every_answer_has_its_error(
    status: int, reason: str, asked: Asked, kind: type[IndexerError]
) -> None:
    bodies = [body_of(status, reason)]
    if not reason or status not in (400, 403):
        # Without a body that tells more, the status says the same.
        bodies += [b"", b"<html>Bad Gateway</html>", b'{"error":"x"}', b"[[["]
    for body in bodies:
        error = error_of(status, body, asked=asked)
        assert type(error) is kind
        assert str(error).startswith(f"{URI}: ")


@pytest.mark.parametrize(
    ("status", "reason", "is_throttle"),
    [
        (429, "rateLimitExceeded", True),
        (403, "rateLimitExceeded", True),
        (403, "usageLimits.rateLimitExceeded", True),
        (429, "", True),
        (503, "backendError", True),
        (500, "internalError", False),
        (408, "", False),
        (504, "", False),
    ],
)
def test_who_asks_for_fewer_requests(status: int, reason: str, *, is_throttle: bool) -> None:
    error = error_of(status, body_of(status, reason), headers={"Retry-After": "7"})
    assert isinstance(error, StoreUnavailable)
    assert (error.is_throttle, error.retry_after_s) == (is_throttle, 7.0)


def test_the_code_in_the_body_counts() -> None:
    assert isinstance(error_of(200, body_of(429, "rateLimitExceeded")), StoreUnavailable)
    assert isinstance(error_of(500, body_of(403, "forbidden")), errors.AccessDenied)


def test_what_a_requester_pays_for_is_said() -> None:
    message = "Bucket is a requester pays bucket but no user project provided."
    error = error_of(400, body_of(400, "required", message))
    assert isinstance(error, errors.InvalidSetting)
    assert "user project" in str(error)


def test_an_anonymous_caller_is_told_so() -> None:
    with_credentials = error_of(401, body_of(401, "authError"))
    without = error_of(401, body_of(401, "required"), is_anonymous=True)
    assert "gcloud auth application-default login" in str(with_credentials)
    assert "gcloud" not in str(without)
    assert "storage.objects.list" in str(without)


@pytest.mark.parametrize(
    ("asked", "permission"),
    [
        ("bucket", "storage.buckets.get"),
        ("listing", "storage.objects.list"),
        ("object", "storage.objects.get"),
    ],
)
def test_a_denial_names_the_permission(asked: Asked, permission: str) -> None:
    assert permission in str(error_of(403, asked=asked))


def test_long_words_of_a_server_are_cut() -> None:
    error = error_of(400, body_of(400, "invalid", "very  long\nwords " * 200))
    assert len(str(error)) < SAID_CHARACTERS_MAX + 100
    assert "very long words very" in str(error)


def test_where_a_redirect_leads_is_told_by_its_host_alone() -> None:
    location = "https://user:pass@login.example/start?token=secret#x"
    assert "login.example" in str(error_of(302, headers={"Location": location}))
    for secret in ("pass", "secret", "start"):
        assert secret not in str(error_of(302, headers={"Location": location}))
    assert "somewhere else" in str(error_of(307))


# --- the way there -------------------------------------------------------------------------------

KEY = cast("Any", None)
REQUEST = aiohttp.RequestInfo(URL(), "GET", cast("Any", {}), URL())


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (TimeoutError(), StoreUnavailable),
        (aiohttp.ServerTimeoutError(), StoreUnavailable),
        (aiohttp.ServerDisconnectedError(), StoreUnavailable),
        (aiohttp.ClientPayloadError("cut"), StoreUnavailable),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), StoreUnavailable),
        (aiohttp.ClientResponseError(REQUEST, (), message="Bad status line"), StoreUnavailable),
        (ConnectionRefusedError(111, "refused"), StoreUnavailable),
        (aiohttp.InvalidURL("http://["), errors.InvalidSetting),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "bad")), errors.InvalidSetting),
    ],
    ids=lambda one: type(one).__name__,
)
def test_foreign_errors_are_said_in_our_words(
    raised: Exception, kind: type[IndexerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp.ClientConnectorError, "__str__", lambda _: "certificate")
    with pytest.raises(kind, match=URI) as caught, translated(URI):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised


def test_other_errors_are_left_alone() -> None:
    for error in (KeyError("x"), errors.BrokenListing("x"), AssertionError()):
        with pytest.raises(type(error)) as caught, translated(URI):
            raise error
        assert caught.value is error
