"""Folder indexes, against a plain model: every child is seen once, in order, and counted right."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import folders
from indexer.folders import FolderIndexBuilder, FolderReader, UnreadableIndex
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import make_page
from indexer.records import Entry, Folder, FolderPage
from tests.unit.rows_model import few, keys
from workers.threads import Threads

Child = Entry | Folder
Objects = Mapping[bytes, int]
Damage = Callable[[Path], object]

SOURCE = SourceRef("s3://bucket/data/")
EMOJI = "\U0001f600é".encode()

# `.` and `0` are the neighbours of `/`.
paths = keys | st.lists(
    st.sampled_from([b"/", b"/", b"a", b"b", b".", b"0", b"\xff", b"\0", EMOJI]), max_size=9
).map(b"".join)


# --- the model -----------------------------------------------------------------------------------


def children_of(objects: Objects, prefix: bytes) -> list[Child]:
    """What stands directly in a folder, by looking at everything."""
    folder = prefix[: prefix.rfind(b"/") + 1]
    children: dict[bytes, Child] = {}
    for path, size in sorted(objects.items()):
        if path.startswith(prefix):
            name, slash, _ = path[len(folder) :].partition(b"/")
            child = folder + name + slash
            if not slash:
                children[child] = entry(path, size)
                continue
            seen = children.get(child, Folder(child, 0, 0))
            assert isinstance(seen, Folder)
            children[child] = Folder(child, seen.objects + 1, seen.size_bytes + size)
    return sorted(children.values(), key=lambda one: one.path)


def entry(path: bytes, size: int) -> Entry:
    uri = "s3://bucket/data/" + path.decode("utf-8", "surrogateescape")
    return Entry(path, size, uri, None, None, None, None)


# --- a version in memory, with its index ---------------------------------------------------------


@dataclass
class Version:
    """The shards of a version, and which of them were read."""

    manifest: Manifest
    tables: dict[str, pa.Table]
    reads: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, objects: Objects, ends: Sequence[int] = ()) -> Version:
        """The version of these objects; `ends` are how many of them end a shard."""
        rows = sorted(objects.items())
        shards, tables = [], {}
        for start, end in pairwise(sorted({0, *ends, len(rows)})):
            part = rows[start:end]
            columns = {
                "path": pa.array([path for path, _ in part], pa.binary()),
                "size": pa.array([size for _, size in part], pa.int64()),
            }
            digest = f"{end:064x}"
            tables[digest] = pa.Table.from_batches([make_page(columns)])
            shards.append(ShardRef(part[-1][0], digest, len(part), sum(size for _, size in part)))
        return cls(Manifest((SOURCE,), tuple(shards)), tables)

    def build(self, path: Path) -> None:
        builder = FolderIndexBuilder(path)
        for shard in self.manifest.shards:
            builder.add(self.tables[shard.digest])
        builder.finish()

    async def read_shard(self, digest: str) -> pa.Table:
        self.reads.append(digest)
        return self.tables[digest]

    def page(
        self, path: Path, prefix: bytes = b"", after: bytes | None = None, limit: int = 1_000
    ) -> FolderPage:
        async def read() -> FolderPage:
            async with Threads(1) as threads:
                reader = FolderReader(path, self.manifest, self.read_shard, threads)
                return await reader.children(prefix, after, limit)

        self.reads.clear()
        return asyncio.run(read())

    def pages(self, path: Path, prefix: bytes, limit: int) -> Iterator[FolderPage]:
        page = self.page(path, prefix, None, limit)
        yield page
        while page.next is not None:
            page = self.page(path, prefix, page.next, limit)
            yield page


@contextmanager
def built(objects: Objects, ends: Sequence[int] = ()) -> Iterator[tuple[Version, Path]]:
    version = Version.of(objects, ends)
    with TemporaryDirectory() as folder:
        version.build(Path(folder, "index"))
        yield version, Path(folder, "index")


def names(page: FolderPage) -> list[bytes]:
    return [child.path for child in page.children]


@st.composite
def contents(draw: st.DrawFn, max_size: int = 25) -> tuple[dict[bytes, int], list[int]]:
    """Objects, and where their shards end."""
    found = draw(st.dictionaries(paths, st.integers(0, 99), max_size=max_size))
    is_tiny = draw(st.booleans())
    ends = st.just(list(range(len(found)))) if is_tiny else st.lists(st.integers(0, len(found)))
    return found, draw(ends)


@st.composite
def prefixes(draw: st.DrawFn, objects: Objects) -> bytes:
    """Prefixes that may be of something."""
    path = draw(st.sampled_from(sorted(objects)) | paths if objects else paths)
    return path[: draw(st.integers(0, len(path)))]


# --- against the model ---------------------------------------------------------------------------


@few
@given(
    st.data(),
    contents(),
    st.integers(1, 6),
    st.integers(2, 4),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_every_child_is_seen_once_and_in_order(
    data: st.DataObject,
    content: tuple[dict[bytes, int], list[int]],
    limit: int,
    reads_max: int,
    rows_waiting_max: int,
    block_rows: int,
) -> None:
    objects, ends = content
    prefix = data.draw(prefixes(objects))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "FOLDER_PAGE_SHARDS_MAX", reads_max)
        patch.setattr(folders, "FOLDER_ROWS_WAITING_MAX", rows_waiting_max)
        patch.setattr(folders, "BLOCK_ROWS", block_rows)
        with built(objects, ends) as (version, path):
            found: list[Child] = []
            for page in version.pages(path, prefix, limit):
                assert len(version.reads) <= reads_max
                assert len(page.children) <= limit
                # Only the last page may be empty.
                assert page.children or page.next is None
                assert page.next in (None, page.children[-1].path if page.children else None)
                if page.next is not None and len(page.children) < limit:
                    assert len(version.reads) == reads_max
                found += page.children
            assert found == children_of(objects, prefix)


@few
@given(contents())
def test_every_entry_is_directly_in_one_folder(
    content: tuple[dict[bytes, int], list[int]],
) -> None:
    objects, ends = content
    with built(objects, ends) as (version, path):
        seen: list[bytes] = []
        waiting = [b""]
        while waiting:
            folder = waiting.pop()
            children = [one for page in version.pages(path, folder, 4) for one in page.children]
            for child in children:
                if isinstance(child, Folder):
                    waiting.append(child.path)
                else:
                    seen.append(child.path)
        assert sorted(seen) == sorted(objects)


@few
@given(st.data(), contents(), st.integers(1, 30))
def test_a_cursor_may_name_anything(
    data: st.DataObject, content: tuple[dict[bytes, int], list[int]], limit: int
) -> None:
    objects, ends = content
    prefix = data.draw(prefixes(objects))
    after = data.draw(paths | prefixes(objects) | st.just(prefix))
    with built(objects, ends) as (version, path):
        page = version.page(path, prefix, after, limit)
        expected = [one for one in children_of(objects, prefix) if one.path > after]
        assert list(page.children) == expected[: len(page.children)]
        assert len(page.children) == min(limit, len(expected)) or page.next is not None


# --- names ---------------------------------------------------------------------------------------

ODD: dict[bytes, int] = {
    b"": 1,
    b"/": 2,
    b"//": 3,
    b"/a": 4,
    b"a": 5,
    b"a.": 6,
    b"a/": 7,
    b"a//": 8,
    b"a//b": 9,
    b"a/b": 10,
    b"a0": 11,
    b"a\xff/\xfe": 12,
    EMOJI + b"/" + EMOJI: 13,
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"", [b"", b"/", b"a", b"a.", b"a/", b"a0", b"a\xff/", EMOJI + b"/"]),
        (b"a", [b"a", b"a.", b"a/", b"a0", b"a\xff/"]),
        (b"a.", [b"a."]),
        (b"a/", [b"a/", b"a//", b"a/b"]),
        (b"a//", [b"a//", b"a//b"]),
        (b"a///", []),
        (b"/", [b"/", b"//", b"/a"]),
        (b"//", [b"//"]),
        (b"a\xff/", [b"a\xff/\xfe"]),
        (b"a\xff/\xfe/", []),
        (EMOJI[:2], [EMOJI + b"/"]),
        (EMOJI + b"/", [EMOJI + b"/" + EMOJI]),
        (b"b", []),
        (b"b/", []),
        (b"a/b/", []),
        (b"\xff", []),
    ],
)
@pytest.mark.parametrize("ends", [(), range(len(ODD))], ids=["one shard", "shards of one row"])
def test_odd_names(prefix: bytes, expected: list[bytes], ends: Sequence[int]) -> None:
    with built(ODD, ends) as (version, path):
        assert names(version.page(path, prefix)) == expected
        assert list(version.page(path, prefix).children) == children_of(ODD, prefix)


def test_the_marker_of_a_folder_is_its_first_entry() -> None:
    with built({b"a/": 0, b"a/b": 1, b"c": 2}) as (version, path):
        assert version.page(path).children == (Folder(b"a/", 2, 1), entry(b"c", 2))
        first = version.page(path, b"a/", limit=1)
        assert first == FolderPage((entry(b"a/", 0),), b"a/")
        assert names(version.page(path, b"a/", first.next)) == [b"a/b"]
        assert names(version.page(path, b"", first.next)) == [b"c"]


def test_the_longest_keys() -> None:
    deep, flat = b"/" * 1_024, b"a" * 1_024
    objects = {deep: 1, flat: 2, flat[:-1] + b"/": 3, b"a/" * 512: 4}
    with built(objects) as (version, path):
        for prefix in (b"", deep[:-1], deep, flat[:-1], flat, flat[:-1] + b"/", b"a/" * 511):
            assert list(version.page(path, prefix).children) == children_of(objects, prefix)


def test_an_empty_version_has_nothing() -> None:
    with built({}) as (version, path):
        assert version.page(path) == FolderPage((), None)
        assert version.page(path, b"a/") == FolderPage((), None)


# --- what is read --------------------------------------------------------------------------------


def test_a_page_of_sub_folders_reads_no_shard() -> None:
    objects = {b"%03d/%d" % (number // 3, number): 1 for number in range(300)} | {b"a": 1}
    with built(objects, range(0, 301, 10)) as (version, path):
        page = version.page(path, limit=100)
        assert page.next == b"099/"
        assert version.reads == []
        assert names(version.page(path, after=page.next)) == [b"a"]
        assert len(version.reads) == 1


def test_only_shards_with_wanted_entries_are_read() -> None:
    objects = {b"a/%03d" % number: number for number in range(100)}
    with built(objects, range(0, 100, 10)) as (version, path):
        for prefix, after, limit, reads in (
            (b"a/", None, 9, 1),
            (b"a/", None, 100, 8),
            (b"a/", b"a/054", 5, 1),
            (b"a/", b"a/049", 5, 1),
            (b"a/", b"a/0495", 5, 1),
            (b"a/", b"a/099", 5, 0),
            (b"a/03", None, 5, 1),
            (b"a/035", None, 5, 1),
            (b"a/1", None, 5, 0),
            # Only the shard says that nothing follows that has the prefix, too.
            (b"a/03", b"a/039", 5, 1),
        ):
            version.page(path, prefix, after, limit)
            assert len(version.reads) == reads, (prefix, after)


def test_entries_between_folders_take_each_shard_once() -> None:
    objects = {b"%03d%s" % (number // 2, b"/x" * (number % 2)): 1 for number in range(200)}
    with built(objects, [100]) as (version, path):
        assert list(version.page(path).children) == children_of(objects, b"")
        assert len(version.reads) == 2


def test_scattered_entries_end_a_page_early() -> None:
    objects = {b"%02d/%d" % (row // 10, row % 10): 1 for row in range(300)}
    objects |= {b"%02d~" % row: 1 for row in range(30)}
    ends = range(0, len(objects), 11)
    with built(objects, ends) as (version, path):
        pages = list(version.pages(path, b"", 1_000))
        found = [child for page in pages for child in page.children]
        assert found == children_of(objects, b"")
        assert [len(page.children) for page in pages] == [17, 16, 16, 11]


# --- files that are not as they were built -------------------------------------------------------

SOME = {b"%d/%d" % (number % 7, number): number for number in range(50)} | {b"3": 1, b"3/": 2}


def other_objects(path: Path) -> None:
    path.unlink()
    Version.of({b"a": 1}).build(path)


def other_revision(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {folders.REVISION + 1}")


def alter(statement: str) -> Damage:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)

    return change


def alter_rows(**fields: object) -> Damage:
    """Other values in every row but the version's own."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            query = "SELECT parent, name, rows FROM children WHERE parent > 0"
            for parent, name, block in connection.execute(query).fetchall():
                rows = [
                    dict(zip(FIELDS, row, strict=True)) | fields
                    for row in msgspec.msgpack.decode(block)
                ]
                altered = msgspec.msgpack.encode([[*row.values()] for row in rows])
                connection.execute(
                    "UPDATE children SET rows = ? WHERE parent = ? AND name = ?",
                    (altered, parent, name),
                )

    return change


