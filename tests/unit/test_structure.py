"""The proof of a version's structure: what is whole passes, and every kind of damage is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.artifact.verify.structure import CHECKS
from indexer.keyspace import RUN_ROWS_MAX, cut_long_run, cut_rows, low_digests
from indexer.manifest import SourceRef
from tests.unit.job_runs import World, bucket, commit_spy
from tests.unit.kept_versions import Kept, kept, kept_of, shard_of, text, tiling_of

Damage = Callable[[Kept], None]


@cache
def paths() -> list[bytes]:
    """Few, and among them some that a shard ends after."""
    names = [b"%06d" % number for number in range(100_000)]
    cut = set(cut_rows(names))
    return [name for row, name in enumerate(names) if row % 500 == 0 or row in cut]


@cache
def long_run() -> list[bytes]:
    """Paths of which the rule of the first level cuts none, more than one shard may have."""
    names = [b"%06d" % number for number in range(90_000)]
    cut = set(cut_rows(names))
    return [name for row, name in enumerate(names) if row not in cut][: RUN_ROWS_MAX + 5_000]


async def test_what_is_whole_is_proven_by_every_check() -> None:
    version = kept(paths())
    report = await version.verify()
    assert report.is_right
    assert [check.name for check in report.checks] == list(CHECKS)
    looked_at = {check.name: check.looked_at for check in report.checks}
    assert looked_at["shards"] == looked_at["cuts"] == len(version.shards) > 2
    assert looked_at["tiling"] == looked_at["manifest"] == 1


async def test_a_long_run_is_cut_again() -> None:
    names = long_run()
    lengths = cut_long_run(low_digests(names))
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    assert len(lengths) > 1
    assert (await kept(names, ends=ends).verify()).is_right
    for others in ([], ends[:-2] + ends[-1:], [*ends[:-1], ends[-1] - 1, ends[-1]]):
        assert set(await kept(names, ends=others).wrong()) == {"cuts"}


@given(
    keys=st.sets(st.text("ab/", min_size=1, max_size=4), min_size=1, max_size=60),
    other=st.sets(st.text("ab", min_size=1, max_size=3), max_size=9),
    include=st.sampled_from([(), ("**/a*",), ("a/**",)]),
    objects_max=st.sampled_from([3, 1_000]),
)
async def test_whatever_is_committed_is_proven(
    keys: set[str], other: set[str], include: tuple[str, ...], objects_max: int
) -> None:
    world = World({"bb": bucket(*keys), "cc": bucket(*other, "b")}, page_entries=4)
    requests = commit_spy(world)
    for sources in (["s3://bb/"], ["one=s3://bb/", "two/x=s3://cc/", "z=s3://cc/b"]):
        done = await world.snapshot(
            *sources, include=include, objects_max=objects_max, on_limit="partial", allow_empty=True
        )
        version = kept_of(requests[-1], done.result.version, world.tracker._shards)
        assert await version.wrong() == {}
        partial = requests[-1].scan.consistency == "partial"
        assert bool((await version.verify()).notices) == partial


def flip_a_byte(version: Kept) -> None:
    digest = version.manifest.shards[1].digest
    data = bytearray(version.shards[digest])
    data[100] ^= 1
    version.shards[digest] = bytes(data)


def lose_a_shard(version: Kept) -> None:
    del version.shards[version.manifest.shards[0].digest]


def swap_shards(version: Kept) -> None:
    one, other, *_ = (shard.digest for shard in version.manifest.shards)
    version.shards[one], version.shards[other] = version.shards[other], version.shards[one]


def swap_references(version: Kept) -> None:
    """The root itself has two shards in each other's place, under their own last paths."""
    one, other, *rest = version.manifest.shards
    version.refer(
        replace(other, max_path=one.max_path), replace(one, max_path=other.max_path), *rest
    )


def disorder(version: Kept) -> None:
    """A shard by whoever does not keep rows in order, and digests them all the same."""
    first, *rest = version.manifest.shards
    names = paths()[: first.rows]
    ref, data = shard_of([names[1], names[0], *names[2:]])
    version.shards[ref.digest] = data
    version.refer(ref, *rest)


def overlap(version: Kept) -> None:
    """A shard begins with the row that the one before ends with."""
    first, second, *rest = version.manifest.shards
    names = paths()[first.rows - 1 : first.rows + second.rows]
    version.refer(first, version.put(names), *rest)


def say_other_rows(version: Kept) -> None:
    first, *rest = version.manifest.shards
    version.refer(replace(first, rows=first.rows + 1), *rest)


def say_other_bytes(version: Kept) -> None:
    *rest, last = version.manifest.shards
    version.refer(*rest, replace(last, size_bytes=last.size_bytes - 1))


