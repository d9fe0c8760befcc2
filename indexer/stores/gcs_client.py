"""The connection to GCS's JSON API: session, endpoint, credentials, one request at a time.

Invariants
  * A request is made once: trying again is the business of `workers.retry`. But for one thing: a
    token that was refused is replaced once, as it may have ended while this machine slept.
  * An answer is given out only if it is one; all others raise, by the tables of `gcs_errors`.
  * Bodies are read up to a bound, as they are on the wire: nothing is unpacked here.
  * Whatever is waited for is there within `REQUEST_TIMEOUT_S`: an answer with its whole body, or
    the next part of an object's bytes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from yarl import URL

from indexer.errors import IndexerError, InvalidSetting, said_of
from indexer.limits import (
    CONNECT_TIMEOUT_S,
    GCS_ANSWER_BYTES_MAX,
    HANDED_ON_BYTES_MAX,
    IN_FLIGHT_MAX,
    KEEPALIVE_S,
    REQUEST_TIMEOUT_S,
)
from indexer.protocols import GCSOptions, Link
from indexer.stores.gcs_credentials import AccessTokens, find_credentials
from indexer.stores.gcs_errors import Asked, server_error, translated
from indexer.stores.gcs_signing import signed_url
from indexer.stores.gcs_wire import FailedAnswer
from indexer.stores.headers import USER_AGENT
from indexer.stores.http_environment import Route, find_proxy
from indexer.stores.network import read_body
from indexer.telemetry import Counters
from workers.clock import Clock

EMULATOR_VARIABLE: Final = "STORAGE_EMULATOR_HOST"

_DONE: Final = frozenset((HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT))


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """The endpoint that is used, and what named it. An emulator is asked without credentials."""

    url: str
    origin: str
    is_emulator: bool = False


GOOGLE: Final = EndpointChoice("https://storage.googleapis.com", "the default")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def chosen_endpoint() -> EndpointChoice:
    """Google's own endpoint, or the emulator that the environment names. Raises InvalidSetting."""
    host = os.environ.get(EMULATOR_VARIABLE)
    if not host:
        return GOOGLE
    url = (host if "://" in host else f"http://{host}").rstrip("/")
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0 and not parts.query + parts.fragment
    except ValueError:
        parts, is_valid = urlsplit(""), False
    if not is_valid or parts.scheme not in ("http", "https"):
        raise InvalidSetting(
            f"{EMULATOR_VARIABLE} is no URL of an emulator: write one such as "
            f"http://127.0.0.1:4443."
        )
    if "@" in parts.netloc:
        raise InvalidSetting(
            f"{EMULATOR_VARIABLE} holds a user name or a password. Leave them out: an emulator is "
            f"asked without credentials."
        )
    return EndpointChoice(url, EMULATOR_VARIABLE, is_emulator=True)


@dataclass(frozen=True, slots=True)
class Access:
    """How an endpoint is asked: with the credentials that are found, or with none."""

    endpoint: EndpointChoice
    is_anonymous: bool

    @classmethod
    def of(cls, options: GCSOptions, endpoint: EndpointChoice | None = None) -> Access:
        """How the options say; an emulator is asked without credentials. Raises InvalidSetting."""
        endpoint = endpoint or chosen_endpoint()
        return cls(endpoint, options.anonymous or endpoint.is_emulator)


@dataclass(frozen=True, slots=True, eq=False)
class GCSSession:
    """Connections to an endpoint, and access tokens for it; jobs that reach it so share them."""

    http: aiohttp.ClientSession
    endpoint: EndpointChoice
    tokens: AccessTokens | None
    route: Route
    clock: Clock


