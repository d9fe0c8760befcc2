"""compare: rows of two versions side by side, as columns: what was added, removed, and changed.

Two rows are of the same entry if they have the same path. The entry is unchanged if all identity
columns are equal. Else the first of these that can tell says whether the bytes are the same:

    size        other sizes: no
    checksum    both have a checksum of the whole object by one algorithm: as those are
    version     both come from one place and have the same version id, which is not `null`: yes
    etag        both come from the same kind of store and have an ETag: as those are
    time        both come from the same kind of store, and were modified at the same time: yes
    otherwise   nothing proves that they are: no

Invariants
  * Nothing is done row by row in Python.
  * What was merely observed, such as a storage class, is not compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.changes import ChangeKind
from indexer.manifest import SourceRef
from indexer.page import IDENTITY, SCHEMA, with_all_columns

ENTRY: Final = pa.struct(list(SCHEMA))

CHANGES: Final = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("before", ENTRY),
        pa.field("after", ENTRY),
    ]
)
"""A change a row, in key order: where it stands, its `ChangeKind`, and both entries."""

RUNS_MAX: Final = 32
"""Runs of equal paths in which rows are matched; where they are more, hashing is quicker."""

_STEP_ROWS: Final = 64
_STEP_GROWTH: Final = 4
"""Paths that are compared at once: ever more as long as they are equal."""

FULL_OBJECT: Final = "full_object"
_NULL_VERSION: Final = "null"
_FILE: Final = "file"
_COMPARED: Final = tuple(field for field in IDENTITY if field.name != "path")
_MS: Final = pa.timestamp("ms", tz="UTC")
_NS_PER_MS: Final = 1_000_000


def compare_rows(
    old: pa.Table,
    new: pa.Table,
    old_sources: Sequence[SourceRef],
    new_sources: Sequence[SourceRef],
) -> pa.Table:
    """The changes from rows to other rows of the same range of keys, as `CHANGES` has them."""
    old_both, new_both, removed, added = _by_path(old, new)
    differ = pc.invert(_are_equal(old_both, new_both))
    before, after = old_both.filter(differ), new_both.filter(differ)
    is_same = same_content(before, after, old_sources, new_sources)
    kinds = pc.if_else(is_same, str(ChangeKind.IDENTITY), str(ChangeKind.CONTENT))
    tables = [
        changes_of(kinds, before, after),
        changes_of(_repeated(ChangeKind.REMOVED, removed.num_rows), removed, None),
        changes_of(_repeated(ChangeKind.ADDED, added.num_rows), None, added),
    ]
    return in_order([table for table in tables if table.num_rows])


def changes_of(kinds: pa.Array, before: pa.Table | None, after: pa.Table | None) -> pa.Table:
    """The changes of these kinds, from entries to entries; None where there are none."""
    standing = before if after is None else after
    assert standing is not None
    columns = [_flat(standing.column("path")), _flat(kinds), _structs(before), _structs(after)]
    columns = [
        pa.nulls(len(kinds), field.type) if column is None else column
        for column, field in zip(columns, CHANGES, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=CHANGES)


def in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """The changes of several tables, in key order."""
    if not tables:
        return CHANGES.empty_table()
    joined = pa.concat_tables(tables)
    return joined.sort_by("path") if len(tables) > 1 else joined


def entries_in(changes: pa.Table, side: str) -> pa.Table:
    """The entries of one side of changes, `before` or `after`, as rows of the usual columns."""
    entries = _flat(changes.column(side))
    return pa.Table.from_arrays(entries.flatten(), schema=SCHEMA)


def same_content(
    old: pa.Table,
    new: pa.Table,
    old_sources: Sequence[SourceRef],
    new_sources: Sequence[SourceRef],
) -> pa.Array:
    """Whether what is recorded of objects, row by row, proves that their bytes are the same."""
    rows = old.num_rows
    origins = origins_of(old, old_sources), origins_of(new, new_sources)
    is_place = pc.equal(*origins)
    kinds = tuple(kinds_of(one) for one in origins)
    is_kind = pc.equal(*kinds)
    sizes_differ = pc.not_equal(*_pair(old, new, "size"))
    algorithms = tuple(_whole_checksums(one) for one in (old, new))
    both_checksums = _surely(pc.equal(*algorithms))
    versions = _pair(old, new, "version_id")
    is_version = pc.and_(
        pc.and_(is_place, _surely(pc.equal(*versions))),
        _surely(pc.not_equal(versions[0], _NULL_VERSION)),
    )
    both_etags = pc.and_(is_kind, pc.and_(_has_etag(old), _has_etag(new)))
    is_time = pc.and_(is_kind, _times_equal(old, new, pc.equal(kinds[0], _FILE)))
    yes, no = (pa.repeat(pa.scalar(flag), rows) for flag in (True, False))
    return pc.case_when(
        pc.make_struct(sizes_differ, both_checksums, is_version, both_etags, is_time),
        no,
        _surely(pc.equal(*_pair(old, new, "checksum"))),
        yes,
        _etags_equal(old, new),
        yes,
        no,
    )


def origins_of(rows: pa.Table, sources: Sequence[SourceRef]) -> pa.Array:
    """Where each row comes from: its own URI or, if it has none, that of its source."""
    origins = pa.nulls(rows.num_rows, pa.string())
    if not rows.num_rows:
        return origins
    paths = _column(rows, "path")
    lowest, highest = pc.min_max(paths).as_py().values()
    for source in sources:
        if not source.mount:
            origins = pa.repeat(source.uri, rows.num_rows)
            continue
        below = source.path_prefix
        if highest < below or (lowest > below and not lowest.startswith(below)):
            continue
        origins = pc.if_else(pc.starts_with(paths, below), source.uri, origins)
    return pc.coalesce(_column(rows, "uri"), origins)


def kinds_of(origins: pa.Array) -> pa.Array:
    """The kinds of store of which these URIs are: their schemes, `http` with or without TLS."""
    schemes = pc.list_element(pc.split_pattern(origins, ":", max_splits=1), 0)
    return pc.if_else(pc.equal(schemes, "https"), "http", schemes)


def _by_path(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """The rows of paths that both have, of each side; and what only the one or the other has."""
    old_paths, new_paths = _column(old, "path"), _column(new, "path")
    if old_paths.equals(new_paths):
        return old, new, old.slice(0, 0), new.slice(0, 0)
    runs = list(islice(_runs(old_paths, new_paths), RUNS_MAX + 1))
    if len(runs) <= RUNS_MAX:
        return _in_runs(old, new, runs)
    places = pc.index_in(old_paths, value_set=new_paths)
    in_both = pc.is_valid(places)
    places = places.drop_null()
    is_added = pc.invert(pc.is_in(pa.array(range(new.num_rows), pa.int32()), value_set=places))
    return (
        old.filter(in_both),
        new.take(places),
        old.filter(pc.invert(in_both)),
        new.filter(is_added),
    )


def _runs(old: pa.Array, new: pa.Array) -> Iterator[tuple[int, int, int]]:
    """Where equal paths follow one another: the first row of each side, and how many.

    Both sides ascend. Some 0.1 ms a run, where hashing all paths of a shard takes 6.
    """
    at, there = 0, 0
    while at < len(old) and there < len(new):
        length = _equal_length(old[at:], new[there:])
        if length:
            yield at, there, length
            at, there = at + length, there + length
            continue
        path, other = old[at].as_py(), new[there].as_py()
        if path < other:
            at = bisect_left(range(len(old)), other, lo=at, key=lambda row: old[row].as_py())
        else:
            there = bisect_left(range(len(new)), path, lo=there, key=lambda row: new[row].as_py())


def _equal_length(old: pa.Array, new: pa.Array) -> int:
    """How many paths are equal from the first one on."""
    known, step = 0, _STEP_ROWS
    while block := min(step, len(old) - known, len(new) - known):
        equal = pc.equal(old.slice(known, block), new.slice(known, block))
        first = pc.index(equal, pa.scalar(False)).as_py()  # noqa: FBT003 - Arrow's own
        if first >= 0:
            return known + first  # type: ignore[no-any-return]
        known, step = known + block, step * _STEP_GROWTH
    return known


def _in_runs(
    old: pa.Table, new: pa.Table, runs: Sequence[tuple[int, int, int]]
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """What `_by_path` gives, by runs of equal paths."""
    both: list[pa.Table] = []
    alone: list[pa.Table] = []
    for rows, side in ((old, 0), (new, 1)):
        inside = [(run[side], run[side] + run[2]) for run in runs]
        bounds = [0, *(bound for pair in inside for bound in pair), rows.num_rows]
        outside = zip(bounds[::2], bounds[1::2], strict=True)
        both.append(_slices(rows, inside))
        alone.append(_slices(rows, outside))
    return both[0], both[1], alone[0], alone[1]


def _slices(rows: pa.Table, bounds: Iterable[tuple[int, int]]) -> pa.Table:
    slices = [rows.slice(start, end - start) for start, end in bounds if end > start]
    return pa.concat_tables(slices).combine_chunks() if slices else rows.slice(0, 0)


def _are_equal(old: pa.Table, new: pa.Table) -> pa.Array:
    """Whether rows have equal identity columns."""
    equal = pa.repeat(pa.scalar(True), old.num_rows)  # noqa: FBT003 - Arrow's own
    names = {*old.schema.names, *new.schema.names}
    for field in _COMPARED:
        if field.name in names:
            equal = pc.and_(equal, _alike(*_pair(old, new, field.name)))
    return equal


def _has_etag(rows: pa.Table) -> pa.Array:
    return pc.or_(pc.is_valid(_column(rows, "etag_md5")), pc.is_valid(_column(rows, "etag_raw")))


def _etags_equal(old: pa.Table, new: pa.Table) -> pa.Array:
    equal = _alike(*_pair(old, new, "etag_md5"))
    for name in ("etag_parts", "etag_raw"):
        equal = pc.and_(equal, _alike(*_pair(old, new, name)))
    return equal


def _whole_checksums(rows: pa.Table) -> pa.Array:
    """The algorithms of checksums of whole objects; null for rows without one."""
    is_whole = _surely(pc.equal(_column(rows, "checksum_type"), FULL_OBJECT))
    return pc.if_else(is_whole, _column(rows, "checksum_algorithm"), None)


def _times_equal(old: pa.Table, new: pa.Table, are_files: pa.Array) -> pa.Array:
    """Whether both were modified at the same time.

    A file of which better is known has its time in milliseconds only, as observed.
    """
    exact = _pair(old, new, "mtime_ns")
    both_exact = pc.and_(*(pc.is_valid(one) for one in exact))
    observed = tuple(
        pc.coalesce(
            pc.cast(pc.divide(_column(rows, "mtime_ns"), _NS_PER_MS), _MS),
            _column(rows, "last_modified"),
        )
        for rows in (old, new)
    )
    return pc.if_else(
        both_exact, _surely(pc.equal(*exact)), pc.and_(are_files, _surely(pc.equal(*observed)))
    )


def _alike(old: pa.Array, new: pa.Array) -> pa.Array:
    """Whether values are equal, two nulls being so."""
    equal = pc.equal(old, new)
    if not (old.null_count or new.null_count):
        return equal
    return pc.or_(_surely(equal), pc.and_(pc.is_null(old), pc.is_null(new)))


def _surely(flags: pa.Array) -> pa.Array:
    return pc.fill_null(flags, fill_value=False)


def _pair(old: pa.Table, new: pa.Table, name: str) -> tuple[pa.Array, pa.Array]:
    return _column(old, name), _column(new, name)


def _column(rows: pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        return pa.nulls(rows.num_rows, SCHEMA.field(name).type)
    return _flat(rows.column(name))


def _structs(rows: pa.Table | None) -> pa.Array | None:
    return None if rows is None else _flat(with_all_columns(rows).to_struct_array())


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _repeated(kind: ChangeKind, rows: int) -> pa.Array:
    return pa.repeat(str(kind), rows)
