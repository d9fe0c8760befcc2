"""What S3 servers and their clients say went wrong, in our words: one table for all requests.

Invariants
  * An error names the URI that was asked for and what to do next, and holds no secret.
  * A code that is known decides; an unknown one is judged by the status of its answer.
  * A body that tells of an error is searched for its code, message and region, and never expanded:
    what it declares as entities stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import unescape

import aiohttp
from botocore import exceptions
from botocore.parsers import ResponseParserError
from multidict import CIMultiDict

from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidReference,
    InvalidSetting,
    MissingCredentials,
    NoSuchObject,
    NoSuchSource,
    ObjectChanged,
    StoreUnavailable,
    UsageError,
)
from indexer.stores import headers
from indexer.stores.network import (
    THROTTLE_STATUSES,
    TRANSIENT_STATUSES,
    Advice,
    network_error,
)

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
CREDENTIAL_CODES: Final = frozenset(
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
     "TokenRefreshRequired", "AuthorizationHeaderMalformed")
)  # fmt: skip
EXPIRED_CODES: Final = frozenset(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"))
"""Of credentials that were good once."""

REDIRECT_CODES: Final = frozenset(
    ("PermanentRedirect", "TemporaryRedirect", "301", "IllegalLocationConstraintException")
)


LISTING_NEEDS: Final = "Listing needs s3:ListBucket for this prefix."

OBJECT_NEEDS: Final = (
    "Asking for an object needs s3:GetObject for it, and s3:GetObjectVersion for a version of it."
)

_ADVICE: Final = Advice(
    place="Check the endpoint and the network.", tls="Check the endpoint and AWS_CA_BUNDLE."
)

_CODE: Final = re.compile(rb"<Error>.*?<Code>([^<]{1,200})</Code>", re.DOTALL)
_MESSAGE: Final = re.compile(rb"<Message>([^<]{1,1000})</Message>")
_REGION: Final = re.compile(rb"<Region>([a-z0-9-]{1,64})</Region>")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said when it refused: its code, empty where there was none, and its words.

    `region` is where it says that the bucket lives.
    """

    code: str = ""
    message: str = ""
    region: str | None = None


def refusal_in(body: bytes) -> Refusal:
    """What the body of a refused request says, whether it is S3's XML or anything else."""
    code = _CODE.search(body)
    if code is None:
        return Refusal()
    message, region = _MESSAGE.search(body), _REGION.search(body)
    return Refusal(
        code=_text(code[1]),
        message=_text(message[1]) if message else "",
        region=region[1].decode() if region else None,
    )


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raises the errors of botocore and aiohttp as ours, said of `uri`."""
    try:
        yield
    except Exception as error:
        ours = foreign_error(uri, error)
        if ours is None:
            raise
        raise ours from error


def foreign_error(uri: str, error: Exception) -> IndexerError | None:
    """Our error for one of botocore's or aiohttp's; None for an error that is nobody's to tell."""
    if isinstance(error, exceptions.ClientError):
        details = error.response.get("Error", {})
        answer = error.response.get("ResponseMetadata", {})
        return server_error(
            uri,
            str(details.get("Code", "")),
            str(details.get("Message", "")),
            status=answer.get("HTTPStatusCode", 200),
            retry_after_s=headers.retry_after_s(CIMultiDict(answer.get("HTTPHeaders", {}))),
        )
    if isinstance(error, exceptions.BotoCoreError):
        return _client_error(uri, error)
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return _not_a_url(error)
    is_proxys = isinstance(error, aiohttp.ClientHttpProxyError)
    is_garbled = isinstance(error, aiohttp.ClientResponseError) and not is_proxys
    if is_garbled or isinstance(error, ResponseParserError):
        return not_of_s3(uri)
    if ours := network_error(uri, error, _ADVICE):
        return ours
    if isinstance(error, ValueError):
        return _not_a_url(error)
    if isinstance(error, RuntimeError) and "still expired" in str(error):
        return expired_credentials(uri)
    return None


