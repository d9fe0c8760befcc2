"""Listing: whatever the store does, all of it is listed exactly once, or an error says why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing, LimitExceeded, StoreUnavailable
from indexer.keyspace import Key, KeyRange
from indexer.limits import EMPTY_PAGES_MAX
from indexer.page import Page, empty_page
from indexer.pipeline.listing import Limit, ListedRows, check_page
from indexer.protocols import ListedPage, StoreProperties
from indexer.stores.memory import MemoryObject, MemoryStore, page_of, read_token
from indexer.testing import faulty_store as faults
from indexer.testing.faulty_store import DelayedStore, Fault, FaultyStore
from tests.unit.listing_runs import (
    ALL,
    BY_DIRECTORY,
    BY_DIRECTORY_TESTED,
    KNOWN,
    SERIAL,
    TESTED,
    UNKNOWN,
    URI,
    Listed,
    joined,
    list_all,
    list_first,
    list_slice,
    memory,
    objects_of,
)
from workers.simulated import VirtualClock, run_simulated

KEYS = sorted(f"{a}/{b}/{c:03d}".encode() for a in "ab" for b in "xyz" for c in range(40))
FLAT = [b"%06d" % number for number in range(400)]
MIXED = sorted(
    [b"a/%03d" % n for n in range(60)]
    + [b"big/%05d" % n for n in range(300)]
    + [b"big/deep/%03d/x" % n for n in range(40)]
    + [b"c/%d/%d" % (n, m) for n in range(5) for m in range(5)]
)


# --- all of it, exactly once ---------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 8, 64])
@pytest.mark.parametrize("keys", [KEYS, FLAT, MIXED, KEYS[:5], KEYS[:6], []])
@pytest.mark.parametrize(
    "properties", [KNOWN, UNKNOWN, TESTED, SERIAL, BY_DIRECTORY, BY_DIRECTORY_TESTED]
)
async def test_everything_is_listed_once(
    slots: int, keys: list[bytes], properties: StoreProperties
) -> None:
    listed = await list_all(memory(keys, properties), slots=slots)
    assert listed.keys == keys
    listed.check_tiling()
    assert listed.counters.open_segments == 0
    assert listed.counters.objects_listed == len(keys)


@pytest.mark.parametrize("pages_max", [1, 2, 7, 30])
@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("properties", [KNOWN, TESTED, SERIAL, BY_DIRECTORY])
async def test_slices_go_on_where_others_ended(
    pages_max: int, slots: int, properties: StoreProperties
) -> None:
    listed = await list_all(memory(MIXED, properties), pages_max=pages_max, slots=slots)
    assert listed.keys == MIXED
    listed.check_tiling()


async def test_remainders_are_what_was_not_listed() -> None:
    listed = await list_slice(memory(KEYS), Listed(), pages_max=9)
    assert 0 < len(listed.keys) < len(KEYS)
    done = [item.keys for item in listed.items]
    assert joined([*done, *listed.remainders]) == ALL
    listed.check_tiling(joined(done))


async def test_seeds_cut_the_ranges() -> None:
    listed = await list_all(memory(KEYS), slots=4, seeds=[b"a/y", b"a/z/020", b"b", b"nothing"])
    assert listed.keys == KEYS
    listed.check_tiling()


async def test_a_small_prefix_takes_one_request() -> None:
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1

    listed = await list_all(DelayedStore(memory(KEYS[:5]), count), slots=64)
    assert (listed.keys, asked) == (KEYS[:5], 1)


@pytest.mark.parametrize("slots", [1, 8])
async def test_a_large_directory_is_listed_with_the_cursor_of_the_server(slots: int) -> None:
    asked: list[tuple[Key | None, Key, bool]] = []

    class Noting(MemoryStore):
        async def list_page(
            self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
        ) -> ListedPage:
            asked.append((keys.after, prefix, token is not None))
            return await super().list_page(keys, prefix=prefix, token=token)

    flat = [b"a/%03d" % n for n in range(60)] + [b"big/%05d" % n for n in range(300)]
    keys = [*flat, *(b"c/%d/%d" % (n, m) for n in range(5) for m in range(5))]
    listed = await list_all(
        Noting(objects_of(keys), properties=BY_DIRECTORY, page_entries=5), slots=slots
    )
    assert listed.keys == keys
    listed.check_tiling()
    inside = [
        (prefix, token)
        for after, prefix, token in asked
        if after and after > b"big/00020" and after < b"big/00290"
    ]
    assert len(inside) > 50
    assert set(inside) == {(b"big/", True)}


@pytest.mark.parametrize("properties", [KNOWN, TESTED, SERIAL])
async def test_a_page_of_deleted_keys_is_gone_over(properties: StoreProperties) -> None:
    versioned = replace(properties, versions=True)
    store = memory(KEYS, versioned)
    for key in [*KEYS[3:30], *KEYS[100:]]:
        store.put(key, None)
    for slots in (1, 8):
        listed = await list_all(store, slots=slots)
        assert listed.keys == [*KEYS[:3], *KEYS[30:100]]
        listed.check_tiling()


@pytest.mark.parametrize("properties", [KNOWN, TESTED, BY_DIRECTORY])
def test_what_changes_meanwhile_harms_nothing_else(properties: StoreProperties) -> None:
    stays = set(KEYS[::2])

    async def program(clock: VirtualClock, chance: Random) -> Listed:
        store = memory(KEYS, properties)

        async def delay() -> None:
            key = chance.choice(KEYS)
            if key not in stays:
                store.put(key, chance.choice([None, MemoryObject(1, "new")]))
            await clock.sleep(chance.random())

        return await list_all(DelayedStore(store, delay), slots=6)

    for seed in range(20):
        listed = run_simulated(program, seed=seed)
        listed.check_tiling()
        assert stays <= set(listed.keys)
        assert len(set(listed.keys)) == len(listed.keys)


PROPERTIES = st.sampled_from([KNOWN, UNKNOWN, TESTED, SERIAL, BY_DIRECTORY, BY_DIRECTORY_TESTED])
KEY_TEXT = st.text(st.sampled_from("ab/.-0é\U0001f600\x01"), min_size=1, max_size=6)
KEY_SETS = st.lists(KEY_TEXT, max_size=60, unique=True).map(
    lambda ks: sorted(k.encode() for k in ks)
)


@given(
    keys=KEY_SETS,
    deleted=st.integers(0, 3),
    properties=PROPERTIES,
    page_entries=st.integers(1, 9),
    slots=st.integers(1, 9),
    pages_max=st.integers(1, 9),
    seeds=st.lists(KEY_TEXT, max_size=4, unique=True).map(
        lambda ks: sorted(k.encode() for k in ks)
    ),
    seed=st.integers(0, 1000),
)
def test_any_keys_by_any_server_at_any_pace(
    *,
    keys: list[bytes],
    deleted: int,
    properties: StoreProperties,
    page_entries: int,
    slots: int,
    pages_max: int,
    seeds: list[bytes],
    seed: int,
) -> None:
    gone = set(keys[1::3]) if deleted == 1 else set()
    store = memory(keys, replace(properties, versions=True), page_entries)
    for key in gone:
        store.put(key, None)

    async def program(clock: VirtualClock, chance: Random) -> Listed:
        delayed = DelayedStore(store, lambda: clock.sleep(chance.random()))
        return await list_all(delayed, slots=slots, pages_max=pages_max, seeds=seeds)

    listed = run_simulated(program, seed=seed)
    assert listed.keys == [key for key in keys if key not in gone]
    listed.check_tiling()


@given(slots=st.lists(st.integers(1, 9), min_size=1, max_size=30), seed=st.integers(0, 1000))
def test_the_number_of_slots_may_change_at_any_time(slots: list[int], seed: int) -> None:
    store = memory(MIXED, BY_DIRECTORY)

    async def program(clock: VirtualClock, chance: Random) -> Listed:
        async def receive(_: ListedRows) -> None:
            await clock.sleep(chance.random())

        listed = Listed()
        delayed = DelayedStore(store, lambda: clock.sleep(chance.random()))
        return await list_slice(
            delayed, listed, slots=lambda: chance.choice(slots), receive=receive, clock=clock
        )

    listed = run_simulated(program, seed=seed)
    assert joined([*(item.keys for item in listed.items), *listed.remainders]) == ALL
    assert listed.remainders == []
    assert listed.keys == MIXED


# --- servers that do what they may ---------------------------------------------------------------

ALLOWED: dict[str, Callable[[], Fault]] = {
    "short pages": faults.short_pages,
    "empty pages": lambda: faults.empty_pages(2),
    "an entry more": lambda: faults.extra_entry,
}


@pytest.mark.parametrize("allowed", ALLOWED)
@pytest.mark.parametrize(
    "properties", [KNOWN, UNKNOWN, TESTED, SERIAL, BY_DIRECTORY, BY_DIRECTORY_TESTED]
)
@pytest.mark.parametrize("pages_max", [1, 10_000])
async def test_pages_may_be_of_any_length(
    allowed: str, properties: StoreProperties, pages_max: int
) -> None:
    for slots in (1, 8):
        store = FaultyStore(memory(MIXED, properties), ALLOWED[allowed]())
        listed = await list_all(store, slots=slots, pages_max=pages_max)
        assert listed.keys == MIXED
        listed.check_tiling()


async def test_many_empty_pages_in_a_row_are_too_many() -> None:
    with pytest.raises(BrokenListing, match="more and does not list it"):
        await list_all(FaultyStore(memory(KEYS), faults.endless_nothing))
    assert EMPTY_PAGES_MAX >= 1000


# --- servers that do what they must not ----------------------------------------------------------


async def test_a_server_that_ignores_the_start_is_told_apart() -> None:
    store = FaultyStore(memory(KEYS), faults.ignored_start)
    with pytest.raises(BrokenListing, match="does not go on after") as caught:
        await list_all(store)
    assert caught.value.do_without == "parallel"
    serial = await list_all(FaultyStore(memory(KEYS, SERIAL), faults.ignored_start))
    assert serial.keys == KEYS
    serial.check_tiling()


@pytest.mark.parametrize("pages_max", [1, 3, 10_000])
async def test_a_server_that_ignores_the_start_is_listed_in_one_go(pages_max: int) -> None:
    store = FaultyStore(memory(KEYS, SERIAL), faults.ignored_start)
    assert (await list_all(store, pages_max=pages_max)).keys == KEYS


async def test_the_beginning_is_no_end_unless_the_end_was_reached() -> None:
    # Asked to go on after a key, a server that ignores it must not be taken for one that is done.
    store = FaultyStore(memory(KEYS, SERIAL), faults.ignored_start)
    rest = [KeyRange(after=Key(KEYS[20]))]
    with pytest.raises(BrokenListing, match="does not go on after"):
        await list_slice(store, Listed(), ranges=rest)


@pytest.mark.parametrize("properties", [KNOWN, UNKNOWN, SERIAL, BY_DIRECTORY])
async def test_the_same_page_again_is_an_error(properties: StoreProperties) -> None:
    with pytest.raises(BrokenListing, match="does not go on after"):
        await list_all(FaultyStore(memory(KEYS, properties), faults.same_page))


async def test_more_that_cannot_be_asked_for_is_an_error() -> None:
    store = FaultyStore(memory(KEYS, TESTED), faults.more_without_token)
    with pytest.raises(BrokenListing, match="more and does not list it"):
        await list_all(store)


@pytest.mark.parametrize("slots", [1, 8])
async def test_keys_out_of_order_are_an_error(slots: int) -> None:
    for seed in range(5):
        store = FaultyStore(memory(KEYS), faults.disorder(seed))
        with pytest.raises(BrokenListing, match="out of order"):
            await list_all(store, slots=slots)


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("entries", [1, 4])
@pytest.mark.parametrize("properties", [TESTED, SERIAL])
async def test_ends_that_cannot_be_believed_are_tested(
    slots: int, entries: int, properties: StoreProperties
) -> None:
    listed = await list_all(
        FaultyStore(memory(KEYS, properties), faults.silent_end(entries)), slots=slots
    )
    assert listed.keys == KEYS
    listed.check_tiling()


async def test_long_pages_are_not_believed_to_be_the_last() -> None:
    properties = replace(KNOWN, end_believed_below=5)
    listed = await list_all(FaultyStore(memory(KEYS, properties), faults.silent_end(5)))
    assert listed.keys == KEYS


@pytest.mark.parametrize("place", [2, 30, 100, 200])
def test_an_end_before_a_key_that_was_listed_is_an_error_or_seen_through(place: int) -> None:
    async def program(clock: VirtualClock, chance: Random) -> list[bytes]:
        broken = FaultyStore(memory(KEYS, UNKNOWN), faults.early_end(Key(KEYS[place])))
        store = DelayedStore(broken, lambda: clock.sleep(chance.random()))
        try:
            listed = await list_all(store, slots=4, seeds=[KEYS[210], KEYS[220], KEYS[230]])
        except BrokenListing as error:
            # Whatever lies to the right contradicts the end, be it there before or after.
            if error.do_without != "parallel" or "before its last key" not in str(error):
                raise
            return KEYS
        return listed.keys

    for seed in range(10):
        assert run_simulated(program, seed=seed) == KEYS


def test_versions_that_go_on_over_pages_may_end_the_listing() -> None:
    """By token a page may hold nothing but older versions of the key before it."""
    store = memory(KEYS[:5], replace(SERIAL, versions=True))

    class OlderVersions(MemoryStore):
        async def list_page(
            self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
        ) -> ListedPage:
            if token is None and keys.after is None:
                page = await store.list_page(keys)
                return replace(page, more=True, token="older")
            if token == "older":
                last = Key(KEYS[4])
                return ListedPage(empty_page(), 3, last, last, more=False)
            return ListedPage(empty_page(), 0, None, None, more=False)

    listed = asyncio.run(list_all(OlderVersions({}, properties=store.properties)))
    assert listed.keys == KEYS[:5]


async def test_a_key_repeated_by_token_is_kept_once() -> None:
    """As when the version is deleted that the cursor stands on: its older ones come anew."""

    class Repeating(MemoryStore):
        async def list_page(
            self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
        ) -> ListedPage:
            if token is None:
                return await super().list_page(keys, prefix=prefix)
            place = KEYS.index(read_token(token, prefix))
            return self.page_after(Key(KEYS[place - 1]), prefix)

    store = Repeating(objects_of(KEYS), properties=replace(SERIAL, versions=True), page_entries=5)
    listed = await list_all(store)
    assert listed.keys == KEYS
    listed.check_tiling()


# --- single pages --------------------------------------------------------------------------------


def listed_page(
    keys: Sequence[bytes], first: bytes | None = None, last: bytes | None = None
) -> ListedPage:
    rows = page_of((key, MemoryObject(1, "e")) for key in keys)
    return ListedPage(
        rows,
        len(keys),
        Key(first if first is not None else keys[0]),
        Key(last if last is not None else keys[-1]),
        more=False,
    )


@pytest.mark.parametrize(
    ("page", "after", "prefix", "has_token", "complaint"),
    [
        (listed_page([b"b", b"c"]), b"a", b"", False, None),
        (listed_page([b"b", b"c"], b"b", b"d"), b"a", b"", False, None),
        (listed_page([b"b", b"b"]), None, b"", False, "out of order"),
        (listed_page([b"c", b"b"]), None, b"", False, "out of order"),
        (listed_page([b"b", b"c"], b"bb"), None, b"", False, "out of order"),
        (listed_page([b"b", b"c"], None, b"b"), None, b"", False, "out of order"),
        (listed_page([b"a", b"b"]), b"a", b"", False, "does not go on"),
        (listed_page([b"a", b"b"]), b"a", b"", True, None),
        (listed_page([b"b"], b"a"), b"a", b"", True, None),
        (listed_page([b"a", b"b"]), b"aa", b"", True, "does not go on"),
        (listed_page([b"d/a", b"d/b"]), None, b"d/", False, None),
        (listed_page([b"d/a", b"e"]), None, b"d/", False, "outside of"),
        (listed_page([b"c", b"d/b"]), None, b"d/", False, "outside of"),
    ],
)
def test_a_page_is_checked(
    page: ListedPage, after: bytes | None, prefix: bytes, *, has_token: bool, complaint: str | None
) -> None:
    keys = KeyRange(after=None if after is None else Key(after))
    if complaint is None:
        check_page(page, keys, Key(prefix), has_token=has_token)
    else:
        with pytest.raises(BrokenListing, match=complaint):
            check_page(page, keys, Key(prefix), has_token=has_token)


def test_a_page_with_rows_has_keys() -> None:
    rows: Page = page_of([(b"a", MemoryObject(1, "e"))])
    with pytest.raises(BrokenListing, match="no keys"):
        check_page(
            ListedPage(rows, 1, None, None, more=False), KeyRange(), Key(b""), has_token=False
        )


# --- the limit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 64])
@pytest.mark.parametrize("keys", [KEYS, FLAT])
async def test_the_limit_is_exact(slots: int, keys: list[bytes]) -> None:
    for objects_max in (len(keys), len(keys) + 1):
        listed = Listed()
        limit = Limit(objects_max, URI)
        await list_slice(memory(keys), listed, slots=slots, limit=limit)
        assert listed.keys == keys
    with pytest.raises(LimitExceeded, match=f"more than {len(keys) - 1:,} objects in {URI}"):
        await list_slice(memory(keys), Listed(), slots=slots, limit=Limit(len(keys) - 1, URI))


async def test_earlier_slices_count() -> None:
    limit = Limit(len(KEYS) + 9, URI, counted=10)
    with pytest.raises(LimitExceeded):
        await list_slice(memory(KEYS), Listed(), limit=limit)


async def test_deleted_keys_do_not_count() -> None:
    store = memory(KEYS, replace(KNOWN, versions=True))
    for key in KEYS[10:]:
        store.put(key, None)
    listed = await list_slice(store, Listed(), limit=Limit(10, URI))
    assert listed.keys == KEYS[:10]


@pytest.mark.parametrize("slots", [1, 2, 64])
@pytest.mark.parametrize("keys", [KEYS, FLAT, MIXED])
@pytest.mark.parametrize("properties", [KNOWN, TESTED, SERIAL, BY_DIRECTORY])
async def test_the_first_keys_are_kept(
    slots: int, keys: list[bytes], properties: StoreProperties
) -> None:
    for count in (1, 4, 5, 6, 37, len(keys) - 1, len(keys), len(keys) + 1):
        assert await list_first(memory(keys, properties), count, slots) == keys[:count]


@given(
    keys=KEY_SETS.filter(bool),
    count=st.integers(1, 60),
    slots=st.integers(1, 9),
    properties=PROPERTIES,
    page_entries=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_the_first_keys_are_kept_at_any_pace(
    *,
    keys: list[bytes],
    count: int,
    slots: int,
    properties: StoreProperties,
    page_entries: int,
    seed: int,
) -> None:
    async def program(clock: VirtualClock, chance: Random) -> list[bytes]:
        store = memory(keys, properties, page_entries)
        delayed = DelayedStore(store, lambda: clock.sleep(chance.random()))
        return await list_first(delayed, count, slots)

    assert run_simulated(program, seed=seed) == keys[:count]


async def test_what_lies_beyond_the_first_keys_is_not_listed() -> None:
    listed = await list_slice(
        memory(FLAT), Listed(), slots=4, limit=Limit(10, URI, keeps_first=True)
    )
    assert len(listed.keys) < 100


# --- failure -------------------------------------------------------------------------------------


async def test_a_failed_request_ends_the_listing_with_its_error() -> None:
    asked = 0

    async def fail() -> None:
        nonlocal asked
        asked += 1
        number = asked
        await asyncio.sleep(0)
        if number == 20:
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        await list_all(DelayedStore(memory(KEYS), fail))


async def test_cancelling_leaves_nothing_behind() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await list_all(DelayedStore(memory(KEYS), hang))
    assert len(asyncio.all_tasks()) == 1