@asynccontextmanager
async def open_session(access: Access, clock: Clock) -> AsyncIterator[GCSSession]:
    """A session for as long as the context is open. Raises MissingCredentials, InvalidSetting."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    async with AsyncExitStack() as stack:
        tokens = None
        if not access.is_anonymous:
            # Google's servers for tokens are asked past what is set up here for the endpoint.
            asking = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            credentials = await asyncio.to_thread(find_credentials)
            tokens = AccessTokens(credentials, asking, clock)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=IN_FLIGHT_MAX, keepalive_timeout=KEEPALIVE_S),
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            )
        )
        # aiohttp would find it too, but takes passwords from ~/.netrc along with it.
        route = find_proxy(URL(access.endpoint.url))
        yield GCSSession(http, access.endpoint, tokens, route, clock)


class GCSClient:
    """Requests of one job to one endpoint with one set of credentials."""

    def __init__(
        self,
        session: GCSSession,
        counters: Counters,
        *,
        user_project: str | None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._session = session.http
        self._tokens = session.tokens
        self._clock = session.clock
        self._route = session.route
        self._user_project = user_project
        self._counters = counters
        self._timeout_s = timeout_s
        self.endpoint = session.endpoint

    @property
    def is_anonymous(self) -> bool:
        """Whether no credentials are sent."""
        return self._tokens is None

    @property
    def credentials(self) -> str:
        """Where the credentials in use come from."""
        if self._tokens is not None:
            return self._tokens.origin
        return f"none ({EMULATOR_VARIABLE})" if self.endpoint.is_emulator else "none (anonymous)"

    def link(self, bucket: str, name: str, generation: str | None, *, expires_s: int) -> Link:
        """A URL of an object: signed where a service account's key is there, else as it is."""
        parameters = [("userProject", self._user_project)] if self._user_project else []
        if generation is not None:
            parameters.append(("generation", generation))
        is_pinned = generation is not None
        account = None if self._tokens is None else self._tokens.account
        if account is not None and self.endpoint == GOOGLE:
            now_s = self._clock.now().timestamp()
            url = signed_url(account, bucket, name, parameters, at_s=now_s, expires_s=expires_s)
            return Link(url, is_pinned, "signed")
        query = urlencode([("alt", "media"), *parameters], quote_via=quote)
        url = f"{self.endpoint.url}/storage/v1/b/{quoted(bucket)}/o/{quoted(name)}?{query}"
        return Link(url, is_pinned, "anybody" if self._tokens is None else "credentials")

    async def ask(
        self,
        path: str,
        parameters: Mapping[str, str],
        *,
        uri: str,
        asked: Asked,
        bytes_max: int = GCS_ANSWER_BYTES_MAX,
        allowed: Collection[int] = (),
    ) -> Answer:
        """The answer to a GET of `path` below the API's root.

        Raises the error that the answer is, but for the statuses in `allowed`.
        """
        with said_of(uri), translated(uri):
            async with asyncio.timeout(self._timeout_s):
                response = await self._send(path, parameters, {}, uri)
                try:
                    body = await read_body(response, bytes_max)
                finally:
                    response.close()
        answer = Answer(response.status, response.headers, body)
        if answer.status not in _DONE and answer.status not in allowed:
            raise self.error_of(answer, uri=uri, asked=asked)
        return answer

    @contextmanager
    def understood(self, answer: Answer, *, uri: str, asked: Asked) -> Iterator[None]:
        """Has what is wrong with an answer said of `uri`, an error of a good status included."""
        try:
            with said_of(uri):
                yield
        except FailedAnswer as error:
            # What gives no status of its own in its body is a server that failed.
            failed = replace(answer, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            raise self.error_of(failed, uri=uri, asked=asked) from error

    def error_of(self, answer: Answer, *, uri: str, asked: Asked) -> IndexerError:
        """The error that an answer is."""
        return server_error(
            uri,
            asked,
            answer.status,
            answer.body,
            answer.headers,
            is_anonymous=self.is_anonymous,
        )

    @asynccontextmanager
    async def body(
        self, path: str, parameters: Mapping[str, str], headers: Mapping[str, str], *, uri: str
    ) -> AsyncIterator[Body]:
        """The bytes of an object, as they are stored, for as long as the context is open."""
        with translated(uri):
            async with asyncio.timeout(self._timeout_s):
                # Without this GCS unpacks what is stored packed, and its checksums are of no use.
                sent = {**headers, "Accept-Encoding": "gzip"}
                response = await self._send(path, parameters, sent, uri)
        try:
            if response.status not in _DONE:
                with said_of(uri), translated(uri):
                    async with asyncio.timeout(self._timeout_s):
                        body = await read_body(response, GCS_ANSWER_BYTES_MAX)
                answer = Answer(response.status, response.headers, body)
                raise self.error_of(answer, uri=uri, asked="object")
            yield Body(response, uri, self._timeout_s)
        finally:
            response.close()

    async def _send(
        self, path: str, parameters: Mapping[str, str], headers: Mapping[str, str], uri: str
    ) -> aiohttp.ClientResponse:
        billed = self._user_project
        query = dict(parameters) | ({"userProject": billed} if billed else {})
        # Quoted here to the last character: yarl would change what it takes for needless quotes.
        url = URL(
            f"{self.endpoint.url}/storage/v1/{path}?{urlencode(query, quote_via=quote, safe='')}",
            encoded=True,
        )
        tokens = self._tokens
        if tokens is None:
            return await self._get(url, headers)
        token = await tokens.get(uri)
        response = await self._get(url, headers, token)
        if response.status == HTTPStatus.UNAUTHORIZED:
            tokens.forget(token)
            response.close()
            response = await self._get(url, headers, await tokens.get(uri))
        return response

    async def _get(
        self, url: URL, headers: Mapping[str, str], token: str | None = None
    ) -> aiohttp.ClientResponse:
        self._counters.requests += 1
        sent = {**self._route.headers, **headers}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return await self._session.get(
            url,
            headers=sent,
            allow_redirects=False,
            proxy=self._route.proxy,
            proxy_headers=self._route.proxy_headers,
        )


class Body:
    """The body of an answer, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, uri: str, timeout_s: float) -> None:
        self._response = response
        self._uri = uri
        self._timeout_s = timeout_s
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def next(self) -> bytes:
        """The next bytes, as many as are handed on at once; none at the end.

        Raises `StoreUnavailable`.
        """
        with translated(self._uri):
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._response.content.readexactly(HANDED_ON_BYTES_MAX)
                except asyncio.IncompleteReadError as end:
                    return end.partial


def quoted(name: str) -> str:
    """The name of a bucket or an object as one component of a path."""
    return quote(name, safe="")
