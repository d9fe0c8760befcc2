"""A server that ends listings early, as MinIO does beside directories of similar names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing
from indexer.keyspace import Key, KeyRange
from indexer.page import empty_page, paths_of
from indexer.protocols import ListedPage, StoreProperties
from indexer.stores.s3_minio import page_after
from indexer.testing.faulty_store import DelayedStore, FaultyStore, neighbours_walked
from tests.unit.listing_runs import BY_DIRECTORY, list_all, list_first, memory
from workers.simulated import VirtualClock, run_simulated

Asked = list[tuple[bytes | None, bytes]]


class Walking:
    """A store on a server like MinIO, with what it was asked."""

    def __init__(
        self, keys: Sequence[bytes], *, page_entries: int = 5, walk: int = 6, settles: bool = True
    ) -> None:
        store = memory(keys, BY_DIRECTORY, page_entries)
        self._store = FaultyStore(store, neighbours_walked(walk))
        self._settles = settles
        self.asked: Asked = []

    @property
    def properties(self) -> StoreProperties:
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        if token is not None or not self._settles:
            return await self._store.list_page(keys, prefix=prefix, token=token)
        return await page_after(self._ask, keys, prefix)

    async def _ask(self, after: Key | None, prefix: Key) -> ListedPage:
        self.asked.append((after, bytes(prefix)))
        return await self._store.list_page(KeyRange(after), prefix=prefix)


SIBLINGS = sorted(
    [b"a-b/%02d/x" % number for number in range(20)]
    + [b"a/%02d/x" % number for number in range(20)]
    + [b"a.txt", b"a0", b"a0/x", b"b/c-/1", b"b/c/1", b"b/c/2", b"b/d"]
)


async def test_the_fault_is_one() -> None:
    listed = await list_all(Walking(SIBLINGS, settles=False), slots=1)
    assert listed.keys == SIBLINGS[: len(listed.keys)]
    assert len(listed.keys) < len(SIBLINGS)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("walk", [6, 10, 25])
async def test_all_is_listed_all_the_same(slots: int, walk: int) -> None:
    listed = await list_all(Walking(SIBLINGS, walk=walk), slots=slots)
    assert listed.keys == SIBLINGS
    listed.check_tiling()


NAMES = st.sampled_from(["a", "a-", "a-b", "a.b", "a0", "a ", "b", "b-", "é"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=80, unique=True)


def files(paths: Sequence[str]) -> list[bytes]:
    """The paths that can be files: MinIO lists nothing below an object."""
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
    walking = Walking(keys, page_entries=page_entries, walk=page_entries + 1)

    async def program(clock: VirtualClock, chance: Random) -> list[bytes]:
        delayed = DelayedStore(walking, lambda: clock.sleep(chance.random()))
        listed = await list_all(delayed, slots=slots, pages_max=pages_max)
        listed.check_tiling()
        return listed.keys

    assert run_simulated(program, seed=seed) == keys


@given(keys=PATHS.map(files), after=st.lists(NAMES, min_size=1, max_size=4).map("/".join))
def test_a_page_is_what_follows_any_key(keys: list[bytes], after: str) -> None:
    start = Key(after.encode())
    following = [key for key in keys if key > start]

    async def program(_: VirtualClock, __: Random) -> ListedPage:
        return await Walking(keys).list_page(KeyRange(after=start))

    page = run_simulated(program)
    assert paths_of(page.rows) == following[: page.entries]
    assert bool(page.entries) == bool(following)
    assert page.more or len(following) == page.entries


async def test_the_first_keys_are_kept() -> None:
    for count in (1, 21, 25, 40, len(SIBLINGS)):
        assert await list_first(Walking(SIBLINGS), count, 4) == SIBLINGS[:count]


# --- what it costs -------------------------------------------------------------------------------


async def test_a_page_that_goes_on_takes_one_request() -> None:
    store = Walking(SIBLINGS, walk=100)
    page = await store.list_page(KeyRange(after=Key(b"a/00/x")))
    assert page.more
    assert store.asked == [(b"a/00/x", b"")]


async def test_a_first_page_takes_one_request() -> None:
    store = Walking(SIBLINGS[:3])
    assert not (await store.list_page(KeyRange())).more
    assert not (await store.list_page(KeyRange(), prefix=Key(b"a-b/"))).more
    assert len(store.asked) == 2


async def test_no_neighbour_is_met_within_the_directory_that_is_asked_for() -> None:
    store = Walking([b"a/1", b"a/2"])
    page = await store.list_page(KeyRange(after=Key(b"a/1")), prefix=Key(b"a/"))
    assert (paths_of(page.rows), page.more) == ([b"a/2"], False)
    assert len(store.asked) == 1


async def test_a_page_with_neighbours_in_the_way_takes_two_requests() -> None:
    store = Walking(SIBLINGS)
    page = await store.list_page(KeyRange(after=Key(b"a/03/x")))
    assert page.first == b"a/04/x"
    assert store.asked == [(b"a/03/x", b""), (b"a/03/x", b"a/")]
    assert page.token is None


async def test_the_end_takes_some_requests_a_directory() -> None:
    store = Walking([b"x/y/1", b"x/y/2"])
    page = await store.list_page(KeyRange(after=Key(b"x/y/2")))
    assert (page.entries, page.more) == (0, False)
    assert store.asked == [
        (b"x/y/2", b""),
        (b"x/y/2", b"x/"),
        (b"x/y/2", b"x/y/"),
        (None, b"x/y0"),
        (b"x/y0", b"x/"),
        (None, b"x0"),
        (b"x0", b""),
    ]


async def test_nothing_is_asked_beyond_the_range() -> None:
    store = Walking([b"x/y/1", b"x/y/2"])
    page = await store.list_page(KeyRange(Key(b"x/y/2"), Key(b"x/y/9")))
    assert not page.more
    assert store.asked == [(b"x/y/2", b""), (b"x/y/2", b"x/"), (b"x/y/2", b"x/y/")]


async def test_more_that_is_not_shown_is_an_error() -> None:
    async def ask(after: Key | None, prefix: Key) -> ListedPage:
        return ListedPage(empty_page(), 0, None, None, more=bool(prefix), token="other")

    with pytest.raises(BrokenListing, match="more and does not list it"):
        await page_after(ask, KeyRange(after=Key(b"a/b")), Key(b""))
