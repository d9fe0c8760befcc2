"""Requests that are wrong, large, slow or strange: one clear problem each, and nothing changed."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indexer import limits
from indexer.app import App
from indexer.daemon import dispatch, server
from indexer.testing.commits import FIRST, NAME, SECOND, make_request, manifest_of
from indexer.wire.problems import PROBLEM_TYPE
from tests.daemon.daemons import http, running_daemon

API = "/api/v1"
VERSION = f"{API}/artifacts/project/artifact/versions/v0"
ALIAS = f"{API}/artifacts/project/artifact/aliases/best"


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[str, App]]:
    async with running_daemon(tmp_path / "data") as (url, app):
        for shard in (FIRST, SECOND):
            await app.tracker.put_shard(shard.ref.digest, shard.data)
        await app.tracker.commit(make_request(manifest_of(FIRST), notes="first"))
        yield url, app


@pytest_asyncio.fixture
async def session(daemon: tuple[str, App]) -> AsyncIterator[aiohttp.ClientSession]:
    async with http(daemon[0]) as found:
        yield found


async def problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The problem that a response is, checked for its form."""
    assert response.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = await response.json(content_type=None)
    assert found["status"] == response.status
    assert found["type"] == PROBLEM_TYPE + found["code"]
    assert found["detail"].endswith((".", "))"))
    assert "Traceback" not in found["detail"]
    assert found["request_id"] == response.headers["X-Request-Id"]
    return found


ORDER = {"uri": "s3://bucket/", "name": "p/a"}

WRONG_BODIES: list[tuple[str, str]] = [
    ("", "no JSON"),
    ("{", "no JSON"),
    ("[" * 100_000, "Expected `object`"),
    ("[]", "Expected `object`"),
    ("null", "Expected `object`"),
    ('"\\ud800"', "body"),
    (json.dumps({**ORDER, "colour": "red"}), "unknown field `colour`"),
    (json.dumps({"uri": "s3://bucket/"}), "missing required field `name`"),
    (json.dumps({**ORDER, "uri": 3}), "Expected `str | null`"),
    (json.dumps({**ORDER, "max_objects": "10"}), "max_objects"),
    (json.dumps({**ORDER, "max_objects": 0}), "no limit for objects"),
    (json.dumps({**ORDER, "max_objects": -5}), "no limit for objects"),
    (
        '{"uri": "s3://bucket/", "name": "p/a", "max_objects": ' + "9" * 400 + "}",
        "no limit for objects",
    ),
    ('{"uri": "s3://bucket/", "name": "p/a", "max_objects": 1e300}', "max_objects"),
    ('{"uri": "s3://bucket/", "name": "p/a", "max_objects": NaN}', "no JSON"),
    (json.dumps({**ORDER, "on_limit": "ignore"}), "on_limit"),
    (json.dumps({**ORDER, "uri": "bucket/prefix"}), "no source URI"),
    (json.dumps({**ORDER, "uri": "ftp://bucket/"}), "scheme 'ftp'"),
    (json.dumps({**ORDER, "uri": "s3://bucket/" + "k" * 1100}), "at most 1,024"),
    (json.dumps({**ORDER, "uri": "s3://bucket/\0"}), "NUL"),
    (json.dumps({**ORDER, "name": "no-slash"}), "no artifact name"),
    (json.dumps({**ORDER, "name": "../a"}), "no artifact name"),
    (json.dumps({**ORDER, "name": "p/.."}), "no artifact name"),
    (json.dumps({**ORDER, "name": "p/a b"}), "no artifact name"),
    (json.dumps({**ORDER, "aliases": ["latest"]}), "no alias to set"),
    (json.dumps({**ORDER, "aliases": ["v3"]}), "no alias to set"),
    (json.dumps({**ORDER, "type": "two words"}), "type"),
    (json.dumps({**ORDER, "notes": "x" * 100_001}), "notes"),
    (json.dumps({**ORDER, "in_flight": 5_000}), "in_flight"),
]


