"""A server that ends listings early, as MinIO does beside directories of similar names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.objects import Head
from indexer.page import empty_page, paths_of
from indexer.protocols import ListedPage, StoreProperties
from indexer.stores.s3_minio import DIRECTORIES_KNOWN_MAX, Directories
from indexer.testing.directory_walk import WalkedBucket
from indexer.testing.faulty_store import DelayedStore
from tests.unit.listing_runs import list_all, list_first
from workers.simulated import VirtualClock, run_simulated

SPARE = 5
NEIGHBOURS_MAX = SPARE - 2
"""Beside the neighbours a walk meets the key that it begins after, and has to find one more than
are shown."""

Asked = list[tuple[bytes | None, bytes]]


class Walking:
    """A store on a server like MinIO, with what it was asked."""

    def __init__(
        self, keys: Sequence[bytes], *, page_entries: int = 5, is_naive: bool = False
    ) -> None:
        self._bucket = WalkedBucket(keys, page_entries=page_entries, spare=SPARE)
        self._directories = Directories(self._ask, neighbours_max=NEIGHBOURS_MAX)
        self._is_naive = is_naive
        self.properties = StoreProperties(KEY_BYTES_MAX, resume="directory")
        self.asked: Asked = []

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        if token is not None:
            return await self._bucket.go_on(token, prefix)
        if self._is_naive:
            return (await self._ask(keys.after, prefix))[0]
        return await self._directories.page_after(keys, prefix)

    async def head(self, *_: Any, **__: Any) -> Head:
        raise AssertionError("a listing looks at no object")

    async def read(self, *_: Any, **__: Any) -> None:
        raise AssertionError("a listing reads no object")

    async def _ask(
        self, after: Key | None, prefix: Key, *, rows: int | None = None
    ) -> tuple[ListedPage, Sequence[bytes]]:
        self.asked.append((after, bytes(prefix)))
        page = await self._bucket.ask(after, prefix, rows=rows)
        return page, paths_of(page.rows)


SIBLINGS = sorted(
    [b"a-b/%02d/x" % number for number in range(20)]
    + [b"a/%02d/x" % number for number in range(20)]
    + [b"a.txt", b"a0", b"a1/x", b"b/c-/1", b"b/c/1", b"b/c/2", b"b/d"]
)


async def test_the_server_is_as_bad_as_it_is() -> None:
    naive = Walking(SIBLINGS, is_naive=True)
    page = await naive.list_page(KeyRange(after=Key(b"a/03/x")))
    assert (page.entries, page.more) == (0, False)
    listed = await list_all(naive, slots=1)
    assert len(listed.keys) < len(SIBLINGS)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("page_entries", [1, 5, 30])
async def test_all_is_listed_all_the_same(slots: int, page_entries: int) -> None:
    listed = await list_all(Walking(SIBLINGS, page_entries=page_entries), slots=slots)
    assert listed.keys == SIBLINGS
    listed.check_tiling()


@pytest.mark.parametrize("neighbours", range(SPARE + 5))
async def test_any_number_of_neighbours(neighbours: int) -> None:
    keys = sorted(
        [b"d/a-/%02d" % number for number in range(neighbours)]
        + [b"d/a/%02d/x" % number for number in range(23)]
        + [b"d/a0", b"d/b/x", b"e", b"f"]
    )
    for page_entries in (1, 4, 5, 10):
        listed = await list_all(Walking(keys, page_entries=page_entries), slots=1)
        assert listed.keys == keys


NAMES = st.sampled_from(["a", "a-", "a-b", "a.b", "a0", "a ", "b", "b-", "é"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=100, unique=True)


def files(paths: Sequence[str]) -> list[bytes]:
    """The paths that can be files beside one another."""
    found = set(paths)
    return sorted(
        path.encode()
        for path in paths
        if not any(path[:place] in found for place in range(len(path)) if path[place] == "/")
    )


@given(
    keys=PATHS.map(files),
    page_entries=st.integers(1, 6),
    slots=st.integers(1, 6),
    pages_max=st.sampled_from([1, 5, 1000]),
    seed=st.integers(0, 100),
)
def test_any_tree_is_listed_whole(
    *, keys: list[bytes], page_entries: int, slots: int, pages_max: int, seed: int
) -> None:
    walking = Walking(keys, page_entries=page_entries)

    async def program(clock: VirtualClock, chance: Random) -> list[bytes]:
        delayed = DelayedStore(walking, lambda: clock.sleep(chance.random()))
        listed = await list_all(delayed, slots=slots, pages_max=pages_max)
        listed.check_tiling()
        return listed.keys

    assert run_simulated(program, seed=seed) == keys


@given(
    keys=PATHS.map(files),
    starts=st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=5),
    page_entries=st.integers(1, 6),
)
def test_a_page_is_what_follows_any_key(
    keys: list[bytes], starts: list[str], page_entries: int
) -> None:
    walking = Walking(keys, page_entries=page_entries)

    async def program(_: VirtualClock, __: Random) -> None:
        for start in starts:
            after = Key(start.encode())
            following = [key for key in keys if key > after]
            page = await walking.list_page(KeyRange(after=after))
            assert paths_of(page.rows) == following[: page.entries]
            assert bool(page.entries) == bool(following)
            assert page.more or len(following) == page.entries

    run_simulated(program)


async def test_the_first_keys_are_kept() -> None:
    for count in (1, 21, 25, 40, len(SIBLINGS)):
        assert await list_first(Walking(SIBLINGS), count, 4) == SIBLINGS[:count]


# --- what it costs -------------------------------------------------------------------------------

TREE = [b"t/%02d/%02d" % (number // 10, number % 10) for number in range(100)]


async def test_where_there_are_no_neighbours_a_page_takes_a_request() -> None:
    store = Walking(TREE, page_entries=20)
    listed = await list_all(store, slots=1)
    assert listed.keys == TREE
    # At the end it is made sure that none have come to any of the directories.
    assert store.asked[-2:] == [(None, b"t/07"), (None, b"t")]
    assert len(store.asked) == 100 / 20 + 2


async def test_first_pages_and_those_within_a_directory_take_one_request() -> None:
    store = Walking([b"a/1", b"a/2", b"b"])
    assert not (await store.list_page(KeyRange())).more
    assert not (await store.list_page(KeyRange(), prefix=Key(b"a/"))).more
    page = await store.list_page(KeyRange(after=Key(b"a/1")), prefix=Key(b"a/"))
    assert (paths_of(page.rows), page.more) == ([b"a/2"], False)
    assert not (await store.list_page(KeyRange(after=Key(b"a")))).more
    assert len(store.asked) == 4


async def test_a_directory_of_which_nothing_is_known_is_looked_at_once() -> None:
    store = Walking(TREE, page_entries=20)
    for _ in range(2):
        assert (await store.list_page(KeyRange(after=Key(b"t/03/05")))).more
    asked = [(None, b"t/03"), (None, b"t"), (b"t/03/05", b""), (b"t/03/05", b"")]
    assert store.asked == asked


async def test_a_directory_with_many_neighbours_is_listed_itself() -> None:
    store = Walking(SIBLINGS)
    page = await store.list_page(KeyRange(after=Key(b"a/03/x")))
    assert (page.first, page.more, page.token) == (b"a/04/x", True, None)
    assert store.asked == [(None, b"a/03"), (None, b"a"), (b"a/03/x", b"a/")]


async def test_after_it_comes_what_lies_beyond_it() -> None:
    store = Walking(SIBLINGS)
    page = await store.list_page(KeyRange(after=Key(b"a/19/x")))
    assert (paths_of(page.rows), page.more) == ([b"a0"], True)
    assert store.asked[2:] == [(b"a/19/x", b"a/"), (None, b"a0")]
    page = await store.list_page(KeyRange(Key(b"a/19/x"), Key(b"a/99")))
    assert (page.entries, page.more) == (0, False)


async def test_neighbours_that_come_meanwhile_are_seen_at_the_end() -> None:
    keys = [b"a/%02d/x" % number for number in range(20)]
    store = Walking(keys)
    first = await store.list_page(KeyRange())
    assert first.last == b"a/04/x"
    more_keys = sorted([*keys, *(b"a-b/%02d" % number for number in range(20))])
    store._bucket = WalkedBucket(more_keys, page_entries=5, spare=SPARE)
    page = await store.list_page(KeyRange(after=first.last))
    assert paths_of(page.rows) == keys[5:10]


async def test_what_is_remembered_is_bounded() -> None:
    store = Walking([b"a/1"])
    for number in range(DIRECTORIES_KNOWN_MAX + 10):
        store._directories._know(Key(b"%d/" % number), is_crowded=True)
    assert len(store._directories._crowded) == 10


async def test_more_that_is_not_shown_is_an_error() -> None:
    async def ask(
        after: Key | None, prefix: Key, *, rows: int = 1
    ) -> tuple[ListedPage, Sequence[bytes]]:
        if rows == NEIGHBOURS_MAX + 1:
            return ListedPage(empty_page(), 2, Key(b"a"), Key(b"a-"), more=True), [b"a", b"a-"]
        return ListedPage(empty_page(), 0, None, None, more=True, token="other"), []

    directories = Directories(ask, neighbours_max=NEIGHBOURS_MAX)
    with pytest.raises(BrokenListing, match="more and does not list it"):
        await directories.page_after(KeyRange(after=Key(b"a/b")), Key(b""))
