"""The connection to S3: credentials, endpoints, errors in our words, and listings as bytes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError

from indexer import errors
from indexer.errors import IndexerError
from indexer.keyspace import KeyRange
from indexer.protocols import S3Options
from indexer.sources import parse_source
from indexer.stores import s3_errors
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import S3Connection, connect
from indexer.stores.s3_client import (
    new_session,
    open_client,
)
from indexer.stores.s3_endpoint import chosen_endpoint
from indexer.stores.s3_errors import server_error, translated
from indexer.stores.s3_list_requests import UnknownOperation
from indexer.telemetry import Counters
from indexer.testing.synthetic_s3 import SyntheticS3

URI = "s3://bucket/data/"
SECRET = "very-secret-secret"
TOKEN = "very-secret-token"

Requests = list[dict[str, str]]
Connect = Callable[..., AbstractAsyncContextManager[S3Connection]]


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        server.load("bucket", [b"data/%05d" % number for number in range(2500)])
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticS3) -> None:
    server.faults("bucket")
    server.reset_counters("bucket")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROM-ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """The headers of the requests that were sent, by botocore's client and our own."""
    requests: Requests = []
    send = aiohttp.ClientSession._request

    async def note(self: Any, method: str, url: Any, **options: Any) -> Any:
        headers = {name.lower(): value for name, value in options["headers"].items()}
        requests.append({name: as_text(value) for name, value in headers.items()})
        return await send(self, method, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", note)
    return requests


@pytest.fixture
def connected(server: SyntheticS3) -> Connect:
    """Opens a connection to the synthetic server."""

    @asynccontextmanager
    async def open_connection(**options: Any) -> AsyncIterator[S3Connection]:
        options.setdefault("endpoint_url", server.endpoint_url)
        counters = options.pop("counters", Counters())
        async with connect(S3Options(**options), MemoryFacts(), counters) as connection:
            yield connection

    return open_connection


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def list_bucket(connection: S3Connection, uri: str = URI) -> int:
    """How many objects a listing by start-after shows."""
    source = await connection.open(parse_source(uri))
    keys, count = KeyRange(), 0
    while True:
        page = await source.store.list_page(keys)
        count += int(page.rows.num_rows)
        if not page.more:
            return count
        keys = KeyRange(page.last)


def key_of(headers: dict[str, str]) -> str | None:
    """The access key that a request was signed with."""
    authorization = headers.get("authorization")
    return authorization.partition("Credential=")[2].partition("/")[0] if authorization else None


# --- errors --------------------------------------------------------------------------------------

CODES: dict[str, tuple[type[IndexerError], int]] = {
    **dict.fromkeys(s3_errors.THROTTLE_CODES, (errors.StoreUnavailable, 75)),
    **dict.fromkeys(s3_errors.TRANSIENT_CODES, (errors.StoreUnavailable, 75)),
    **dict.fromkeys(s3_errors.CREDENTIAL_CODES, (errors.AccessDenied, 3)),
    **dict.fromkeys(s3_errors.REDIRECT_CODES, (errors.UsageError, 2)),
    "NoSuchBucket": (errors.NoSuchSource, 3),
    "NoSuchKey": (errors.NoSuchObject, 3),
    "NoSuchVersion": (errors.NoSuchObject, 3),
    "404": (errors.NoSuchObject, 3),
    "AccessDenied": (errors.AccessDenied, 3),
    "InvalidObjectState": (errors.AccessDenied, 3),
    "AllAccessDisabled": (errors.AccessDenied, 3),
    "403": (errors.AccessDenied, 3),
    "401": (errors.AccessDenied, 3),
    "RequestTimeTooSkewed": (errors.UsageError, 2),
    "InvalidBucketName": (errors.InvalidReference, 2),
    "KeyTooLongError": (errors.InvalidReference, 2),
    "InvalidArgument": (IndexerError, 1),
    "NotImplemented": (IndexerError, 1),
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_its_error(code: str) -> None:
    kind, exit_code = CODES[code]
    error = server_error(URI, code, "The server's\n own words.")
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.is_retryable is (exit_code == 75)
    text = str(error)
    assert text.startswith(URI)
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("status", "is_throttle"), [(429, True), (503, True), (500, False), (502, False), (504, False)]
)
def test_an_unknown_code_is_judged_by_its_status(status: int, *, is_throttle: bool) -> None:
    error = server_error(URI, "SomethingNew", "", status=status)
    assert isinstance(error, errors.StoreUnavailable)
    assert error.is_throttle is is_throttle


def test_what_is_not_implemented_is_not_tried_again() -> None:
    assert not server_error(URI, "SomethingNew", "", status=501).is_retryable


@pytest.mark.parametrize("seconds", [7.0, None])
def test_what_the_server_asks_for_is_heard(seconds: float | None) -> None:
    for code, is_throttle in (("SlowDown", True), ("InternalError", False)):
        error = server_error(URI, code, "", retry_after_s=seconds)
        assert isinstance(error, errors.StoreUnavailable)
        assert (error.is_throttle, error.retry_after_s) == (is_throttle, seconds)


FOREIGN: list[tuple[Exception, type[IndexerError]]] = [
    (exceptions.ProfileNotFound(profile="nobody"), errors.InvalidSetting),
    (exceptions.NoCredentialsError(), errors.MissingCredentials),
    (exceptions.PartialCredentialsError(provider="env", cred_var="x"), errors.MissingCredentials),
    (
        exceptions.CredentialRetrievalError(provider="process", error_msg="it failed"),
        errors.MissingCredentials,
    ),
    (
        exceptions.TokenRetrievalError(provider="sso", error_msg="it expired"),
        errors.MissingCredentials,
    ),
    (exceptions.UnauthorizedSSOTokenError(), errors.MissingCredentials),
    (exceptions.ParamValidationError(report="Invalid bucket\nname"), errors.InvalidReference),
    (exceptions.InvalidRegionError(region_name="no region"), errors.InvalidReference),
    (exceptions.SSLError(endpoint_url="https://host", error="bad"), errors.InvalidSetting),
    (exceptions.EndpointConnectionError(endpoint_url="http://host"), errors.StoreUnavailable),
    (exceptions.ConnectTimeoutError(endpoint_url="http://host"), errors.StoreUnavailable),
    (exceptions.ReadTimeoutError(endpoint_url="http://host"), errors.StoreUnavailable),
    (exceptions.ConnectionClosedError(endpoint_url="http://host"), errors.StoreUnavailable),
    (exceptions.ProxyConnectionError(proxy_url="http://host"), errors.StoreUnavailable),
    (exceptions.HTTPClientError(error="broke"), errors.StoreUnavailable),
    (exceptions.UnknownSignatureVersionError(signature_version="s3v5"), IndexerError),
    (ResponseParserError("invalid XML received:\n<html>"), errors.StoreUnavailable),
    (RuntimeError("the refreshed credentials are still expired."), errors.MissingCredentials),
    (ValueError("Invalid endpoint: nohost"), errors.InvalidSetting),
    (TimeoutError(), errors.StoreUnavailable),
    (ConnectionResetError(104, "reset"), errors.StoreUnavailable),
]


@pytest.mark.parametrize(("raised", "kind"), FOREIGN, ids=[type(e).__name__ for e, _ in FOREIGN])
def test_foreign_errors_are_said_in_our_words(raised: Exception, kind: type[IndexerError]) -> None:
    with pytest.raises(IndexerError) as caught, translated(URI):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised
    assert "\n" not in str(caught.value)
    if kind is not errors.InvalidSetting:
        assert str(caught.value).startswith(URI)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="loop"), translated(URI):
        raise RuntimeError("the event loop is closed")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SlowDown", errors.StoreUnavailable),
        ("InternalError", errors.StoreUnavailable),
        ("TooManyRequests", errors.StoreUnavailable),
        ("InvalidAccessKeyId", errors.AccessDenied),
        ("ExpiredToken", errors.MissingCredentials),
        ("AccessDenied", errors.AccessDenied),
        ("RequestTimeTooSkewed", errors.UsageError),
        ("InvalidArgument", UnknownOperation),
    ],
)
async def test_what_a_server_refuses_is_said_with_the_uri_and_no_secret(
    code: str, kind: type[IndexerError], server: SyntheticS3, connected: Connect
) -> None:
    server.faults(
        "bucket",
        operations=("ListObjects", "ListObjectsV2"),
        error_probability=1.0,
        error_code=code,
        retry_after_s=3,
    )
    async with connected() as connection:
        with pytest.raises(IndexerError) as caught:
            await list_bucket(connection)
    assert type(caught.value) is kind
    assert URI in str(caught.value)
    if isinstance(caught.value, errors.StoreUnavailable) and caught.value.is_throttle:
        assert caught.value.retry_after_s == 3
    told = repr(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert SECRET not in told
    assert TOKEN not in told


@pytest.mark.usefixtures("credentials")
async def test_nobody_there_is_said_with_the_uri(connected: Connect) -> None:
    for endpoint_url in ("http://127.0.0.1:9", "http://nobody.invalid:9"):
        async with connected(endpoint_url=endpoint_url) as connection:
            with pytest.raises(
                errors.StoreUnavailable, match=r"^s3://bucket: .*Check the endpoint"
            ):
                await connection.open(parse_source(URI))


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("url", ["nohost", "http://", "ftp://127.0.0.1", "http://a b"])
async def test_an_endpoint_that_is_no_url(url: str, connected: Connect) -> None:
    with pytest.raises(errors.InvalidSetting):
        async with connected(endpoint_url=url) as connection:
            await connection.open(parse_source(URI))


@pytest.mark.usefixtures("credentials")
async def test_an_endpoint_with_a_password_is_refused_and_not_shown(connected: Connect) -> None:
    with pytest.raises(errors.InvalidSetting, match="user name or a password") as caught:
        async with connected(endpoint_url=f"http://me:{SECRET}@127.0.0.1:9"):
            pass
    assert SECRET not in str(caught.value)


# --- endpoints -----------------------------------------------------------------------------------


def test_endpoints_have_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["AWS_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
    assert chosen_endpoint(S3Options()).url is None
    for name in names:
        monkeypatch.setenv(name, f"http://{name.lower()}")
        chosen = chosen_endpoint(S3Options())
        assert (chosen.url, chosen.origin) == (f"http://{name.lower()}", name)
    chosen = chosen_endpoint(S3Options(endpoint_url="http://option"))
    assert (chosen.url, chosen.origin) == ("http://option", "--endpoint-url")


def test_an_empty_variable_names_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other")
    assert chosen_endpoint(S3Options()).origin == "AWS_ENDPOINT_URL"


@pytest.mark.usefixtures("credentials")
async def test_the_endpoint_of_the_configuration_file_counts_last(
    home: Path, monkeypatch: pytest.MonkeyPatch, server: SyntheticS3
) -> None:
    write(home / ".aws" / "config", f"[default]\nendpoint_url = {server.endpoint_url}\n")
    for variable, expected in ((None, server.endpoint_url), ("http://other:1", "http://other:1")):
        if variable:
            monkeypatch.setenv("AWS_S3_ENDPOINT_URL", variable)
        async with connect(S3Options(), MemoryFacts(), Counters()) as connection:
            assert connection.endpoint == expected


@pytest.mark.usefixtures("credentials")
async def test_a_redirect_to_another_region_is_followed(
    server: SyntheticS3, connected: Connect, sent: Requests
) -> None:
    for status in (301, 307, 400):
        server.faults("bucket", redirect_region="eu-central-1", redirect_status=status)
        async with connected(region="us-east-1") as connection:
            assert await list_bucket(connection) == 2500
    assert "/eu-central-1/" in sent[-1]["authorization"]


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "operation", ["ListObjectsV2", "ListObjectVersions", "GetBucketVersioning"]
)
async def test_an_error_in_a_200_response_is_an_error(
    operation: str, server: SyntheticS3, connected: Connect
) -> None:
    server.load("kept", [b"data/a"], versioned=True)
    bucket = "kept" if operation == "ListObjectVersions" else "bucket"
    server.faults(bucket, operations=(operation,), error_body_every=1)
    async with connected() as connection:
        with pytest.raises(errors.StoreUnavailable, match="InternalError"):
            await list_bucket(connection, f"s3://{bucket}/data/")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("fault", ["truncate_body_every", "reset_every"])
@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetBucketVersioning"])
async def test_a_broken_answer_can_be_asked_for_again(
    fault: str, operation: str, server: SyntheticS3, connected: Connect
) -> None:
    server.faults("bucket", operations=(operation,), **{fault: 1})
    async with connected() as connection:
        with pytest.raises(errors.StoreUnavailable, match="s3://bucket") as caught:
            await list_bucket(connection)
        assert caught.value.is_retryable


@pytest.mark.usefixtures("credentials")
async def test_requests_are_counted(server: SyntheticS3, connected: Connect) -> None:
    counters = Counters()
    async with connected(counters=counters) as connection:
        assert await list_bucket(connection) == 2500
    seen = server.counters("bucket").requests
    assert counters.requests == sum(seen.values())
    # Two of them find out what the server honours.
    assert seen == {"GetBucketVersioning": 1, "ListObjectsV2": 2 + 3}


@pytest.mark.usefixtures("credentials")
async def test_requester_pays_is_said_with_every_request(
    connected: Connect, sent: Requests
) -> None:
    async with connected(request_payer="requester") as connection:
        await list_bucket(connection)
        await connection.lone_object(parse_source(URI + "00001"))
    payers = [headers.get("x-amz-request-payer") for headers in sent]
    assert payers == [None] + ["requester"] * (len(sent) - 1)


# --- credentials ---------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.usefixtures("credentials")
async def test_credentials_of_the_environment(connected: Connect, sent: Requests) -> None:
    async with connected() as connection:
        await list_bucket(connection)
        assert await connection.credentials() == "env"
    assert {key_of(headers) for headers in sent} == {"FROM-ENVIRONMENT"}
    assert {headers["x-amz-security-token"] for headers in sent} == {TOKEN}


async def test_credentials_of_the_shared_file(
    home: Path, connected: Connect, sent: Requests
) -> None:
    write(
        home / ".aws" / "credentials",
        f"[default]\naws_access_key_id = FROM-FILE\naws_secret_access_key = {SECRET}\n"
        f"[other]\naws_access_key_id = OF-PROFILE\naws_secret_access_key = {SECRET}\n",
    )
    async with connected() as connection:
        await list_bucket(connection)
        assert await connection.credentials() == "shared-credentials-file"
    assert {key_of(headers) for headers in sent} == {"FROM-FILE"}
    sent.clear()
    async with connected(profile="other") as connection:
        await list_bucket(connection)
    assert {key_of(headers) for headers in sent} == {"OF-PROFILE"}


@pytest.mark.usefixtures("credentials")
async def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(errors.InvalidSetting, match="nobody"):
        options = S3Options(profile="nobody")
        async with open_client(new_session(options), options):
            pass


@pytest.mark.usefixtures("credentials")
async def test_a_configuration_that_cannot_be_read(home: Path, connected: Connect) -> None:
    write(home / ".aws" / "config", "this is no configuration")
    with pytest.raises(errors.InvalidSetting, match="config"):
        async with connected():
            pass


async def test_no_credentials_at_all(connected: Connect) -> None:
    with pytest.raises(errors.MissingCredentials, match="--no-sign-request") as caught:
        async with connected():
            pass
    assert caught.value.exit_code == 2


async def test_requests_need_not_be_signed(connected: Connect, sent: Requests) -> None:
    async with connected(no_sign_request=True) as connection:
        assert await list_bucket(connection) == 2500
        assert "--no-sign-request" in await connection.credentials()
    assert {key_of(headers) for headers in sent} == {None}


@pytest.mark.usefixtures("credentials")
async def test_anonymous_requests_may_be_denied(server: SyntheticS3, connected: Connect) -> None:
    server.faults("bucket", deny_anonymous=True)
    async with connected(no_sign_request=True) as connection:
        with pytest.raises(errors.AccessDenied, match=r"s3://bucket/data/: access is denied"):
            await list_bucket(connection)


PROCESS = """
import json, pathlib, time
calls = pathlib.Path({calls!r})
number = int(calls.read_text() or 0) + 1 if calls.exists() else 1
calls.write_text(str(number))
expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + {seconds}))
print(json.dumps({{"Version": 1, "AccessKeyId": f"CALL-{{number}}", "SecretAccessKey": "s",
                   "SessionToken": "t", "Expiration": expires}}))
"""


def credential_process(home: Path, seconds: int) -> Path:
    """Lets credentials come from a process whose answers are good for so long; its calls."""
    calls = home / "calls"
    script = write(home / "give.py", PROCESS.format(calls=str(calls), seconds=seconds))
    command = f'"{sys.executable}" -S "{script}"'
    write(home / ".aws" / "config", f"[default]\ncredential_process = {command}\n")
    return calls


async def test_credentials_that_expire_are_asked_for_again_during_a_listing(
    home: Path, connected: Connect, sent: Requests
) -> None:
    # They are renewed before they end, so those that are good for five minutes are old already.
    calls = credential_process(home, seconds=300)
    async with connected() as connection:
        assert await list_bucket(connection) == 2500
    keys = [key_of(headers) for headers in sent]
    assert len(set(keys)) == len(keys) > 4
    assert int(calls.read_text()) >= len(keys)


async def test_credentials_that_last_are_asked_for_once(
    home: Path, connected: Connect, sent: Requests
) -> None:
    calls = credential_process(home, seconds=36_000)
    async with connected() as connection:
        await list_bucket(connection)
    assert {key_of(headers) for headers in sent} == {"CALL-1"}
    assert calls.read_text() == "1"


async def test_credentials_that_stay_expired_are_an_error(home: Path, connected: Connect) -> None:
    credential_process(home, seconds=-60)
    with pytest.raises(errors.MissingCredentials) as caught:
        async with connected() as connection:
            await list_bucket(connection)
    assert "expired" in str(caught.value)


async def test_a_credential_process_that_fails_is_an_error(home: Path, connected: Connect) -> None:
    command = f'"{sys.executable}" -c "raise SystemExit(3)"'
    write(home / ".aws" / "config", f"[default]\ncredential_process = {command}\n")
    with pytest.raises(errors.MissingCredentials, match="custom-process"):
        async with connected() as connection:
            await list_bucket(connection)
