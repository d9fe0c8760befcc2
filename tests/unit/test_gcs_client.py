"""The connection to GCS: servers that refuse, break off or stall, and the way to them."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from indexer import errors
from indexer.errors import IndexerError, StoreUnavailable
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.objects import Pin
from indexer.protocols import GCSOptions, OpenedSource
from indexer.sources import SourceUri
from indexer.stores import gcs_credentials
from indexer.stores.gcs import GCSConnection, connect
from indexer.stores.gcs_client import GOOGLE, EndpointChoice, chosen_endpoint
from indexer.telemetry import Counters
from indexer.testing.buckets import body_of
from indexer.testing.store_suite import Bytes, keys_on, read, walk
from indexer.testing.synthetic_gcs import SyntheticGCS
from indexer.testing.synthetic_gcs.state import GENERATED_MS
from tests.gcs_api import connected_to
from tests.unit.listing_runs import list_all
from tests.unit.scripted_web_server import ScriptedServer

KEYS = [b"data/%04d" % number for number in range(300)]
URI = SourceUri("gs", "bucket", "data/")
ALL = KeyRange()
SLACK = dt.timedelta(seconds=2)

Connected = Callable[..., AbstractAsyncContextManager[GCSConnection]]


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticGCS]:
    with SyntheticGCS() as server:
        server.load("bucket", KEYS)
        yield server


@pytest.fixture(autouse=True)
def healthy(server: SyntheticGCS) -> None:
    server.faults("bucket")
    server.reset_counters("bucket")


@pytest.fixture
def connected(server: SyntheticGCS) -> Connected:
    return partial(connected_to, server.endpoint_url)


@pytest.fixture
async def source(connected: Connected) -> AsyncIterator[OpenedSource]:
    async with connected(timeout_s=1.0) as connection:
        yield await connection.open(URI)


async def first_row(source: OpenedSource) -> tuple[Key, Pin]:
    page = await source.store.list_page(ALL)
    row = page.rows.to_pylist()[0]
    return Key(row["path"]), Pin(row["size"], version_id=row["version_id"])


Call = Callable[[OpenedSource], Awaitable[object]]


async def a_list(source: OpenedSource) -> object:
    return await source.store.list_page(ALL)


async def a_head(source: OpenedSource) -> object:
    return await source.store.head(Key(b"0000"))


async def a_read(source: OpenedSource) -> object:
    pin = Pin(len(body_of(KEYS[0])), version_id=str(GENERATED_MS * 1000))
    return await read(source.store, b"0000", pin)


CALLS = pytest.mark.parametrize("call", [a_list, a_head, a_read])


# --- what a server refuses -----------------------------------------------------------------------


@CALLS
@pytest.mark.parametrize(
    ("faults", "kind", "said"),
    [
        ({"error_first": 1}, StoreUnavailable, "fewer requests"),
        ({"error_first": 1, "error_status": 500}, StoreUnavailable, "failed"),
        (
            {"error_first": 1, "error_status": 403, "error_reason": "rateLimitExceeded"},
            StoreUnavailable,
            "fewer requests",
        ),
        (
            {"error_first": 1, "error_status": 502, "error_body": "<html>Bad Gateway</html>"},
            StoreUnavailable,
            "failed",
        ),
        ({"deny": ("list", "get", "media")}, errors.AccessDenied, "storage.objects."),
        ({"token": "another"}, errors.AccessDenied, "does not let everybody in"),
        ({"requester_pays": True}, errors.InvalidSetting, "user project"),
        ({"redirect_to": "http://elsewhere.example/?a=b"}, errors.InvalidSetting, "elsewhere"),
        ({"garbage_every": 1}, StoreUnavailable, "gs://"),
        ({"error_body_every": 1}, StoreUnavailable, "gs://"),
        ({"cut_body_every": 1}, StoreUnavailable, "cut off"),
        ({"reset_every": 1}, StoreUnavailable, "cannot be reached|cut off"),
        ({"stall_every": 1}, StoreUnavailable, "in time"),
        ({"drip_every": 1}, StoreUnavailable, "in time"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
async def test_each_fault_is_one_clear_error(
    server: SyntheticGCS,
    source: OpenedSource,
    call: Call,
    faults: Mapping[str, Any],
    kind: type[IndexerError],
    said: str,
) -> None:
    server.faults("bucket", **faults)
    with pytest.raises(kind, match=said) as caught:
        async with asyncio.timeout(10):
            await call(source)
    assert "gs://bucket/data/" in str(caught.value)
    server.faults("bucket")
    await call(source)


@pytest.mark.parametrize("call", [a_list, a_head])
@pytest.mark.parametrize("fault", ["garbage_every", "error_body_every"])
async def test_a_bad_answer_with_a_good_status_may_come_right(
    server: SyntheticGCS, source: OpenedSource, call: Call, fault: str
) -> None:
    server.faults("bucket", **{fault: 1})
    with pytest.raises(StoreUnavailable) as caught:
        await call(source)
    assert caught.value.is_throttle == (fault == "error_body_every")


@pytest.mark.parametrize("fault", ["garbage_every", "error_body_every"])
async def test_other_bytes_are_not_taken_for_an_object(
    server: SyntheticGCS, source: OpenedSource, fault: str
) -> None:
    server.faults("bucket", **{fault: 1})
    size = len(body_of(KEYS[0]))
    for pin, kind in (
        (Pin(size, version_id=str(GENERATED_MS * 1000)), StoreUnavailable),
        (Pin(size), errors.ObjectChanged),
    ):
        sink = Bytes()
        with pytest.raises(kind, match=r"bytes"):
            await source.store.read(Key(b"0000"), pin, sink)
        assert sink.data == b""


@pytest.mark.parametrize(("status", "is_throttle"), [(429, True), (503, True), (500, False)])
async def test_what_the_server_asks_for_is_heard(
    server: SyntheticGCS, source: OpenedSource, status: int, *, is_throttle: bool
) -> None:
    reason = "rateLimitExceeded" if status == 429 else "backendError" if is_throttle else "internal"
    server.faults(
        "bucket", error_first=1, error_status=status, error_reason=reason, retry_after="17"
    )
    with pytest.raises(StoreUnavailable) as caught:
        await source.store.list_page(ALL)
    assert caught.value.retry_after_s == 17.0
    assert caught.value.is_throttle == (is_throttle or reason == "backendError")


async def test_one_request_is_made_once(server: SyntheticGCS, source: OpenedSource) -> None:
    server.faults("bucket", error_first=5)
    server.reset_counters("bucket")
    for call in (a_list, a_head, a_read):
        with pytest.raises(StoreUnavailable):
            await call(source)
    assert server.counters("bucket").requests == {"list": 1, "get": 1, "media": 1}


async def test_some_keys_may_not_be_read(server: SyntheticGCS, source: OpenedSource) -> None:
    server.faults("bucket", deny_prefix="data/0007")
    assert (await source.store.head(Key(b"0006"))).size == len(body_of(KEYS[6]))
    with pytest.raises(errors.AccessDenied, match=r"data/0007.*storage\.objects\.get"):
        await source.store.head(Key(b"0007"))
    with pytest.raises(errors.AccessDenied, match=r"storage\.objects\.list"):
        await source.store.list_page(ALL)
    assert (await source.store.list_page(KeyRange(Key(b"0008")))).rows.num_rows


async def test_requests_are_counted(connected: Connected) -> None:
    counters = Counters()
    async with connected(counters=counters) as connection:
        source = await connection.open(URI)
        for call in (a_list, a_head, a_read):
            await call(source)
    assert counters.requests == 4


# --- opening -------------------------------------------------------------------------------------


async def test_what_is_kept_of_a_connection(server: SyntheticGCS, connected: Connected) -> None:
    async with connected() as connection:
        source = await connection.open(SourceUri("gs", "bucket", "data"))
        assert await connection.credentials() == "none (STORAGE_EMULATOR_HOST)"
    assert source.folder == "gs://bucket/data/"
    assert source.record == {
        "uri": "gs://bucket/data/",
        "endpoint": server.endpoint_url,
        "endpoint_from": "the test",
        "location": "SYNTHETIC1",
        "server": "emulator",
        "versioning": "off",
        "operation": "objects.list",
    }
    assert source.opened_at is not None
    assert abs(source.opened_at - dt.datetime.now(dt.UTC)) < SLACK
    properties = source.store.properties
    assert (properties.versions, properties.parallel, properties.resume) == (True, True, "range")
    assert properties.key_bytes_max == KEY_BYTES_MAX - len("data/")


async def test_a_bucket_may_be_listed_without_the_right_to_ask_for_it(
    server: SyntheticGCS, connected: Connected
) -> None:
    server.faults("bucket", deny=("bucket",))
    async with connected() as connection:
        source = await connection.open(URI)
        assert (source.record["versioning"], source.record["location"]) == ("unknown", "unknown")
        assert source.opened_at is not None
        assert keys_on(await walk(source.store)) == [key.removeprefix(b"data/") for key in KEYS]


async def test_an_anonymous_caller_may_list_what_is_public(
    server: SyntheticGCS, connected: Connected
) -> None:
    server.faults("bucket", operations=("bucket",), token="somebody")
    async with connected(anonymous=True, is_emulator=False) as connection:
        source = await connection.open(URI)
        assert await connection.credentials() == "none (anonymous)"
        assert source.record["server"] == "GCS"
        assert (await source.store.list_page(ALL)).rows.num_rows == 50


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        ({"error_first": 9}, StoreUnavailable),
        ({"deny": ("bucket",), "requester_pays": True}, errors.AccessDenied),
        (
            {"error_first": 9, "error_status": 403, "error_reason": "rateLimitExceeded"},
            StoreUnavailable,
        ),
        ({"garbage_every": 1}, StoreUnavailable),
        ({"error_body_every": 1}, StoreUnavailable),
    ],
)
async def test_a_source_that_cannot_be_opened(
    server: SyntheticGCS, connected: Connected, faults: Mapping[str, Any], kind: type[IndexerError]
) -> None:
    server.faults("bucket", **faults)
    async with connected() as connection:
        if kind is errors.AccessDenied:
            assert (await connection.open(URI)).record["versioning"] == "unknown"
            return
        with pytest.raises(kind, match="gs://bucket"):
            await connection.open(URI)


async def test_a_requester_pays(server: SyntheticGCS, connected: Connected) -> None:
    server.faults("bucket", requester_pays=True)
    async with connected(user_project="mine") as connection:
        source = await connection.open(URI)
        for call in (a_list, a_head, a_read):
            await call(source)


async def test_an_object_that_may_not_be_read_is_no_lone_object(
    server: SyntheticGCS, connected: Connected
) -> None:
    async with connected() as connection:
        uri = SourceUri("gs", "bucket", "data/0000")
        assert await connection.lone_object(uri) is not None
        server.faults("bucket", deny=("get",))
        assert await connection.lone_object(uri) is None
        server.faults("bucket", error_first=1)
        with pytest.raises(StoreUnavailable):
            await connection.lone_object(uri)


# --- credentials ---------------------------------------------------------------------------------


class _Maker:
    """Makes tokens in the place of Google's. See `gcloud.aio.auth.Token`."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.service_data = {"type": "x"}

    async def refresh(self, **_: object) -> Any:
        class Answer:
            value = self.tokens.pop(0)
            expires_in = 3600

        return Answer


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    maker = _Maker()
    monkeypatch.setattr(gcs_credentials.AccessTokens, "_new_maker", lambda *_: maker)
    return maker.tokens


