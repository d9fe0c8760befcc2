"""What changed between two versions: as a slow model finds it, by reading what differs alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.artifact.diff import compare
from indexer.artifact.diff.diff import DiffLimits, find_diff
from indexer.artifact.diff.spans import spans_of
from indexer.changes import ChangeKind
from indexer.errors import CorruptContent
from indexer.manifest import Manifest, SourceRef
from tests.unit.diff_model import (
    BUCKET,
    HOLDS_NOTHING,
    LIMITS,
    MOUNTED,
    CountingShards,
    Model,
    diff_of,
    full,
    paths,
    rows_of,
    simple,
    versions,
)
from tests.unit.rows_model import Cuts, Entry, few, plain
from workers.threads import Threads

CUTS = st.tuples(*[st.builds(Cuts, st.sampled_from([0, 2, 4]), st.sampled_from([1, 4, 12]))] * 2)
LIMITS_OF_ANY_KIND = st.builds(
    DiffLimits,
    shards_at_once=st.integers(2, 5),
    held_bytes_max=st.sampled_from([1 << 20, 1 << 20, 2_000, 0]),
    page_shards_max=st.integers(1, 3),
)
PREFIXES = st.sampled_from([b"", b"", b"", b"a/", b"a/q", b"b", b"c/x/", b"zz", b"\xff"])


@few
@given(
    versions(),
    PREFIXES,
    CUTS,
    LIMITS_OF_ANY_KIND,
    st.sampled_from([BUCKET, MOUNTED]),
    st.sampled_from([0, 2, 32]),
)
def test_a_diff_is_what_a_comparison_of_dictionaries_finds(
    both: tuple[list[Entry], list[Entry]],
    prefix: bytes,
    cuts: tuple[Cuts, Cuts],
    limits: DiffLimits,
    sources: tuple[SourceRef, ...],
    runs_max: int,
) -> None:
    model = Model(*both, sources, MOUNTED, prefix)

    async def check() -> None:
        async with Threads(2) as threads:
            diff, shards = await diff_of(model, threads, limits=limits, cuts=cuts)
            expected = model.changes() if diff.summary.has_renames else model.raw()
            changes = [full(change) for change in expected]
            assert await rows_of(diff) == changes
            assert {kind: tally.objects for kind, tally in diff.summary.tallies.items()} == {
                kind: sum(change[1] == kind for change in changes) for kind in ChangeKind
            }
            for kind, tally in diff.summary.tallies.items():
                assert await rows_of(diff, kinds=[kind]) == [c for c in changes if c[1] == kind]
                for bytes_of, side in ((tally.bytes_before, 2), (tally.bytes_after, 3)):
                    sides: list[Any] = [change[side] for change in changes if change[1] == kind]
                    sizes = [entry["size"] for entry in sides if entry]
                    assert bytes_of == sum(sizes)
            assert diff.summary.shards_read == len(set(shards.read))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "RUNS_MAX", runs_max)
        asyncio.run(check())


@few
@given(versions(), PREFIXES, LIMITS_OF_ANY_KIND, st.integers(1, 7), st.data())
def test_pages_hold_each_change_once_and_in_order(
    both: tuple[list[Entry], list[Entry]],
    prefix: bytes,
    limits: DiffLimits,
    limit: int,
    data: st.DataObject,
) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(ChangeKind)), max_size=2, unique=True))

    async def check() -> None:
        async with Threads(2) as threads:
            diff, _ = await diff_of(Model(*both, MOUNTED, MOUNTED, prefix), threads, limits=limits)
            found: list[tuple[bytes, str]] = []
            after: bytes | None = None
            while True:
                page = await diff.page(kinds, after, limit)
                assert len(page.changes) <= limit
                found += [(change.path, change.kind) for change in page.changes]
                if page.next is None:
                    break
                assert after is None or page.next > after
                after = page.next
            assert found == [change[:2] for change in await rows_of(diff, kinds=kinds)]
            for one in page.changes:
                assert (one.before is None, one.after is None) == (
                    one.kind == "added",
                    one.kind == "removed",
                )

    asyncio.run(check())


@few
@given(versions(), PREFIXES, LIMITS_OF_ANY_KIND, st.integers(1, 4))
def test_folders_sum_up_what_changed_in_them(
    both: tuple[list[Entry], list[Entry]], prefix: bytes, limits: DiffLimits, limit: int
) -> None:
    model = Model(*both, MOUNTED, MOUNTED, prefix)

    def child(path: bytes) -> bytes:
        name, slash, _ = path[len(prefix) :].partition(b"/")
        return prefix + name + slash

    async def check() -> None:
        async with Threads(2) as threads:
            diff, _ = await diff_of(model, threads, limits=limits)
            expected: dict[bytes, list[tuple[str, int, int]]] = {}
            for path, kind, before, after in await rows_of(diff):
                was, now = ((row or {}).get("size", 0) for row in (before, after))
                if kind == "renamed" and before and child(before["path"]) != child(path):
                    expected.setdefault(child(before["path"]), []).append(("removed", was, 0))
                    expected.setdefault(child(path), []).append(("added", 0, now))
                else:
                    expected.setdefault(child(path), []).append((kind, was, now))
            found: dict[bytes, Any] = {}
            cursor: bytes | None = None
            while True:
                page = await diff.folders(cursor, limit)
                assert len(page.folders) <= limit
                found |= {folder.path: folder.tallies for folder in page.folders}
                cursor = page.next
                if cursor is None:
                    break
            assert list(found) == sorted(expected)
            for path, changes in expected.items():
                for kind, tally in found[path].items():
                    of_kind = [change for change in changes if change[0] == kind]
                    assert tally.objects == len(of_kind)
                    assert tally.bytes_before == sum(change[1] for change in of_kind)
                    assert tally.bytes_after == sum(change[2] for change in of_kind)

    asyncio.run(check())


# --- what is read --------------------------------------------------------------------------------


@given(
    st.sets(paths, max_size=30),
    st.sets(paths, max_size=30),
    PREFIXES,
    CUTS,
    st.integers(2, 5),
)
@example(set(), set(), b"", (Cuts(0, 1), Cuts(0, 1)), 2)
def test_spans_hold_every_row_of_differing_shards_once(
    old: set[bytes], new: set[bytes], prefix: bytes, cuts: tuple[Cuts, Cuts], shards_max: int
) -> None:
    shards = CountingShards()
    sides = [shards.manifest(plain(sorted(rows)), BUCKET, cut)
             for rows, cut in zip((old, new), cuts, strict=True)]  # fmt: skip
    common = {s.digest for s in sides[0].shards} & {s.digest for s in sides[1].shards}
    spans = list(spans_of(sides[0], sides[1], prefix, shards_max))
    for one, following in pairwise(spans):
        assert one.range.through is not None
        assert following.range.after is not None
        assert one.range.through <= following.range.after
    for manifest, name in zip(sides, ("old", "new"), strict=True):
        found = []
        for span in spans:
            assert 0 < span.shards <= shards_max
            for shard in getattr(span, name):
                assert shard.digest not in common
                rows = shards.tables[shard.digest].column("path").to_pylist()
                found += [path for path in rows if path in span.range]
        wanted = [
            path
            for shard in manifest.shards
            if shard.digest not in common
            for path in shards.tables[shard.digest].column("path").to_pylist()
        ]
        assert len(found) == len(set(found))
        assert {path for path in found if path.startswith(prefix)} == {
            path for path in wanted if path.startswith(prefix)
        }


async def test_shards_that_both_versions_have_are_never_read() -> None:
    old = simple(*((b"%05d" % number, number) for number in range(500)))
    new = [*old]
    new[250] = {**old[250], "size": 9_999}
    async with Threads(2) as threads:
        diff, shards = await diff_of(Model(old, new), threads, cuts=(Cuts(4, 64), Cuts(4, 64)))
        assert diff.summary.changes == 1
        assert sorted(shards.read) == sorted(set(shards.read))
        assert len(shards.read) == diff.summary.shards_read == 2 < diff.summary.shards - 20
        again, shards = await diff_of(Model(new, new), threads)
        assert (again.summary.changes, shards.read) == (0, [])
        assert (await again.page()).changes == ()


async def test_a_prefix_keeps_shards_of_other_folders_unread() -> None:
    old = simple(*((b"%d/%04d" % (number % 5, number), number) for number in range(500)))
    new = [{**row, "size": row["size"] + 1} for row in old]
    async with Threads(2) as threads:
        everything, _ = await diff_of(Model(old, new), threads)
        diff, shards = await diff_of(Model(old, new, prefix=b"3/"), threads)
    assert diff.summary.changes == 100
    assert len(shards.read) < everything.summary.shards_read / 3


async def test_what_is_not_held_is_read_again_from_the_page_on() -> None:
    old = simple(*((b"%05d" % number, number) for number in range(500)))
    new = [{**row, "size": row["size"] + 1} for row in old]
    async with Threads(2) as threads:
        diff, shards = await diff_of(
            Model(old, new), threads, limits=replace(HOLDS_NOTHING, page_shards_max=10)
        )
        shards.read.clear()
        page = await diff.page(after=b"00480", limit=3)
        assert [change.path for change in page.changes] == [b"00481", b"00482", b"00483"]
        assert len(shards.read) < diff.summary.shards_read / 10
        held, shards = await diff_of(Model(old, new), threads)
        shards.read.clear()
        assert (await held.page(after=b"00480", limit=3)).changes == page.changes
        assert shards.read == []


async def test_a_shard_that_cannot_be_read_is_the_error() -> None:
    old, new = simple((b"a", 1)), simple((b"a", 2))
    shards = CountingShards()
    manifests = [shards.manifest(rows, BUCKET, Cuts()) for rows in (old, new)]

    class Damaged:
        async def shard(self, digest: str) -> pa.Table:
            raise CorruptContent(f"shard {digest} is not readable")

    async with Threads(2) as threads:
        with pytest.raises(CorruptContent, match="is not readable"):
            await find_diff(Damaged(), manifests[0], manifests[1], threads=threads)


# --- renames -------------------------------------------------------------------------------------


async def test_of_several_the_one_of_the_same_name_is_renamed_else_the_first() -> None:
    old = simple((b"a/1.jpg", 7), (b"a/2.jpg", 7), (b"b/3.jpg", 7))
    new = simple((b"c/0.jpg", 7), (b"c/2.jpg", 7), (b"d/9.jpg", 8))
    async with Threads(2) as threads:
        diff, _ = await diff_of(Model(old, new), threads)
        assert [(path, kind, before and before["path"]) for path, kind, before, _ in
                await rows_of(diff)] == [
            (b"b/3.jpg", "removed", b"b/3.jpg"),
            (b"c/0.jpg", "renamed", b"a/1.jpg"),
            (b"c/2.jpg", "renamed", b"a/2.jpg"),
            (b"d/9.jpg", "added", None),
        ]  # fmt: skip


async def test_empty_objects_are_never_renamed() -> None:
    async with Threads(2) as threads:
        diff, _ = await diff_of(Model(simple((b"a", 0)), simple((b"b", 0))), threads)
        assert [kind for _, kind, _, _ in await rows_of(diff)] == ["removed", "added"]


async def test_renames_are_looked_for_while_other_changes_are_too_many_to_hold() -> None:
    old = simple((b"0", 1), *((b"x%04d" % number, number) for number in range(300)))
    new = [*simple((b"1", 1)), *({**row, "storage_class": "GLACIER", "version_id": "2"}
                                 for row in old[1:])]  # fmt: skip
    async with Threads(2) as threads:
        limits = replace(LIMITS, held_bytes_max=5_000)
        diff, _ = await diff_of(Model(old, new), threads, limits=limits)
        assert diff.summary.has_renames
        tallies = diff.summary.tallies
        assert (tallies[ChangeKind.RENAMED].objects, tallies[ChangeKind.IDENTITY].objects) == (
            1,
            300,
        )
        page = await diff.page([ChangeKind.RENAMED], limit=5)
        assert [(change.path, change.before and change.before.path) for change in page.changes] == [
            (b"1", b"0")
        ]
        diff, _ = await diff_of(Model(old, new), threads, limits=HOLDS_NOTHING)
        assert not diff.summary.has_renames
        assert diff.summary.tallies[ChangeKind.RENAMED].objects == 0


# --- what proves that bytes are the same ---------------------------------------------------------

MD5 = {"checksum_algorithm": "md5", "checksum_type": "full_object", "checksum": b"1"}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({"etag_raw": "1"}, {"etag_raw": "1", **MD5}, "identity"),
        ({"etag_raw": "1", **MD5}, {"etag_raw": "2", **MD5}, "identity"),
        ({"etag_raw": "1", **MD5}, {"etag_raw": "1", **MD5, "checksum": b"2"}, "content"),
        ({"etag_raw": "1", "version_id": "1"}, {"etag_raw": "1", "version_id": "2"}, "identity"),
        ({"version_id": "1"}, {"version_id": "1", **MD5}, "identity"),
        ({"version_id": "1"}, {"version_id": "2"}, "content"),
        ({"version_id": "null"}, {"version_id": "null", **MD5}, "content"),
        (MD5, {**MD5, "checksum_algorithm": "sha256"}, "content"),
        (MD5, {**MD5, "checksum_type": "composite"}, "content"),
        ({"etag_raw": "1"}, {"etag_raw": "2"}, "content"),
        ({"etag_raw": "1"}, {"etag_raw": "1", "size": 2}, "content"),
        ({"mtime_ns": 5}, {"mtime_ns": 5, **MD5}, "identity"),
        ({"mtime_ns": 5}, {"mtime_ns": 6}, "content"),
    ],
)
async def test_the_best_that_is_known_of_both_decides(
    before: dict[str, Any], after: dict[str, Any], kind: str
) -> None:
    old, new = ([{"path": b"a", "size": 1, **row}] for row in (before, after))
    async with Threads(2) as threads:
        for one, other in ((old, new), (new, old)):
            diff, _ = await diff_of(Model(one, other), threads)
            assert [change[1] for change in await rows_of(diff)] == [kind]


S3, FILES, WEB = ((SourceRef(uri),) for uri in ("s3://bucket/", "file:///data/", "https://host/"))
SEEN = {"last_modified": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("sources", "before", "after", "kind"),
    [
        ((S3, S3), {"etag_raw": "1", "uri": "s3://b/a"}, {"etag_raw": "1"}, "identity"),
        ((S3, WEB), {"etag_raw": "1", "uri": "s3://b/a"}, {"etag_raw": "1"}, "content"),
        ((WEB, WEB), {"etag_raw": "1", "uri": "http://b/a"}, {"etag_raw": "1"}, "identity"),
        ((S3, WEB), {**MD5, "uri": "s3://b/a"}, MD5, "identity"),
        ((S3, S3), {"version_id": "1", "uri": "s3://b/a"}, {"version_id": "1"}, "content"),
        ((FILES, FILES), SEEN, {**SEEN, **MD5}, "identity"),
        ((S3, S3), SEEN, {**SEEN, **MD5}, "content"),
    ],
)
async def test_what_is_told_by_a_store_counts_beside_its_own_kind_alone(
    sources: tuple[tuple[SourceRef, ...], tuple[SourceRef, ...]],
    before: dict[str, Any],
    after: dict[str, Any],
    kind: str,
) -> None:
    old, new = ([{"path": b"a", "size": 1, **row}] for row in (before, after))
    async with Threads(2) as threads:
        diff, _ = await diff_of(Model(old, new, *sources), threads)
        assert [change[1] for change in await rows_of(diff)] == [kind]


def test_two_versions_without_entries_do_not_differ() -> None:
    assert list(spans_of(Manifest(BUCKET, ()), Manifest(MOUNTED, ()), b"", 2)) == []
