"""The process that queries are answered in: whatever SQL tries, it reaches nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb")

ROOT = Path(__file__).parents[2]

ATTEMPTS = """
import errno, json, socket, sys
secret = __import__("pyarrow").table({"value": [1]})
from indexer.artifact.query.messages import Bounds, Task, View
from indexer.artifact.query.locked import Query, lock_process
from indexer.errors import IndexerError, NoSuchObject

class NobodyThere:
    failure = None
    def ask(self, need):
        raise NoSuchObject(f"no entry {need.table!r}")

views = (View("", "p/a:v0", (("s3://bucket/", ""),), (), 0, b""),)
bounds = Bounds(20.0, 256 << 20, 1_000, 1 << 20)
query = Query(Task(bounds, views, ""), NobodyThere())
query.open_and_lock()

def tried(sql):
    try:
        return query.select(sql).to_pylist()
    except IndexerError as error:
        return [error.kind, str(error)]

found = [tried(sql) for sql in json.load(sys.stdin)]
refused = []
for open_one in (lambda: open("/etc/passwd"), socket.socket):
    try:
        open_one()
    except OSError as error:
        refused.append(error.errno == errno.EMFILE)
print(json.dumps({"found": found, "refused": refused}, default=str))
"""

READING = (
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_ndjson_objects('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM parquet_schema('/etc/passwd')",
    "SELECT * FROM read_duckdb('/nowhere/a.db')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'data.csv'",
    "SELECT * FROM 'https://127.0.0.1/a.parquet'",
    "SELECT * FROM 's3://bucket/a.parquet'",
    "SELECT * FROM read_csv('https://127.0.0.1/a.csv')",
    "SELECT * FROM read_parquet('s3://bucket/a.parquet')",
    "SELECT * FROM sqlite_scan('/nowhere/a.db', 'a')",
    "SELECT * FROM postgres_scan('host=127.0.0.1', 'a', 'b')",
    "SELECT * FROM iceberg_scan('/nowhere')",
    "SELECT * FROM http_get('http://127.0.0.1')",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH a AS (FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret",
    "SELECT * FROM sys",
    "SELECT * FROM arrow_scan(NULL, NULL, NULL)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function((SELECT 1), NULL)",
    "SELECT * FROM enable_logging(storage := 'file', storage_path := '/nowhere/log')",
)

DOING = (
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "COPY (SELECT 1) TO '/nowhere/out.csv'",
    "COPY entries TO '/nowhere/out.parquet' (FORMAT parquet)",
    "EXPORT DATABASE '/nowhere/out'",
    "IMPORT DATABASE '/nowhere/out'",
    "ATTACH '/nowhere/a.db' AS a",
    "ATTACH ':memory:' AS a",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "INSTALL h3 FROM community",
    "LOAD httpfs",
    "LOAD '/nowhere/a.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET threads = 64",
    "SET GLOBAL memory_limit = '1TB'",
    "RESET memory_limit",
    "SET VARIABLE a = 1",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "CREATE TABLE a AS SELECT 1",
    "CREATE TEMP TABLE a AS SELECT 1",
    "CREATE OR REPLACE VIEW entries AS SELECT 1",
    "CREATE MACRO a() AS 1",
    "CREATE SECRET a (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP VIEW entries",
    "ALTER VIEW entries RENAME TO a",
    "INSERT INTO entries VALUES (1)",
    "DELETE FROM entries",
    "UPDATE entries SET size = 1",
    "TRUNCATE entries",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE a AS SELECT 1",
    "EXECUTE a",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "SELECT",
    "SELECT * FROM entries WHERE",
)

HARMLESS = (
    "SELECT count(*) AS n FROM entries",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://bucket', 's3')",
    "FROM duckdb_databases()",
    "SHOW TABLES",
    "DESCRIBE entries",
    "SELECT current_setting('enable_external_access') AS a, current_setting('temp_directory') AS b",
)

WIDE = (f"{2**127 - 1}::HUGEINT", f"[{2**127 - 1}::HUGEINT]", f"{2**128 - 1}::UHUGEINT")


def run(queries: tuple[str, ...]) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", ATTEMPTS],
        input=json.dumps(queries),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "A_SECRET": "told-to-nobody"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2_000:]
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def test_sql_reaches_nothing() -> None:
    ran = run((*READING, *DOING, *HARMLESS))
    answers = dict(zip((*READING, *DOING, *HARMLESS), ran["found"], strict=True))
    for sql in (*READING, *DOING):
        assert [type(one) for one in answers[sql]] == [str, str], (sql, answers[sql])
        kind, said = answers[sql]
        assert kind in {"query-refused", "no-such-object"}, (sql, kind, said)
        assert "\n" not in said, sql
        assert "passwd" not in said.replace("/etc/passwd", ""), sql
    for sql in DOING[:-2]:
        assert answers[sql][0] == "query-refused", sql
        assert "one SELECT" in answers[sql][1] or "Parser Error" in answers[sql][1], answers[sql]
    assert answers["SELECT count(*) AS n FROM entries"] == [{"n": 0}]
    assert answers[HARMLESS[-1]] == [{"a": False, "b": ""}]
    assert "told-to-nobody" not in json.dumps(ran)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_the_system_lets_it_open_nothing() -> None:
    assert run(())["refused"] == [True, True]


def test_numbers_are_right_or_refused() -> None:
    ran = run((*(f"SELECT {most} AS n" for most in WIDE), f"SELECT {10**37}::HUGEINT AS n"))
    *refused, fits = ran["found"]
    for kind, said in refused:
        assert (kind, "cast it to VARCHAR" in said) == ("query-refused", True)
    assert fits == [{"n": str(10**37)}]
