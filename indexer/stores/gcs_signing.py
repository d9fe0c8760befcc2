"""Signs URLs of objects of GCS with the key of a service account: V4 signatures, as pure functions.

Invariants
  * What is signed is what is fetched: path and query are encoded once.
  * Nothing here reads a clock, the environment or a file, or shows a key.

The rules are those of "V4 signing process with your own program" in the documentation of Cloud
Storage.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from indexer.errors import MissingCredentials

ALGORITHM: Final = "GOOG4-RSA-SHA256"
HOST: Final = "storage.googleapis.com"

_SAFE: Final = "-_.~"


@dataclass(frozen=True, slots=True)
class SigningAccount:
    """Who signs: a service account, and its private key as PEM."""

    email: str
    private_key: str = field(repr=False)


def account_in(document: Mapping[str, Any]) -> SigningAccount | None:
    """The account whose credentials these are; None for others, which hold no key."""
    email, key = document.get("client_email"), document.get("private_key")
    return SigningAccount(email, key) if isinstance(email, str) and isinstance(key, str) else None


def signed_url(
    account: SigningAccount,
    bucket: str,
    name: str,
    parameters: Iterable[tuple[str, str]],
    *,
    at_s: float,
    expires_s: int,
) -> str:
    """The URL by which whoever has it may get an object for `expires_s`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(at_s)))
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    path = f"/{bucket}/{quote(name, safe='/~')}"
    signed = [
        *parameters,
        ("X-Goog-Algorithm", ALGORITHM),
        ("X-Goog-Credential", f"{account.email}/{scope}"),
        ("X-Goog-Date", stamp),
        ("X-Goog-Expires", str(expires_s)),
        ("X-Goog-SignedHeaders", "host"),
    ]
    pairs = sorted((quote(key, safe=_SAFE), quote(value, safe=_SAFE)) for key, value in signed)
    query = "&".join(f"{key}={value}" for key, value in pairs)
    request = f"GET\n{path}\n{query}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    return f"https://{HOST}{path}?{query}&X-Goog-Signature={_signature(account, text).hex()}"


def _signature(account: SigningAccount, text: str) -> bytes:
    # Comes with the library that makes access tokens of the same credentials.
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        # What is wrong with a key may be told by quoting it.
        raise MissingCredentials(
            f"the private key of {account.email} cannot be used to sign: get a new one."
        )
    return key.sign(text.encode(), PKCS1v15(), SHA256())