def say_another_end(version: Kept) -> None:
    *rest, last = version.manifest.shards
    version.refer(*rest, replace(last, max_path=last.max_path + b"0"))


def cut_early(version: Kept) -> None:
    first, *rest = version.manifest.shards
    names = paths()[: first.rows]
    version.refer(version.put(names[:3]), version.put(names[3:]), *rest)


def cut_late(version: Kept) -> None:
    first, second, *rest = version.manifest.shards
    version.refer(version.put(paths()[: first.rows + second.rows]), *rest)


def change_the_root(version: Kept) -> None:
    version.roots[version.manifest.digest] = version.manifest.root.replace(b"data", b"date")


def break_the_root(version: Kept) -> None:
    version.roots[version.manifest.digest] = version.manifest.root + b"\n"


def say_other_totals(version: Kept) -> None:
    version.record = replace(version.record, size_bytes=1)


def of_a_mount(version: Kept) -> None:
    version.manifest = replace(version.manifest, sources=(SourceRef("s3://bucket/data/", "train"),))
    version.refer(*version.manifest.shards)


def of_an_object(version: Kept) -> None:
    version.manifest = replace(version.manifest, sources=(SourceRef("s3://bucket/data/000000"),))
    version.refer(*version.manifest.shards)


def tiling(change: Callable[[list[dict[str, Any]]], object]) -> Damage:
    def damage(version: Kept) -> None:
        document = tiling_of(paths())
        change(document["tiles"])
        version.tile(document)

    return damage


def of_a_second_scan(version: Kept) -> None:
    document = tiling_of(paths())
    del document["tiles"][0]
    version.tilings.append(json.dumps(document).encode())


def filtered(version: Kept) -> None:
    version.tile({**tiling_of(paths()), "exclude": ["000?00"]})


def gone(version: Kept) -> None:
    """One object more is said to have vanished than was kept and is no entry."""
    document = tiling_of(paths())
    document["gone"] = 1
    version.tile(document)


DAMAGES: list[tuple[Damage, set[str]]] = [
    (flip_a_byte, {"shards", "tiles"}),
    (lose_a_shard, {"shards", "tiles"}),
    (swap_shards, {"shards", "tiles"}),
    (swap_references, {"order", "counts"}),
    (disorder, {"shards", "tiles"}),
    (overlap, {"order", "cuts", "tiles", "sums"}),
    (say_other_rows, {"counts", "sums"}),
    (say_other_bytes, {"counts"}),
    (say_another_end, {"counts"}),
    (cut_early, {"cuts"}),
    (cut_late, {"cuts"}),
    (change_the_root, {"manifest"}),
    (break_the_root, {"manifest"}),
    (say_other_totals, {"totals"}),
    (of_a_mount, {"sources", "tiles"}),
    (of_an_object, {"sources"}),
    (tiling(lambda tiles: tiles.pop(0)), {"tiling", "sums", "tiles"}),
    (tiling(lambda tiles: tiles.pop(2)), {"tiling", "sums", "tiles"}),
    (tiling(lambda tiles: tiles.pop()), {"tiling", "sums", "tiles"}),
    (tiling(lambda tiles: tiles.clear()), {"tiling", "sums", "tiles"}),
    (tiling(lambda tiles: tiles[1].update(after=text(b"01"))), {"tiling"}),
    (tiling(lambda tiles: tiles[1].update(through=tiles[1]["after"])), {"tiling", "tiles"}),
    (tiling(lambda tiles: tiles[1].update(source=1)), {"tiling", "tiles"}),
    (tiling(lambda tiles: tiles[1].update(listed=1)), {"sums"}),
    (tiling(lambda tiles: tiles[1].update(kept=1)), {"sums", "tiles"}),
    (
        tiling(lambda tiles: [tile.update(kept=tile["kept"] + by, listed=tile["listed"] + by)
                              for tile, by in zip(tiles, (1, -1), strict=False)]),
        {"tiles"},
    ),
    (tiling(lambda tiles: tiles[0].update(after="?")), {"tiling", "sums", "tiles", "filters"}),
    (tiling(lambda tiles: tiles[3].update(after=text(b"z"), through=text(b"a"))),
     {"tiling", "sums", "tiles", "filters"}),
    (of_a_second_scan, {"tiling", "sums"}),
    (filtered, {"filters"}),
    (gone, {"sums", "tiles"}),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "names"), DAMAGES)
async def test_damage_is_seen_and_named(damage: Damage, names: set[str]) -> None:
    version = kept(paths())
    damage(version)
    wrong = await version.wrong()
    if "manifest" in names:
        assert {name for name, said in wrong.items() if said != "not made"} == names
        return
    assert set(wrong) == names