@pytest.mark.parametrize(("body", "said"), WRONG_BODIES, ids=lambda value: value[:40])
async def test_a_wrong_order_is_refused(
    session: aiohttp.ClientSession, body: str, said: str
) -> None:
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{API}/snapshots", data=body, headers=headers) as response:
        assert response.status == 400
        assert said in (await problem(response))["detail"]
    async with session.get(f"{API}/jobs") as response:
        assert (await response.json())["results"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no-such-path"),
        ("GET", "/api/v1", 404, "no-such-path"),
        ("GET", "/api/v2/jobs", 404, "no-such-path"),
        ("GET", f"{API}/jobs/", 404, "no-such-path"),
        ("GET", f"{API}//jobs", 404, "no-such-path"),
        ("PUT", f"{API}/jobs", 405, "method-not-allowed"),
        ("PURGE", f"{API}/jobs", 405, "method-not-allowed"),
        ("GET", f"{API}/snapshots", 405, "method-not-allowed"),
        ("GET", f"{API}/jobs/nobody", 404, "no-such-job"),
        ("DELETE", f"{API}/jobs/nobody", 404, "no-such-job"),
        ("GET", f"{API}/jobs/nobody/events", 404, "no-such-job"),
        ("GET", f"{API}/jobs?limit=0", 400, "malformed-request"),
        ("GET", f"{API}/jobs?limit=1001", 400, "malformed-request"),
        ("GET", f"{API}/jobs?limit=ten", 400, "malformed-request"),
        ("GET", f"{API}/jobs?limit={'9' * 400}", 400, "malformed-request"),
        ("GET", f"{API}/jobs?limit=1&limit=2", 400, "malformed-request"),
        ("GET", f"{API}/jobs?colour=red", 400, "malformed-request"),
        ("GET", f"{API}/jobs/nobody?a=b", 400, "malformed-request"),
        ("GET", f"{API}/jobs?after=xyz", 400, "invalid-setting"),
        ("GET", f"{API}/jobs?after=6162", 400, "invalid-setting"),
        ("GET", f"{API}/projects/%2e%2e/artifacts", 400, "invalid-reference"),
        ("GET", f"{API}/projects/a%2Fb/artifacts", 400, "invalid-reference"),
        ("GET", f"{API}/projects/a%00b/artifacts", 400, "invalid-reference"),
        ("GET", f"{API}/projects/%ff/artifacts", 400, "invalid-reference"),
        ("GET", f"{API}/projects/nobody/artifacts", 404, "no-such-version"),
        ("GET", f"{API}/artifacts/project/nobody/versions", 404, "no-such-version"),
        ("GET", f"{API}/artifacts/project/artifact/versions/v9", 404, "no-such-version"),
        ("GET", f"{API}/artifacts/project/artifact/versions/a%20b", 400, "invalid-reference"),
        ("GET", f"{API}/artifacts/project/artifact/versions/sha256:12", 400, "invalid-reference"),
        ("GET", f"{VERSION}/entries?delimiter=,", 400, "malformed-request"),
        ("GET", f"{VERSION}/entries?after=zz", 400, "invalid-setting"),
        ("GET", f"{API}/shards/..%2f..%2fcatalog.db", 400, "invalid-reference"),
        ("GET", f"{API}/shards/{'0' * 64}", 404, "no-such-version"),
        ("GET", f"{API}/manifests/sha256:{'0' * 64}", 404, "no-such-version"),
        ("GET", f"{API}/manifests/nothing", 400, "invalid-reference"),
        ("GET", f"{API}/commits/nobody", 404, "no-such-version"),
        ("DELETE", ALIAS, 404, "no-such-version"),
    ],
    ids=str,
)
async def test_what_is_not_there_is_said(
    daemon: tuple[str, App], method: str, path: str, status: int, code: str
) -> None:
    from yarl import URL

    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(daemon[0] + path, encoded=True)) as response,
    ):
        found = await problem(response)
        assert (response.status, found["code"]) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", ALIAS, {"version": "latest"}, 400, "malformed-request"),
        ("PUT", ALIAS, {"version": "v01"}, 400, "malformed-request"),
        ("PUT", ALIAS, {"version": "v7"}, 404, "no-such-version"),
        ("PUT", ALIAS[: -len("best")] + "latest", {"version": "v0"}, 400, "invalid-reference"),
        ("PATCH", VERSION, {"notes": None}, 400, "malformed-request"),
        ("PATCH", VERSION, {"digest": "x"}, 400, "malformed-request"),
        ("POST", f"{API}/doctor", {"uri": "nothing"}, 400, "invalid-reference"),
    ],
    ids=str,
)
async def test_a_wrong_change_changes_nothing(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    async with session.get(VERSION) as response:
        before = await response.json()
    async with session.request(method, path, json=body) as response:
        found = await problem(response)
        assert (response.status, found["code"]) == (status, code)
    async with session.get(VERSION) as response:
        assert await response.json() == before


async def test_another_media_type_is_refused(session: aiohttp.ClientSession) -> None:
    """A page elsewhere can send these types without being asked whether it may."""
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        async with session.post(
            f"{API}/snapshots", data=json.dumps(ORDER), headers={"Content-Type": media_type}
        ) as response:
            assert response.status == 415
            assert (await problem(response))["code"] == "wrong-media-type"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "10.0.0.1", "[::"])
