"""Which S3 endpoint is meant: what names it, before anything of AWS is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from indexer.protocols import S3Options

ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL")
"""Where an endpoint may be named in the environment; the first one that is set wins."""

EXPLICIT_ENDPOINT: Final = "--endpoint-url"
"""What named an endpoint that was given for the very command."""


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """The endpoint that is used, and what named it."""

    url: str | None
    origin: str


def chosen_endpoint(options: S3Options) -> EndpointChoice:
    """Which endpoint wins: option, then the environment; else botocore's configuration decides."""
    if options.endpoint_url:
        return EndpointChoice(options.endpoint_url, EXPLICIT_ENDPOINT)
    for variable in ENDPOINT_VARIABLES:
        if url := os.environ.get(variable):
            return EndpointChoice(url, variable)
    return EndpointChoice(None, "the AWS configuration")
