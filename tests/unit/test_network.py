"""Errors on the way to servers, in our words, and bodies that are read up to a bound."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from indexer.errors import BrokenListing, IndexerError, InvalidSetting, StoreUnavailable
from indexer.stores.network import Advice, read_body, translated

URI = "gs://bucket/data/"
ADVICE = Advice(place="Look at the place.", tls="Look at the certificate.")

KEY = ConnectionKey("host", 443, True, True, None, None, None)  # noqa: FBT003 - as aiohttp has it
REQUEST = aiohttp.RequestInfo(URL(), "GET", cast("Any", {}), URL())
RESET = ConnectionResetError(104, "reset")


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (TimeoutError(), StoreUnavailable, "did not answer in time. Look at the place."),
        (aiohttp.ServerTimeoutError(), StoreUnavailable, "did not answer in time. "),
        (aiohttp.ClientPayloadError("1 of 2"), StoreUnavailable, "was cut off on its way"),
        (aiohttp.ClientConnectorError(KEY, RESET), StoreUnavailable, "(Connection reset by peer)"),
        (aiohttp.ServerDisconnectedError(), StoreUnavailable, "(Server disconnected)"),
        (RESET, StoreUnavailable, "(Connection reset by peer). Look at the place."),
        (
            aiohttp.ClientResponseError(REQUEST, (), message="Bad\nstatus " + "x" * 999),
            StoreUnavailable, "is not HTTP (Bad status x",
        ),
        (
            aiohttp.ClientHttpProxyError(REQUEST, (), status=407, message="No"),
            StoreUnavailable, "the proxy answered 407. Check HTTPS_PROXY",
        ),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "bad")),
            InvalidSetting, "TLS failed (bad). Look at the certificate.",
        ),
        (ssl.SSLCertVerificationError(1, "bad"), InvalidSetting, "TLS failed (bad)"),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_what_fails_on_the_way_is_said_in_our_words(
    raised: Exception, kind: type[IndexerError], said: str
) -> None:
    with pytest.raises(kind) as caught, translated(URI, ADVICE):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised
    message = str(caught.value)
    assert message.startswith(f"{URI}: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < 400


def test_other_errors_are_left_alone() -> None:
    for error in (KeyError("x"), BrokenListing("x"), AssertionError()):
        with pytest.raises(type(error)) as caught, translated(URI, ADVICE):
            raise error
        assert caught.value is error


class Response:
    """An answer whose body comes in pieces, without an end if `pieces` is None."""

    def __init__(self, pieces: int | None) -> None:
        self.is_closed = False
        self._left = pieces
        self.content = self

    async def read(self, size_bytes: int) -> bytes:
        await asyncio.sleep(0)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return b""
        return b"x" * min(10, size_bytes)

    def close(self) -> None:
        self.is_closed = True


async def test_a_body_is_read_up_to_a_bound() -> None:
    whole = Response(10)
    assert await read_body(cast("Any", whole), 100) == b"x" * 100
    assert not whole.is_closed
    for pieces in (11, None):
        longer = Response(pieces)
        with pytest.raises(BrokenListing, match="longer than 100 bytes"):
            await read_body(cast("Any", longer), 100)
        assert longer.is_closed


async def test_who_is_cancelled_leaves_no_half_read_answer() -> None:
    endless = Response(None)
    reading = asyncio.ensure_future(read_body(cast("Any", endless), 10**9))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert endless.is_closed
