"""What the synthetic server refuses, in S3's own words: code, status and message.

Exception
└── S3Error         any refusal that S3 would answer with an `<Error>` document
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class S3Error(Exception):
    """An operation that is answered with an error document, or for HEAD with its status alone."""

    def __init__(
        self,
        code: str,
        *,
        message: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        details: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """`details` become elements beside Code and Message, such as Key or Region."""
        self.code = code
        self.status, standard_message = ERRORS[code]
        self.message = message if message is not None else standard_message
        self.headers = headers
        self.details = details
        super().__init__(f"{code}: {self.message}")


ERRORS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "AccessDenied": (403, "Access Denied"),
        "AuthorizationHeaderMalformed": (
            400,
            "The authorization header is malformed; the region is wrong.",
        ),
        "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
        "BucketAlreadyOwnedByYou": (
            409,
            "Your previous request to create the named bucket succeeded and you already own it.",
        ),
        "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
        "ExpiredToken": (400, "The provided token has expired."),
        "InternalError": (500, "We encountered an internal error. Please try again."),
        "InvalidAccessKeyId": (
            403,
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        "InvalidArgument": (400, "Invalid Argument"),
        "InvalidBucketName": (400, "The specified bucket is not valid."),
        "InvalidRange": (416, "The requested range is not satisfiable"),
        "InvalidURI": (400, "Couldn't parse the specified URI."),
        "KeyTooLongError": (400, "Your key is too long"),
        "MalformedXML": (
            400,
            "The XML you provided was not well-formed or did not validate.",
        ),
        "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
        "NoSuchBucket": (404, "The specified bucket does not exist"),
        "NoSuchKey": (404, "The specified key does not exist."),
        "NoSuchVersion": (404, "The specified version does not exist."),
        "NotImplemented": (
            501,
            "A header or query you provided implies functionality that is not implemented.",
        ),
        "PermanentRedirect": (
            301,
            "The bucket you are attempting to access must be addressed using another endpoint.",
        ),
        "PreconditionFailed": (
            412,
            "At least one of the pre-conditions you specified did not hold",
        ),
        "RequestTimeTooSkewed": (
            403,
            "The difference between the request time and the current time is too large.",
        ),
        "ServiceUnavailable": (503, "Service is unable to handle request."),
        "SlowDown": (503, "Please reduce your request rate."),
        "SlowDownRead": (503, "Resource requested is unreadable, please reduce your request rate"),
        "TemporaryRedirect": (
            307,
            "Please re-send this request to the specified temporary endpoint.",
        ),
        "TooManyRequests": (429, "Please reduce your request rate"),
    }
)
"""Status and standard message of each code that the server can answer with."""
