"""The connection to web servers: one try a request, its redirects, and its errors in our words.

Invariants
  * Only a redirect within the origin, to the same path, that path with a slash, or one below it,
    is followed, and only so many of them; credentials and content stay on the origin they are of.
  * Bodies are asked for without compression and taken as they come. One that is held in memory is
    bounded in bytes; every wait is bounded in time.
  * The environment is asked once for each origin and job. No message has a URL's query, which may
    hold a signature.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from yarl import URL

from indexer.errors import (
    AccessDenied,
    IndexerError,
    InvalidReference,
    NoSuchObject,
    ObjectChanged,
    StoreUnavailable,
    UsageError,
)
from indexer.limits import (
    CONNECT_TIMEOUT_S,
    HTTP_CHUNK_BYTES,
    HTTP_REDIRECTS_MAX,
    IN_FLIGHT_MAX,
    KEEPALIVE_S,
    REQUEST_TIMEOUT_S,
)
from indexer.sources import DEFAULT_PORTS, PATH_SAFE
from indexer.stores import network
from indexer.stores.headers import USER_AGENT, parse_date, parse_number, retry_after_s
from indexer.stores.http_environment import Route, find_route
from indexer.stores.network import THROTTLE_STATUSES, TRANSIENT_STATUSES, Advice
from indexer.telemetry import Counters, without_credentials

_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_GONE: Final = frozenset((404, 410))

_ADVICE: Final = Advice(
    place="Check the address and the network.",
    tls=(
        "Check the address, and if the server's certificate is of an authority of your own, name "
        "that one's in SSL_CERT_FILE."
    ),
)


class RedirectRefused(UsageError):
    """The server redirects to where it is not followed.

    `names_folder` is true where that is the same path with a slash.
    """

    names_folder = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body was not read yet, and the URL that gave it in the end."""

    url: str
    response: aiohttp.ClientResponse

    @property
    def status(self) -> int:
        """The response's status."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """A header of the response, without blanks around it."""
        value = self.response.headers.get(name)
        return None if value is None else value.strip()

    @property
    def content_length(self) -> int | None:
        """How long the body is said to be."""
        return parse_number(self.header("Content-Length"))

    @property
    def date(self) -> datetime | None:
        """The time by the server's clock."""
        return parse_date(self.header("Date"))


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to web servers, for as long as the context is open; jobs share them."""
    # Made here, as it is only now that SSL_CERT_FILE is as the user set it.
    tls = await asyncio.to_thread(ssl.create_default_context)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=IN_FLIGHT_MAX, ssl=tls, keepalive_timeout=KEEPALIVE_S),
        headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        yield session


class HTTPClient:
    """Asks web servers for one job, one try a request.

    `timeout_s` bounds each wait: for an answer, and for each piece of a body.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        counters: Counters,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._session = session
        self._counters = counters
        self._timeout_s = timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s)
        )
        self._routes: dict[tuple[str, str], Route] = {}

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        expected: frozenset[int] = frozenset((200,)),
    ) -> AsyncIterator[Answer]:
        """The answer to a request, redirects followed, with its body still to come.

        Raises our error for a status that is not `expected`.
        """
        asked = url
        for _ in range(HTTP_REDIRECTS_MAX + 1):
            with translated(asked):
                response = await self._ask(method, asked, headers or {})
            answer = Answer(asked, response)
            try:
                if answer.status in expected:
                    yield answer
                    return
                if answer.status not in _REDIRECTS or not (to := answer.header("Location")):
                    raise status_error(answer)
                asked = redirected(url, asked, to)
            finally:
                # What was not read to its end closes its connection.
                response.release()
        raise UsageError(
            f"{shown(url)} leads from one redirect to the next, more than {HTTP_REDIRECTS_MAX} "
            f"times. Open it in a browser, and name the address where it ends."
        )

    async def body(self, answer: Answer, *, bytes_max: int, what: str) -> bytes:
        """A body that is read whole; `what` it is stands in the error for one that is longer."""
        url = shown(answer.url)
        if coding := answer.header("Content-Encoding"):
            raise UsageError(
                f"{url} comes compressed ({coding[:32]}) although that was not asked for. Turn "
                f"that off at the server."
            )
        body = bytearray()
        if (answer.content_length or 0) <= bytes_max:
            while chunk := await self.read(answer):
                body += chunk
                if len(body) > bytes_max:
                    break
            else:
                return bytes(body)
        raise UsageError(f"{url} has more than {bytes_max:,} bytes, which is the limit for {what}.")

    async def read(self, answer: Answer, bytes_max: int = HTTP_CHUNK_BYTES) -> bytes:
        """The next bytes of a body, as many as are asked for or are left; none at its end."""
        chunk = bytearray()
        with translated(answer.url):
            async with asyncio.timeout(self._timeout_s):
                while len(chunk) < bytes_max:
                    part = await answer.response.content.read(bytes_max - len(chunk))
                    if not part:
                        break
                    chunk += part
        return bytes(chunk)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        target = URL(url, encoded=True)
        origin = (target.scheme, target.raw_authority)
        route = self._routes.get(origin)
        if route is None:
            route = self._routes[origin] = await asyncio.to_thread(find_route, target)
        self._counters.requests += 1
        async with asyncio.timeout(self._timeout_s):
            return await self._session.request(
                method,
                target,
                headers={**headers, **route.headers},
                allow_redirects=False,
                timeout=self._timeout,
                proxy=route.proxy,
                proxy_headers=route.proxy_headers,
            )


