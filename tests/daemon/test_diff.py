"""What changed between two versions, asked of a data folder, of a daemon, and over plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indexer.app import App
from indexer.changes import ChangeKind
from indexer.client import connect
from indexer.records import VersionRecord
from indexer.references import VersionRef
from indexer.testing.commits import NAME, make_request, make_shard, manifest_of, put_and_commit
from indexer.workspace import Workspace
from tests.daemon.daemons import http, running_daemon

OLD = {"a/gone": 1, "a/kept": 2, "a/larger": 3, "b/1": 4, "c": 5}
NEW = {"a/kept": 2, "a/larger": 4, "b/1": 4, "b/2": 6, "é/\n#?": 7, "c": 5}
VERSIONS = "/api/v1/artifacts/project/artifact/versions"
FAR = make_shard({"日/1": 1, "日/2": 2})


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[str, App]]:
    async with running_daemon(tmp_path / "data") as (url, app):
        await put_and_commit(app.tracker, make_shard(OLD), FAR)
        await put_and_commit(app.tracker, make_shard(NEW), FAR)
        yield url, app


@pytest_asyncio.fixture
async def session(daemon: tuple[str, App]) -> AsyncIterator[aiohttp.ClientSession]:
    async with http(daemon[0]) as found:
        yield found


async def both(workspace: Workspace) -> tuple[VersionRecord, VersionRecord]:
    old, new = [await workspace.version(VersionRef(NAME, name)) for name in ("v0", "v1")]
    return old, new


async def test_a_daemon_finds_what_a_data_folder_finds(daemon: tuple[str, App]) -> None:
    url, app = daemon
    async with connect(url) as client:
        old, new = await both(client)
        for prefix in (b"", b"a/", b"b", b"nothing"):
            for kind in (None, *ChangeKind):
                page = await client.diff(old, new, prefix, kind=kind)
                assert page == await app.diff(old, new, prefix, kind=kind)
            folders = await client.diff_folders(old, new, prefix)
            assert folders == await app.diff_folders(old, new, prefix)
        page = await client.diff(old, new)
        assert [(change.path.decode(), str(change.kind)) for change in page.changes] == [
            ("a/gone", "removed"),
            ("a/larger", "content"),
            ("b/2", "added"),
            ("é/\n#?", "added"),
        ]
        assert (page.summary.shards, page.summary.shards_read) == (4, 2)


async def test_pages_go_on_after_their_cursor(
    daemon: tuple[str, App], session: aiohttp.ClientSession
) -> None:
    seen: list[str] = []
    query = {"to": "latest", "limit": "1"}
    while True:
        async with session.get(f"{VERSIONS}/v0/diff", params=query) as response:
            document = await response.json()
        assert response.status == 200
        assert document["summary"]["tallies"]["added"] == {
            "objects": 2, "bytes_before": 0, "bytes_after": 13,
        }  # fmt: skip
        seen += [one["path"] for one in document["results"]]
        if document["next"] is None:
            break
        query["after"] = document["next"]
    assert seen == ["a/gone", "a/larger", "b/2", "é/\n#?"]


async def test_answers_by_digest_never_change(
    daemon: tuple[str, App], session: aiohttp.ClientSession
) -> None:
    old, new = await both(daemon[1])
    for path in ("diff", "diff/folders"):
        for ref, to, is_kept in (
            (old.digest, new.digest, True),
            (old.digest, f"project/artifact@{new.digest}", True),
            ("v0", new.digest, False),
            (old.digest, "latest", False),
        ):
            async with session.get(f"{VERSIONS}/{ref}/{path}", params={"to": to}) as response:
                assert response.status == 200
                assert ("immutable" in response.headers["Cache-Control"]) == is_kept


@pytest.mark.parametrize(
    ("status", "query"),
    [
        (400, {}),
        (400, {"to": "v1", "kind": "moved"}),
        (400, {"to": "v1", "limit": "0"}),
        (400, {"to": "a b"}),
        (400, {"to": "v1", "after": "no cursor"}),
        (404, {"to": "v7"}),
        (404, {"to": "project/other:v0"}),
    ],
)
async def test_diffs_that_cannot_be_told(
    status: int, query: dict[str, Any], session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{VERSIONS}/v0/diff", params=query) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"


async def test_versions_of_two_artifacts_are_compared_by_path(daemon: tuple[str, App]) -> None:
    url, app = daemon
    shard = make_shard({**OLD, "a/new": 9})
    await app.tracker.put_shard(shard.ref.digest, shard.data)
    name = type(NAME)("other", "copy")
    await app.tracker.commit(make_request(manifest_of(shard, FAR), name=name))
    async with connect(url) as client:
        old, _ = await both(client)
        page = await client.diff(old, await client.version(VersionRef(name, "v0")))
        assert [(one.path, one.kind) for one in page.changes] == [(b"a/new", "added")]
