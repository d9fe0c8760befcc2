"""Pages: what their digest depends on and what not, and ETags that come back as they were."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from indexer.page import (
    IDENTITY,
    OBSERVED,
    SCHEMA,
    empty_page,
    etag_texts,
    is_ascending,
    join_pages,
    make_page,
    pack_etags,
    paths_of,
    rows_digest,
    with_all_columns,
    without_null_columns,
)
from tests.unit.rows_model import Entry, another, entries, page_of, slow_digest, something, table_of

IDENTITY_NAMES = [field.name for field in IDENTITY]
OBSERVED_NAMES = [field.name for field in OBSERVED]
MD5 = b"d41d8cd98f00b204e9800998ecf8427e"

# --- the digest ----------------------------------------------------------------------------------


@given(entries(max_size=40))
def test_the_digest_is_what_the_format_says(rows: list[Entry]) -> None:
    assert rows_digest(table_of(rows)) == slow_digest(rows)


@given(entries(), st.data())
def test_the_digest_does_not_depend_on_chunks(rows: list[Entry], data: st.DataObject) -> None:
    ends = data.draw(st.sets(st.integers(0, len(rows))))
    bounds = [0, *sorted(ends), len(rows)]
    parts = [rows[a:b] for a, b in pairwise(bounds)]
    chunked = pa.concat_tables([table_of(part) for part in parts])
    joined = join_pages([page_of(part) for part in parts])
    assert rows_digest(chunked) == rows_digest(joined) == slow_digest(rows)
    assert joined.column("path").num_chunks <= 1


@given(entries(), st.integers(0, 12), st.integers(0, 12))
def test_the_digest_does_not_depend_on_where_rows_lie(
    rows: list[Entry], before: int, after: int
) -> None:
    neighbour: Entry = dict.fromkeys(SCHEMA.names) | {"path": b"?", "size": 7}
    others = [dict(neighbour, **{name: rows[0][name] for name in SCHEMA.names[2:]}), neighbour]
    padded = [*(others * before)[:before], *rows, *(others * after)[:after]]
    for table in (table_of(padded), pa.Table.from_batches([page_of(padded)])):
        sliced = table.slice(before, len(rows))
        assert rows_digest(sliced) == slow_digest(rows)
        assert rows_digest(without_null_columns(sliced)) == slow_digest(rows)


@given(entries(), st.data())
def test_the_digest_does_not_depend_on_what_lies_under_nulls(
    rows: list[Entry], data: st.DataObject
) -> None:
    clean = table_of(rows)
    columns = []
    for column in SCHEMA:
        array = clean.column(column.name).combine_chunks()
        if not array.null_count:
            columns.append(array)
            continue
        filled = pa.array(
            [
                value if value is not None else data.draw(something(column.name))
                for value in array.to_pylist()
            ],
            column.type,
        )
        buffers = [pa.py_buffer(_validity(array)), *filled.buffers()[1:]]
        columns.append(pa.Array.from_buffers(column.type, len(array), buffers))
    dirty = pa.Table.from_arrays(columns, schema=SCHEMA)
    assert dirty.equals(clean)
    assert rows_digest(dirty) == slow_digest(rows)


def _validity(array: pa.Array) -> bytes:
    """A validity bitmap that has ones where its padding is."""
    flags = [*array.is_valid().to_pylist(), *[True] * (-len(array) % 8)]
    numbers = range(0, len(flags), 8)
    return bytes(sum(f << bit for bit, f in enumerate(flags[n : n + 8])) for n in numbers)


@given(entries(), st.sets(st.sampled_from(OBSERVED_NAMES)))
def test_the_digest_does_not_depend_on_what_was_observed(
    rows: list[Entry], dropped: set[str]
) -> None:
    table = table_of(rows)
    kept = [name for name in SCHEMA.names if name not in dropped]
    assert rows_digest(table.select(kept)) == rows_digest(table)


@given(entries())
def test_the_digest_does_not_depend_on_columns_without_values(rows: list[Entry]) -> None:
    table = table_of(rows)
    bare = without_null_columns(table)
    assert rows_digest(bare) == rows_digest(table)
    assert with_all_columns(bare).equals(table)
    assert [column.null_count < len(rows) for column in bare.columns] == [True] * bare.num_columns


@given(entries(), st.data())
def test_every_change_of_an_identity_changes_the_digest(
    rows: list[Entry], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(IDENTITY_NAMES))
    value = data.draw(another(name, rows[number][name]))
    changed = [dict(row) for row in rows]
    changed[number][name] = value
    assert rows_digest(table_of(changed)) != rows_digest(table_of(rows))


@given(entries(min_size=2), st.data())
def test_a_value_in_another_row_or_column_changes_the_digest(
    rows: list[Entry], data: st.DataObject
) -> None:
    first, second = data.draw(st.permutations(range(len(rows))))[:2]
    name = data.draw(st.sampled_from(IDENTITY_NAMES))
    assume(rows[first][name] != rows[second][name])
    changed = [dict(row) for row in rows]
    changed[first][name], changed[second][name] = rows[second][name], rows[first][name]
    assert rows_digest(table_of(changed)) != rows_digest(table_of(rows))


def test_a_value_in_another_column_of_its_kind_changes_the_digest() -> None:
    digests = {
        rows_digest(table_of([{"path": b"a", "size": 1, name: "x"}]))
        for name in ("uri", "etag_raw", "version_id", "checksum_algorithm", "checksum_type")
    }
    assert len(digests) == 5


def test_bytes_that_move_between_rows_change_the_digest() -> None:
    rows = [{"path": path, "size": 0} for path in (b"ab", b"c")]
    moved = [{"path": path, "size": 0} for path in (b"a", b"bc")]
    assert rows_digest(table_of(rows)) != rows_digest(table_of(moved))


# --- pages ---------------------------------------------------------------------------------------


@given(entries(min_size=0))
def test_a_page_has_the_columns_that_have_values(rows: list[Entry]) -> None:
    table = table_of(rows).combine_chunks()
    columns = {
        name: pa.array(table.column(name).to_pylist(), SCHEMA.field(name).type)
        for name in reversed(SCHEMA.names)
    }
    page = make_page(columns)
    expected = [n for n in SCHEMA.names if n in ("path", "size") or _has_values(rows, n)]
    assert page.schema.names == expected
    assert with_all_columns(pa.Table.from_batches([page])).equals(table)
    assert paths_of(page) == [row["path"] for row in rows]


def _has_values(rows: list[Entry], name: str) -> bool:
    return any(row[name] is not None for row in rows)


def test_a_page_needs_its_paths_and_sizes_and_knows_its_columns() -> None:
    paths, sizes = pa.array([b"a"], pa.binary()), pa.array([1], pa.int64())
    with pytest.raises(AssertionError):
        make_page({"path": paths, "color": sizes, "size": sizes})
    with pytest.raises(AssertionError):
        make_page({"path": paths})


def test_an_empty_page_joins_with_others() -> None:
    page = page_of([{"path": b"a", "size": 1, "version_id": "1"}])
    assert empty_page().num_rows == 0
    joined = join_pages([empty_page(), page, empty_page()])
    assert joined.to_pylist() == page.to_pylist()
    assert join_pages([empty_page()]).num_rows == 0


@given(st.lists(entries(min_size=0), min_size=1, max_size=4))
def test_joined_pages_have_the_columns_that_any_of_them_has(parts: list[list[Entry]]) -> None:
    joined = join_pages([page_of(part) for part in parts])
    rows = [row for part in parts for row in part]
    assert with_all_columns(joined).to_pylist() == [dict(row) for row in rows]
    named = [n for n in SCHEMA.names if n in ("path", "size") or _has_values(rows, n)]
    assert joined.schema.names == named


@given(st.lists(st.binary(max_size=3), max_size=5))
def test_ascending_means_strictly_as_bytes(keys: list[bytes]) -> None:
    assert is_ascending(keys) == (keys == sorted(set(keys)))


# --- ETags ---------------------------------------------------------------------------------------

hexes = st.binary(min_size=16, max_size=16).map(bytes.hex)
etags = st.one_of(
    hexes,
    st.builds("{}-{}".format, hexes, st.integers(0, 2**33)),
    st.builds("{}-{}".format, hexes, st.text("0123456789-+_ ", max_size=12)),
    hexes.map(str.upper),
    st.text("0123456789abcdef", max_size=64),
    st.text(),
)


@given(st.lists(etags, max_size=12), st.data())
@example([MD5.decode()[:31], MD5.decode() + "0"], None)
@example([MD5.decode() + "-" + "9" * 5000], None)
@example([MD5.decode() + "-4294967295", MD5.decode() + "-4294967296"], None)
@example([MD5.decode() + "-٣", MD5.decode() + "-1\n", MD5.decode() + "\n"], None)
def test_any_etag_comes_back_as_it_was(texts: list[str], data: st.DataObject | None) -> None:
    page = _etag_page([text.encode() for text in texts])
    assert etag_texts(page).to_pylist() == texts
    start = data.draw(st.integers(0, len(texts))) if data else 0
    assert etag_texts(page.slice(start)).to_pylist() == texts[start:]
    table = pa.concat_tables(pa.Table.from_batches([p]) for p in (page.slice(start), page))
    assert etag_texts(table).to_pylist() == texts[start:] + texts


def _etag_page(texts: list[bytes]) -> pa.RecordBatch:
    numbers = range(len(texts))
    return make_page(
        {
            "path": pa.array([b"%06d" % number for number in numbers], pa.binary()),
            "size": pa.array(numbers, pa.int64()),
            **pack_etags(texts),
        }
    )


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (MD5, {"etag_md5": bytes.fromhex(MD5.decode())}),
        (MD5 + b"-3", {"etag_md5": bytes.fromhex(MD5.decode()), "etag_parts": 3}),
        (MD5 + b"-03", {"etag_raw": MD5.decode() + "-03"}),
        (MD5 + b"-0", {"etag_raw": MD5.decode() + "-0"}),
        (MD5.upper(), {"etag_raw": MD5.decode().upper()}),
        (b"", {"etag_raw": ""}),
        (b"0x8D4BCC2E4835CD0", {"etag_raw": "0x8D4BCC2E4835CD0"}),
    ],
)
def test_an_etag_is_held_once(text: bytes, held: dict[str, Any]) -> None:
    for others in ([], [b"x"], [MD5], [MD5 + b"-2"]):
        row = _etag_page([text, *others]).to_pylist()[0]
        names = [name for name in row if name.startswith("etag") and row[name] is not None]
        assert {name: row[name] for name in names} == held


def test_rows_without_an_etag_have_none() -> None:
    rows: list[Entry] = [
        {"path": b"a", "size": 1, "etag_md5": b"\1" * 16},
        {"path": b"b", "size": 1},
        {"path": b"c", "size": 1, "etag_raw": "x"},
    ]
    assert etag_texts(page_of(rows)).to_pylist() == ["01" * 16, None, "x"]
    assert etag_texts(page_of(rows[1:2])).to_pylist() == [None]