async def test_a_token_goes_with_every_request(
    server: SyntheticGCS, connected: Connected, tokens: list[str]
) -> None:
    server.faults("bucket", token="good")
    tokens += ["good"]
    async with connected(is_emulator=False) as connection:
        source = await connection.open(URI)
        for call in (a_list, a_head, a_read):
            await call(source)
        assert await connection.credentials() == gcs_credentials.METADATA_SERVER
    assert tokens == []


async def test_a_token_that_ended_is_replaced(
    server: SyntheticGCS, connected: Connected, tokens: list[str]
) -> None:
    server.faults("bucket", token="first")
    tokens += ["first", "second"]
    async with connected(is_emulator=False) as connection:
        source = await connection.open(URI)
        server.faults("bucket", token="second")
        async with asyncio.TaskGroup() as group:
            for call in (a_list, a_head, a_read, a_list, a_list):
                group.create_task(_ensured(call, source))
    assert tokens == []


async def _ensured(call: Call, source: OpenedSource) -> None:
    await call(source)


async def test_credentials_that_are_refused_in_the_middle_are_one_error(
    server: SyntheticGCS, connected: Connected, tokens: list[str]
) -> None:
    server.faults("bucket", unauthorized_after=4)
    tokens += [f"token-{number}" for number in range(50)]
    async with connected(is_emulator=False) as connection:
        source = await connection.open(URI)
        with pytest.raises(errors.AccessDenied, match="gcloud auth") as caught:
            await list_all(source.store)
    assert "token-" not in str(caught.value)


