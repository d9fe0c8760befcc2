"""The connection to an S3 endpoint: session, credentials, endpoint, and its errors in our words.

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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiobotocore.session
from aiobotocore.config import AioConfig
from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser
from botocore import UNSIGNED, exceptions, handlers
from botocore.parsers import ResponseParserError

from indexer import __version__
from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidReference,
    InvalidSetting,
    MissingCredentials,
    NoSuchSource,
    NotFound,
    StoreUnavailable,
    UsageError,
)
from indexer.limits import CONNECT_TIMEOUT_S, IN_FLIGHT_MAX, REQUEST_TIMEOUT_S
from indexer.protocols import S3Options
from indexer.stores.s3_bodies import BoundedSession

RAW_OPERATIONS: Final = frozenset(("ListObjects", "ListObjectsV2", "ListObjectVersions"))

ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL")
"""Where an endpoint may be named in the environment; the first one that is set wins."""

THROTTLE_CODES: Final = frozenset(
    (
        "SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests", "Throttling",
        "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded", "429", "503",
        "ServiceUnavailable", "ServerBusy", "XMinioServerNotInitialized",
    )
)  # fmt: skip
TRANSIENT_CODES: Final = frozenset(
    ("InternalError", "RequestTimeout", "RequestTimeoutException", "OperationAborted", "500", "502",
     "504")
)  # fmt: skip
THROTTLE_STATUSES: Final = frozenset((429, 503))
TRANSIENT_STATUSES: Final = frozenset((500, 502, 504))
CREDENTIAL_CODES: Final = frozenset(
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
     "TokenRefreshRequired", "AuthorizationHeaderMalformed")
)  # fmt: skip
REDIRECT_CODES: Final = frozenset(
    ("PermanentRedirect", "TemporaryRedirect", "301", "IllegalLocationConstraintException")
)


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


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raises botocore's errors as ours, said of `uri`."""
    try:
        yield
    except exceptions.ClientError as error:
        details = error.response.get("Error", {})
        answer = error.response.get("ResponseMetadata", {})
        raise server_error(
            uri,
            str(details.get("Code", "")),
            str(details.get("Message", "")),
            status=answer.get("HTTPStatusCode", 200),
            retry_after=answer.get("HTTPHeaders", {}).get("retry-after"),
        ) from error
    except exceptions.BotoCoreError as error:
        raise _client_error(uri, error) from error
    except ResponseParserError as error:
        raise StoreUnavailable(
            f"{uri}: the server's answer is not one of S3's. Check that the endpoint is an S3 "
            f"server, and try again."
        ) from error
    except ValueError as error:
        # botocore's own word for an endpoint or host that is no URL.
        raise InvalidSetting(f"{error}. Give a URL such as http://127.0.0.1:9000.") from error
    except RuntimeError as error:
        if "still expired" not in str(error):
            raise
        raise MissingCredentials(
            f"{uri}: the AWS credentials expired, and those that replace them have expired too. "
            f"Log in again, or see to what renews them."
        ) from error
    except (TimeoutError, OSError) as error:
        raise StoreUnavailable(f"{uri}: the connection failed: {error!r}") from error


def server_error(
    uri: str, code: str, message: str, *, status: int = 200, retry_after: str | None = None
) -> IndexerError:
    """Our error for an S3 error code, said of `uri`; an unknown code is judged by its status."""
    said = " ".join(f"{code}: {message}".split()) if message else code
    if code in THROTTLE_CODES or status in THROTTLE_STATUSES:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        return StoreUnavailable(
            f"{uri}: the server asks for fewer requests ({said}).",
            is_throttle=True,
            retry_after_s=seconds,
        )
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUSES:
        return StoreUnavailable(f"{uri}: the server failed ({said}).")
    if code in {"NoSuchKey", "NotFound", "404"}:
        return NotFound(f"{uri}: there is no such object.")
    if code == "NoSuchBucket":
        return NoSuchSource(f"{uri}: there is no such bucket at this endpoint.")
    if code in CREDENTIAL_CODES:
        return AccessDenied(
            f"{uri}: the server does not accept these credentials ({said}). Check the access key, "
            f"its secret and the profile."
        )
    if code in {"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "401", "Unauthorized"}:
        return AccessDenied(
            f"{uri}: access is denied ({said}). Listing needs s3:ListBucket for this prefix."
        )
    if code == "RequestTimeTooSkewed":
        return UsageError(f"{uri}: this machine's clock is wrong ({said}). Set it and try again.")
    if code in REDIRECT_CODES:
        return UsageError(f"{uri}: the bucket is in another region ({said}). Give its --region.")
    if code in {"InvalidBucketName", "KeyTooLongError"}:
        return InvalidReference(f"{uri}: {said}.")
    return IndexerError(f"{uri}: the server answered {said}.")


def _client_error(uri: str, error: exceptions.BotoCoreError) -> IndexerError:
    if isinstance(error, exceptions.ProfileNotFound):
        return InvalidSetting(f"{error}. See ~/.aws/config for the profiles that there are.")
    if isinstance(
        error,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.TokenRetrievalError,
            exceptions.SSOError,
            exceptions.RefreshWithMFAUnsupportedError,
        ),
    ):
        return MissingCredentials(
            f"{uri}: the AWS credentials cannot be used ({error}). Complete or renew them, or name "
            f"another profile with --profile."
        )
    if isinstance(error, (exceptions.ParamValidationError, exceptions.InvalidRegionError)):
        return InvalidReference(f"{uri}: {' '.join(str(error).split())}")
    if isinstance(
        error,
        (
            exceptions.ConfigParseError,
            exceptions.EndpointProviderError,
            exceptions.InvalidConfigError,
            exceptions.InvalidEndpointConfigurationError,
            exceptions.InvalidProxiesConfigError,
        ),
    ):
        said = " ".join(str(error).split())
        return InvalidSetting(f"{uri}: {said}. Check the endpoint and the AWS configuration.")
    if isinstance(error, exceptions.SSLError):
        return InvalidSetting(f"{uri}: TLS failed: {error}. Check the endpoint and AWS_CA_BUNDLE.")
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        cause = error.__cause__ or error.__context__
        reason = f" ({cause})" if cause else ""
        return StoreUnavailable(f"{uri}: {error}{reason}. Check the endpoint and the network.")
    return IndexerError(f"{uri}: {error}")
