"""Whole jobs over memory stores: what comes of sources, mounts, filters, limits and changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import (
    Ability,
    AmbiguousSource,
    BrokenListing,
    InvalidSetting,
    LimitExceeded,
    NoSuchSource,
)
from indexer.globs import Filters
from indexer.protocols import StoreProperties
from indexer.records import Consistency
from indexer.stores.memory import MemoryObject, MemoryStore, page_of
from tests.unit.job_runs import NOON, PLAIN, World, bucket, commit_spy, numbered
from tests.unit.scripted_store import made

# --- one source


async def test_a_folder_is_listed_and_committed() -> None:
    world = World({"bb": bucket("data/a", "data/b/c", "other")})
    done = await world.snapshot("s3://bb/data/")
    assert await world.paths(done) == [b"a", b"b/c"]
    assert [entry.uri for entry in await world.entries(done)] == [
        "s3://bb/data/a",
        "s3://bb/data/b/c",
    ]
    assert done.result.version.consistency is Consistency.INSTANT
    assert (done.listed, done.result.version.checksum) == (2, "default")
    assert not (await world.snapshot("s3://bb/data")).result.created


async def test_a_lone_object_is_a_source() -> None:
    world = World({"bb": bucket("data/a.txt")})
    done = await world.snapshot("s3://bb/data/a.txt", checksum="sha256")
    (entry,) = await world.entries(done)
    assert (entry.path, entry.uri) == (b"a.txt", "s3://bb/data/a.txt")
    assert entry.checksum == hashlib.sha256(b"data/a.txt").hexdigest()
    assert (done.listed, world.counters.objects_listed) == (1, 1)


async def test_what_is_both_an_object_and_a_folder_is_refused() -> None:
    world = World({"bb": bucket("data", *numbered(30, "data/"))})
    for do in (world.snapshot, world.preview):
        with pytest.raises(AmbiguousSource, match="both an object and a folder"):
            await do("s3://bb/data")
    assert await world.has_nothing()


async def test_a_folder_behind_deleted_objects_is_found_by_a_preview_too() -> None:
    """Its first page shows nothing but what was deleted."""
    objects: dict[bytes, MemoryObject | None] = {b"data": made(b"", "v1")}
    objects |= {f"data/{at:02}".encode(): None for at in range(20)}
    objects[b"data/99"] = made(b"x", "v1")
    world = World({"bb": objects}, properties=replace(PLAIN, versions=True))
    for do in (world.snapshot, world.preview):
        with pytest.raises(AmbiguousSource):
            await do("s3://bb/data")


async def test_nothing_is_an_error_unless_it_was_asked_for() -> None:
    world = World({"bb": bucket("data/a")})
    for source in ("s3://bb/none/", "s3://bb/none"):
        with pytest.raises(NoSuchSource, match="nothing was recorded"):
            await world.snapshot(source)
    with pytest.raises(NoSuchSource, match=r"none of the 1 objects of s3://bb/data/ is kept"):
        await world.snapshot("s3://bb/data/", include=["x"])
    assert await world.has_nothing()
    done = await world.snapshot("s3://bb/data/", include=["x"], allow_empty=True)
    assert (done.result.version.objects, done.listed) == (0, 1)


# --- several sources


TWO = {"bb": bucket(*numbered(7, "x/"), "lone.txt"), "cc": bucket("a", "b/c")}


async def test_sources_stand_below_their_mounts() -> None:
    world = World(TWO)
    done = await world.snapshot("z=s3://bb/x/", "a-b=s3://cc/", "a=s3://bb/lone.txt")
    entries = await world.entries(done)
    paths = [b"a-b/a", b"a-b/b/c", b"a/lone.txt", *(f"z/{at:03}".encode() for at in range(7))]
    assert [entry.path for entry in entries] == paths
    assert [entry.uri for entry in entries][:4] == [
        "s3://cc/a", "s3://cc/b/c", "s3://bb/lone.txt", "s3://bb/x/000",
    ]  # fmt: skip
    assert done.listed == 10
    assert done.result.version.consistency is Consistency.WINDOW


async def test_a_lone_object_among_sources_may_be_left_out() -> None:
    world = World(TWO)
    committed = commit_spy(world)
    done = await world.snapshot("a=s3://bb/lone.txt", "b=s3://cc/", exclude=["**/*.txt"])
    assert await world.paths(done) == [b"b/a", b"b/b/c"]
    assert [
        (tile["listed"], tile["kept"]) for tile in json.loads(committed[0].scan.tiling)["tiles"]
    ] == [(1, 0), (2, 2)]
    assert done.listed == 3


async def test_the_limit_counts_all_sources() -> None:
    world = World(TWO)
    sources = ("a=s3://bb/lone.txt", "b=s3://cc/", "c=s3://bb/x/", "d=s3://bb/lone.txt")
    assert (await world.snapshot(*sources, objects_max=11)).listed == 11
    for objects_max in (10, 9, 2, 1):
        with pytest.raises(LimitExceeded, match=f"than {objects_max} objects in 4 sources"):
            await world.snapshot(*sources, objects_max=objects_max)
        with pytest.raises(LimitExceeded, match=f"than {objects_max} objects in 4 sources"):
            await world.preview(*sources, objects_max=objects_max)


async def test_filters_that_keep_none_of_the_first_say_of_how_many() -> None:
    world = World({"bb": bucket(*numbered(20))})
    with pytest.raises(NoSuchSource, match="none of the first 3 objects"):
        await world.snapshot("s3://bb/", objects_max=3, on_limit="partial", exclude=["**"])
    with pytest.raises(NoSuchSource, match="none of the 20 objects"):
        await world.snapshot("s3://bb/", exclude=["**"])


async def test_the_limit_counts_before_filters() -> None:
    world = World({"bb": bucket(*numbered(20))})
    with pytest.raises(LimitExceeded):
        await world.snapshot("s3://bb/", objects_max=19, include=["000"])
    assert await world.has_nothing()
    done = await world.snapshot("s3://bb/", objects_max=20, include=["000"])
    assert (done.result.version.objects, done.listed) == (1, 20)


@pytest.mark.parametrize("in_flight", [1, 4, 64])
@pytest.mark.parametrize("objects_max", [1, 2, 3, 5, 9, 10])
async def test_the_first_objects_of_several_sources(in_flight: int, objects_max: int) -> None:
    world = World(TWO, in_flight=in_flight, page_entries=2)
    sources = ("a=s3://bb/lone.txt", "b=s3://cc/", "c=s3://bb/x/", "d=s3://bb/lone.txt")
    done = await world.snapshot(*sources, objects_max=objects_max, on_limit="partial")
    everything = [b"a/lone.txt", b"b/a", b"b/b/c", *(b"c/%03d" % at for at in range(7))]
    assert await world.paths(done) == everything[:objects_max]
    assert done.listed == objects_max
    version = done.result.version
    assert (version.consistency, version.aliases) == (Consistency.PARTIAL, ())


async def test_no_more_than_the_limit_is_no_partial_version() -> None:
    world = World(TWO)
    sources = ("a=s3://bb/lone.txt", "b=s3://cc/", "c=s3://bb/x/", "d=s3://bb/lone.txt")
    done = await world.snapshot(*sources, objects_max=11, on_limit="partial", exclude=["c/**"])
    version = done.result.version
    assert (version.consistency, version.aliases) == (Consistency.WINDOW, ("latest",))
    assert (version.objects, done.listed) == (4, 11)
    again = await world.snapshot(*sources, exclude=["c/**"])
    assert not again.result.created


KEYS = st.sets(st.text("ab/", min_size=1, max_size=5), max_size=40)


@given(
    keys=KEYS,
    objects_max=st.integers(1, 45),
    in_flight=st.sampled_from([1, 3, 16]),
    page_entries=st.integers(1, 7),
    slice_pages_max=st.sampled_from([1, 3, 1_000]),
    exclude=st.sampled_from([[], ["a*"], ["**/b"], ["**"]]),
    checksum=st.sampled_from([None, "md5"]),
)
def test_the_first_objects_are_the_same_however_they_are_listed(
    keys: set[str],
    objects_max: int,
    in_flight: int,
    page_entries: int,
    slice_pages_max: int,
    exclude: list[str],
    checksum: str | None,
) -> None:
    world = World({"bb": bucket(*keys)}, in_flight=in_flight, page_entries=page_entries)
    committed = commit_spy(world)
    done = asyncio.run(
        world.snapshot(
            "s3://bb/",
            objects_max=objects_max,
            on_limit="partial",
            slice_pages_max=slice_pages_max,
            exclude=exclude,
            checksum=checksum,
            allow_empty=True,
        )
    )
    first = sorted(key.encode() for key in keys)[:objects_max]
    selector = Filters(exclude=tuple(exclude)).selector()
    page = page_of((key, made(key)) for key in first)
    kept = page.filter(selector.keeps(page)).column("path").to_pylist()
    assert asyncio.run(world.paths(done)) == kept
    assert done.listed == len(first)
    is_partial = done.result.version.consistency is Consistency.PARTIAL
    assert is_partial == (len(keys) > objects_max)
    assert sum(tile["kept"] for tile in json.loads(committed[0].scan.tiling)["tiles"]) == len(kept)


# --- checksums and the version before


async def test_unchanged_objects_keep_their_checksums() -> None:
    world = World({"bb": bucket(*numbered(30))})
    first = await world.snapshot("s3://bb/", checksum="sha256")
    assert world.counters.checksums_read == 30
    again = await world.snapshot("s3://bb/", checksum="sha256")
    assert (world.counters.checksums_read, world.counters.checksums_carried) == (0, 30)
    assert (again.result.created, again.result.version.digest) == (
        False, first.result.version.digest,
    )  # fmt: skip
    world.buckets["bb"][b"007"] = made(b"changed")
    world.buckets["bb"][b"new"] = made(b"new")
    third = await world.snapshot("s3://bb/", checksum="sha256")
    assert (world.counters.checksums_read, world.counters.checksums_carried) == (2, 29)
    entries = {entry.path: entry.checksum for entry in await world.entries(third)}
    assert entries[b"007"] == hashlib.sha256(b"changed").hexdigest()
    assert entries[b"008"] == hashlib.sha256(b"008").hexdigest()


async def test_another_checksum_is_read_anew() -> None:
    world = World({"bb": bucket(*numbered(3))})
    await world.snapshot("s3://bb/", checksum="sha256")
    await world.snapshot("s3://bb/", checksum="md5")
    assert (world.counters.checksums_read, world.counters.checksums_carried) == (3, 0)
    done = await world.snapshot("s3://bb/")
    assert {entry.checksum for entry in await world.entries(done)} == {None}


async def test_nothing_is_carried_over_from_another_source() -> None:
    """The ETags are alike there, but nothing says that they mean the same bytes."""
    objects = bucket(*numbered(3))
    others = {
        key: replace(found, body=b"888") for key, found in objects.items() if found is not None
    }
    world = World({"bb": objects, "cc": dict(others)})
    await world.snapshot("m=s3://bb/", checksum="sha256")
    done = await world.snapshot("m=s3://cc/", checksum="sha256")
    assert (world.counters.checksums_read, world.counters.checksums_carried) == (3, 0)
    assert {entry.checksum for entry in await world.entries(done)} == {
        hashlib.sha256(b"888").hexdigest()
    }


# --- what happens meanwhile


async def test_what_was_written_meanwhile_is_said() -> None:
    objects = bucket(*numbered(12))
    for key, seconds in ((b"003", 5), (b"004", 0.5), (b"005", -5), (b"006", 9)):
        found = objects[key]
        assert found is not None
        objects[key] = replace(found, last_modified=NOON + timedelta(seconds=seconds))
    world = World({"bb": objects}, notices=("Of the store.",))
    version = (await world.snapshot("s3://bb/")).result.version
    assert version.touched == 2
    assert version.notices[0] == "Of the store."
    assert "2 objects were written" in version.notices[1]
    world.opened_at = None
    done = await world.snapshot("s3://bb/", exclude=["000"])
    assert (done.result.version.touched, done.warnings) == (None, ("Of the store.",))


@pytest.mark.parametrize("opened_at", [NOON, None])
async def test_what_vanished_meanwhile_is_left_out_and_said(opened_at: datetime | None) -> None:
    class Vanishing(MemoryStore):
        async def head(self, key: Any, **asked: Any) -> Any:
            if key in (b"003", b"007"):
                self.put(key, None)
            return await super().head(key, **asked)

    def wrap(store: MemoryStore) -> MemoryStore:
        return Vanishing(store._objects, properties=store.properties, page_entries=5)

    properties = replace(PLAIN, needs_head=True)
    world = World({"bb": bucket(*numbered(12))}, properties, wrap=wrap, opened_at=opened_at)
    committed = commit_spy(world)
    done = await world.snapshot("s3://bb/")
    gone = (b"003", b"007")
    assert await world.paths(done) == [b"%03d" % at for at in range(12) if b"%03d" % at not in gone]
    assert json.loads(committed[0].scan.tiling)["gone"] == 2
    assert "2" in done.warnings[0]
    assert "gone" in done.warnings[0]


# --- a store that turns out to lack an ability


class Lacking:
    """A store that fails once, by saying what to do without."""

    def __init__(self, store: MemoryStore, ability: Ability) -> None:
        self._store = store
        self._ability = ability
        self._pages = 0

    @property
    def properties(self) -> StoreProperties:
        return self._store.properties

    async def list_page(self, *given: Any, **asked: Any) -> Any:
        self._pages += 1
        if self._pages == 3 and getattr(self.properties, self._ability):
            raise BrokenListing("it does not go on", do_without=self._ability)
        return await self._store.list_page(*given, **asked)


@pytest.mark.parametrize("on_limit", ["error", "partial"])
async def test_a_source_is_scanned_again_without_what_its_store_lacks(on_limit: str) -> None:
    world = World({"bb": bucket(*numbered(40))}, wrap=lambda store: Lacking(store, "parallel"))
    done = await world.snapshot("m=s3://bb/", "n=s3://bb/", on_limit=on_limit)
    assert world.opened == [frozenset(), frozenset({"parallel"})] * 2
    assert (done.listed, done.result.version.objects) == (80, 80)
    assert world.counters.objects_listed == 80
    assert world.counters.objects_abandoned > 0


async def test_what_is_lacking_still_is_an_error() -> None:
    class Always(Lacking):
        async def list_page(self, *given: Any, **asked: Any) -> Any:
            raise BrokenListing("it does not go on", do_without="parallel")

    world = World({"bb": bucket("a")}, wrap=lambda store: Always(store, "parallel"))
    with pytest.raises(BrokenListing, match="s3://bb/"):
        await world.snapshot("s3://bb/")
    assert len(world.opened) == 2


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"]
)
async def test_a_moment_that_no_store_can_tell_of_is_refused(moment: str) -> None:
    world = World({"bb": bucket("a")})
    with pytest.raises(InvalidSetting, match="since 1970"):
        await world.snapshot("s3://bb/", as_of=datetime.fromisoformat(moment))