def _not_a_url(error: Exception) -> InvalidSetting:
    """The error for what botocore or aiohttp find to be no URL of an endpoint, in their words."""
    return InvalidSetting(f"{error}. Give a URL such as http://127.0.0.1:9000.")


def expired_credentials(uri: str) -> MissingCredentials:
    """The error for credentials that are past their time, as are those that replace them."""
    return MissingCredentials(
        f"{uri}: the AWS credentials expired, and those that replace them have expired too. "
        f"Log in again, or see to what renews them."
    )


def not_of_s3(uri: str) -> StoreUnavailable:
    """The error for an answer that no S3 server gives, such as the page of a proxy."""
    return StoreUnavailable(
        f"{uri}: the server's answer is not one of S3's. Check that the endpoint is an S3 server, "
        f"and try again."
    )


def server_error(
    uri: str,
    code: str,
    message: str,
    *,
    status: int = 200,
    retry_after_s: float | None = None,
    needs: str = LISTING_NEEDS,
) -> IndexerError:
    """Our error for an S3 error code, said of `uri`; an unknown code is judged by its status.

    `needs` says which permission the request takes.
    """
    said = " ".join(f"{code}: {message}".split()).rstrip(".") if message else code
    if code in THROTTLE_CODES or status in THROTTLE_STATUSES:
        return StoreUnavailable(
            f"{uri}: the server asks for fewer requests ({said}). Try "
            f"again later, or with --requests-per-s.",
            is_throttle=True,
            retry_after_s=retry_after_s,
        )
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUSES:
        return StoreUnavailable(f"{uri}: the server failed ({said}).", retry_after_s=retry_after_s)
    if code in {"NoSuchKey", "NoSuchVersion", "NotFound", "404"}:
        return NoSuchObject(f"{uri}: there is no such object.")
    if code == "NoSuchBucket":
        return NoSuchSource(f"{uri}: there is no such bucket at this endpoint.")
    if code in CREDENTIAL_CODES:
        return AccessDenied(
            f"{uri}: the server does not accept these credentials ({said}). Check the access key, "
            f"its secret and the profile."
        )
    if code in {"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "401", "Unauthorized"}:
        return AccessDenied(f"{uri}: access is denied ({said}). {needs}")
    if code == "InvalidObjectState":
        return AccessDenied(f"{uri}: the object is archived ({said}). Restore it first.")
    if code == "RequestTimeTooSkewed":
        return UsageError(f"{uri}: this machine's clock is wrong ({said}). Set it and try again.")
    if code in REDIRECT_CODES:
        return UsageError(f"{uri}: the bucket is in another region ({said}). Give its --region.")
    if code in {"InvalidBucketName", "KeyTooLongError"}:
        return InvalidReference(f"{uri}: {said}.")
    return IndexerError(f"{uri}: the server answered {said}.")


def object_error(
    uri: str, code: str, message: str, *, status: int = 200, retry_after_s: float | None = None
) -> IndexerError:
    """As `server_error`, of a request for one object, whose answer to a HEAD is a status alone."""
    if code == "NoSuchBucket" or status in THROTTLE_STATUSES | TRANSIENT_STATUSES:
        return server_error(uri, code, message, status=status, retry_after_s=retry_after_s)
    # 405 is said of the mark that an object was deleted, when its version is asked for.
    if status in {404, 405}:
        return NoSuchObject(f"{uri}: there is no such object any more.")
    if status in {412, 416}:
        return ObjectChanged(f"{uri}: the object was written since it was listed.")
    return server_error(uri, code, message, status=status, needs=OBJECT_NEEDS)


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
        return InvalidSetting(f"{uri}: TLS failed ({error}). {_ADVICE.tls}")
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        cause = error.__cause__ or error.__context__
        reason = f" ({cause})" if cause else ""
        return StoreUnavailable(f"{uri}: {error}{reason}. Check the endpoint and the network.")
    return IndexerError(f"{uri}: {error}")


def _text(said: bytes) -> str:
    """What XML says, with its own five entities read and no others."""
    text = said.decode("utf-8", "replace")
    return unescape(text, {"&quot;": '"', "&apos;": "'"})
