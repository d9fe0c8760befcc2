"""Requests to S3 without botocore's cost for each: signed here, sent on one aiohttp session.

Invariants
  * A request is tried once. It is sent again, once for each reason, only when the answer says what
    was wrong with it and how to do it right: the region, the clock or expired credentials.
  * Credentials are botocore's. They are asked for with every request, so that it renews them when
    it sees fit, and kept nowhere.
  * Every answer comes within a time, every body that tells of an error within a size.
  * Redirects are never followed by address: the bucket's address in the region that the server
    names comes from botocore.

A HEAD takes aiobotocore's client some 1.5 ms of CPU, which goes into endpoint rules, events, and
validation that are the same for all keys of a bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from yarl import URL

from indexer.errors import IndexerError
from indexer.limits import (
    CLOCK_SKEW_S_MAX,
    CONNECT_TIMEOUT_S,
    ERROR_BODY_BYTES_MAX,
    IN_FLIGHT_MAX,
    KEEPALIVE_S,
    READ_BUFFER_BYTES,
    REQUEST_TIMEOUT_S,
)
from indexer.protocols import S3Options
from indexer.stores.headers import parse_date, retry_after_s
from indexer.stores.s3_client import new_session, open_client
from indexer.stores.s3_errors import (
    EXPIRED_CODES,
    REDIRECT_CODES,
    Refusal,
    expired_credentials,
    foreign_error,
    not_of_s3,
    refusal_in,
    server_error,
    translated,
)
from indexer.stores.s3_signing import Credentials, canonical_query, quoted_key
from indexer.stores.s3_targets import Target, let_prepare, target_of, tls_context
from indexer.telemetry import Counters
from workers.clock import Clock

REDIRECT_STATUSES: Final = frozenset((301, 302, 307, 308))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a bucket or, with a key, for an object; `query` as `canonical_query` has it.

    `refused` makes the error of an answer that is none of those that are put right. An answer that
    `is_streamed` may take any time as long as it goes on.
    """

    method: str
    bucket: str
    uri: str
    key: bytes = b""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Callable[..., IndexerError] = server_error
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that was answered, and how it was sent."""

    response: aiohttp.ClientResponse
    target: Target
    credentials: Credentials | None
    at_s: float
    started_s: float


class S3Requests:
    """Sends requests for all jobs that reach S3 in the same way. Close it with `aclose`."""

    def __init__(self, session: Any, client: Any, options: S3Options, clock: Clock) -> None:
        self._client = client
        self._options = options
        self.clock = clock
        self._botocore = session
        self._http: aiohttp.ClientSession | None = None
        self._credentials: Any = None
        self._targets: dict[str, Target] = {}
        self._preparing = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._renewed_at_s = float("-inf")
        self._clock_offset_s = 0.0
        # One timer a request: for all of a short answer, or for the next bytes of a long one.
        self._timeout = aiohttp.ClientTimeout(
            total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=None
        )
        self._timeout_streamed = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=REQUEST_TIMEOUT_S
        )

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._http is not None:
            await self._http.close()

    async def send(self, ask: Ask, counters: Counters) -> aiohttp.ClientResponse:
        """The answer to a request, once it succeeds; its body is the caller's to read and close.

        Raises what `ask.refused` makes of an answer, `StoreUnavailable`, `MissingCredentials` and
        `InvalidSetting`.
        """
        sent = await self._once(ask, counters)
        if sent.response.status < HTTPStatus.MULTIPLE_CHOICES:
            return sent.response
        return await self._put_right(ask, sent, counters)

    async def url_of(
        self, ask: Ask, parameters: Sequence[tuple[str, str]], expires_s: int
    ) -> tuple[str, bool]:
        """The URL of a request, and whether it is signed, for `expires_s`; nothing is sent."""
        target = self._targets.get(ask.bucket) or await self._find_target(ask.bucket)
        path = f"{target.path}/{quoted_key(ask.key)}"
        query = canonical_query(parameters)
        if target.signer is not None:
            query = target.signer.presigned_query(
                ask.method,
                path,
                parameters,
                target.host,
                credentials=await self._frozen_credentials(ask.uri),
                at_s=self.clock.now().timestamp() + self._clock_offset_s,
                expires_s=expires_s,
            )
        url = f"{target.origin}{path}"
        return f"{url}?{query}" if query else url, target.signer is not None

    async def _once(self, ask: Ask, counters: Counters) -> _Sent:
        target = self._targets.get(ask.bucket) or await self._find_target(ask.bucket)
        path = f"{target.path}/{quoted_key(ask.key)}" if ask.key else target.path or "/"
        headers = {**ask.headers, "host": target.host}
        at_s = self.clock.now().timestamp() + self._clock_offset_s
        credentials: Credentials | None = None
        if target.signer is not None:
            credentials = await self._frozen_credentials(ask.uri)
            headers = target.signer.headers(
                ask.method, path, ask.query, headers, credentials=credentials, at_s=at_s
            )
        headers |= target.headers
        url = f"{target.origin}{path}?{ask.query}" if ask.query else target.origin + path
        counters.requests += 1
        started_s = self.clock.monotonic()
        assert self._http is not None
        send = self._http.request(
            ask.method,
            URL(url, encoded=True),
            headers=headers,
            allow_redirects=False,
            proxy=target.proxy,
            timeout=self._timeout_streamed if ask.is_streamed else self._timeout,
        )
        try:
            if not ask.is_streamed:
                response = await send
            else:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    response = await send
        except Exception as error:
            ours = foreign_error(ask.uri, error)
            if ours is None:
                raise
            raise ours from error
        return _Sent(response, target, credentials, at_s, started_s)

    # --- what was wrong with a request, put right

    async def _put_right(self, ask: Ask, sent: _Sent, counters: Counters) -> aiohttp.ClientResponse:
        """The answer to a request that was refused, if sending it otherwise helps."""
        done: set[str] = set()
        while True:
            response = sent.response
            refusal = await self._refusal(ask, sent, counters)
            reason = self._reason(sent, refusal)
            error = ask.refused(
                ask.uri,
                refusal.code or str(response.status),
                refusal.message,
                status=response.status,
                retry_after_s=retry_after_s(response.headers),
            )
            if reason == "credentials":
                error = expired_credentials(ask.uri)
            if response.status in REDIRECT_STATUSES and not refusal.code and reason is None:
                error = not_of_s3(ask.uri)
            if reason is None or reason in done:
                raise error
            done.add(reason)
            if not await self._correct(reason, ask, sent, refusal):
                raise error
            sent = await self._once(ask, counters)
            if sent.response.status < HTTPStatus.MULTIPLE_CHOICES:
                return sent.response

    async def _refusal(self, ask: Ask, sent: _Sent, counters: Counters) -> Refusal:
        """What the server says; of a HEAD that says nothing a GET of one byte is asked for it."""
        refusal = await read_refusal(sent.response)
        if (
            sent.response.status != HTTPStatus.BAD_REQUEST
            or ask.method != "HEAD"
            or _region_told(sent, refusal)
        ):
            return refusal
        # An answer to HEAD has no body, and 400 is expired credentials as well as a bad version id.
        headers = {**ask.headers, "range": "bytes=0-0"}
        asked = Ask("GET", ask.bucket, ask.uri, ask.key, ask.query, headers, ask.refused)
        return await read_refusal((await self._once(asked, counters)).response)

    def _reason(self, sent: _Sent, refusal: Refusal) -> str | None:
        """What can be put right."""
        if sent.credentials is None:
            return None
        if _region_told(sent, refusal):
            return "region"
        if refusal.code in EXPIRED_CODES:
            return "credentials"
        # An answer to HEAD does not say why.
        said_nothing = sent.response.status == HTTPStatus.FORBIDDEN and not refusal.code
        if refusal.code == "RequestTimeTooSkewed" or (
            said_nothing and abs(self._server_ahead_s(sent)) > CLOCK_SKEW_S_MAX
        ):
            return "clock"
        return None

    async def _correct(self, reason: str, ask: Ask, sent: _Sent, refusal: Refusal) -> bool:
        """Whether the request can be sent otherwise now."""
        if reason == "region":
            return await self._follow(ask.bucket, sent.target, _region_told(sent, refusal))
        if reason == "credentials":
            return await self._renew(sent)
        # This machine's clock is wrong. S3 says what the time is, and a request that is signed for
        # that time is the right one: this corrects the request and is no retry.
        ahead_s = self._server_ahead_s(sent)
        self._clock_offset_s = sent.at_s + ahead_s - self.clock.now().timestamp()
        return abs(ahead_s) > CLOCK_SKEW_S_MAX

    @staticmethod
    def _server_ahead_s(sent: _Sent) -> float:
        """How far the server's clock is ahead of the time that a request was signed for."""
        date = parse_date(sent.response.headers.get("Date"))
        return 0.0 if date is None else date.timestamp() - sent.at_s

    # --- where requests go, and with which credentials

    async def _find_target(self, bucket: str) -> Target:
        async with self._preparing:
            if bucket not in self._targets:
                await self._prepare(bucket)
        return self._targets[bucket]

    async def _prepare(self, bucket: str) -> None:
        target = await target_of(self._client, bucket)
        if self._http is None:
            is_tls = target.origin.startswith("https:")
            context = await asyncio.to_thread(tls_context, self._botocore) if is_tls else True
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=IN_FLIGHT_MAX, ssl=context, keepalive_timeout=KEEPALIVE_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
            )
        self._targets[bucket] = target

    async def _follow(self, bucket: str, old: Target, region: str | None) -> bool:
        """Whether the bucket is reached otherwise now that its region is known."""
        async with self._preparing:
            if self._targets[bucket] == old:
                # A client of that region knows the bucket's address there. It sends nothing.
                elsewhere = replace(self._options, region=region)
                async with open_client(self._botocore, elsewhere) as client:
                    let_prepare(client)
                    self._targets[bucket] = await target_of(client, bucket)
            return self._targets[bucket] != old

    async def _frozen_credentials(self, uri: str) -> Credentials:
        try:
            if self._credentials is None:
                self._credentials = await self._botocore.get_credentials()
            frozen: Credentials = await self._credentials.get_frozen_credentials()
        except Exception as error:
            ours = foreign_error(uri, error)
            if ours is None:
                raise
            raise ours from error
        return frozen

    async def _renew(self, sent: _Sent) -> bool:
        """Whether there are other credentials than those that have expired.

        They are looked for anew, as by a new process: who logs in again writes to a file that a
        session has read already. Requests that were sent before the others were found wait for
        them, and do not look again.
        """
        async with self._renewing:
            if self._renewed_at_s < sent.started_s:
                with translated("S3"):
                    found = await new_session(self._options).get_credentials()
                if found is not None:
                    self._credentials = found
                self._renewed_at_s = self.clock.monotonic()
            current = await self._frozen_credentials("S3")
        assert sent.credentials is not None
        return (current.access_key, current.token) != (
            sent.credentials.access_key,
            sent.credentials.token,
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf requests are sent: whose they count as, and who pays for them."""

    requests: S3Requests
    counters: Counters
    payer: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What says who pays."""
        return {"x-amz-request-payer": self.payer} if self.payer else {}

    async def send(self, ask: Ask) -> aiohttp.ClientResponse:
        """See `S3Requests.send`."""
        return await self.requests.send(ask, self.counters)


def _region_told(sent: _Sent, refusal: Refusal) -> str | None:
    """Where the bucket is, if the server says that it is elsewhere."""
    region = sent.response.headers.get("x-amz-bucket-region") or refusal.region
    is_redirect = sent.response.status in REDIRECT_STATUSES or refusal.code in REDIRECT_CODES
    may_be_redirect = sent.response.status == HTTPStatus.BAD_REQUEST and refusal.code in {
        "",
        "AuthorizationHeaderMalformed",
    }
    return region if (is_redirect or may_be_redirect) and region != sent.target.region else None


async def read_refusal(response: aiohttp.ClientResponse) -> Refusal:
    """What the body says, of which not more than a bound is read."""
    body = b""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S), response:
            while len(body) < ERROR_BODY_BYTES_MAX:
                part = await response.content.read(ERROR_BODY_BYTES_MAX - len(body))
                if not part:
                    break
                body += part
            else:
                response.close()
    except (aiohttp.ClientError, TimeoutError, OSError):
        # Its status says enough.
        response.close()
    return refusal_in(body)
