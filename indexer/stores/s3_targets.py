"""Where the requests of a bucket go: address, region and way of signing, as botocore has them.

Invariants
  * Endpoint rules are botocore's alone: it prepares one request a bucket, which is looked at and
    never sent. So requests of our own always go where those of its client go.
  * Proxies and trusted certificates are those that botocore would take.
"""

from __future__ import annotations

import os
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies, is_s3express_bucket

from indexer.errors import InvalidSetting, UsageError
from indexer.sources import DEFAULT_PORTS
from indexer.stores.s3_errors import translated
from indexer.stores.s3_signing import ALGORITHM, Signer

_ANY_KEY: Final = "k"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests of a bucket go. `path` is in front of the slash before a key.

    `headers` go with every request. `signer` is None where requests are not signed.
    """

    origin: str
    host: str
    path: str
    region: str | None
    headers: dict[str, str]
    proxy: str | None
    signer: Signer | None = field(compare=False)


class _Prepared(Exception):
    """Carries a request that botocore was about to send."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


_PREPARING: ContextVar[bool] = ContextVar("_PREPARING", default=False)
"""Whether the call of a client under way is one that sends nothing."""


def let_prepare(client: Any) -> None:
    """Makes a client one that `target_of` can ask."""
    client.meta.events.register("before-send.s3.HeadObject", _stop)


async def target_of(client: Any, bucket: str) -> Target:
    """Where the client sends the requests of a bucket.

    Raises what botocore finds wrong with the bucket's name or the configuration, translated.
    """
    if is_s3express_bucket(bucket):
        raise _unknown_way(bucket)
    request = await _prepared(client, bucket)
    parts = urlsplit(request.url)
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    port = parts.port
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if port not in (None, DEFAULT_PORTS.get(parts.scheme)):
        host += f":{port}"
    origin = f"{parts.scheme}://{host}"
    authorization = headers.get("authorization")
    region, signer = None, None
    if authorization is not None:
        region, service = _scope(authorization, bucket)
        signer = Signer(region, service)
    return Target(
        origin=origin,
        host=host,
        path=parts.path.removesuffix("/" + _ANY_KEY),
        region=region,
        headers={"user-agent": headers["user-agent"], "accept-encoding": "identity"},
        proxy=_proxy_for(origin),
        signer=signer,
    )


def tls_context(session: Any) -> ssl.SSLContext:
    """Trusts what botocore does: AWS_CA_BUNDLE, `ca_bundle` of a profile, or the usual ones.

    Blocks for some tens of milliseconds.
    """
    bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    path = get_cert_path(bundle or True)
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise InvalidSetting(
            f"The trusted certificates in {path} cannot be read ({error}). Set AWS_CA_BUNDLE to a "
            f"file of certificates, or leave it out."
        ) from error


async def _prepared(client: Any, bucket: str) -> Any:
    token = _PREPARING.set(True)
    try:
        with translated(f"s3://{bucket}"):
            await client.head_object(Bucket=bucket, Key=_ANY_KEY)
    except _Prepared as prepared:
        return prepared.request
    finally:
        _PREPARING.reset(token)
    raise AssertionError


def _stop(request: Any, **_: Any) -> None:
    if _PREPARING.get():
        raise _Prepared(request)


def _scope(authorization: str, bucket: str) -> tuple[str, str]:
    """Region and service that a request is signed for."""
    algorithm, _, rest = authorization.partition(" ")
    scope = rest.partition("Credential=")[2].partition(",")[0].split("/")
    # The access key itself may hold slashes; what follows it does not.
    if algorithm != ALGORITHM:
        raise _unknown_way(bucket)
    return scope[-3], scope[-2]


def _unknown_way(bucket: str) -> UsageError:
    return UsageError(
        f"s3://{bucket}: requests to this kind of bucket are signed in a way that is not known "
        f"here; directory buckets and multi-region access points cannot be read."
    )


def _proxy_for(origin: str) -> str | None:
    found: dict[str, str] = get_environ_proxies(origin)
    proxy = found.get(urlsplit(origin).scheme)
    return f"http://{proxy.removeprefix('//')}" if proxy and "://" not in proxy else proxy


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
