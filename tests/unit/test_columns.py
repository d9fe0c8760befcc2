"""Columns of entries: SQL and Arrow make the same of the same rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.artifact.query.columns import COLUMNS, entries_sql, entries_table, raw_rows
from indexer.entries import entries_of
from indexer.manifest import SourceRef
from indexer.page import SCHEMA

duckdb = pytest.importorskip("duckdb")


@cache
def connection() -> Any:
    """One for all examples: opening one takes longer than an example."""
    return duckdb.connect()


REF = "project/artifact:v3"
FOLDERS = ("s3://bucket/a'b/", "gs://bucket/", "https://host/x/", "file:///some%20folder/")
NAMES = st.one_of(
    st.text("ab./ %é\n'\"~+#İßA0", min_size=1, max_size=12).map(str.encode),
    st.binary(min_size=1, max_size=6),
)
HEXES = st.binary(min_size=16, max_size=16)


@st.composite
def versions(draw: st.DrawFn) -> tuple[pa.Table, list[SourceRef]]:
    mounts = draw(st.sampled_from([("",), ("a", "b"), ("one", "it's")]))
    sources = [SourceRef(draw(st.sampled_from(FOLDERS)), mount) for mount in mounts]
    paths = {
        source.path_prefix + name
        for source in sources
        for name in draw(st.lists(NAMES, min_size=1, max_size=4))
    }
    rows = [
        {
            "path": path,
            "size": draw(st.integers(0, 2**63 - 1)),
            "uri": draw(st.sampled_from([None, None, "https://other/é?a=1"])),
            "etag_md5": draw(st.none() | HEXES),
            "etag_parts": draw(st.none() | st.integers(1, 10_000)),
            "checksum": draw(st.none() | HEXES),
            "checksum_algorithm": "md5",
            "mtime_ns": draw(st.none() | st.integers(0, 2**62)),
        }
        for path in sorted(paths)
    ]
    for row in rows:
        if row["etag_md5"] is None:
            row["etag_parts"], row["etag_raw"] = None, draw(st.none() | st.text(max_size=5))
    return pa.Table.from_pylist(rows, schema=SCHEMA), sources


@given(versions())
@settings(max_examples=40, deadline=None)
def test_sql_and_arrow_say_what_entries_are(version: tuple[pa.Table, list[SourceRef]]) -> None:
    table, sources = version
    database = connection()
    database.register("raw", raw_rows(table, sources))
    by_sql = database.sql(entries_sql("raw", sources, REF)).to_arrow_table()
    by_arrow = entries_table(table, sources, REF)
    assert by_sql.column_names == by_arrow.column_names == [*COLUMNS]
    assert by_sql.to_pylist() == by_arrow.to_pylist()
    for row, entry in zip(by_arrow.to_pylist(), entries_of(table, sources), strict=True):
        uri = entry.uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        assert (row["raw_path"], row["uri"]) == (entry.path, uri)
        assert (row["etag"], row["checksum"]) == (entry.etag, entry.checksum)
        if row["path"] is not None:
            assert row["path"] == row["folder"] + row["name"] == entry.path.decode()
            assert row["reference"] == f"indexer://{REF}/{row['path']}"
            assert row["path_base64"] is None


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("a/b.WAV", "wav"),
        ("a.tar.gz", "gz"),
        ("a.b/c", ""),
        (".hidden", ""),
        ("a/.hidden", ""),
        ("a.", ""),
        ("a", ""),
    ],
)
def test_extensions(path: str, extension: str) -> None:
    table = pa.Table.from_pylist([{"path": path.encode(), "size": 1}], schema=SCHEMA)
    found = entries_table(table, [SourceRef("s3://bucket/")], REF)
    assert found.column("extension").to_pylist() == [extension]
