"""Credentials for GCS: where they are found, and access tokens made of them.

Invariants
  * They are looked for in Google's order: the file that GOOGLE_APPLICATION_CREDENTIALS names, that
    of `gcloud auth application-default login`, the metadata server. A file that is there and
    cannot be used is an error; nothing else is then tried in its place.
  * A token is fetched once for all who wait for it, by one request each time: `workers.retry` is
    the only retrier. Who is cancelled while waiting takes nothing from the others.
  * No token or key is shown, logged or kept.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from yarl import URL

from indexer.errors import (
    IndexerError,
    InvalidSetting,
    MissingCredentials,
    StoreUnavailable,
    said_of,
)
from indexer.limits import CONNECT_TIMEOUT_S, TOKEN_TIMEOUT_S
from indexer.stores.gcs_signing import SigningAccount, account_in
from indexer.stores.http_environment import find_proxy
from workers.clock import Clock

FILE_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"

TOKEN_AGE: Final = 0.9
"""The part of its life after which a token is replaced: of an hour, six minutes are left."""

METADATA_SERVER: Final = "the metadata server of this machine"

HOW_TO_GIVE: Final = (
    f"Set {FILE_VARIABLE} to a service account's file, run `gcloud auth application-default login`,"
    f" or give --no-sign-request for a public bucket"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where credentials are, and what the file says, None for the metadata server."""

    origin: str
    document: str | None


def find_credentials() -> Credentials:
    """The credentials that Google's rules name. Blocks for a file.

    Raises `MissingCredentials` for a file that is named and cannot be used.
    """
    if named := os.environ.get(FILE_VARIABLE):
        return Credentials(f"{named} ({FILE_VARIABLE})", _document(Path(named), FILE_VARIABLE))
    folder = os.environ.get("CLOUDSDK_CONFIG")
    path = Path(folder) if folder else Path("~/.config/gcloud").expanduser()
    path /= "application_default_credentials.json"
    if path.exists():
        origin = "gcloud auth application-default login"
        return Credentials(f"{path} ({origin})", _document(path, origin))
    return Credentials(METADATA_SERVER, None)


def _document(path: Path, origin: str) -> str:
    try:
        text = path.read_text("utf-8")
        kind = loads(text)["type"]
    except OSError as error:
        raise MissingCredentials(
            f"the credentials in {path} ({origin}) cannot be read: {error.strerror}. {HOW_TO_GIVE}."
        ) from error
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        # The error would quote the file.
        raise MissingCredentials(
            f"{path} ({origin}) is no file of Google credentials: it is not JSON with a `type`. "
            f"{HOW_TO_GIVE}."
        ) from None
    assert kind is not None
    return text