FIELDS = ("name", "id", "objects", "size_bytes", "first")


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"something else" * 500),
        lambda path: path.write_bytes(path.read_bytes()[:4096]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(4096)),
        other_objects,
        other_revision,
        alter("DROP TABLE children"),
        alter("DELETE FROM children"),
        alter("DELETE FROM children WHERE parent = 0"),
        alter("UPDATE children SET rows = name"),
        alter("UPDATE children SET rows = 1"),
        alter_rows(name="text"),
        alter_rows(objects=-1),
        alter_rows(first=-1),
        alter_rows(first=1.5),
        alter_rows(first=1_000_000),
        alter_rows(objects=1_000_000),
        alter_rows(name=b"x"),
        alter_rows(first=30),
    ],
)
def test_damage_is_seen(damage: Damage) -> None:
    with built(SOME) as (version, path):
        damage(path)
        with pytest.raises(UnreadableIndex):
            for prefix in (b"", b"1/", b"3/", b"6/"):
                version.page(path, prefix)


@few
@given(st.data())
def test_a_changed_byte_raises_nothing_else(data: st.DataObject) -> None:
    with built(SOME) as (version, path):
        content = bytearray(path.read_bytes())
        used = [place for place, value in enumerate(content) if value]
        for place in data.draw(st.lists(st.sampled_from(used), min_size=1, max_size=3)):
            content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        for prefix in (b"", b"3", b"3/"):
            try:
                version.page(path, prefix)
            except UnreadableIndex:
                continue


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    version = Version.of({b"a": 1})
    with pytest.raises(sqlite3.Error):
        version.build(tmp_path / "not there" / "index")


def test_the_same_rows_give_the_same_pages_however_they_are_cut() -> None:
    found = []
    for ends in ((), [10], range(50)):
        with built(SOME, ends) as (_, path), closing(sqlite3.connect(path)) as connection:
            found.append(connection.execute("SELECT * FROM children").fetchall())
    assert found[0] == found[1] == found[2]
