"""The connection to an S3 endpoint: session, credentials, endpoint.

Invariants
  * Credentials come from aiobotocore's own chain and are refreshed by it; none is read, kept or
    logged here.
  * botocore's retries are off: `workers.retry` is the only retrier.
  * Answers are read whole, within bounds.
  * It serves what is asked once a job; pages and objects are asked for by `s3_requests`, which goes
    where this client goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiobotocore.session
from aiobotocore.config import AioConfig
from botocore import UNSIGNED

from indexer.errors import InvalidSetting, MissingCredentials
from indexer.limits import CONNECT_TIMEOUT_S, IN_FLIGHT_MAX, REQUEST_TIMEOUT_S
from indexer.protocols import S3Options
from indexer.stores.headers import USER_AGENT
from indexer.stores.s3_bodies import BoundedSession
from indexer.stores.s3_endpoint import chosen_endpoint
from indexer.stores.s3_errors import translated


def new_session(options: S3Options) -> aiobotocore.session.AioSession:
    """A new session. Raises `InvalidSetting` for an unknown profile."""
    with translated("S3"):
        return aiobotocore.session.AioSession(profile=options.profile)


@asynccontextmanager
async def open_client(
    session: aiobotocore.session.AioSession, options: S3Options
) -> AsyncIterator[Any]:
    """An S3 client for as long as the context is open.

    Raises `MissingCredentials`, `InvalidSetting` and what the credential chain runs into.
    """
    with translated("S3"):
        endpoint = chosen_endpoint(options)
        region = options.region or session.get_config_variable("region")
        if not options.no_sign_request and await session.get_credentials() is None:
            raise MissingCredentials(
                "No AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "name a profile with --profile, or use --no-sign-request for a public bucket."
            )
        client = session.create_client(
            "s3",
            # Where nothing names a region, any will do: AWS redirects to the bucket's own.
            region_name=region or "us-east-1",
            endpoint_url=endpoint.url,
            config=AioConfig(
                # botocore makes a longer one anew for each request, which takes it 0.3 ms.
                user_agent=USER_AGENT,
                signature_version=UNSIGNED if options.no_sign_request else None,
                retries={"total_max_attempts": 1},
                max_pool_connections=IN_FLIGHT_MAX,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=REQUEST_TIMEOUT_S,
                http_session_cls=BoundedSession,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        opened = await client.__aenter__()
    try:
        _check_url(opened.meta.endpoint_url, endpoint.origin)
        yield opened
    finally:
        await client.__aexit__(None, None, None)


def _check_url(url: str, origin: str) -> None:
    """Raises `InvalidSetting` for a URL with credentials: it is shown, and kept with each scan."""
    if "@" in urlsplit(url).netloc:
        raise InvalidSetting(
            f"{origin}: the endpoint's URL holds a user name or a password. Leave them out: "
            f"credentials for S3 come from AWS_ACCESS_KEY_ID or a profile."
        )