async def test_another_name_is_refused(daemon: tuple[str, App], host: str) -> None:
    """A page from elsewhere may have made its own name lead here."""
    answer = await raw(daemon[0], f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.[01] 4(00|21) ", answer)
    for own in ("localhost", "127.0.0.1:1", "[::1]:8765"):
        answer = await raw(daemon[0], f"GET /healthz HTTP/1.1\r\nHost: {own}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")


# --- moves and conditions


async def test_notes_change_only_in_the_state_that_was_seen(
    session: aiohttp.ClientSession,
) -> None:
    async with session.get(VERSION) as response:
        seen = response.headers["ETag"]
    headers = {"If-Match": seen}
    async with session.patch(VERSION, json={"notes": "second"}, headers=headers) as response:
        assert response.status == 200
        assert (await response.json())["notes"] == "second"
        newer = response.headers["ETag"]
    async with session.patch(VERSION, json={"notes": "third"}, headers=headers) as response:
        assert response.status == 412
        assert (await problem(response))["code"] == "commit-conflict"
    async with session.get(VERSION) as response:
        assert ((await response.json())["notes"], response.headers["ETag"]) == ("second", newer)
    async with session.get(VERSION, headers={"If-None-Match": newer}) as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_an_alias_moves_only_from_where_it_was_seen(
    daemon: tuple[str, App], session: aiohttp.ClientSession
) -> None:
    request = make_request(manifest_of(SECOND), expect=manifest_of(FIRST).digest)
    await daemon[1].tracker.commit(request)

    async def put(version: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.put(ALIAS, json={"version": version}, headers=named) as response:
            if response.status == 200:
                assert response.headers["ETag"] == f'"{version}"'
            return response.status

    assert await put("v0", If_None_Match="*") == 200
    assert await put("v1", If_None_Match="*") == 412
    assert await put("v1", If_Match='"v1"') == 412
    assert await put("v1", If_Match='"v0"') == 200
    assert await put("v0", If_Match="v0") == 400
    assert await put("v0") == 200
    async with session.delete(ALIAS, headers={"If-Match": '"v1"'}) as response:
        assert response.status == 412
    async with session.delete(ALIAS, headers={"If-Match": '"v0"'}) as response:
        assert response.status == 200
    async with session.get(f"{API}/artifacts/project/artifact/aliases") as response:
        found = (await response.json())["results"]
    assert found == [{"alias": "latest", "ref": f"{NAME}:v1", "protected": False}]


async def test_what_never_changes_says_so(session: aiohttp.ClientSession) -> None:
    for path in (
        f"{API}/shards/{FIRST.ref.digest}",
        f"{API}/manifests/{manifest_of(FIRST).digest}",
        f"{API}/artifacts/project/artifact/versions/{manifest_of(FIRST).digest}/entries",
    ):
        async with session.get(path) as response:
            assert response.status == 200
            assert "immutable" in response.headers["Cache-Control"]
            tag = response.headers["ETag"]
        async with session.get(path, headers={"If-None-Match": f'"x", {tag}'}) as response:
            assert (response.status, await response.read()) == (304, b"")
    async with session.head(f"{API}/shards/{FIRST.ref.digest}") as response:
        assert response.status == 200


# --- bounds


async def test_a_body_is_bounded(session: aiohttp.ClientSession) -> None:
    body = b'{"uri": "' + b"x" * limits.REQUEST_BODY_BYTES_MAX
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{API}/snapshots", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 413
        assert (await problem(response))["code"] == "body-too-large"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    async with session.post(f"{API}/snapshots", data=pieces(), headers=headers) as response:
        assert response.status == 413


async def test_all_bodies_together_are_bounded(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "BODIES_BYTES_MAX", 1_000)
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{API}/snapshots", data=b"x" * 2_000, headers=headers) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
        assert (await problem(response))["retryable"]
    async with session.post(f"{API}/snapshots", data=b"x" * 900, headers=headers) as response:
        assert response.status == 400


async def test_a_body_that_does_not_come_is_given_up(
    daemon: tuple[str, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "BODY_TIMEOUT_S", 0.2)
    answer = await raw(
        daemon[0],
        b"POST /api/v1/snapshots HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request-timeout" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100 + b"\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
    ids=["long header", "long line", "many headers", "nonsense", "TLS", "length", "version"],
)
async def test_what_is_no_request_is_refused(daemon: tuple[str, App], sent: bytes) -> None:
    answer = await raw(daemon[0], sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", head)
    assert json.loads(body)["code"] == "malformed-request"


async def test_a_head_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_TIMEOUT_S", 0.3)
    async with running_daemon(tmp_path / "data") as (url, _):
        started_s = asyncio.get_running_loop().time()
        assert await raw(url, b"GET /healthz HTTP/1.1\r\nHost:") == b""
        assert await raw(url, b"") == b""
        assert asyncio.get_running_loop().time() - started_s < 10


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)
    async with running_daemon(tmp_path / "data") as (url, _):
        port = int(url.rpartition(":")[2])
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.1)
        answer = await raw(url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in answer
        assert b'"code":"daemon-unavailable"' in answer
        for _, writer in open_ones:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.1)
        async with http(url) as session, session.get("/healthz") as response:
            assert response.status == 200


async def test_a_reader_that_does_not_read_is_let_go(
    daemon: tuple[str, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SEND_TIMEOUT_S", 0.3)
    url, app = daemon
    monkeypatch.setattr(app.catalog.content, "shard_bytes", lambda _: _large())
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    path = f"{API}/shards/{FIRST.ref.digest}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await asyncio.sleep(1.0)
    got = 0
    with pytest.raises(ConnectionError):
        while data := await reader.read(65_536):
            got += len(data)
        raise ConnectionError
    assert got < len(await _large())
    writer.close()


async def _large() -> bytes:
    return b"x" * 50_000_000


async def raw(url: str, sent: bytes) -> bytes:
    """All that a daemon answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(sent)
    found = bytearray()
    try:
        async with asyncio.timeout(10):
            while data := await reader.read(65_536):
                found += data
                head, ended, body = bytes(found).partition(b"\r\n\r\n")
                if ended and len(body) >= _length(head):
                    break
            return bytes(found)
    except ConnectionError:
        return bytes(found)
    finally:
        writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
