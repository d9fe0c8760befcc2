"""SQL over versions and the tables in them: from folders and from MinIO, by command and library."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import indexer
from deploy.s3_server import S3Server
from indexer.app import App, open_app
from indexer.artifact.query.results import Result
from indexer.defaults import Defaults, QueryLimits
from indexer.errors import Busy, CorruptContent, QueryLimitExceeded, QueryRefused
from indexer.references import parse_reference
from indexer.wire.query import QueryOrder
from tests.conftest import MakeBucket
from tests.integration.commands import Command, failed, snapshot

pytest.importorskip("duckdb")

LABELS = "file,label\na.wav,cat\nsub/b.wav,dog\n../top.wav,cat\ngone.wav,cat\n"
IMAGE = {"_type": "audio-file", "path": "media/top.wav"}
FIRST = {"_type": "table", "columns": ["id", "audio"], "data": [[1, IMAGE], [2, None]]}
SECOND = {"_type": "table", "columns": ["id", "score"], "data": [[1, 0.5], [3, 0.1]]}
JOINED = {"_type": "joined-table", "table1": "a.table.json", "table2": "b.table.json"}
ENDLESS = "SELECT count(*) FROM range(1000000000000)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in a folder, tables among them."""
    files = tmp_path_factory.mktemp("files")
    for path, body in {
        "media/a.wav": b"12345",
        "media/labels.csv": LABELS.encode(),
        "media/sub/b.wav": b"1",
        "media/top.wav": b"123",
        "top.wav": b"12",
        "scores.jsonl": b'{"label": "cat", "score": 1}\n{"label": "dog", "score": 2}\n',
        "a.table.json": json.dumps(FIRST).encode(),
        "b.table.json": json.dumps(SECOND).encode(),
        "c.joined-table.json": json.dumps({**JOINED, "join_key": "id"}).encode(),
        "empty.csv": b"",
    }.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_bytes(body)
    (files / "odd\udcff.bin").write_bytes(b"1")
    pq.write_table(pa.table({"label": ["cat"], "legs": [4]}), files / "legs.parquet")
    return files


