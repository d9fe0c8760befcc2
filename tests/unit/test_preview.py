"""Previews: the counts and first paths of what a snapshot would keep, and that nothing is done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import LimitExceeded, NoSuchSource
from indexer.limits import PREVIEW_PATHS_MAX
from indexer.records import Preview, SourcePreview
from indexer.stores.memory import MemoryStore
from tests.unit.job_runs import PLAIN, World, bucket, numbered
from tests.unit.scripted_store import made


class Untouchable(MemoryStore):
    """A store whose objects may be listed and nothing else."""

    async def head(self, *given: Any, **asked: Any) -> Any:
        pytest.fail("a preview asked for an object")

    read = head


def untouchable(store: MemoryStore) -> MemoryStore:
    return Untouchable(store._objects, properties=store.properties, page_entries=5)


async def test_what_would_be_kept_is_shown_and_nothing_done() -> None:
    world = World({"bb": bucket("a.txt", "b/c.txt", "b/d.jpg", "b/e.jpg")}, wrap=untouchable)
    preview = await world.preview("s3://bb/", include=["b/"], exclude=["**/e.*"], checksum="md5")
    assert preview == Preview(
        sources=(SourcePreview("s3://bb/", 4, 2, 14),),
        kept=(b"b/c.txt", b"b/d.jpg"),
        left_out=(b"a.txt", b"b/e.jpg"),
    )
    assert await world.has_nothing()
    assert not world.tracker._shards


async def test_every_source_is_counted_by_itself() -> None:
    world = World({"bb": bucket("x/a", "x/b", "lone"), "cc": bucket("a")})
    preview = await world.preview("b=s3://bb/x/", "a=s3://cc/", "c=s3://bb/lone", exclude=["b/a"])
    assert [(one.source, one.listed, one.kept) for one in preview.sources] == [
        ("a=s3://cc/", 1, 1), ("b=s3://bb/x/", 2, 1), ("c=s3://bb/lone", 1, 1),
    ]  # fmt: skip
    assert preview.kept == (b"a/a", b"b/b", b"c/lone")
    assert preview.left_out == (b"b/a",)


async def test_nothing_there_is_a_preview_too() -> None:
    world = World({"bb": bucket("a")})
    preview = await world.preview("s3://bb/none/")
    assert preview == Preview((SourcePreview("s3://bb/none/", 0, 0, 0),), (), ())
    with pytest.raises(NoSuchSource, match="no such bucket"):
        await world.preview("s3://none/")


async def test_sizes_that_are_not_listed_are_not_counted() -> None:
    world = World({"bb": bucket("aa", "bb")})

    class Names(MemoryStore):
        async def list_page(self, *given: Any, **asked: Any) -> Any:
            page = await super().list_page(*given, **asked)
            sizes = [2, -1][: page.rows.num_rows]
            rows = page.rows.set_column(1, page.rows.schema.field("size"), pa.array(sizes))
            return replace(page, rows=rows)

    world.wrap = lambda store: Names(store._objects)
    preview = await world.preview("s3://bb/")
    assert preview.sources == (SourcePreview("s3://bb/", 2, 2, 2),)


@pytest.mark.parametrize("on_limit", ["error", "partial"])
async def test_more_than_the_limit_is_an_error(on_limit: str) -> None:
    world = World({"bb": bucket(*numbered(20))})
    with pytest.raises(LimitExceeded, match="more than 19 objects"):
        await world.preview("s3://bb/", objects_max=19, on_limit=on_limit)
    preview = await world.preview("s3://bb/", objects_max=20, on_limit=on_limit)
    assert preview.sources[0].listed == 20


async def test_who_asked_for_the_first_is_not_told_to_ask_for_them() -> None:
    world = World({"bb": bucket(*numbered(20))})
    with pytest.raises(LimitExceeded, match="to see which of them would be kept"):
        await world.preview("s3://bb/", objects_max=19, on_limit="partial")
    with pytest.raises(LimitExceeded, match="or keep the first 19"):
        await world.preview("s3://bb/", objects_max=19)


async def test_more_pages_than_a_slice_has_are_seen() -> None:
    world = World({"bb": bucket(*numbered(200))})
    preview = await world.preview("s3://bb/", slice_pages_max=1)
    assert preview.sources[0].listed == 200


@given(
    keys=st.sets(st.text("ab/", min_size=1, max_size=6), max_size=60),
    in_flight=st.sampled_from([1, 16]),
    page_entries=st.integers(1, 20),
)
def test_first_paths_are_in_order_however_they_are_listed(
    keys: set[str], in_flight: int, page_entries: int
) -> None:
    world = World({"bb": bucket(*keys)}, in_flight=in_flight, page_entries=page_entries)
    preview = asyncio.run(world.preview("m=s3://bb/", exclude=["m/a*"]))
    paths = sorted(b"m/" + key.encode() for key in keys)
    out = [path for path in paths if path.startswith(b"m/a") and b"/" not in path[2:]]
    kept = [path for path in paths if path not in out]
    assert preview.kept == tuple(kept[:PREVIEW_PATHS_MAX])
    assert preview.left_out == tuple(out[:PREVIEW_PATHS_MAX])
    assert (preview.sources[0].listed, preview.sources[0].kept) == (len(keys), len(kept))


async def test_deleted_objects_are_not_shown() -> None:
    objects = {b"a": made(b"a", "v1"), b"b": None, b"c": made(b"c", "v2")}
    world = World({"bb": objects}, replace(PLAIN, versions=True))
    assert (await world.preview("s3://bb/")).kept == (b"a", b"c")
