"""Signed requests: where they go, with which credentials, and what comes of what servers say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from indexer import errors
from indexer.errors import IndexerError
from indexer.keyspace import Key
from indexer.objects import Pin
from indexer.sources import parse_source
from indexer.stores import s3_requests
from indexer.stores.s3_errors import refusal_in
from indexer.stores.s3_objects import S3Objects
from indexer.telemetry import Counters
from indexer.testing.store_suite import Bytes, read
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.unit.s3_connections import FOUND, answering, connected
from tests.unit.synthetic_s3_client import client_of

SECRET = "very-secret-secret"
BODY = bytes(range(256)) * 40
KEY = Key(b"a key/with %2B + and \xc3\xa9")
URI = "s3://bucket/data/a key/with %2B + and é"

Sent = list[tuple[str, str, dict[str, str]]]
Open = Callable[..., AbstractAsyncContextManager[S3Objects]]


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: SyntheticS3) -> Any:
    """Boto3's client of the server, which puts objects there."""
    return client_of(server)


@pytest.fixture(autouse=True)
def bucket(server: SyntheticS3, client: Any) -> None:
    server.load("bucket")
    server.faults("bucket")
    client.put_object(Bucket="bucket", Key="data/" + KEY.decode(), Body=BODY)
    server.reset_counters("bucket")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROM-ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Method, URL and headers of what was sent."""
    requests: Sent = []
    send = aiohttp.ClientSession._request

    async def note(self: Any, method: str, url: Any, **options: Any) -> Any:
        headers = {name.lower(): str(value) for name, value in options["headers"].items()}
        requests.append((method, str(url), headers))
        return await send(self, method, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", note)
    return requests


@pytest.fixture
def objects(server: SyntheticS3) -> Open:
    """Opens the objects of the bucket's folder."""

    @asynccontextmanager
    async def open_objects(endpoint_url: str | None = None, **options: Any) -> Any:
        options.setdefault("region", "us-east-1")
        async with connected(endpoint_url or server.endpoint_url, **options) as connection:
            yield S3Objects(connection._caller, "bucket", "data/")

    return open_objects


async def pin_of(objects: S3Objects) -> Pin:
    head = await objects.head(KEY)
    return Pin(head.size, head.etag, head.version_id)


# --- where requests go ---------------------------------------------------------------------------


async def test_preparing_sends_nothing_and_counts_nothing(
    objects: Open, server: SyntheticS3, sent: Sent
) -> None:
    counters = Counters()
    async with objects(counters=counters) as found:
        await asyncio.wait_for(pin_of(found), 10)
        await found.head(KEY)
    assert [method for method, _, _ in sent] == ["HEAD", "HEAD"]
    assert counters.requests == 2
    assert server.counters("bucket").requests["HeadObject"] == 2


async def test_what_is_sent(objects: Open, sent: Sent) -> None:
    async with objects(request_payer="requester") as found:
        await found.head(KEY, version_id="null", checksum=True)
    ((_, url, headers),) = sent
    assert url.endswith("/bucket/data/a%20key/with%20%252B%20%2B%20and%20%C3%A9?versionId=null")
    assert headers["accept-encoding"] == "identity"
    assert headers["x-amz-checksum-mode"] == "ENABLED"
    assert headers["x-amz-request-payer"] == "requester"
    for name in ("x-amz-checksum-mode", "x-amz-request-payer", "host"):
        assert name in headers["authorization"].split("SignedHeaders=")[1]


async def test_requests_need_not_be_signed(objects: Open, sent: Sent) -> None:
    async with objects(no_sign_request=True) as found:
        assert await read(found, KEY, await pin_of(found)) == BODY  # type: ignore[arg-type]
    assert not [headers for _, _, headers in sent if "authorization" in headers]
    assert not [headers for _, _, headers in sent if "x-amz-date" in headers]


# --- what is put right ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 307, 400])
async def test_a_bucket_elsewhere_is_found_once(
    status: int, objects: Open, server: SyntheticS3, sent: Sent
) -> None:
    server.faults("bucket", redirect_region="eu-central-1", redirect_status=status)
    counters = Counters()
    async with objects(counters=counters) as found:
        async with asyncio.TaskGroup() as group:
            heads = [group.create_task(found.head(KEY)) for _ in range(8)]
        assert {task.result().size for task in heads} == {len(BODY)}
        first = len(sent)
        assert await read(found, KEY, await pin_of(found)) == BODY  # type: ignore[arg-type]
    assert len(sent) == first + 2
    assert "/eu-central-1/" in sent[-1][2]["authorization"]
    # Eight in the wrong region, eight in the right one, and nothing to find out which that is.
    assert counters.requests == sum(server.counters("bucket").requests.values()) == 8 + 8 + 2


