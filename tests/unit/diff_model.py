"""A slow model of what changed between two versions: dictionaries of entries, one by one.

Invariants
  * What is computed here follows what is written of diffs alone and calls nothing that it checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from indexer.artifact.diff.diff import Diff, DiffLimits, find_diff
from indexer.manifest import Manifest, SourceRef
from indexer.page import IDENTITY, without_null_columns
from tests.unit.rows_model import Cuts, Entry, slow_shards, table_of
from workers.threads import Threads

BUCKET = (SourceRef("s3://bucket/prefix/"),)
MOUNTED = (
    SourceRef("s3://bucket/prefix/", "a"),
    SourceRef("file:///data/", "b"),
    SourceRef("https://host/data/", "c"),
)
SECOND_MS = datetime(1970, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)
"""The second millisecond of all."""
COLUMNS = [column.name for column in IDENTITY if column.name != "path"]

Change = tuple[bytes, str, Entry | None, Entry | None]
"""Path, kind, entry before and after."""

# --- versions of any kind ------------------------------------------------------------------------

NAMES = st.sampled_from([b"", b"/", b"x", b"y", b"x/y", b"\xff", b"\0", "日/x".encode(), b"x/z/y"])
HEADS = st.sampled_from([b"a/", b"b/", b"c/", b"a/q/", b"b/q", b"c/\xc3"])
SIZES = st.sampled_from([1, 2, 0])
paths = st.builds(bytes.__add__, HEADS, NAMES)

_FEW: dict[str, st.SearchStrategy[Any]] = {
    "uri": st.sampled_from([None, None, "s3://other/key", "http://host/data/key"]),
    "etag_md5": st.sampled_from([bytes(16), b"\1" * 16, None]),
    "etag_parts": st.sampled_from([None, None, 2]),
    "etag_raw": st.sampled_from(["raw", None]),
    "version_id": st.sampled_from(["1", "2", "null", None]),
    "checksum_algorithm": st.sampled_from(["md5", "md5", "crc32c"]),
    "checksum_type": st.sampled_from(["full_object", "full_object", "composite"]),
    "checksum": st.sampled_from([b"1", b"2", None]),
    "mtime_ns": st.sampled_from([1_000_000, 1_000_001, None]),
    "last_modified": st.sampled_from([SECOND_MS, SECOND_MS, None]),
    "storage_class": st.sampled_from(["GLACIER", None]),
}
_CHECKSUM = ("checksum", "checksum_algorithm", "checksum_type")
_ETAG = ("etag_md5", "etag_parts", "etag_raw")
_OF_STORES = (
    {*_ETAG},
    {*_ETAG, "version_id"},
    {*_ETAG, *_CHECKSUM, "storage_class"},
    {*_CHECKSUM, "last_modified"},
    {*_CHECKSUM, "last_modified", "mtime_ns"},
    {"mtime_ns"},
    {"version_id"},
    set(_FEW),
)


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[Entry], list[Entry]]:
    """Entries in key order, and those of a later version, in which some were moved or changed."""
    present = sorted(draw(st.sampled_from(_OF_STORES)))
    old: dict[bytes, Entry] = {}
    new: dict[bytes, Entry] = {}
    for path in sorted(
        draw(st.sets(paths, min_size=draw(st.sampled_from([12, 6, 0])), max_size=20))
    ):
        row: dict[str, Any] = {"path": path, "size": draw(SIZES), **dict.fromkeys(_FEW)}
        old[path] = _sound(row | {name: draw(_FEW[name]) for name in present})
        match draw(st.sampled_from(["move", "change", "keep", "move", "change", "lose", "copy"])):
            case "keep":
                new[path] = old[path]
            case "move" | "copy" as how:
                for target in [draw(paths), *([path] if how == "copy" else [])]:
                    new[target] = {**old[path], "path": target}
            case "change":
                name = draw(st.sampled_from([*present, "size"]))
                value = draw(SIZES if name == "size" else _FEW[name])
                new[path] = _sound({**old[path], name: value})
    return list(old.values()), [new[path] for path in sorted(new)]


def _sound(row: dict[str, Any]) -> Entry:
    """The row without what makes no sense alone."""
    if any(row[name] is None for name in _CHECKSUM):
        row |= dict.fromkeys(_CHECKSUM)
    return row | {"etag_parts": None} if row["etag_md5"] is None else row | {"etag_raw": None}


def simple(*paths_and_contents: tuple[bytes, int]) -> list[Entry]:
    """Entries with the MD5 of a number for an ETag, and that number as size."""
    return [
        {"path": path, "size": number, "etag_md5": hashlib.md5(b"%d" % number).digest()}  # noqa: S324
        for path, number in sorted(paths_and_contents)
    ]


# --- what is to come of it -----------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """Two versions, and what changed below a prefix."""

    old: Sequence[Entry]
    new: Sequence[Entry]
    old_sources: Sequence[SourceRef] = BUCKET
    new_sources: Sequence[SourceRef] = BUCKET
    prefix: bytes = b""

    def raw(self) -> list[Change]:
        """The changes by path, without renames."""
        old, new = (
            {row["path"]: row for row in rows if row["path"].startswith(self.prefix)}
            for rows in (self.old, self.new)
        )
        return list(self._raw(old, new))

    def _raw(self, old: Mapping[bytes, Entry], new: Mapping[bytes, Entry]) -> Iterator[Change]:
        for path in sorted({*old, *new}):
            before, after = old.get(path), new.get(path)
            if before is None:
                yield path, "added", None, after
            elif after is None:
                yield path, "removed", before, None
            elif any(before.get(name) != after.get(name) for name in COLUMNS):
                kind = "identity" if self.is_same(before, after) else "content"
                yield path, kind, before, after

    def is_same(self, old: Entry, new: Entry) -> bool:
        """Whether the bytes are proved to be the same."""
        old_origin, new_origin = origin(old, self.old_sources), origin(new, self.new_sources)
        is_kind = kind_of(old_origin) == kind_of(new_origin)
        if old["size"] != new["size"]:
            return False
        if whole(old) and whole(new) and whole(old)[0] == whole(new)[0]:
            return bool(whole(old) == whole(new))
        version = old.get("version_id")
        if old_origin == new_origin and version == new.get("version_id") not in (None, "null"):
            return True
        if is_kind and etag(old) and etag(new):
            return bool(etag(old) == etag(new))
        times = old.get("mtime_ns"), new.get("mtime_ns")
        if is_kind and None not in times:
            return bool(times[0] == times[1])
        if is_kind and kind_of(old_origin) == "file":
            return seen(old) is not None and seen(old) == seen(new)
        return False

    def changes(self) -> list[Change]:
        """The changes by path, with renames."""
        raw = self.raw()
        olds = [before for _, kind, before, _ in raw if kind == "removed" and before]
        news = [after for _, kind, _, after in raw if kind == "added" and after]
        renames: list[tuple[Entry, Entry]] = []

        def by_checksum(one: Entry, sources: Sequence[SourceRef]) -> object:
            return whole(one) and (whole(one), one["size"])

        def by_etag(one: Entry, sources: Sequence[SourceRef]) -> object:
            return etag(one) and (kind_of(origin(one, sources)), etag(one), one["size"])

        for key in (by_checksum, by_etag):
            taken = [id(row) for pair in renames for row in pair]
            for by_name in (True, False):
                for after in news:
                    for before in olds:
                        is_name = name_of(before) == name_of(after)
                        common = key(before, self.old_sources)
                        is_one = common and common == key(after, self.new_sources)
                        free = id(before) not in taken and id(after) not in taken
                        if free and is_one and after["size"] and (is_name or not by_name):
                            taken += [id(before), id(after)]
                            renames.append((before, after))
        renames = [pair for pair in renames if self.is_same(*pair)]
        gone = {id(row) for pair in renames for row in pair}
        kept = [one for one in raw if one[1] not in ("added", "removed")
                or id(one[2] or one[3]) not in gone]  # fmt: skip
        renamed: list[Change] = [(new["path"], "renamed", old, new) for old, new in renames]
        return sorted([*kept, *renamed], key=lambda change: change[0])


def origin(row: Entry, sources: Sequence[SourceRef]) -> str:
    """Where an entry comes from."""
    if row.get("uri") is not None:
        return str(row["uri"])
    return next(
        (s.uri for s in sources if not s.mount or row["path"].startswith(f"{s.mount}/".encode())),
        "",
    )


def kind_of(uri: str) -> str:
    """The kind of store."""
    return uri.partition(":")[0].replace("https", "http")


def etag(row: Entry) -> Any:
    """An entry's ETag."""
    found = tuple(row.get(name) for name in ("etag_md5", "etag_parts", "etag_raw"))
    return None if found == (None, None, None) else found


