"""What pages are filled with: by HEADs, by reading, by the version before; and what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from indexer.errors import AccessDenied, IndexerError, NoSuchObject, ObjectChanged
from indexer.keyspace import Key, KeyRange
from indexer.manifest import Manifest, ShardRef
from indexer.objects import Checksum, Head, Pin
from indexer.page import Page, empty_page, etag_texts, paths_of, with_prefix
from indexer.pipeline.carry import Carry
from indexer.pipeline.edited import EditedPage
from indexer.pipeline.enrich import Wanted
from indexer.pipeline.listing import ListedRows
from tests.unit.scripted_store import (
    DEFAULT,
    NAMES_ALONE,
    VERSIONED,
    Enriching,
    ScriptedStore,
    listed,
    made,
)
from workers.channel import Channel

MD5 = Wanted(checksum="md5")
CRC = Checksum("crc32c", b"crc!")
KEYS = [b"%02d" % number for number in range(12)]
BODIES = {key: b"body of " + key for key in KEYS}
BODY_BYTES = len(BODIES[KEYS[0]])
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def plain(properties: Any = DEFAULT, version_id: str | None = None) -> ScriptedStore:
    objects = {key: made(body, version_id) for key, body in BODIES.items()}
    return ScriptedStore(objects, properties)


def sums(page: Page) -> dict[bytes, bytes | None]:
    """The checksums of a page by path; all are MD5s of whole objects."""
    rows = [(path, EditedPage(page).checksum(row)) for row, path in enumerate(paths_of(page))]
    for _, checksum in rows:
        assert checksum is None or (checksum.algorithm, checksum.type) == ("md5", "full_object")
    return {path: None if checksum is None else checksum.value for path, checksum in rows}


def md5(body: bytes) -> Any:
    return hashlib.md5(body, usedforsecurity=False)


def md5s(bodies: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: md5(body).digest() for key, body in bodies.items()}


async def enriched(how: Enriching, page: Page | None = None, **more: Any) -> Page:
    async with how.run(**more) as run:
        found = await run.enricher.enrich(listed(how.store) if page is None else page)
        assert run.holds_nothing()
        return found


# --- what bytes tell


async def test_every_row_gets_the_checksum_of_its_bytes() -> None:
    store = plain()
    async with Enriching(store, MD5).run() as run:
        page = await run.enricher.enrich(listed(store))
        assert sums(page) == md5s(BODIES)
        assert run.counters.checksums_read == run.counters.objects_enriched == 12
        assert run.counters.bytes_read == sum(map(len, BODIES.values()))
        assert (run.enricher.gone, run.enricher.changed) == (0, 0)
    assert store.heads == []
    for name in ("size", "etag_md5"):
        assert page.column(name) == listed(store).column(name)


async def test_a_page_without_rows_goes_on() -> None:
    assert (await enriched(Enriching(plain(), MD5), empty_page())).num_rows == 0


async def test_a_checksum_that_the_listing_told_is_kept() -> None:
    store = plain()
    known = [Checksum("md5", b"told" * 4), Checksum("md5", b"x" * 16, "composite"), CRC]
    edited = EditedPage(listed(store))
    edited.checksums = dict(enumerate(known))
    page = await enriched(Enriching(store, MD5), edited.page())
    assert sums(page) == {**md5s(BODIES), KEYS[0]: b"told" * 4}
    assert sorted(key for key, _, _ in store.reads) == KEYS[1:]


@pytest.mark.parametrize("in_flight", [1, 3, 64])
async def test_no_more_are_read_at_once_than_may_be(in_flight: int) -> None:
    store = plain()
    under_way = highest = 0

    async def slow(_: Key) -> None:
        nonlocal under_way, highest
        under_way += 1
        highest = max(highest, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1

    store.on_read = slow
    async with Enriching(store, MD5, in_flight=in_flight).run() as run:
        page = listed(store)
        async with asyncio.TaskGroup() as group:
            for at in range(0, 12, 4):
                group.create_task(run.enricher.enrich(page.slice(at, 4)))
    assert highest == min(in_flight, 12)


async def test_a_store_that_digests_by_itself_is_given_a_page_at_once() -> None:
    store = Digesting({key: made(body) for key, body in BODIES.items()})
    assert sums(await enriched(Enriching(store, MD5))) == md5s(BODIES)
    assert store.batches == [KEYS]
    assert store.reads == []


class Digesting(ScriptedStore):
    """A store that digests where its objects are."""

    def __init__(self, objects: dict[bytes, Any]) -> None:
        super().__init__(objects, replace(DEFAULT, digests=True))
        self.batches: list[list[bytes]] = []
        self.errors: dict[bytes, list[IndexerError]] = {}

    async def digests(
        self, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> list[bytes | IndexerError]:
        self.batches.append([bytes(key) for key, _ in objects])
        found: list[bytes | IndexerError] = []
        for key, pin in objects:
            await self.on_read(key)
            stored = self.memory._objects.get(key)
            if self.errors.get(key):
                found.append(self.errors[key].pop(0))
            elif stored is None:
                found.append(NoSuchObject("it is gone"))
            elif (stored.size, stored.etag) != (pin.size, pin.etag):
                found.append(ObjectChanged("it changed"))
            else:
                assert stored.body is not None
                found.append(hashlib.new(algorithm, stored.body).digest())
        return found


# --- what HEADs tell


async def test_names_alone_are_filled_by_heads() -> None:
    store = plain(NAMES_ALONE)
    page = await enriched(Enriching(store, Wanted()))
    assert sorted(store.heads) == KEYS
    assert page.column("size").to_pylist() == [len(body) for body in BODIES.values()]
    assert etag_texts(page).to_pylist() == [md5(body).hexdigest() for body in BODIES.values()]
    assert store.reads == []


async def test_names_alone_are_filled_and_read() -> None:
    store = plain(NAMES_ALONE)
    left = {key: body for key, body in BODIES.items() if key not in (KEYS[0], KEYS[5])}

    async def vanish(key: Key) -> None:
        if key in (KEYS[0], KEYS[5]):
            store.memory.put(key, None)

    store.on_head = vanish
    async with Enriching(store, MD5).run() as run:
        page = await run.enricher.enrich(listed(store))
        assert (run.enricher.gone, run.enricher.changed) == (2, 0)
    assert sums(page) == md5s(left)
    assert page.column("size").to_pylist() == [len(body) for body in left.values()]


async def test_heads_are_asked_for_rows_without_a_version() -> None:
    store = plain(VERSIONED, "v1")
    store.memory.put(KEYS[1], made(b"old", "null"))
    edited = EditedPage(listed(store))
    edited.heads = {2: Head(BODY_BYTES, made(BODIES[KEYS[2]]).etag), 3: Head(1, "other")}
    async with Enriching(store, Wanted(heads=True)).run() as run:
        page = await run.enricher.enrich(edited.page())
        assert run.enricher.changed == 1
    # That a version is called `null` was told, and a HEAD would only forget it.
    assert sorted(store.heads) == KEYS[2:4]
    assert page.column("version_id").to_pylist() == ["v1", "null", *["v1"] * 10]
    assert page.column("size").to_pylist()[3] == BODY_BYTES


async def test_checksums_of_the_store_are_asked_for_once() -> None:
    for properties in (DEFAULT, NAMES_ALONE):
        store = plain(properties)
        store.told = dict.fromkeys(KEYS[:5], CRC)
        page = await enriched(Enriching(store, Wanted(checksum="store")))
        assert sorted(store.heads) == KEYS
        edited = EditedPage(page)
        assert [edited.checksum(row) for row in range(12)] == [CRC] * 5 + [None] * 7
        assert store.reads == []


async def test_a_head_that_tells_another_state_is_taken_whole() -> None:
    store = plain()
    page = listed(store)
    store.memory.put(KEYS[3], made(b"longer than it was"))
    store.memory.put(KEYS[4], None)
    store.told = dict.fromkeys(KEYS, CRC)
    async with Enriching(store, Wanted(checksum="store")).run() as run:
        page = await run.enricher.enrich(page)
        assert (run.enricher.gone, run.enricher.changed) == (1, 1)
    assert paths_of(page) == KEYS[:4] + KEYS[5:]
    assert page.column("size").to_pylist()[3] == 18
    assert EditedPage(page).checksum(3) == CRC


async def test_another_time_tells_that_a_file_was_written() -> None:
    edited = EditedPage(listed(plain()))
    edited.heads = {0: Head(1, mtime_ns=5)}
    page = EditedPage(edited.page())
    assert page.is_listed_otherwise(0, Head(1, mtime_ns=6))
    assert not page.is_listed_otherwise(0, Head(1, etag="anything", mtime_ns=5))


# --- the version before


def before_of(page: Page) -> tuple[Manifest, Callable[[str], Any]]:
    ref = ShardRef(paths_of(page)[-1], "shard", page.num_rows, 0)

    async def read(_: str) -> pa.Table:
        return pa.Table.from_batches([page])

    return Manifest((), (ref,)), read


async def test_only_what_is_changed_and_new_is_read() -> None:
    store = plain()
    before, read = before_of(await enriched(Enriching(store, MD5)))
    store.reads.clear()
    store.memory.put(KEYS[2], made(b"changed"))
    store.memory.put(b"new", made(b"new"))
    store.memory.put(KEYS[7], None)
    async with Enriching(store, MD5, carry=Carry(before, read, NOON, algorithm="md5")).run() as run:
        page = await run.enricher.enrich(listed(store))
        assert (run.counters.checksums_carried, run.counters.checksums_read) == (10, 2)
    now = {key: body for key, body in BODIES.items() if key != KEYS[7]}
    assert sums(page) == md5s({**now, KEYS[2]: b"changed", b"new": b"new"})
    assert sorted(key for key, _, _ in store.reads) == [KEYS[2], b"new"]


async def test_names_alone_are_known_again_by_their_heads() -> None:
    store = plain(NAMES_ALONE)
    before, read = before_of(await enriched(Enriching(store, MD5)))
    store.reads.clear()
    store.memory.put(KEYS[2], made(b"changed"))
    carry = Carry(before, read, NOON, algorithm="md5")
    page = await enriched(Enriching(store, MD5, carry=carry))
    assert sums(page) == md5s({**BODIES, KEYS[2]: b"changed"})
    assert [key for key, _, _ in store.reads] == [KEYS[2]]


async def test_paths_of_a_mount_are_carried_over_below_it() -> None:
    store = plain()
    before, read = before_of(with_prefix(await enriched(Enriching(store, MD5)), b"m/"))
    store.reads.clear()
    carry = Carry(before, read, NOON, algorithm="md5")
    page = await enriched(Enriching(store, MD5, carry=carry, path_prefix=b"m/"))
    assert sums(page) == md5s(BODIES)
    assert store.reads == []


# --- what changes meanwhile


@pytest.mark.parametrize("digests", [False, True])
async def test_what_changed_once_is_looked_at_again(*, digests: bool) -> None:
    objects = {key: made(body) for key, body in BODIES.items()}
    store = Digesting(objects) if digests else ScriptedStore(objects)
    page = listed(store)
    store.memory.put(KEYS[3], made(b"as it is now"))
    store.memory.put(KEYS[5], None)
    async with Enriching(store, MD5).run() as run:
        page = await run.enricher.enrich(page)
        assert (run.enricher.gone, run.enricher.changed) == (1, 1)
        assert run.holds_nothing()
    now = {key: body for key, body in BODIES.items() if key != KEYS[5]}
    assert sums(page) == md5s({**now, KEYS[3]: b"as it is now"})
    assert page.column("size").to_pylist()[3] == 12
    assert etag_texts(page).to_pylist()[3] == md5(b"as it is now").hexdigest()


@pytest.mark.parametrize("digests", [False, True])
async def test_what_changes_again_and_again_is_an_error_that_names_it(*, digests: bool) -> None:
    objects = {key: made(body) for key, body in BODIES.items()}
    store = Digesting(objects) if digests else ScriptedStore(objects)
    writes = 0

    async def write(key: Key) -> None:
        nonlocal writes
        if key == KEYS[3]:
            writes += 1
            store.memory.put(key, made(b"written %d" % writes))

    store.on_read = write
    async with Enriching(store, MD5).run() as run:
        with pytest.raises(ObjectChanged, match=r"s3://bucket/03 was written again.*--exclude"):
            await run.enricher.enrich(listed(store))
        assert run.holds_nothing()
    assert writes == 2


@pytest.mark.parametrize("digests", [False, True])
async def test_what_vanishes_while_it_is_looked_at_again_is_gone(*, digests: bool) -> None:
    objects = {key: made(body) for key, body in BODIES.items()}
    store = Digesting(objects) if digests else ScriptedStore(objects)
    page = listed(store)
    store.memory.put(KEYS[3], made(b"another"))

    async def vanish(key: Key) -> None:
        store.memory.put(key, None)

    store.on_head = vanish
    async with Enriching(store, MD5).run() as run:
        page = await run.enricher.enrich(page)
        assert (run.enricher.gone, run.enricher.changed) == (1, 0)
    assert paths_of(page) == KEYS[:3] + KEYS[4:]


async def test_what_its_time_tells_is_not_counted_twice() -> None:
    store = plain()
    page = listed(store)
    late = replace(made(b"late"), last_modified=NOON.replace(hour=13))
    early = replace(made(b"early"), last_modified=NOON.replace(hour=11))
    for key, found in zip(KEYS, (late, early, made(b"untold")), strict=False):
        store.memory.put(key, found)
    async with Enriching(store, MD5).run(touched_after=NOON) as run:
        await run.enricher.enrich(page)
        assert run.enricher.changed == 2


# --- a moment that is past

THEN = Wanted(checksum="md5", of_moment=True)


async def test_what_is_there_now_is_no_substitute_for_what_was() -> None:
    store = plain(VERSIONED, "v1")
    page = listed(store)
    store.memory.put(KEYS[1], made(b"newer", "v2"))
    async with Enriching(store, THEN).run() as run:
        page = await run.enricher.enrich(page)
        assert (run.enricher.gone, run.enricher.changed) == (1, 0)
    assert sums(page) == md5s({key: BODIES[key] for key in KEYS if key != KEYS[1]})
    assert store.heads == []


async def test_a_version_called_null_is_asked_for_by_that_name() -> None:
    store = plain(VERSIONED, "null")
    page = listed(store)
    pins = [EditedPage(page, of_moment=then).pin(0).version_id for then in (False, True)]
    assert pins == [None, "null"]
    store.memory.put(KEYS[1], made(b"newer", "v2"))
    assert sums(await enriched(Enriching(store, THEN), page)).keys() == set(KEYS) - {KEYS[1]}
    store.memory.put(KEYS[1], made(b"another", "null"))
    async with Enriching(store, THEN).run() as run:
        with pytest.raises(ObjectChanged, match="s3://bucket/01"):
            await run.enricher.enrich(page)


# --- errors


@pytest.mark.parametrize("wanted", [MD5, Wanted(checksum="store"), Wanted(heads=True)])
async def test_one_object_that_may_not_be_read_is_an_error_that_names_it(wanted: Wanted) -> None:
    store = plain()

    async def deny(key: Key) -> None:
        if key == KEYS[6]:
            raise AccessDenied("the store refuses access")

    store.on_head = store.on_read = deny
    async with Enriching(store, wanted).run() as run:
        with pytest.raises(AccessDenied, match=r"^s3://bucket/06: the store refuses access"):
            await run.enricher.enrich(listed(store))
        assert run.holds_nothing()


async def test_one_object_that_a_store_may_not_digest_is_an_error_that_names_it() -> None:
    store = Digesting({key: made(body) for key, body in BODIES.items()})
    store.errors = {KEYS[6]: [AccessDenied("no right to read it")]}
    with pytest.raises(AccessDenied, match=r"^s3://bucket/06: no right"):
        await enriched(Enriching(store, MD5))


@pytest.mark.parametrize("properties", [DEFAULT, NAMES_ALONE])
@pytest.mark.parametrize("point", range(0, 30, 3))
async def test_who_is_cancelled_holds_nothing(properties: Any, point: int) -> None:
    store = plain(properties)
    hanging = asyncio.Event()
    reached = 0

    async def hang(_: Key) -> None:
        nonlocal reached
        reached += 1
        if reached > point or reached > 20:
            hanging.set()
            await asyncio.Event().wait()

    store.on_head = store.on_read = store.on_piece = hang
    how = Enriching(store, MD5, in_flight=4)
    async with how.run() as run:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run.enricher.enrich(listed(store))) for _ in range(3)]
            await hanging.wait()
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
        assert run.holds_nothing()


# --- as a stage


async def through(how: Enriching, pages: Sequence[Page]) -> list[ListedRows]:
    source: Channel[ListedRows] = Channel(items_max=4, bytes_max=10**6)
    out: Channel[ListedRows] = Channel(items_max=1, bytes_max=10**6)
    found: list[ListedRows] = []

    async def give() -> None:
        async with source.sending():
            for number, page in enumerate(pages):
                await source.send(ListedRows(KeyRange(Key(b"%03d" % number)), page))

    async def take() -> None:
        async with out.receiving():
            found.extend([item async for item in out])

    async with how.run() as run, asyncio.TaskGroup() as group:
        group.create_task(give())
        group.create_task(run.enricher.run(source, out))
        group.create_task(take())
    return found


async def test_every_page_goes_on_with_its_range() -> None:
    store = plain()
    page = listed(store)
    found = await through(Enriching(store, MD5), [page.slice(at, 1) for at in range(12)])
    by_range = {item.keys.after: sums(item.rows) for item in found}
    assert by_range == {b"%03d" % at: md5s({key: BODIES[key]}) for at, key in enumerate(KEYS)}


async def test_a_page_that_fails_ends_the_stage_with_its_error() -> None:
    store = plain()

    async def deny(key: Key) -> None:
        if key == KEYS[6]:
            raise AccessDenied("the store refuses access")
        await asyncio.sleep(0.001)

    store.on_read = deny
    page = listed(store)
    with pytest.raises(BaseExceptionGroup) as caught:
        await through(Enriching(store, MD5), [page.slice(at, 1) for at in range(12)])
    first = caught.value.subgroup(AccessDenied)
    assert first is not None
    assert "s3://bucket/06" in str(first.exceptions[0])