async def test_a_redirect_that_leads_nowhere_is_an_error(
    objects: Open, server: SyntheticS3
) -> None:
    server.faults("bucket", error_probability=1.0, error_code="PermanentRedirect")
    async with objects() as found:
        with pytest.raises(errors.UsageError, match="another region"):
            await read(found, KEY, Pin(len(BODY)))  # type: ignore[arg-type]
        with pytest.raises(errors.StoreUnavailable, match="not one of S3"):
            await found.head(KEY)


@pytest.mark.parametrize("ahead_s", [-7200.0, 3600.0])
@pytest.mark.parametrize("method", ["head", "read"])
async def test_a_wrong_clock_is_put_right_by_the_server_s(
    ahead_s: float, method: str, objects: Open, server: SyntheticS3
) -> None:
    async with objects() as found:
        pin = await pin_of(found)
        server.faults("bucket", clock_ahead_s=ahead_s)
        for _ in range(2):
            if method == "head":
                assert (await found.head(KEY)).size == len(BODY)
            else:
                assert await read(found, KEY, pin) == BODY  # type: ignore[arg-type]
        assert server.counters("bucket").faults == {"clock": 1}


async def test_a_denied_head_is_not_taken_for_a_wrong_clock(
    objects: Open, server: SyntheticS3
) -> None:
    server.faults("bucket", deny_objects="data/")
    async with objects() as found:
        with pytest.raises(errors.AccessDenied):
            await found.head(KEY)
    assert server.counters("bucket").requests == {"HeadObject": 1}


PROCESS = """
import json, pathlib, time
calls = pathlib.Path({calls!r})
number = int(calls.read_text() or 0) + 1 if calls.exists() else 1
calls.write_text(str(number))
expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 36000))
print(json.dumps({{"Version": 1, "AccessKeyId": f"CALL-{{number}}", "SecretAccessKey": "s",
                   "SessionToken": "t", "Expiration": expires}}))
"""


@pytest.fixture
def calls(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credentials from a process, other ones with each call, which are counted there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    counted, script, config = home / "calls", home / "give.py", home / ".aws" / "config"
    script.write_text(PROCESS.format(calls=str(counted)))
    config.parent.mkdir()
    config.write_text(f'[default]\ncredential_process = "{sys.executable}" -S "{script}"\n')
    return counted


@pytest.mark.parametrize("method", ["head", "read"])
async def test_expired_credentials_are_renewed_once_for_all_who_wait(
    method: str, objects: Open, server: SyntheticS3, calls: Path
) -> None:
    async with objects() as found:
        pin = await pin_of(found)
        server.faults("bucket", expired_key="CALL-1")
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[Any]] = [
                group.create_task(
                    found.head(KEY) if method == "head" else read(found, KEY, pin)  # type: ignore[arg-type]
                )
                for _ in range(8)
            ]
        results = [task.result() for task in tasks]
    assert results == [results[0]] * 8
    assert calls.read_text() == "2"  # noqa: ASYNC240 - a small file


async def test_credentials_that_stay_expired_are_one_clear_error(
    objects: Open, server: SyntheticS3
) -> None:
    server.faults("bucket", expired_key="FROM-ENVIRONMENT")
    async with objects() as found:
        with pytest.raises(errors.MissingCredentials) as caught:
            await found.head(KEY)
    assert str(caught.value).startswith(URI + ": the AWS credentials expired")
    assert SECRET not in repr(caught.value)