def whole(row: Entry) -> Any:
    """An entry's checksum of the whole object, with its algorithm."""
    if row.get("checksum_type") != "full_object":
        return None
    return row["checksum_algorithm"], row["checksum"]


def seen(row: Entry) -> datetime | None:
    """When a file was modified, in milliseconds."""
    if row.get("mtime_ns") is None:
        return row.get("last_modified")
    milliseconds = row["mtime_ns"] // 1_000_000
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def name_of(row: Entry) -> bytes:
    """What stands after the last slash."""
    path: bytes = row["path"]
    return path.rpartition(b"/")[2]


# --- what came of it -----------------------------------------------------------------------------


@dataclass
class CountingShards:
    """Shards in memory, and which were read how often."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    async def shard(self, digest: str) -> pa.Table:
        self.read.append(digest)
        return self.tables[digest]

    def manifest(self, rows: Sequence[Entry], sources: Sequence[SourceRef], cuts: Cuts) -> Manifest:
        """The manifest of entries, cut like this."""
        shards = slow_shards(rows, cuts)
        for shard, group in zip(shards, cuts.groups(rows), strict=True):
            self.tables[shard.digest] = without_null_columns(table_of(group))
        return Manifest(tuple(sources), tuple(shards))


LIMITS = DiffLimits(shards_at_once=3, page_shards_max=2)
HOLDS_NOTHING = DiffLimits(shards_at_once=2, held_bytes_max=0, page_shards_max=2)


async def diff_of(
    model: Model,
    threads: Threads,
    *,
    limits: DiffLimits = LIMITS,
    cuts: tuple[Cuts, Cuts] = (Cuts(2, 6), Cuts(2, 6)),
) -> tuple[Diff, CountingShards]:
    """What is found of the model's versions, and what was read for it."""
    shards = CountingShards()
    old = shards.manifest(model.old, model.old_sources, cuts[0])
    new = shards.manifest(model.new, model.new_sources, cuts[1])
    diff = await find_diff(shards, old, new, threads=threads, prefix=model.prefix, limits=limits)
    return diff, shards


async def rows_of(diff: Diff, **which: Any) -> list[Change]:
    """All changes, as the model has them."""
    return [
        (row["path"], row["kind"], row["before"], row["after"])
        async for table in diff.tables(**which)
        for row in table.to_pylist()
    ]


def full(change: Change) -> Change:
    """The change with every column in both entries."""
    path, kind, *sides = change
    before, after = (None if one is None else table_of([one]).to_pylist()[0] for one in sides)
    return path, kind, before, after
