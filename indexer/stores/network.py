"""Answers of servers, and what goes wrong on the way to them, for all stores that speak HTTP.

Invariants
  * aiohttp's errors are turned into ours by one table; a store says what to do about them.
  * A body that is held in memory is read up to a bound; the rest of a longer one is not read.
  * An error holds no secret, and is one line.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from indexer.errors import BrokenListing, IndexerError, InvalidSetting, StoreUnavailable
from indexer.limits import BODY_PIECE_BYTES

THROTTLE_STATUSES: Final = frozenset((429, 503))
"""By which a server asks for fewer requests."""

TRANSIENT_STATUSES: Final = frozenset((408, 425, 500, 502, 504))
"""Of a failure that may be over when the same is asked again."""

_SAID_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Advice:
    """What a store's user checks: `place` if a server is not there, `tls` if it is not trusted."""

    place: str
    tls: str


def network_error(uri: str, error: Exception, advice: Advice) -> IndexerError | None:
    """Our error, said of `uri`, for one on the way to a server; None for one that is none."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return StoreUnavailable(
            f"{uri}: the proxy answered {error.status}. Check HTTPS_PROXY and NO_PROXY."
        )
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return InvalidSetting(f"{uri}: TLS failed ({said_by(error)}). {advice.tls}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return StoreUnavailable(f"{uri}: the server's answer was cut off on its way; try again.")
    if isinstance(error, aiohttp.ClientResponseError):
        return StoreUnavailable(
            f"{uri}: the server's answer is not HTTP ({said_by(error)}). {advice.place}"
        )
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"{uri}: the server did not answer in time. {advice.place}")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return StoreUnavailable(
            f"{uri}: the server cannot be reached ({said_by(error)}). {advice.place}"
        )
    return None


@contextmanager
def translated(uri: str, advice: Advice) -> Iterator[None]:
    """Raises errors on the way to a server as ours. To be put around nothing but network I/O."""
    try:
        yield
    except Exception as error:
        ours = network_error(uri, error, advice)
        if ours is None:
            raise
        raise ours from error


def said_by(error: BaseException) -> str:
    """What an error says, on one line."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        # OpenSSL sets both, asyncio and aiohttp neither.
        told = (getattr(cause, name, None) for name in ("verify_message", "reason", "strerror"))
        return next(filter(None, told), type(cause).__name__)
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror)
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    text = cause.message if isinstance(cause, aiohttp.ClientResponseError) else str(cause)
    return " ".join(text.split())[:_SAID_CHARACTERS_MAX] or type(cause).__name__


async def read_body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """A whole body. Raises `BrokenListing` for one that is longer, and what aiohttp raises."""
    pieces: list[bytes] = []
    size_bytes = 0
    try:
        while piece := await response.content.read(BODY_PIECE_BYTES):
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > bytes_max:
                raise BrokenListing(f"the server's answer is longer than {bytes_max:,} bytes")
    except BaseException:
        # The rest of it would be taken for the next answer.
        response.close()
        raise
    return b"".join(pieces)