class AccessTokens:
    """Access tokens of one set of credentials; see the module. Belongs to one event loop.

    `gcloud.aio.auth` knows how tokens are made. When to make one is decided here: its own `get`
    tries five times with up to a minute between, in a task that its waiters share, so that one who
    is cancelled cancels it for all.
    """

    def __init__(
        self, credentials: Credentials, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self.origin = credentials.origin
        self._is_metadata = credentials.document is None
        self._clock = clock
        self._maker = self._new_maker(credentials, ProxiedSession(session))
        self._asking = asyncio.Lock()
        self._value: str | None = None
        self._fresh_until_s = 0.0
        self._attempts = 0
        self._failure: IndexerError | None = None

    async def get(self, uri: str) -> str:
        """A token that is still good for a while. Raises `MissingCredentials`, StoreUnavailable,
        said of `uri`.
        """
        with said_of(uri):
            return await self._get()

    async def _get(self) -> str:
        attempts = self._attempts
        async with self._asking:
            if self._value is not None and self._clock.monotonic() < self._fresh_until_s:
                return self._value
            if self._failure is not None and self._attempts > attempts:
                # Somebody has just asked, while this one waited.
                raise type(self._failure)(str(self._failure))
            self._failure = self._value = None
            try:
                value, life_s = await self._fetch()
            except IndexerError as error:
                # Of its own, as who is told of it puts another URI in front.
                self._failure = type(error)(str(error))
                raise
            finally:
                self._attempts += 1
            self._value = value
            self._fresh_until_s = self._clock.monotonic() + life_s * TOKEN_AGE
            return value

    @property
    def account(self) -> SigningAccount | None:
        """The service account whose key is among the credentials; None where there is none."""
        return None if self._is_metadata else account_in(self._maker.service_data)

    def forget(self, value: str) -> None:
        """Lets go of a token that was refused, unless there is another one by now."""
        if self._value == value:
            self._value = None

    def _new_maker(self, credentials: Credentials, session: ProxiedSession) -> Any:
        try:
            from gcloud.aio.auth import Token
        except ImportError as error:
            raise InvalidSetting(
                "reading gs:// with credentials needs more packages: install bucket-indexer[gcs]."
            ) from error
        document = None if credentials.document is None else io.StringIO(credentials.document)
        try:
            maker = Token(service_file=document, session=cast("Any", session), scopes=[SCOPE])
        except (KeyError, ValueError) as error:
            raise MissingCredentials(
                f"the credentials in {self.origin} are of a kind that is not known here "
                f"({error}). {HOW_TO_GIVE}."
            ) from error
        assert document is None or maker.service_data, "what was read before is read again"
        return maker

    async def _fetch(self) -> tuple[str, float]:
        from jwt import PyJWTError

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + TOKEN_TIMEOUT_S):
                answer = await self._maker.refresh(timeout=TOKEN_TIMEOUT_S)
        except aiohttp.ClientResponseError as error:
            raise self._refused(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self._is_metadata:
                raise MissingCredentials(
                    f"no Google credentials were found. {HOW_TO_GIVE}."
                ) from error
            raise StoreUnavailable(
                f"the server that gives access tokens cannot be reached "
                f"({str(error) or type(error).__name__}). Check the network."
            ) from error
        except KeyError as error:
            raise MissingCredentials(
                f"the credentials in {self.origin} are not complete, or what was given for "
                f"them is not: {error} is missing. {HOW_TO_GIVE}."
            ) from error
        except (PyJWTError, ValueError, TypeError, AttributeError):
            # What is wrong with a key may be told by quoting it.
            raise MissingCredentials(
                f"the credentials in {self.origin} cannot be used: they are malformed. "
                f"{HOW_TO_GIVE}."
            ) from None
        return answer.value, float(answer.expires_in)

    def _refused(self, error: aiohttp.ClientResponseError) -> IndexerError:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ):
            return StoreUnavailable(
                f"the server that gives access tokens failed (HTTP {error.status})."
            )
        said = " ".join(_refusal(error.message).split())
        return MissingCredentials(
            f"the credentials in {self.origin} are not accepted (HTTP {error.status}"
            f"{said and ': '}{said}). Renew them. {HOW_TO_GIVE}."
        )


class ProxiedSession:
    """Requests on an aiohttp session, each through the proxy that the environment names for it.

    aiohttp finds that too, but takes passwords from ~/.netrc along with it: of a `default` there it
    would tell every server, and where a token is sent as well it would refuse to.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def get(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        """As of `aiohttp.ClientSession`."""
        return await self._request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        """As of `aiohttp.ClientSession`."""
        return await self._request("POST", url, **options)

    async def _request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> aiohttp.ClientResponse:
        route = find_proxy(URL(url))
        return await self._http.request(
            method,
            url,
            headers={**(headers or {}), **route.headers},
            proxy=route.proxy,
            proxy_headers=route.proxy_headers,
            **options,
        )


def _refusal(message: str) -> str:
    """What a token server says of a refusal: `error_description` of its JSON, else nothing."""
    _, _, text = message.partition(": ")
    try:
        document = loads(text)
        return str(document.get("error_description") or document.get("error") or "")[:200]
    except (ValueError, AttributeError, RecursionError):
        return ""
