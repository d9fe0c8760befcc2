"""Signs requests to S3: Signature Version 4 in the flavour of S3, as pure functions.

    signer = Signer("eu-central-1")
    sent = signer.headers("HEAD", "/a%20b", "", {"host": host}, credentials=keys, at_s=now_s)

Invariants
  * What is signed is what is sent: path and query are taken encoded, as they stand in the request,
    and never encoded a second time, nor is the path tidied (S3's flavour; other services do both).
  * Every header that is given is signed, so that nothing on the way can change one.
  * A signing key serves one secret, day, region and service. It is derived anew when one of them
    changes: at midnight UTC, when credentials are renewed.
  * Nothing here reads a clock, the environment or a file.

The rules are those of "Authenticating Requests: Using the Authorization Header" in the Amazon S3
API Reference.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from hmac import digest
from typing import Final, Protocol
from urllib.parse import quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"
EMPTY_SHA256: Final = sha256(b"").hexdigest()
"""Of the body of a request that has none."""

_KEY_SAFE: Final = "/~"
_QUERY_SAFE: Final = "-_.~"


class Credentials(Protocol):
    """What a request is signed with; `token` belongs to those that expire."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs requests to one region. Keeps the signing key of the day."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._place = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._key_is_of: tuple[str, str] | None = None
        self._key = b""
        self._second = -1
        self._stamp = ""

    def headers(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        credentials: Credentials,
        at_s: float,
        body_sha256: str = EMPTY_SHA256,
    ) -> dict[str, str]:
        """The headers to send: those given, which have `host` among them, and the signature.

        Names are in lower case, values without blanks at their ends. `query` is `canonical_query`'s
        or empty, `at_s` the time as seconds since 1970.
        """
        if int(at_s) != self._second:
            self._second = int(at_s)
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        stamp = self._stamp
        sent = {**headers, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        names, signed = _in_order(tuple(sent))
        lines = "\n".join([f"{name}:{sent[name]}" for name in names])
        if "  " in lines or "\t" in lines:
            lines = "\n".join([f"{name}:{' '.join(sent[name].split())}" for name in names])
        request = f"{method}\n{path}\n{query}\n{lines}\n\n{signed}\n{body_sha256}"
        scope = f"{stamp[:8]}/{self._place}"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = digest(self._key_for(credentials, stamp[:8]), text.encode(), "sha256").hex()
        sent["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return sent

    def presigned_query(
        self,
        method: str,
        path: str,
        parameters: Iterable[tuple[str, str]],
        host: str,
        *,
        credentials: Credentials,
        at_s: float,
        expires_s: int,
    ) -> str:
        """The query of a request that whoever has its URL may send for `expires_s`.

        The signature stands in the query, and of the headers `host` alone is signed: the rules of
        "Authenticating Requests: Using Query Parameters".
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(at_s)))
        scope = f"{stamp[:8]}/{self._place}"
        signed = [
            *parameters,
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{credentials.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        if credentials.token:
            signed.append(("X-Amz-Security-Token", credentials.token))
        query = canonical_query(signed)
        request = f"{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = digest(self._key_for(credentials, stamp[:8]), text.encode(), "sha256").hex()
        return f"{query}&X-Amz-Signature={signature}"

    def _key_for(self, credentials: Credentials, day: str) -> bytes:
        wanted = (credentials.secret_key, day)
        if wanted != self._key_is_of:
            self._key = signing_key(credentials.secret_key, day, self._region, self._service)
            self._key_is_of = wanted
        return self._key


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that signs the requests of one day (`YYYYMMDD`) to one service of one region."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = digest(key, part.encode(), "sha256")
    return key


def quoted_key(key: bytes) -> str:
    """An object's key as it stands in the path of a request: slashes stay, unsafe bytes do not."""
    return quote(key, safe=_KEY_SAFE)


def canonical_query(parameters: Iterable[tuple[str, str]]) -> str:
    """Parameters as they are both signed and sent: encoded, in the order of their names."""
    pairs = sorted(
        (quote(name, safe=_QUERY_SAFE), quote(value, safe=_QUERY_SAFE))
        for name, value in parameters
    )
    return "&".join([f"{name}={value}" for name, value in pairs])


@lru_cache(64)
def _in_order(names: tuple[str, ...]) -> tuple[list[str], str]:
    """Names of headers as they are signed, and the list that says so."""
    ordered = sorted(names)
    return ordered, ";".join(ordered)
