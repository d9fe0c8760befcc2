"""Servers that cannot be reached, make us wait or are not trusted; names, passwords, proxies.

Invariants
  * Servers are scripted, on loopback; the real ones are met in the contract tests.
  * Each fault ends in the right answer or in one error that says where; nothing waits for long.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest

from indexer import errors
from indexer.errors import StoreUnavailable, UsageError
from indexer.objects import Pin
from indexer.stores.http import HTTPConnection, connect
from indexer.telemetry import Counters
from indexer.testing.store_suite import keys_on, read, walk
from tests.unit.scripted_web_server import (
    Answer,
    ScriptedServer,
    index,
    redirect,
    response,
)
from tests.unit.web_stores import (
    HUNG_S,
    TIMEOUT_S,
    TIMEOUT_SHORT_S,
    error_of_head,
    opened,
    store_of,
)

# --- faults of the network ------------------------------------------------------------------------


async def hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(HUNG_S)


async def drip_headers(writer: asyncio.StreamWriter) -> None:
    for byte in response(headers={"X-Long": "x" * 1_000}, body=b"abc"):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_body(writer: asyncio.StreamWriter) -> None:
    writer.write(
        response(body=b"", length=1_000).replace(
            b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n"
        )
    )
    for _ in range(1_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("answer", [hang, drip_headers, drip_body, reset])
async def test_no_server_can_make_us_wait(web_server: ScriptedServer, answer: Answer) -> None:
    async with (
        asyncio.timeout(HUNG_S / 2),
        connect(Counters(), timeout_s=TIMEOUT_SHORT_S) as web_connection,
    ):
        store = await store_of(web_connection, web_server, "a")
        web_server.answers["/a"] = web_server.answers["/b/"] = answer
        for attempt in (
            read(store, b"a", Pin(1_000)),
            opened(web_connection, web_server.url + "b/"),
        ):
            with pytest.raises(StoreUnavailable, match=web_server.url):
                await attempt


async def test_a_server_that_is_not_there(web_connection: HTTPConnection, unused_port: int) -> None:
    for url in (f"http://127.0.0.1:{unused_port}/", "http://no-such-host.invalid/"):
        with pytest.raises(StoreUnavailable, match=f"{url}: the server cannot be reached"):
            await opened(web_connection, url)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Wed, 25 Nov 2026 19:01:30 GMT"}, 90.0),
        ({"Retry-After": "Wed, 25 Nov 2020 19:01:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(
    ("status", "is_throttle"),
    [
        (HTTPStatus.SERVICE_UNAVAILABLE, True),
        (HTTPStatus.TOO_MANY_REQUESTS, True),
        (HTTPStatus.BAD_GATEWAY, False),
    ],
)
async def test_a_server_that_asks_to_wait(
    web_server: ScriptedServer,
    web_connection: HTTPConnection,
    status: HTTPStatus,
    headers: dict[str, str],
    seconds: float | None,
    *,
    is_throttle: bool,
) -> None:
    store = await store_of(web_connection, web_server, "a")
    web_server.answers["/a"] = response(status, headers)
    error = await error_of_head(store, b"a")
    assert isinstance(error, StoreUnavailable)
    assert (error.is_throttle, error.retry_after_s) == (is_throttle, seconds)


async def test_tls_that_fails_is_said_once(
    web_server: ScriptedServer, web_connection: HTTPConnection, tls: ssl.SSLContext
) -> None:
    plain = web_server.url.replace("http://", "https://")
    with pytest.raises(errors.InvalidSetting, match="TLS failed"):
        await opened(web_connection, plain)
    async with ScriptedServer(tls) as secure:
        with pytest.raises(errors.InvalidSetting, match=r"TLS failed .*SSL_CERT_FILE"):
            await opened(web_connection, secure.url)
        with pytest.raises(StoreUnavailable, match="http://"):
            await opened(web_connection, secure.url.replace("https://", "http://"))


async def test_authorities_of_ones_own_are_trusted(own_tls: ssl.SSLContext) -> None:
    async with (
        ScriptedServer(own_tls) as secure,
        connect(Counters(), timeout_s=TIMEOUT_S) as web_connection,
    ):
        secure.answers["/"] = index("a")
        source = await opened(web_connection, secure.url)
        assert keys_on(await walk(source.store)) == [b"a"]


async def test_a_redirect_from_https_to_http_is_refused(own_tls: ssl.SSLContext) -> None:
    async with (
        ScriptedServer(own_tls) as web_server,
        connect(Counters(), timeout_s=TIMEOUT_S) as web_connection,
    ):
        web_server.answers["/"] = redirect(f"http://127.0.0.1:{web_server.port}/")
        with pytest.raises(UsageError, match="another origin"):
            await opened(web_connection, web_server.url)


# --- the environment ------------------------------------------------------------------------------


async def test_netrc_has_names_and_passwords(
    web_server: ScriptedServer, web_connection: HTTPConnection, home: Path
) -> None:
    web_server.answers["/"] = response(HTTPStatus.UNAUTHORIZED)
    with pytest.raises(errors.AccessDenied, match=r"machine 127\.0\.0\.1 login NAME"):
        await opened(web_connection, web_server.url)
    assert await web_connection.credentials() == "none"
    (home / ".netrc").write_text("machine 127.0.0.1 login me password very-secret\n")
    async with connect(Counters(), timeout_s=TIMEOUT_S) as known:
        assert await known.credentials() == f"{home / '.netrc'}, for the hosts that it names"
        with pytest.raises(errors.AccessDenied, match="does not accept") as caught:
            await opened(known, web_server.url)
        assert "secret" not in str(caught.value)
        web_server.answers["/"] = index("a")
        await opened(known, web_server.url)
    assert web_server.asked[0].headers.get("authorization") is None
    assert web_server.asked[-1].headers["authorization"] == "Basic bWU6dmVyeS1zZWNyZXQ="


async def test_a_netrc_that_is_broken_is_said_without_its_words(
    web_server: ScriptedServer, home: Path
) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me very-secret\n")
    async with connect(Counters(), timeout_s=TIMEOUT_S) as web_connection:
        with pytest.raises(errors.InvalidSetting, match=r"\.netrc cannot be read") as caught:
            await opened(web_connection, web_server.url)
        assert "very-secret" not in str(caught.value)


async def test_proxies_are_those_of_the_environment(
    web_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{web_server.port}")
    web_server.answers["http://host.invalid/"] = index("a")
    async with connect(Counters(), timeout_s=TIMEOUT_S) as web_connection:
        source = await opened(web_connection, "http://host.invalid/")
        assert keys_on(await walk(source.store)) == [b"a"]
        assert web_server.asked[0].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    web_server.answers["/"] = index("b")
    async with connect(Counters(), timeout_s=TIMEOUT_S) as web_connection:
        assert keys_on(await walk((await opened(web_connection, web_server.url)).store)) == [b"b"]
    monkeypatch.setenv("http_proxy", "socks5://me:secret@127.0.0.1:1")
    async with connect(Counters(), timeout_s=TIMEOUT_S) as web_connection:
        with pytest.raises(errors.InvalidSetting, match="HTTP_PROXY") as caught:
            await opened(web_connection, "http://host.invalid/")
        assert "secret" not in str(caught.value)


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that its own key signed, and that key, in one file."""
    from datetime import timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS, of a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def own_tls(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """The same, where its certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return tls


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
