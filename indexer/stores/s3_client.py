"""The connection to an S3 endpoint: session, credentials, endpoint.

Invariants
  * Credentials come from aiobotocore's own chain and are refreshed by it; none is read, kept or
    logged here.
  * botocore's retries are off: `workers.retry` is the only retrier.
  * Answers are read whole, within bounds.
  * Listing responses come back as bytes. botocore's parser takes 100 ms for a page of 1,000 keys
    and its handler for errors in a 200 response parses the body a second time; both are replaced
    through botocore's own seams, for the list operations alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiobotocore.session
from aiobotocore.config import AioConfig
from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser
from botocore import UNSIGNED, handlers

from indexer import __version__
from indexer.errors import InvalidSetting, MissingCredentials
from indexer.limits import CONNECT_TIMEOUT_S, IN_FLIGHT_MAX, REQUEST_TIMEOUT_S
from indexer.protocols import S3Options
from indexer.stores.s3_bodies import BoundedSession
from indexer.stores.s3_errors import translated

RAW_OPERATIONS: Final = frozenset(("ListObjects", "ListObjectsV2", "ListObjectVersions"))

ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL")
"""Where an endpoint may be named in the environment; the first one that is set wins."""


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """The endpoint that is used, and what named it."""

    url: str | None
    origin: str


class _RawListingParser(AioRestXMLParser):  # type: ignore[misc]  # botocore is untyped
    """Hands on the bytes of a listing; everything else is parsed as ever."""

    def _do_parse(self, response: dict[str, Any], shape: Any) -> Any:
        if response["context"].get("operation_name") in RAW_OPERATIONS:
            return {"Body": response["body"]}
        return super()._do_parse(response, shape)


class _ParserFactory(AioResponseParserFactory):  # type: ignore[misc]  # botocore is untyped
    def create_parser(self, protocol_name: str) -> Any:
        if protocol_name == "rest-xml":
            return _RawListingParser(**self._defaults)
        return super().create_parser(protocol_name)


def chosen_endpoint(options: S3Options) -> EndpointChoice:
    """Which endpoint wins: option, then the environment; else botocore's configuration decides."""
    if options.endpoint_url:
        return EndpointChoice(options.endpoint_url, "--endpoint-url")
    for variable in ENDPOINT_VARIABLES:
        if url := os.environ.get(variable):
            return EndpointChoice(url, variable)
    return EndpointChoice(None, "the AWS configuration")


def new_session(options: S3Options) -> aiobotocore.session.AioSession:
    """A session with our parser for listings. Raises `InvalidSetting` for an unknown profile."""
    with translated("S3"):
        session = aiobotocore.session.AioSession(profile=options.profile)
        session.register_component("response_parser_factory", _ParserFactory())
        return session


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
                user_agent=f"bucket-indexer/{__version__}",
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
        # botocore names its handlers by function; this one is private but has no other name.
        opened.meta.events.unregister("before-parse.s3.*", handlers._handle_200_error)  # noqa: SLF001
        opened.meta.events.register("before-parse.s3.*", _see_error_bodies)
        yield opened
    finally:
        await client.__aexit__(None, None, None)


def _see_error_bodies(operation_model: Any, **details: Any) -> None:
    """Lets botocore look for errors in 200 responses, but for listings."""
    if operation_model.name not in RAW_OPERATIONS:
        handlers._handle_200_error(operation_model=operation_model, **details)  # noqa: SLF001


def _check_url(url: str, origin: str) -> None:
    """Raises `InvalidSetting` for a URL with credentials: it is shown, and kept with each scan."""
    if "@" in urlsplit(url).netloc:
        raise InvalidSetting(
            f"{origin}: the endpoint's URL holds a user name or a password. Leave them out: "
            f"credentials for S3 come from AWS_ACCESS_KEY_ID or a profile."
        )