# --- what is an error ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["head", "read"])
@pytest.mark.parametrize(
    ("faults", "kind", "said"),
    [
        ({"deny_objects": "data/"}, errors.AccessDenied, r"s3:GetObject .*s3:GetObjectVersion"),
        ({"error_code": "AccessDenied"}, errors.AccessDenied, "s3:GetObject"),
        ({"error_code": "SlowDown", "retry_after_s": 7}, errors.StoreUnavailable, "fewer requests"),
        ({"error_code": "InternalError"}, errors.StoreUnavailable, "failed"),
        ({"error_code": "NoSuchKey"}, errors.NoSuchObject, "no such object"),
        ({"error_code": "MethodNotAllowed"}, errors.NoSuchObject, "no such object"),
        ({"error_code": "PreconditionFailed"}, errors.ObjectChanged, "was written"),
        ({"error_code": "InvalidArgument"}, IndexerError, "InvalidArgument"),
        ({"error_body_every": 1}, errors.StoreUnavailable, "failed|not one of S3"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)  # fmt: skip
async def test_every_trouble_is_one_clear_error(
    method: str, faults: dict[str, Any], kind: type[IndexerError], said: str,
    objects: Open, server: SyntheticS3,
) -> None:  # fmt: skip
    async with objects() as found:
        pin = await pin_of(found)
        if "error_code" in faults:
            faults = {**faults, "error_probability": 1.0}
        server.faults("bucket", operations=("HeadObject", "GetObject"), **faults)
        with pytest.raises(IndexerError, match=said) as caught:
            await asyncio.wait_for(
                found.head(KEY) if method == "head" else read(found, KEY, pin),  # type: ignore[arg-type]
                10,
            )
    assert type(caught.value) is kind
    assert str(caught.value).startswith(URI + ": ")
    assert "\n" not in str(caught.value)
    assert SECRET not in repr(caught.value)
    if faults.get("retry_after_s"):
        assert isinstance(caught.value, errors.StoreUnavailable)
        assert (caught.value.is_throttle, caught.value.retry_after_s) == (True, 7)


async def test_some_keys_may_be_denied_and_others_not(
    objects: Open, server: SyntheticS3, client: Any
) -> None:
    client.put_object(Bucket="bucket", Key="data/secret", Body=b"x")
    server.faults("bucket", deny_objects="data/secret")
    async with objects() as found:
        assert (await found.head(KEY)).size == len(BODY)
        with pytest.raises(errors.AccessDenied, match="s3://bucket/data/secret: access is denied"):
            await found.head(Key(b"secret"))


@pytest.mark.parametrize("fault", ["stall_every", "drip_every"])
@pytest.mark.parametrize("method", ["head", "read"])
async def test_nobody_waits_for_ever(
    fault: str, method: str, objects: Open, server: SyntheticS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "REQUEST_TIMEOUT_S", 0.4)
    async with objects() as found:
        pin = await pin_of(found)
        server.faults("bucket", **{fault: 1})
        with pytest.raises(errors.StoreUnavailable, match="did not answer in time"):
            await asyncio.wait_for(
                found.head(KEY) if method == "head" else read(found, KEY, pin),  # type: ignore[arg-type]
                10,
            )


async def test_a_cancel_leaves_nothing_behind(objects: Open, server: SyntheticS3) -> None:
    async with objects() as found:
        pin = await pin_of(found)
        server.faults("bucket", stall_every=1)
        for call in (found.head(KEY), read(found, KEY, pin)):  # type: ignore[arg-type]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.2)
        connector = found._caller.requests._http.connector  # type: ignore[union-attr]
        assert not connector._acquired  # type: ignore[union-attr]
        server.faults("bucket")
        assert await read(found, KEY, pin) == BODY  # type: ignore[arg-type]


async def test_nobody_there(objects: Open) -> None:
    for endpoint_url in ("http://127.0.0.1:9", "http://nobody.invalid:9"):
        async with objects(endpoint_url) as found:
            with pytest.raises(errors.StoreUnavailable, match="Check the endpoint"):
                await found.head(KEY)


# --- TLS, and servers that are none of S3's ------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", errors.StoreUnavailable),
        (b"SSH-2.0-OpenSSH_9.2\r\n", errors.StoreUnavailable),
        (b"HTTP/1.1 200 OK\r\n\r\n", errors.StoreUnavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", errors.StoreUnavailable),
        (b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: x\r\n\r\n", errors.StoreUnavailable),
        (FOUND.replace(b"\r\n\r\n", b"\r\nLast-Modified: now\r\n\r\n"), errors.StoreUnavailable),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n", errors.StoreUnavailable),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", errors.StoreUnavailable),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", errors.AccessDenied),
        (b"HTTP/1.1 418 Teapot\r\n\r\n", IndexerError),
    ],
)
async def test_a_server_that_is_no_s3(
    answer: bytes, kind: type[IndexerError], objects: Open
) -> None:
    async with answering(answer) as port, objects(f"http://127.0.0.1:{port}") as found:
        with pytest.raises(IndexerError) as caught:
            await asyncio.wait_for(found.head(KEY), 10)
    assert type(caught.value) is kind
    assert "evil.test" not in str(caught.value)


async def test_what_an_error_says_is_read_within_a_bound(objects: Open) -> None:
    code = b"<Error><Code>SlowDown</Code><Message>a &amp; b</Message></Error>"
    head = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    for body, kind in ((code + b"x" * 10_000_000, errors.StoreUnavailable),
                       (b"x" * 10_000_000 + code, IndexerError)):  # fmt: skip
        async with answering(head + body) as port, objects(f"http://127.0.0.1:{port}") as found:
            with pytest.raises(IndexerError) as caught:
                await read(found, KEY, Pin(3, "e"))  # type: ignore[arg-type]
            assert type(caught.value) is kind


def test_entities_of_an_error_stay_as_they_are() -> None:
    body = (
        b'<?xml version="1.0"?><!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b"<Error><Code>Code&x;</Code><Message>&x; &lt;b&gt; &quot;</Message></Error>"
    )
    said = refusal_in(body)
    assert (said.code, said.message) == ("Code&x;", '&x; <b> "')


# --- bytes ---------------------------------------------------------------------------------------


async def test_an_overwrite_between_listing_and_reading_is_seen(
    objects: Open, server: SyntheticS3, client: Any
) -> None:
    async with connected(server.endpoint_url) as connection:
        source = await connection.open(parse_source("s3://bucket/data/"))
        head = await source.store.head(KEY)
        client.put_object(Bucket="bucket", Key="data/" + KEY.decode(), Body=BODY[::-1])
        for pin in (Pin(head.size, head.etag), Pin(head.size + 1), Pin(head.size, "odd \x7f etag")):
            sink = Bytes()
            with pytest.raises(errors.ObjectChanged, match="bucket/data/a key"):
                await source.store.read(KEY, pin, sink)
            assert sink.data == b""


async def test_a_version_is_read_after_it_was_overwritten(
    objects: Open, server: SyntheticS3, client: Any
) -> None:
    name = "data/" + KEY.decode()
    client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    version_id = client.put_object(Bucket="bucket", Key=name, Body=b"older")["VersionId"]
    async with objects() as found:
        pin = await pin_of(found)
        assert pin.version_id == version_id
        client.put_object(Bucket="bucket", Key=name, Body=b"newer")
        assert await read(found, KEY, pin) == b"older"  # type: ignore[arg-type]
        assert (await found.head(KEY, version_id=version_id)).size == 5
        marker = client.delete_object(Bucket="bucket", Key=name)["VersionId"]
        for wanted in (None, marker, "0" * 32):
            with pytest.raises(errors.NoSuchObject):
                await found.head(KEY, version_id=wanted)
        assert await read(found, KEY, pin, 1, 3) == b"ld"  # type: ignore[arg-type]
        null = await found.head(KEY, version_id="null")
        assert (null.size, null.version_id) == (len(BODY), None)


@pytest.mark.parametrize("part", [(0, None), (1, None), (5, 300)])
@pytest.mark.parametrize("fault", ["truncate_body_every", "reset_every"])
async def test_a_body_that_ends_early_can_be_asked_for_again(
    part: tuple[int, int | None], fault: str, objects: Open, server: SyntheticS3
) -> None:
    async with objects() as found:
        pin = await pin_of(found)
        server.faults("bucket", operations=("GetObject",), **{fault: 1})
        sink = Bytes()
        with pytest.raises(errors.StoreUnavailable) as caught:
            await found.read(KEY, pin, sink, start=part[0], end=part[1])
    assert caught.value.is_retryable
    assert BODY[part[0] : part[1]].startswith(sink.data)


async def test_chunks_are_bounded(objects: Open, client: Any) -> None:
    body = b"0123456789abcdef" * 300_000
    client.put_object(Bucket="bucket", Key="data/large", Body=body)
    sizes = []

    class Slow(Bytes):
        async def write(self, data: bytes) -> None:
            sizes.append(len(data))
            await asyncio.sleep(0.001)
            await super().write(data)

    async with objects() as found:
        head = await found.head(Key(b"large"))
        sink = Slow()
        await found.read(Key(b"large"), Pin(head.size, head.etag), sink)
    assert sink.data == body
    assert max(sizes) <= 1024 * 1024


async def test_no_bytes_of_an_object_are_had_without_asking(objects: Open, sent: Sent) -> None:
    async with objects() as found:
        pin = await pin_of(found)
        sent.clear()
        assert await read(found, KEY, pin, pin.size) == b""  # type: ignore[arg-type]
    assert sent == []
