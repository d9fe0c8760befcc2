"""Queries over HTTP: JSON and Arrow, what is refused, and the same as on a data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pytest

import indexer
from indexer.artifact.handle import Handle
from indexer.client import connect
from indexer.wire.query import ARROW_TYPE
from tests.daemon.daemons import http, running_daemon

pytest.importorskip("duckdb")

VERSION = "/api/v1/artifacts/p/a/versions/v0"
BEFORE = "id,x\n1,a\n2,b\n"
AFTER = "id,x\n1,a\n2,c\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("catalog") / "data"
    for name, table in (("a", BEFORE), ("b", AFTER)):
        folder = tmp_path_factory.mktemp(name)
        (folder / "t.csv").write_text(table)
        (folder / "é.bin").write_bytes(b"12")
        indexer.snapshot(str(folder), name=f"p/{name}", data=data)
    return data


@pytest.fixture
async def session(data: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with running_daemon(data) as (url, _), http(url) as session:
        yield session


async def post(
    session: aiohttp.ClientSession, operation: str, /, **order: Any
) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{VERSION}/{operation}", json=order) as response:
        return response.status, await response.json()


async def test_rows_are_json_or_arrow(session: aiohttp.ClientSession) -> None:
    sql = "SELECT path, size, last_modified IS NULL AS is_null, raw_path FROM entries ORDER BY path"
    status, found = await post(session, "query", sql=sql)
    assert (status, found["columns"][1]) == (200, {"name": "size", "type": "int64"})
    assert found["rows"] == [["t.csv", 13, False, "dC5jc3Y="], ["é.bin", 2, False, "w6kuYmlu"]]
    async with session.post(f"{VERSION}/query/arrow", json={"sql": sql}) as response:
        assert (response.status, response.content_type) == (200, ARROW_TYPE)
        table = pa.ipc.open_stream(await response.read()).read_all()
    assert table.column("raw_path").to_pylist() == [b"t.csv", "é.bin".encode()]


async def test_versions_are_named_by_the_order(session: aiohttp.ClientSession) -> None:
    order = {"sql": 'SELECT a.x AS a, b.x AS b FROM "t.csv" a JOIN other."t.csv" b USING (id)'}
    status, found = await post(session, "query", **order, **{"with": {"other": "p/b:v0"}})
    assert (status, found["rows"]) == (200, [["a", "a"], ["b", "c"]])
    status, found = await post(session, "table-changes", path="t.csv", to="p/b:v0", key=["id"])
    assert (status, found["column_changes"]) == (200, [])
    assert [row[:3] for row in found["rows"]] == [["changed", {"id": 2}, ["x"]]]


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        ({"sql": "FROM read_text('/etc/passwd')"}, 400, "query-refused"),
        ({"sql": "SET threads = 9"}, 400, "query-refused"),
        ({"sql": 'FROM "none.csv"'}, 404, "no-such-object"),
        ({"sql": "FROM entries", "rows_max": 1}, 422, "query-limit-exceeded"),
        ({"sql": "FROM entries", "with": {"o": "p/none:v0"}}, 404, "no-such-version"),
        ({"sql": "FROM entries", "with": {"Main": "p/b:v0"}}, 400, "query-refused"),
        ({"sql": "FROM entries", "with": {"a b": "p/b:v0"}}, 400, "malformed-request"),
        ({"sql": "FROM entries", "timeout_s": 1e9}, 400, "malformed-request"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_one_problem(
    session: aiohttp.ClientSession, order: dict[str, Any], status: int, code: str
) -> None:
    found = await post(session, "query", **order)
    assert (found[0], found[1]["code"]) == (status, code)


async def test_a_daemon_answers_as_a_data_folder(data: Path) -> None:
    async with running_daemon(data) as (url, app), connect(url) as client:
        found = []
        for workspace in (app, client):
            handle = await Handle.open(workspace, "p/a:v0")
            query = await handle.query("SELECT * FROM entries", prefix="t")
            later = await handle.beside("p/b:v0")
            changes = await later.compare_table("t.csv", handle, key=["id"])
            found.append((query.table, changes.table, changes.counts, changes.column_changes))
        assert found[0] == found[1]
        assert found[0][2] == {"added": 0, "removed": 0, "changed": 1, "duplicates": 0}
