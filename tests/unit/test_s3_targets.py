"""Where the requests of a bucket go is what botocore says, and so is who is trusted there."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from indexer import errors
from indexer.keyspace import Key
from indexer.objects import Head
from indexer.stores.s3_objects import S3Objects
from indexer.stores.s3_targets import target_of
from tests.unit.s3_connections import FOUND, answering, connected


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROM/ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)


@pytest.mark.parametrize(
    ("options", "bucket_name", "origin", "path", "region"),
    [
        ({"region": "eu-west-1"}, "bkt", "https://bkt.s3.eu-west-1.amazonaws.com", "", "eu-west-1"),
        (
            *({"region": "eu-west-1"}, "b.dots", "https://s3.eu-west-1.amazonaws.com"),
            *("/b.dots", "eu-west-1"),
        ),
        ({}, "bkt", "https://bkt.s3.amazonaws.com", "", "us-east-1"),
        ({"region": "cn-north-1"}, "bkt", "https://bkt.s3.cn-north-1.amazonaws.com.cn", "",
         "cn-north-1"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "bkt", "http://127.0.0.1:9", "/bkt", "us-east-1"),
        ({"endpoint_url": "https://h.test/s3"}, "bkt", "https://h.test", "/s3/bkt", "us-east-1"),
        ({"endpoint_url": "http://h.test:80"}, "bkt", "http://h.test", "/bkt", "us-east-1"),
        ({"endpoint_url": "http://[::1]:9"}, "bkt", "http://[::1]:9", "/bkt", "us-east-1"),
    ],
)  # fmt: skip
async def test_requests_go_where_those_of_botocore_go(
    options: dict[str, Any], bucket_name: str, origin: str, path: str, region: str
) -> None:
    async with connected(**options) as connection:
        target = await target_of(connection._shared.client, bucket_name)
    assert (target.origin, target.path, target.region) == (origin, path, region)
    assert target.origin.endswith("//" + target.host)
    assert "bucket-indexer" in target.headers["user-agent"]


async def test_the_configuration_of_s3_counts(home: Path) -> None:
    config = home / ".aws" / "config"
    config.parent.mkdir()
    found = []
    for settings in ("addressing_style = path", "use_dualstack_endpoint = true",
                     "use_accelerate_endpoint = true"):  # fmt: skip
        config.write_text(f"[default]\nregion = eu-west-1\ns3 =\n  {settings}\n")
        async with connected() as connection:
            target = await target_of(connection._shared.client, "bkt")
            found.append(target.origin + target.path)
    assert found == [
        "https://s3.eu-west-1.amazonaws.com/bkt",
        "https://bkt.s3.dualstack.eu-west-1.amazonaws.com",
        "https://bkt.s3-accelerate.amazonaws.com",
    ]


async def test_a_proxy_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    for endpoint_url, proxy in (
        ("https://outside.test", "http://proxy.test:3128"),
        ("https://inside.test", None),
        ("http://outside.test", None),
    ):
        async with connected(endpoint_url) as connection:
            assert (await target_of(connection._shared.client, "bkt")).proxy == proxy


async def test_directory_buckets_are_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(aiohttp.ClientSession, "_request", lambda *words, **_: sent.append(words))
    async with connected(region="us-west-2") as connection:
        with pytest.raises(errors.UsageError, match="directory buckets"):
            await target_of(connection._shared.client, "data--usw2-az1--x-s3")
    assert sent == []


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


async def head_at(endpoint_url: str) -> Head:
    async with connected(endpoint_url) as connection:
        return await S3Objects(connection._caller, "bucket", "").head(Key(b"key"))


async def test_certificates_are_trusted_as_botocore_trusts_them(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with answering(FOUND, tls) as port:
        with pytest.raises(errors.InvalidSetting, match=r"TLS failed .*AWS_CA_BUNDLE"):
            await head_at(f"https://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert (await head_at(f"https://127.0.0.1:{port}")).size == 3
        with pytest.raises(errors.StoreUnavailable):
            await head_at(f"http://127.0.0.1:{port}")


async def test_a_bundle_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    with pytest.raises(errors.InvalidSetting, match=r"nothing\.pem cannot be read"):
        await head_at("https://127.0.0.1:9")


async def test_plain_http_at_a_port_for_tls() -> None:
    async with answering(FOUND) as port:
        with pytest.raises(errors.InvalidSetting, match="TLS failed"):
            await head_at(f"https://127.0.0.1:{port}")