async def test_no_credentials_at_all(connected: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9/token"
    monkeypatch.setattr("gcloud.aio.auth.token.GCE_ENDPOINT_TOKEN", nowhere)
    async with connected(is_emulator=False) as connection:
        with pytest.raises(errors.MissingCredentials, match="GOOGLE_APPLICATION_CREDENTIALS"):
            await connection.open(URI)


# --- endpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:4443", "http://127.0.0.1:4443"),
        ("http://127.0.0.1:4443/", "http://127.0.0.1:4443"),
        ("https://emulator.example", "https://emulator.example"),
        ("localhost", "http://localhost"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_emulator_is_named_with_or_without_its_scheme(
    host: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen_endpoint() is GOOGLE
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    found = chosen_endpoint()
    assert found == EndpointChoice(url, "STORAGE_EMULATOR_HOST", is_emulator=True)


@pytest.mark.parametrize(
    "host", ["http://", "ftp://host", "http://host:port", "http://[", "http://h?a=b", "http://h:0"]
)
def test_an_emulator_that_is_no_url(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    with pytest.raises(errors.InvalidSetting, match="STORAGE_EMULATOR_HOST"):
        chosen_endpoint()


def test_an_emulator_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://user:hidden@host:1")
    with pytest.raises(errors.InvalidSetting) as caught:
        chosen_endpoint()
    assert "hidden" not in str(caught.value)


async def test_the_emulator_of_the_environment_is_asked(
    server: SyntheticGCS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint_url.removeprefix("http://"))
    async with connect(GCSOptions(), Counters()) as connection:
        source = await connection.open(URI)
        assert len(keys_on(await walk(source.store))) == len(KEYS)


async def test_requests_go_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "emulator.invalid")
    async with ScriptedServer() as proxy:
        monkeypatch.setenv("all_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        async with connect(GCSOptions(), Counters()) as connection:
            with pytest.raises(errors.NoSuchSource):
                await connection.open(URI)
        (asked,) = proxy.asked
        assert asked.path.startswith("http://emulator.invalid/storage/v1/b/bucket?")
        assert asked.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
        monkeypatch.setenv("no_proxy", "emulator.invalid")
        async with connect(GCSOptions(), Counters()) as connection:
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await connection.open(URI)
        assert len(proxy.asked) == 1
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("all_proxy", "socks5://me:secret@127.0.0.1:1")
    with pytest.raises(errors.InvalidSetting, match="HTTP_PROXY") as caught:
        async with connect(GCSOptions(), Counters()):
            pass
    assert "secret" not in str(caught.value)


async def test_nobody_there(connected: Connected) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with connected_to(f"http://127.0.0.1:{taken.getsockname()[1]}") as connection:
            with pytest.raises(StoreUnavailable, match="gs://bucket: the server cannot be reached"):
                await connection.open(URI)


async def test_a_server_that_speaks_no_http(connected: Connected) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x15\x03\x01\x00\x02\x02\x46 no HTTP\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with connected_to(f"http://127.0.0.1:{port}") as connection:
            with pytest.raises(StoreUnavailable, match="gs://bucket"):
                await connection.open(URI)


async def test_tls_to_a_server_that_speaks_none(connected: Connected) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with connected_to(f"https://127.0.0.1:{port}") as connection:
            with pytest.raises(errors.InvalidSetting, match="TLS failed"):
                await connection.open(URI)


@cache
def certificate() -> bytes:
    """A certificate of the loopback address that nobody vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM) + private


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_certificate_that_nobody_vouches_for_and_plain_http_to_tls(
    connected: Connected, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "tls.pem").write_bytes(certificate())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with connected_to(f"{scheme}://127.0.0.1:{port}") as connection:
            kind = errors.InvalidSetting if scheme == "https" else StoreUnavailable
            with pytest.raises(kind, match="gs://bucket") as caught:
                await connection.open(URI)
    assert type(caught.value) is kind