def shown(url: str) -> str:
    """A URL as messages show it: without what its query may tell."""
    path, query, _ = url.partition("?")
    return path + ("?…" if query else "")


def redirected(url: str, asked: str, location: str) -> str:
    """Where a redirect of `asked`, which `url` led to, goes on. Raises `RedirectRefused`."""
    try:
        target = urljoin(asked, quote(location, safe=PATH_SAFE + "%?#[]", errors="replace"))
        target = target.partition("#")[0]
        old, new = urlsplit(url), urlsplit(target)
        origins = [(one.scheme, one.hostname, _port(one.scheme, one.port)) for one in (old, new)]
    except ValueError:
        raise RedirectRefused(f"{shown(url)} redirects to what is no address.") from None
    where = f"{shown(url)} redirects to {shown(without_credentials(target))[:1_000]}"
    if origins[0] == origins[1] and "@" not in new.netloc:
        if new.path == old.path or new.path.startswith(old.path.rstrip("/") + "/"):
            return target
        raise RedirectRefused(
            f"{where}, which is not below it; such redirects are not followed. Name that address "
            f"if it is what is meant."
        )
    if new.path != old.path + "/":
        raise RedirectRefused(
            f"{where}, which is another origin; redirects there are not followed. Name that "
            f"address if it is what is meant."
        )
    refused = RedirectRefused(
        f"{where}: it is a folder, whose server takes itself to be elsewhere. Write the address "
        f"with a slash at its end."
    )
    refused.names_folder = True
    raise refused


def _port(scheme: str, port: int | None) -> int | None:
    return port or DEFAULT_PORTS.get(scheme)


def status_error(answer: Answer) -> IndexerError:
    """Our error for a status that says no."""
    status, url = answer.status, shown(answer.url)
    said = f"{status} {' '.join((answer.response.reason or '').split())[:100]}".strip()
    if status in _GONE:
        return NoSuchObject(f"{url}: there is nothing at this address ({said}).")
    if status == 412:  # noqa: PLR2004 - as RFC 9110 numbers it
        return ObjectChanged(f"{url} was written since it was listed.")
    if status in THROTTLE_STATUSES:
        return StoreUnavailable(
            f"{url}: the server asks for fewer requests ({said}). Try "
            f"again later, or with --requests-per-s.",
            is_throttle=True,
            retry_after_s=retry_after_s(answer.response.headers),
        )
    if status in TRANSIENT_STATUSES:
        return StoreUnavailable(
            f"{url}: the server failed ({said}).",
            retry_after_s=retry_after_s(answer.response.headers),
        )
    if status == 401:  # noqa: PLR2004 - as RFC 9110 numbers it
        if "Authorization" in answer.response.request_info.headers:
            return AccessDenied(
                f"{url}: the server does not accept the name and password that .netrc has for it."
            )
        return AccessDenied(
            f"{url}: the server wants a name and a password. Put them into the file .netrc in the "
            f"home folder, as: machine {urlsplit(url).hostname} login NAME password PASSWORD."
        )
    if status == 403:  # noqa: PLR2004 - as RFC 9110 numbers it
        return AccessDenied(f"{url}: access is denied ({said}). Check the server's rules for it.")
    if status == 407:  # noqa: PLR2004 - as RFC 9110 numbers it
        return AccessDenied(f"{url}: the proxy wants a name and a password ({said}).")
    return IndexerError(f"{url}: the server answered {said}. Check the address.")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raises aiohttp's errors as ours, said of `url`."""
    url = shown(url)
    with network.translated(url, _ADVICE):
        try:
            yield
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise InvalidReference(f"{url} is no address that can be asked: {error}.") from error
