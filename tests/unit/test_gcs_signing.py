"""Signed URLs of GCS: what they say, and that the account's public key confirms it."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from indexer.errors import MissingCredentials
from indexer.stores.gcs_signing import SigningAccount, account_in, signed_url

KEY = generate_private_key(public_exponent=65_537, key_size=2_048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = SigningAccount("reader@project.iam.gserviceaccount.com", PEM)
AT_S = 1_790_000_000.5
STAMP = "20260921T141320Z"


def test_the_public_key_confirms_what_is_said() -> None:
    url = signed_url(
        ACCOUNT, "bucket", "a/é #?+.bin", [("generation", "17")], at_s=AT_S, expires_s=90
    )
    parts = urlsplit(url)
    assert (parts.netloc, parts.path) == (
        "storage.googleapis.com",
        "/bucket/a/%C3%A9%20%23%3F%2B.bin",
    )
    query, _, signature = parts.query.partition("&X-Goog-Signature=")
    said = dict(parse_qsl(query))
    assert list(said) == sorted(said)
    scope = f"{STAMP[:8]}/auto/storage/goog4_request"
    assert said == {
        "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
        "X-Goog-Credential": f"{ACCOUNT.email}/{scope}",
        "X-Goog-Date": STAMP,
        "X-Goog-Expires": "90",
        "X-Goog-SignedHeaders": "host",
        "generation": "17",
    }
    request = "\n".join(
        ["GET", parts.path, query, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"]
    )
    text = f"GOOG4-RSA-SHA256\n{STAMP}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    KEY.public_key().verify(bytes.fromhex(signature), text.encode(), PKCS1v15(), SHA256())


def test_only_a_service_account_can_sign() -> None:
    document = {"type": "service_account", "client_email": "a@b", "private_key": PEM}
    assert account_in(document) == SigningAccount("a@b", PEM)
    assert PEM not in repr(account_in(document))
    assert account_in({"type": "authorized_user", "refresh_token": "x"}) is None
    with pytest.raises(MissingCredentials, match="cannot be used") as raised:
        signed_url(SigningAccount("a@b", "secret"), "b", "k", [], at_s=AT_S, expires_s=1)
    assert "secret" not in str(raised.value)