@pytest.fixture(scope="module")
def version(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> indexer.Version:
    data = tmp_path_factory.mktemp("catalog") / "data"
    return indexer.snapshot(str(folder), name="project/sounds", data=data)


def test_entries_and_tables_join(version: indexer.Version) -> None:
    found = version.query(
        'SELECT l.label, s.score, sum(e.size) AS bytes, legs FROM "media/labels.csv" l '
        "JOIN entries e ON e.path = 'media/' || l.file JOIN \"scores.jsonl\" s USING (label) "
        'LEFT JOIN "legs.parquet" USING (label) GROUP BY ALL ORDER BY label'
    )
    assert found.to_pylist() == [
        {"label": "cat", "score": 1, "bytes": 5, "legs": 4},
        {"label": "dog", "score": 2, "bytes": 1, "legs": None},
    ]
    assert found.to_csv() == "label,score,bytes,legs\ncat,1,5,4\ndog,2,1,\n"
    assert found.to_pandas()["bytes"].tolist() == [5, 1]
    assert "<th>label</th>" in found._repr_html_()


def test_tables_are_listed_and_opened(version: indexer.Version) -> None:
    assert version.tables().table.column("path").to_pylist() == [
        "a.table.json", "b.table.json", "c.joined-table.json", "empty.csv", "legs.parquet",
        "media/labels.csv", "scores.jsonl",
    ]  # fmt: skip
    assert version.table("legs.parquet").to_pylist() == [{"label": "cat", "legs": 4}]
    assert version.table("c.joined-table.json").to_pylist() == [
        {"id": 1, "audio": IMAGE, "id_1": 1, "score": 0.5}
    ]
    with pytest.raises(QueryRefused, match=r"'media/a\.wav' is no table"):
        version.table("media/a.wav")


def test_media_join_to_entries(version: indexer.Version) -> None:
    rows = version.table("media/labels.csv", media="file").to_pylist()
    assert [(row["file"], row["entry_path"], row["entry_size"]) for row in rows] == [
        ("a.wav", "media/a.wav", 5),
        ("sub/b.wav", "media/sub/b.wav", 1),
        ("../top.wav", "top.wav", 2),
        ("gone.wav", None, None),
    ]
    assert rows[0]["entry_version"] == version.ref
    assert rows[0]["entry_reference"] == f"indexer://{version.ref}/media/a.wav"
    (first, second) = version.table("a.table.json", media="audio", of=version).to_pylist()
    assert (first["entry_path"], second["entry_path"]) == ("media/top.wav", None)


def test_entries_as_a_data_frame(version: indexer.Version, folder: Path) -> None:
    frame = version.to_pandas("media/")
    assert frame["path"].tolist() == [
        "media/a.wav", "media/labels.csv", "media/sub/b.wav", "media/top.wav",
    ]  # fmt: skip
    assert frame["uri"][0] == (folder / "media/a.wav").as_uri()
    assert version.to_pandas("nothing").empty
    odd = version.query("SELECT path, path_base64, raw_path FROM entries WHERE path IS NULL")
    assert odd.to_pylist() == [
        {"path": None, "path_base64": "b2Rk/y5iaW4=", "raw_path": b"odd\xff.bin"}
    ]


def test_a_query_reads_what_it_names_alone(version: indexer.Version) -> None:
    names = version.query(
        "SELECT (SELECT count(*) FROM entries) AS few, "
        "(SELECT count(*) FROM other.entries) AS all, "
        '(SELECT count(*) FROM other."legs.parquet") AS legs',
        versions={"other": version},
        prefix="media/",
    )
    assert names.to_pylist() == [{"few": 4, "all": 12, "legs": 1}]
    with_own = version.query(
        'WITH "legs.parquet" AS (SELECT 1 AS a), mine AS (SELECT 2 AS b) FROM "legs.parquet", mine'
    )
    assert len(with_own) == 1
    for sql, said in (
        ('FROM "../outside.csv"', "has no entry '../outside.csv'"),
        ('FROM other."legs.parquet"', "no version is named 'other' here; name one with --with"),
        ('FROM "legs.parquet", "LEGS.parquet"', "has no entry 'LEGS.parquet'"),
        ('FROM "media/labels.csv#sound"', "no column 'sound'; it has file, label"),
        ('FROM "media/labels.csv#file@other"', "no version is named 'other'"),
    ):
        with pytest.raises((QueryRefused, indexer.errors.NoSuchObject), match=said):
            version.query(sql)


def test_the_command(version: indexer.Version, tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.environment["INDEXER_DATA"] = str(version.place.data)
    sql = (
        "SELECT extension, count(*) AS n, [1] AS l FROM entries GROUP BY 1 ORDER BY n DESC LIMIT 1"
    )
    assert command("query", version.ref, sql, "--json").document == {
        "extension": "wav", "n": 4, "l": [1],
    }  # fmt: skip
    assert command("query", version.ref, sql, "--csv").output == "extension,n,l\nwav,4,[1]\n"
    assert command("query", version.ref, sql).output == "extension  n  l\nwav        4  [1]\n"
    assert "legs.parquet" in command("table", "ls", version.ref).output
    shown = command("table", "show", version.ref, "legs.parquet", "--csv")
    assert shown.output == "label,legs\ncat,4\n"
    named = command("query", version.ref, "FROM x.tables", "--with", f"x={version.ref}", "--json")
    assert len(named.documents) == 7
    assert "one SELECT" in failed(command("query", version.ref, "DROP VIEW entries"), 2)
    assert "--with 'x' should be" in failed(command("query", version.ref, "x", "--with", "x"), 2)
    more = command("query", version.ref, "FROM entries", "--query-rows", "3")
    assert "more than 3 rows" in failed(more, 4)


def test_without_duckdb_the_extra_is_named(
    version: indexer.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(indexer.errors.UsageError, match=r"install bucket-indexer\[query\]"):
        version.query("SELECT 1")


# --- what a query may take


async def ask(app: App, sql: str, **fields: Any) -> pa.Table:
    record = await app.version(parse_reference("project/sounds:latest"))
    return Result.read(await app.query(record, QueryOrder(sql=sql, **fields))).table


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (ENDLESS, "more than 1 s"),
        ("SELECT * FROM range(1000000000)", "more than 1,000 rows"),
        ("SELECT repeat('x', 200000000) FROM range(9)", "MiB"),
        ("SELECT list(range) FROM range(1000000000)", "more than 128 MiB of memory"),
        ("SELECT " + "(" * 45_000 + "1" + ")" * 45_000, "nested|ended before its answer|Parser"),
    ],
)
async def test_a_query_that_runs_away_costs_itself_alone(
    version: indexer.Version, sql: str, said: str
) -> None:
    limits = QueryLimits(timeout_s=20, memory_mib=128, rows=1_000)
    async with open_app(version.place.data, defaults=Defaults(query=limits)) as app:
        with pytest.raises((QueryLimitExceeded, QueryRefused), match=said):
            await ask(app, sql, timeout_s=1.0 if sql == ENDLESS else None)
        assert (await ask(app, "SELECT 1 AS a")).to_pylist() == [{"a": 1}]


async def test_so_many_run_at_once_and_those_that_are_cancelled_are_gone(
    version: indexer.Version,
) -> None:
    async with open_app(version.place.data) as app:
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(ask(app, ENDLESS))
        assert raised.group_contains(Busy)
        assert len(await ask(app, "SELECT 1")) == 1


async def test_a_shard_that_is_not_what_it_was_is_never_seen_by_sql(
    folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    indexer.snapshot(str(folder), name="project/sounds", data=data)
    (shard,) = (path for path in (data / "shards").rglob("*") if path.is_file())
    rows = pq.read_table(shard)
    pq.write_table(rows.slice(1), shard)
    async with open_app(data) as app:
        with pytest.raises(CorruptContent, match="do not have that digest"):
            await ask(app, "SELECT count(*) FROM entries")


def test_a_library_call_from_many_threads(version: indexer.Version) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(version.query("FROM range(3)"))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3, 3]


# --- versions of a bucket


def test_a_table_is_read_as_it_was_recorded(
    minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    tmp_path: Path,
) -> None:
    before = b"id,file,label\n1,a,cat\n2,b,dog\n3,c,cat\n3,c,cat\n"
    after = b"id,file,label,by\n1,a,cat,x\n2,b,wolf,x\n4,d,cat,x\n"
    command = Command(tmp_path, minio)
    kept, plain = (
        bucket(minio, {"labels.csv": before, "a": b"123", "b": b"1"}, versioned=versioned)
        for versioned in (True, False)
    )
    for name in (kept, plain):
        snapshot(
            command, f"s3://{name}/", "--name", f"p/{name}", *(["--heads"] if name == kept else [])
        )
        s3_client(minio).put_object(Bucket=name, Key="labels.csv", Body=after)
        s3_client(minio).put_object(Bucket=name, Key="b", Body=b"12345")
        snapshot(
            command, f"s3://{name}/", "--name", f"p/{name}", *(["--heads"] if name == kept else [])
        )

    changed = command(
        "table", "diff", f"p/{kept}:v0", f"p/{kept}:v1", "labels.csv", "--key", "id", "--json"
    )
    assert [(row["change"], row["key"], row["columns"]) for row in changed.documents] == [
        ("changed", {"id": 2}, ["label"]),
        ("duplicate", {"id": 3}, None),
        ("added", {"id": 4}, None),
    ]
    assert changed.errors == (
        "Column by: none before, string after.\n"
        "1 added, 0 removed, 1 changed, 1 duplicates\n"
    )  # fmt: skip
    sql = 'SELECT id, entry_size, entry_version FROM "labels.csv#file@new" ORDER BY id LIMIT 2'
    media = command("query", f"p/{kept}:v0", sql, "--with", f"new=p/{kept}:v1", "--csv")
    assert media.output == f"id,entry_size,entry_version\n1,3,p/{kept}:v1\n2,5,p/{kept}:v1\n"
    gone = command("table", "show", f"p/{plain}:v0", "labels.csv")
    assert f"s3://{plain}/labels.csv" in failed(gone, 75)
