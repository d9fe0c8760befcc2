"""Tables from bytes: every format, and what is none."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.artifact.query import tables
from indexer.artifact.query.tables import FORMATS, format_of, format_sql, joined_parts, read_table
from indexer.errors import QueryRefused

ROWS = [{"id": 1, "name": "é"}, {"id": 2, "name": 'a"b\nc'}]
CSV = 'id,name\n1,é\n2,"a""b\nc"\n'.encode()
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def wandb(**fields: Any) -> bytes:
    return json.dumps({"_type": "table", "ncols": 2, "nrows": 2, **fields}).encode()


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv", CSV),
        ("A.CSV", b"\xef\xbb\xbf" + CSV),
        ("a.tsv", CSV.replace(b",", b"\t")),
        ("a.csv.gz", gzip.compress(CSV)),
        ("a.csv.zst", pa.compress(CSV, "zstd", asbytes=True)),
        ("a.jsonl", LINES),
        ("a.ndjson.gz", gzip.compress(LINES)),
        ("a.parquet", parquet(pa.Table.from_pylist(ROWS))),
        ("a.table.json", wandb(columns=["id", "name"], data=[[1, "é"], [2, 'a"b\nc']])),
    ],
)
def test_every_format_gives_the_same_rows(path: str, data: bytes) -> None:
    assert read_table(data, path).to_pylist() == ROWS


def test_types_are_those_of_all_rows() -> None:
    data = b"a\n" + b"1\n" * 600_000 + b"x\n"
    assert read_table(data, "a.csv").schema.field("a").type == pa.string()


def test_names_are_told_apart_whatever_their_case() -> None:
    assert read_table(b"a,A,,a\n1,2,3,4\n", "a.csv").column_names == ["a", "A_1", "column_2", "a_2"]


@pytest.mark.parametrize("path", ["a.csv", "a.jsonl", "a.parquet"])
def test_nothing_is_no_table_and_rows_may_be_none(path: str) -> None:
    nothing = parquet(pa.table({})) if path == "a.parquet" else b" \n"
    with pytest.raises(QueryRefused, match="it has no columns"):
        read_table(nothing, path)
    assert read_table(b"a,b\n", "a.csv").num_rows == 0


def test_wandb_moments_media_and_mixed_columns() -> None:
    image = {"_type": "image-file", "path": "media/images/a.png"}
    table = read_table(
        wandb(
            columns=["at", "image", "mixed", "nothing", 7],
            data=[[1700000000000, image, 1, None, [1, 2]], [None, None, "a", None, None]],
            column_types={
                "wb_type": "typedDict",
                "params": {
                    "type_map": {
                        "at": {
                            "wb_type": "union",
                            "params": {
                                "allowed_types": [{"wb_type": "none"}, {"wb_type": "timestamp"}]
                            },
                        }
                    }
                },
            },
        ),
        "a.table.json",
    )
    assert table.to_pylist() == [
        {
            "at": datetime.fromtimestamp(1700000000, UTC),
            "image": image,
            "mixed": "1",
            "nothing": None,
            "7": [1, 2],
        },
        {"at": None, "image": None, "mixed": "a", "nothing": None, "7": None},
    ]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv", b"a,b\n1\n"),
        ("a.csv", b"n\xe9,b\n1,2\n"),
        ("a.csv.gz", CSV),
        ("a.jsonl", b'{"a": 1'),
        ("a.jsonl", b'{"a": 1}\n[2]\n'),
        ("a.parquet", b"PAR1 no parquet PAR1"),
        ("a.parquet", b""),
        ("a.table.json", b"[]"),
        ("a.table.json", b"{"),
        ("a.table.json", b"[" * 100_000),
        ("a.table.json", wandb(columns=["a"])),
        ("a.table.json", wandb(columns=["a"], data=[[1, 2]])),
        ("a.table.json", wandb(columns=["a"], data=[], log_mode="INCREMENTAL")),
        ("a.png", b""),
    ],
)
def test_what_is_no_table_is_refused(path: str, data: bytes) -> None:
    with pytest.raises(QueryRefused, match=r"'a\.\S+' (cannot be read as|is no table)"):
        read_table(data, path)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 1_000)),
        ("a.parquet", parquet(pa.table({"a": list(range(1_000))}))),
    ],
)
def test_what_is_packed_is_bounded_when_unpacked(
    path: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TABLE_BYTES_MAX", 1_000)
    with pytest.raises(QueryRefused, match="when it is unpacked"):
        read_table(data, path)


def test_joined_tables_name_two_and_their_keys() -> None:
    document = {"_type": "joined-table", "table1": "a", "table2": "b", "join_key": "id"}
    assert joined_parts(json.dumps(document).encode(), "j") == ("a", "b", ("id", "id"))
    document["join_key"] = ["x", "y"]  # type: ignore[assignment]
    assert joined_parts(json.dumps(document).encode(), "j") == ("a", "b", ("x", "y"))
    for wrong in (b"{}", b"[]", b"{", json.dumps({**document, "join_key": ["x"]}).encode()):
        with pytest.raises(QueryRefused, match="cannot be read as a joined table"):
            joined_parts(wrong, "j")


def test_sql_knows_formats_as_we_do() -> None:
    duckdb = pytest.importorskip("duckdb")
    ends = [*FORMATS, ".json", ".png", "csv", ".CSV", ""]
    paths = [f"x/a{end}{packed}" for end in ends for packed in ("", ".gz", ".zst", ".ZST", ".xz")]
    database = duckdb.connect()
    database.register("paths", pa.table({"path": paths}))
    sql = f"SELECT {format_sql('path')} FROM paths"  # noqa: S608 - our own
    found = database.sql(sql).fetchall()
    assert [kind for (kind,) in found] == [format_of(path) for path in paths]
