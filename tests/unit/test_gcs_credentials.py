"""Credentials for GCS: where they are looked for, tokens made of them, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import gcloud.aio.auth.token
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from indexer.errors import InvalidSetting, MissingCredentials, StoreUnavailable
from indexer.limits import TOKEN_TIMEOUT_S
from indexer.stores import gcs_client, gcs_credentials
from indexer.stores.gcs_credentials import (
    METADATA_SERVER,
    SCOPE,
    AccessTokens,
    Credentials,
    find_credentials,
)
from workers.clock import SystemClock

URI = "gs://bucket/data/"
SECRET = "very-secret-refresh-token"


@cache
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@dataclass
class TokenServer:
    """A server that gives tokens, or refuses."""

    url: str = ""
    status: int = 200
    document: Any = None
    delay_s: float = 0.0
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers)
        self.forms.append(parse_qs((await request.read()).decode()))
        await asyncio.sleep(self.delay_s)
        document = self.document
        if document is None:
            document = {"access_token": f"token-{len(self.forms)}", "expires_in": 3600}
        return web.json_response(document, status=self.status)

    def user(self, **fields: Any) -> str:
        """The file of a user who has logged in."""
        return json.dumps(
            {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": SECRET,
                "refresh_token": SECRET,
                "token_uri": self.url,
                **fields,
            }
        )

    def service_account(self, **fields: Any) -> str:
        """The file of a service account."""
        return json.dumps(
            {
                "type": "service_account",
                "client_email": "somebody@example",
                "private_key": private_key(),
                "token_uri": self.url,
                **fields,
            }
        )


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    application = web.Application()
    application.router.add_route("*", "/token", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield server
    await runner.cleanup()


class Hours(SystemClock):
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.hours = 0.0

    def monotonic(self) -> float:
        return self.hours * 3600


@asynccontextmanager
async def tokens_of(
    document: str | None, clock: Hours | None = None
) -> AsyncIterator[AccessTokens]:
    async with aiohttp.ClientSession() as session:
        yield AccessTokens(Credentials("the test", document), session, clock or Hours())


# --- where they are ------------------------------------------------------------------------------


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    gcloud_file = home / ".config/gcloud/application_default_credentials.json"
    assert find_credentials() == Credentials(METADATA_SERVER, None)
    gcloud_file.parent.mkdir(parents=True)
    gcloud_file.write_text('{"type":"authorized_user"}')
    found = find_credentials()
    assert "gcloud auth application-default login" in found.origin
    assert found.document == '{"type":"authorized_user"}'
    named = home / "key.json"
    named.write_text('{"type":"service_account"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(named))
    found = find_credentials()
    assert found.origin == f"{named} (GOOGLE_APPLICATION_CREDENTIALS)"
    assert found.document == '{"type":"service_account"}'


def test_gcloud_may_live_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    (tmp_path / "application_default_credentials.json").write_text('{"type":"authorized_user"}')
    assert str(tmp_path) in find_credentials().origin


@pytest.mark.parametrize(
    "text", [SECRET, "[]", "{}", f'{{"private_key": "{SECRET}"', "\udcff", "[" * 100_000]
)
@pytest.mark.parametrize("by_variable", [True, False])
def test_a_file_that_is_none_is_an_error_and_is_not_passed_over(
    text: str, home: Path, monkeypatch: pytest.MonkeyPatch, *, by_variable: bool
) -> None:
    path = home / ".config/gcloud/application_default_credentials.json"
    path.parent.mkdir(parents=True)
    if by_variable:
        path = home / "key.json"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MissingCredentials, match="no file of Google credentials") as caught:
        find_credentials()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        with pytest.raises(MissingCredentials, match="cannot be read"):
            find_credentials()


async def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcloud.aio.auth", None)
    with pytest.raises(InvalidSetting, match=r"install bucket-indexer\[gcs\]"):
        async with tokens_of('{"type":"authorized_user"}'):
            pass


# --- tokens --------------------------------------------------------------------------------------


async def test_a_service_account_signs_for_a_token(server: TokenServer) -> None:
    async with tokens_of(server.service_account()) as tokens:
        assert await tokens.get(URI) == "token-1"
    (form,) = server.forms
    claims = jwt.decode(form["assertion"][0], options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == ("somebody@example", server.url)
    assert claims["scope"] == SCOPE


async def test_token_servers_are_told_no_password_of_netrc(
    server: TokenServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".netrc").write_text("default login me password secret")
    access = gcs_client.Access(gcs_client.GOOGLE, is_anonymous=False)
    monkeypatch.setattr(
        gcs_client, "find_credentials", lambda: Credentials("the test", server.user())
    )
    async with gcs_client.open_session(access, Hours()) as session:
        assert session.tokens is not None
        assert await session.tokens.get(URI) == "token-1"
    assert "Authorization" not in server.headers[0]


async def test_token_servers_are_asked_through_the_proxy(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = URL(server.url).origin().with_user("me").with_password("secret")
    monkeypatch.setenv("http_proxy", str(proxy))
    document = server.user(token_uri="http://tokens.invalid/token")
    async with tokens_of(document) as tokens:
        assert await tokens.get(URI) == "token-1"
    assert server.headers[0]["Host"] == "tokens.invalid"
    assert server.headers[0]["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"


async def test_a_user_has_a_refresh_token(server: TokenServer) -> None:
    async with tokens_of(server.user()) as tokens:
        assert await tokens.get(URI) == "token-1"
    assert server.forms[0]["refresh_token"] == [SECRET]


async def test_the_metadata_server_is_asked_where_there_is_no_file(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcloud.aio.auth.token, "GCE_ENDPOINT_TOKEN", server.url)
    async with tokens_of(None) as tokens:
        assert await tokens.get(URI) == "token-1"


async def test_a_token_is_used_until_it_is_old(server: TokenServer) -> None:
    clock = Hours()
    async with tokens_of(server.user(), clock) as tokens:
        for hours, expected in ((0.0, 1), (0.89, 1), (0.91, 2), (1.7, 2), (2.7, 3)):
            clock.hours = hours
            assert await tokens.get(URI) == f"token-{expected}"


async def test_a_token_that_was_refused_is_replaced_once(server: TokenServer) -> None:
    async with tokens_of(server.user()) as tokens:
        first = await tokens.get(URI)
        tokens.forget(first)
        assert await tokens.get(URI) == "token-2"
        # Others learn of the first one's end later.
        tokens.forget(first)
        assert await tokens.get(URI) == "token-2"


async def test_all_who_wait_get_one_token(server: TokenServer) -> None:
    server.delay_s = 0.05
    async with tokens_of(server.user()) as tokens, asyncio.TaskGroup() as group:
        asked = [group.create_task(tokens.get(URI)) for _ in range(20)]
    assert {task.result() for task in asked} == {"token-1"}
    assert len(server.forms) == 1


async def test_who_is_cancelled_takes_nothing_from_the_others(server: TokenServer) -> None:
    server.delay_s = 0.05
    async with tokens_of(server.user()) as tokens, asyncio.TaskGroup() as group:
        first, second = (group.create_task(tokens.get(URI)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
    assert first.cancelled()
    assert second.result() in ("token-1", "token-2")


async def test_all_who_wait_hear_of_one_failure(server: TokenServer) -> None:
    server.status, server.delay_s = 503, 0.05
    async with tokens_of(server.user()) as tokens:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(failure_of(tokens)) for _ in range(20)]
        assert {type(task.result()) for task in asked} == {StoreUnavailable}
        assert len(server.forms) == 1
        # Who asks later finds out anew.
        server.status = 200
        assert await tokens.get(URI) == "token-2"


async def failure_of(tokens: AccessTokens) -> Exception:
    with pytest.raises((MissingCredentials, StoreUnavailable)) as caught:
        await tokens.get(URI)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, MissingCredentials), (401, MissingCredentials), (403, MissingCredentials),
        (404, MissingCredentials), (408, StoreUnavailable), (429, StoreUnavailable),
        (500, StoreUnavailable), (503, StoreUnavailable),
    ],
)  # fmt: skip
async def test_a_refusal_is_said(server: TokenServer, status: int, kind: type[Exception]) -> None:
    server.status = status
    server.document = {"error": "invalid_grant", "error_description": "Token has been revoked."}
    async with tokens_of(server.user()) as tokens:
        error = await failure_of(tokens)
    assert type(error) is kind
    assert str(error).startswith(URI)
    assert ("revoked" in str(error)) == (kind is MissingCredentials)
    assert SECRET not in str(error)
    assert len(server.forms) == 1


@pytest.mark.parametrize("document", [{}, {"access_token": "x"}, [], "no", {"expires_in": "soon"}])
async def test_an_answer_that_is_no_token_is_an_error(server: TokenServer, document: Any) -> None:
    server.document = document
    async with tokens_of(server.user()) as tokens:
        assert type(await failure_of(tokens)) is MissingCredentials


@pytest.mark.parametrize(
    "fields",
    [{"private_key": SECRET}, {"private_key": None}, {"private_key": 5}, {"client_email": None}],
)
async def test_a_key_that_is_none_is_an_error_and_not_shown(
    server: TokenServer, fields: dict[str, Any]
) -> None:
    document = json.loads(server.service_account(**fields))
    kept = {name: value for name, value in document.items() if value is not None}
    async with tokens_of(json.dumps(kept)) as tokens:
        error = await failure_of(tokens)
    assert type(error) is MissingCredentials
    assert SECRET not in str(error)
    assert server.forms == []


async def test_a_kind_that_is_not_known_is_an_error() -> None:
    with pytest.raises(MissingCredentials, match="not known"):
        async with tokens_of('{"type":"gdch_service_account"}'):
            pass


@pytest.mark.parametrize(
    ("is_file", "kind"), [(True, StoreUnavailable), (False, MissingCredentials)]
)
async def test_nobody_there(
    server: TokenServer, kind: type[Exception], monkeypatch: pytest.MonkeyPatch, *, is_file: bool
) -> None:
    nowhere = "http://127.0.0.1:9/token"
    monkeypatch.setattr(gcloud.aio.auth.token, "GCE_ENDPOINT_TOKEN", nowhere)
    server.url = nowhere
    async with tokens_of(server.user() if is_file else None) as tokens:
        error = await failure_of(tokens)
    assert type(error) is kind
    assert ("GOOGLE_APPLICATION_CREDENTIALS" in str(error)) == (not is_file)


async def test_a_server_that_stalls_is_given_up(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TOKEN_TIMEOUT_S < 60
    monkeypatch.setattr(gcs_credentials, "TOKEN_TIMEOUT_S", 0.1)
    server.delay_s = 5.0
    async with tokens_of(server.user()) as tokens:
        assert type(await failure_of(tokens)) is StoreUnavailable
