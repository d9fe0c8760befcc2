"""Answers of an S3 server are read whole, within bounds of size and time.

Invariants
  * No answer takes more memory than the longest listing, or more time than a server may take to
    begin and to send one, however slowly its bytes drip.
  * What goes wrong is raised as botocore's own session raises it; only a body that is too long, or
    might become so where it is parsed, is an error of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from indexer.errors import BrokenListing
from indexer.limits import RESPONSE_TIMEOUT_S, S3_PAGE_BYTES_MAX
from indexer.stores.network import read_body


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore is untyped
    """aiobotocore's HTTP session, which reads without a bound otherwise."""

    async def send(self, request: Any) -> Any:
        """The response to a request, its body read unless the operation streams it."""
        is_streamed, request.stream_output = request.stream_output, True
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                response = await super().send(request)
                if not is_streamed:
                    # Where botocore's response keeps the content that it has read.
                    response._content = await _content(response.raw)  # noqa: SLF001
        except aiohttp.ClientError as error:
            raise ConnectionClosedError(error=error, endpoint_url=request.url) from error
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        return response


async def body_of(asked: Awaitable[aiohttp.ClientResponse]) -> bytes:
    """The body of the answer to a request that is asked, within the same bounds.

    Raises `BrokenListing`, and what aiohttp raises.
    """
    async with asyncio.timeout(RESPONSE_TIMEOUT_S):
        return await _content(await asked)


async def _content(raw: aiohttp.ClientResponse) -> bytes:
    """The body of a response. Raises `BrokenListing` if it is longer than any listing can be."""
    content = await read_body(raw, S3_PAGE_BYTES_MAX)
    if b"<!ENTITY" in content:
        # Of which a few lines may stand for gigabytes, wherever they are parsed.
        raise BrokenListing("the server's answer declares entities, as none of S3's does")
    return content
