"""The contract of `Connection` and `Store` as tests: inherit `StoreSuite` and give it a server.

    class TestMyStore(StoreSuite):
        @pytest.fixture(scope="class")
        @classmethod
        def server(cls) -> Server:
            return MyServer()

Invariants
  * The suite knows stores through `Connection` and `Store`, and what they ought to say through
    `Server` and `Bucket`: what was put, and what a HEAD says.
  * A server may refuse to store a key. Such keys are left out of what is expected, not more of them
    than the inheriting class admits, and a property of the test says how many.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Protocol, cast

import pyarrow as pa
import pytest
import pytest_asyncio

from indexer.errors import NoSuchObject, NoSuchSource, ObjectChanged
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange, greatest_key_below
from indexer.objects import Head, Pin, page_of_heads
from indexer.page import Page, etag_texts, is_ascending, paths_of
from indexer.protocols import Connection, Digesting, ListedPage, OpenedSource, Store
from indexer.sources import SourceUri

PAGE_ENTRIES_MAX: Final = 7
"""Entries that a page of a store under test has at most, so that few objects make many pages."""

PAGES_MAX: Final = 500
"""More pages than any listing here can take."""

CLOCK_SLACK: Final = timedelta(seconds=2)
"""Times are told to the second, and by another clock than the suite's."""

ALL: Final = KeyRange()

_LONG_STEM: Final = "long/" + "/".join("d" * 200 for _ in range(4)) + "/"

HOSTILE_KEYS: Final = tuple(
    key.encode()
    for key in (
        *(" ", " leading blank", "trailing blank ", "two  blanks", "dir /name"),
        *("+", "a+b", "a%2Bb", "%", "%25", "%2525", "100%", "50%41", "a%2Fb", "%zz"),
        *("?", "a?b=c&d", "#", "a#b", "a&amp;b", "a&b", "&lt;", "<Key>", "a<b>c", "]]>", "<!--"),
        *('"', "'quoted'", '"quoted"', "back\\slash", "a;b:c@d,e=f$g", "*", "~", "^", "|", "`"),
        *("\x01", "a\x1fb", "a\tb", "a\nb", "a\rb", "a\r\nb", "\x7f", "a\x85b", "a\u2028b"),
        *("//", "a//b", "/leading", "/", "dir//", "dir/", "dir/a", "dir", "dir.txt", "dir0"),
        *("x/y/z", "x/y", "x", "x/y/z/", "deep/er/", "deep/er/a", ".hidden", "..dots", "a/..b"),
        *("-dash", "_", "null", "true", "Z", "z", "é", "e\u0301", "日本語/テスト.png", "ß", "İ"),
        *("\ud7ff", "\ue000", "\uffff", "\ufffd", "\ufeffbom", "\U00010000", "\U0010ffff"),
        *("\U0001f600", "a\U0001f600b", "\U0001f600" * (KEY_BYTES_MAX // 4)),
        *("n" * 255, "n" * 256, "p" * KEY_BYTES_MAX),
        *(_LONG_STEM + "e" * (KEY_BYTES_MAX - len(_LONG_STEM)), _LONG_STEM + "e"),
    )
)
"""Keys that tools get wrong, all of which S3 takes."""

EMPTY_KEYS: Final = frozenset((b"dir/", b"deep/er/", b"x/y/z/", b"dir//", b"null", b"//", b"/"))
"""Those whose objects have no bytes."""


class Bucket(Protocol):
    """A bucket under test, or a folder, empty at first.

    `uri` is the source that a key or prefix of it names. `put` gives False where the server refuses
    the key, or would not list it. `delete` in a bucket that keeps versions leaves a mark.
    `keep_versions` turns versioning on, `suspend_versions` off.
    """

    def uri(self, key: str = "") -> SourceUri: ...

    def put(self, key: bytes, body: bytes) -> bool: ...

    def delete(self, key: bytes) -> None: ...

    def head(self, key: bytes) -> Head: ...

    def keep_versions(self) -> None: ...

    def suspend_versions(self) -> None: ...


class Server(Protocol):
    """The server under test.

    `make_bucket` makes a bucket of a name never used before; `nowhere` is the root of one that is
    not there. Pages of stores that are opened on a
    connection that `connect` opens have at most `PAGE_ENTRIES_MAX` entries.
    """

    def make_bucket(self) -> Bucket: ...

    def nowhere(self) -> SourceUri: ...

    def connect(self) -> AbstractAsyncContextManager[Connection]: ...


@dataclass(frozen=True, slots=True)
class Filled:
    """A bucket with the keys whose objects a listing should show, and those that were refused.

    Both ascend.
    """

    bucket: Bucket
    keys: list[bytes]
    refused: list[bytes]
    started_at: datetime
    finished_at: datetime


def body_of(key: bytes) -> bytes:
    """The bytes of the object that a suite puts at `key`."""
    return b"" if key in EMPTY_KEYS else key * 2


def fill(bucket: Bucket, keys: Collection[bytes]) -> Filled:
    """Puts an object at every key that the server takes."""
    started_at = datetime.now(UTC)
    taken = [key for key in sorted(keys) if bucket.put(key, body_of(key))]
    refused = sorted(set(keys) - set(taken))
    return Filled(bucket, taken, refused, started_at, datetime.now(UTC))


async def walk(
    store: Store, keys: KeyRange = ALL, *, prefix: bytes = b"", by_token: bool = False
) -> list[ListedPage]:
    """The pages of a range, each asked for by the last key before it, or by token."""
    pages: list[ListedPage] = []
    token: str | None = None
    while True:
        page = await store.list_page(keys, prefix=Key(prefix), token=token)
        pages.append(page)
        assert len(pages) <= PAGES_MAX, "the listing comes to no end"
        through, last = keys.through, page.last
        if not page.more or (through is not None and last is not None and last >= through):
            return pages
        if by_token:
            assert page.token is not None, "a page that goes on has a token"
            token = page.token
        else:
            assert last is not None, "a page that goes on has a key to go on from"
            keys = KeyRange(last, through)


def keys_on(pages: Iterable[ListedPage], keys: KeyRange = ALL) -> list[bytes]:
    """The keys of the rows of pages that lie in the range."""
    return [key for page in pages for key in paths_of(page.rows) if key in keys]


async def full_rows(store: Store) -> dict[bytes, dict[str, Any]]:
    """All rows of a store by path, with what has to be asked for each."""
    pages = await walk(store)
    if not store.properties.needs_head:
        return rows_on(pages)
    heads = [(key, await store.head(Key(key))) for key in keys_on(pages)]
    return {row["path"]: row for row in rows_of(page_of_heads(heads))}


def rows_on(pages: Iterable[ListedPage]) -> dict[bytes, dict[str, Any]]:
    """The rows of pages by path."""
    rows = [row for page in pages for row in rows_of(page.rows)]
    by_path = {row["path"]: row for row in rows}
    assert len(by_path) == len(rows), "a key came twice"
    return by_path


def rows_of(page: Page) -> list[dict[str, Any]]:
    """The rows of a page as dictionaries; `etag` is the ETag as text."""
    etags = pa.array(etag_texts(page)).to_pylist()
    return [{**row, "etag": etag} for row, etag in zip(page.to_pylist(), etags, strict=True)]


def md5_of(body: bytes) -> bytes:
    """The MD5 of a body."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def to_the_second(time: datetime) -> datetime:
    """A time as a header tells it."""
    return time.replace(microsecond=0)


def pin_of(row: dict[str, Any]) -> Pin:
    """What an object of a row must still be when it is read."""
    version_id = row.get("version_id")
    return Pin(
        size=row["size"],
        etag=row["etag"],
        version_id=None if version_id == "null" else version_id,
        mtime_ns=row.get("mtime_ns"),
    )


class Bytes:
    """A sink that keeps what it gets. See `protocols.Sink`."""

    def __init__(self) -> None:
        self.data = b""

    async def write(self, data: bytes) -> None:
        """See `protocols.Sink`."""
        self.data += data

    def restart(self) -> None:
        """See `protocols.Sink`."""
        self.data = b""


async def read(store: Store, key: bytes, pin: Pin, start: int = 0, end: int | None = None) -> bytes:
    """The bytes of an object."""
    sink = Bytes()
    await store.read(Key(key), pin, sink, start=start, end=end)
    return sink.data


def keys_between(keys: Sequence[bytes]) -> list[Key]:
    """Keys that do not exist, beside and between those that do."""
    candidates = {key + b"\x01" for key in keys} | {b"\x01\x01", greatest_key_below(b"")}
    candidates |= {key[: len(key) // 2] + b"!" for key in keys if len(key) > 1}
    return [
        Key(key)
        for key in sorted(candidates - set(keys))
        if len(key) <= KEY_BYTES_MAX and key.decode(errors="replace").encode() == key
    ]


@pytest.mark.asyncio(loop_scope="class")
class StoreSuite:
    """What every connection and its stores do."""

    refused_max = 0
    """How many of `HOSTILE_KEYS` the server under test may refuse."""

    keeps_versions = True
    """Whether the server under test keeps versions, and lists them in key order."""

    always_versions = False
    """Whether every object has a version id, as those of GCS have."""

    etags_are_md5 = True
    """Whether ETags are told, and are the MD5 of what was put."""

    has_buckets = True
    """Whether there are buckets, so that one can be missing."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Server:
        """The server under test; for whoever inherits to replace."""
        pytest.fail("a suite that inherits gives the fixture `server`")

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def connection(cls, server: Server) -> AsyncIterator[Connection]:
        """A connection to the server."""
        async with server.connect() as connection:
            yield connection

    @pytest.fixture(scope="class")
    @classmethod
    def hostile(cls, server: Server) -> Filled:
        """A bucket of the hostile keys."""
        return fill(server.make_bucket(), HOSTILE_KEYS)

    @pytest_asyncio.fixture(loop_scope="class")
    async def source(self, connection: Connection, hostile: Filled) -> OpenedSource:
        """The root of the hostile bucket, opened."""
        return await connection.open(hostile.bucket.uri())

    # --- keys

    async def test_every_key_comes_back_once_and_exactly(
        self, hostile: Filled, source: OpenedSource, record_property: Callable[[str, object], None]
    ) -> None:
        record_property("keys_left_out", len(hostile.refused))
        assert len(hostile.refused) <= self.refused_max, hostile.refused
        pages = await walk(source.store)
        assert keys_on(pages) == hostile.keys
        assert all(is_ascending(paths_of(page.rows)) for page in pages)

    async def test_rows_are_what_was_put(self, hostile: Filled, source: OpenedSource) -> None:
        earliest, latest = hostile.started_at - CLOCK_SLACK, hostile.finished_at + CLOCK_SLACK
        for key, row in (await full_rows(source.store)).items():
            body = body_of(key)
            assert row["size"] == len(body)
            if self.etags_are_md5:
                assert row["etag"] == md5_of(body).hex()
            assert earliest <= row["last_modified"] <= latest
            assert (row.get("version_id") is not None) == self.always_versions

    async def test_rows_are_what_a_head_says(self, hostile: Filled, source: OpenedSource) -> None:
        rows = await full_rows(source.store)
        for key in hostile.keys[::5]:
            head, row = hostile.bucket.head(key), rows[key]
            assert (row["size"], row["etag"]) == (head.size, head.etag)
            assert row.get("version_id") == head.version_id
            assert head.last_modified is not None
            assert to_the_second(row["last_modified"]) == to_the_second(head.last_modified)

    # --- one object

    async def test_a_head_tells_what_a_listing_tells(
        self, hostile: Filled, source: OpenedSource
    ) -> None:
        rows = await full_rows(source.store)
        for key in hostile.keys[::3]:
            head, row = await source.store.head(Key(key)), rows[key]
            for name in ("size", "etag", "version_id", "mtime_ns"):
                assert getattr(head, name) == row.get(name), (key, name)
            assert head.last_modified is not None
            assert to_the_second(head.last_modified) == to_the_second(row["last_modified"])
        for key in (b"nothing", b"dir/nothing"):
            with pytest.raises(NoSuchObject):
                await source.store.head(Key(key))

    async def test_an_object_is_read_whole_or_in_part(
        self, hostile: Filled, source: OpenedSource
    ) -> None:
        rows = await full_rows(source.store)
        for key in hostile.keys[::3]:
            body, pin = body_of(key), pin_of(rows[key])
            assert await read(source.store, key, pin) == body
            if source.store.properties.ranges and len(body) > 2:
                assert await read(source.store, key, pin, 1, len(body) - 1) == body[1:-1]
                assert await read(source.store, key, pin, len(body) - 1) == body[-1:]

    async def test_what_changed_is_not_read(self, connection: Connection, server: Server) -> None:
        bucket = fill(server.make_bucket(), [b"gone", b"written", b"dir/written"]).bucket
        source = await connection.open(bucket.uri())
        rows = await full_rows(source.store)
        bucket.delete(b"gone")
        for key in (b"written", b"dir/written"):
            bucket.put(key, b"something else")
            source = await connection.open(bucket.uri())
            with pytest.raises((ObjectChanged, NoSuchObject)):
                await read(source.store, key, pin_of(rows[key]))
            anew = await source.store.head(Key(key))
            pin = Pin(anew.size, anew.etag, anew.version_id, anew.mtime_ns)
            assert await read(source.store, key, pin) == b"something else"
        with pytest.raises(NoSuchObject):
            await read(source.store, b"gone", pin_of(rows[b"gone"]))

    async def test_objects_are_digested_in_place(
        self, hostile: Filled, source: OpenedSource
    ) -> None:
        if not source.store.properties.digests:
            pytest.skip("the store under test digests nothing by itself")
        rows = await full_rows(source.store)
        pins = [(Key(key), pin_of(rows[key])) for key in hostile.keys]
        found = await cast("Digesting", source.store).digests(pins, "md5")
        assert found == [md5_of(body_of(key)) for key in hostile.keys]
        wrong = await cast("Digesting", source.store).digests(
            [(pins[0][0], Pin(size=12_345)), (Key(b"nothing"), Pin(size=1))], "md5"
        )
        assert [type(one) for one in wrong] == [ObjectChanged, NoSuchObject]

    # --- pages

    @pytest.mark.parametrize("by_token", [False, True], ids=["by key", "by token"])
    async def test_pages_tell_what_is_on_them(
        self, hostile: Filled, source: OpenedSource, *, by_token: bool
    ) -> None:
        pages = await walk(source.store, by_token=by_token)
        assert len(pages) >= len(hostile.keys) // PAGE_ENTRIES_MAX
        for page in pages:
            paths = paths_of(page.rows)
            assert page.entries == len(paths) <= PAGE_ENTRIES_MAX
            assert [page.first, page.last] == ([paths[0], paths[-1]] if paths else [None, None])
        assert keys_on(pages) == hostile.keys
        assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]

    async def test_a_page_begins_after_any_key(self, hostile: Filled, source: OpenedSource) -> None:
        for after in (*map(Key, hostile.keys), *keys_between(hostile.keys)):
            page = await source.store.list_page(KeyRange(after=after))
            following = [key for key in hostile.keys if key > after]
            assert paths_of(page.rows) == following[: page.entries], after
            assert bool(page.entries) == bool(following)

    async def test_ranges_that_meet_share_no_key_and_miss_none(
        self, hostile: Filled, source: OpenedSource
    ) -> None:
        bounds = sorted({*map(Key, hostile.keys[::9]), *keys_between(hostile.keys)[::9]})
        found: list[bytes] = []
        for after, through in pairwise([None, *bounds, None]):
            keys = KeyRange(after, through)
            found += keys_on(await walk(source.store, keys), keys)
        assert found == hostile.keys

    async def test_an_answer_can_be_had_again(self, source: OpenedSource) -> None:
        first = await source.store.list_page(ALL)
        for token in (None, first.token):
            one = await source.store.list_page(ALL, token=token)
            other = await source.store.list_page(ALL, token=token)
            assert (one.rows, one.more) == (other.rows, other.more)

    async def test_many_pages_can_be_asked_for_at_once(
        self, hostile: Filled, source: OpenedSource
    ) -> None:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(source.store.list_page(KeyRange(after=after)))
                for after in (None, *map(Key, hostile.keys))
            ]
        assert [task.result().first for task in asked] == [*hostile.keys, None]

    # --- prefixes

    async def test_a_prefix_narrows_a_listing(self, hostile: Filled, source: OpenedSource) -> None:
        directories = {key[: key.rfind(b"/") + 1] for key in hostile.keys if b"/" in key}
        assert directories
        for prefix in sorted(directories):
            expected = [key for key in hostile.keys if key.startswith(prefix)]
            for by_token in (False, True):
                pages = await walk(source.store, prefix=prefix, by_token=by_token)
                assert keys_on(pages) == expected
            rest = KeyRange(after=Key(expected[0]))
            assert keys_on(await walk(source.store, rest, prefix=prefix)) == expected[1:]

    async def test_a_token_goes_on_within_its_prefix(
        self, connection: Connection, server: Server
    ) -> None:
        inside = [b"in/%02d" % number for number in range(3 * PAGE_ENTRIES_MAX)]
        bucket = fill(server.make_bucket(), [b"before/a", *inside, b"in0", b"into/a"]).bucket
        source = await connection.open(bucket.uri())
        for after, expected in ((None, inside), (Key(inside[4]), inside[5:])):
            pages = await walk(source.store, KeyRange(after=after), prefix=b"in/", by_token=True)
            assert keys_on(pages) == expected

    async def test_keys_are_told_from_the_source_on(
        self, connection: Connection, server: Server
    ) -> None:
        keys = [b"data/", b"data/a", b"data/b/c", b"data2/a", b"data.txt", b"dat/a"]
        filled = fill(server.make_bucket(), keys)
        bucket = filled.bucket
        for written in ("data/", "data"):
            source = await connection.open(bucket.uri(written))
            assert source.folder == str(bucket.uri("data/"))
            is_marked = b"data/" in filled.keys
            assert keys_on(await walk(source.store)) == [b""] * is_marked + [b"a", b"b/c"]
            rest = await source.store.list_page(KeyRange(after=Key(b"")))
            assert paths_of(rest.rows) == [b"a", b"b/c"]

    async def test_hostile_prefixes(self, connection: Connection, hostile: Filled) -> None:
        for written in ("日本語", "dir", "a/", "deep/er", _LONG_STEM, "dir ", "nothing"):
            source = await connection.open(hostile.bucket.uri(written))
            prefix = written.rstrip("/").encode() + b"/"
            below = [key.removeprefix(prefix) for key in hostile.keys if key.startswith(prefix)]
            assert keys_on(await walk(source.store)) == below

    async def test_an_empty_folder(self, connection: Connection, hostile: Filled) -> None:
        source = await connection.open(hostile.bucket.uri("nothing/here/"))
        page = await source.store.list_page(ALL)
        assert (page.rows.num_rows, page.entries, page.more) == (0, 0, False)
        assert (page.first, page.last, page.token) == (None, None, None)

    async def test_a_bucket_that_is_not_there(self, connection: Connection, server: Server) -> None:
        if not self.has_buckets:
            pytest.skip("the store under test has no buckets")
        uri = server.nowhere()
        with pytest.raises(NoSuchSource, match=uri.bucket):
            await connection.open(uri)

    # --- lone objects

    async def test_lone_objects(
        self, connection: Connection, hostile: Filled, source: OpenedSource
    ) -> None:
        rows = await full_rows(source.store)
        for key in hostile.keys:
            if key.endswith(b"/"):
                continue
            found = await connection.lone_object(hostile.bucket.uri(key.decode()))
            assert found is not None, key
            (row,) = rows_of(found.row)
            assert row["path"] == key.rpartition(b"/")[2]
            for name in ("size", "etag", "version_id", "storage_class", "mtime_ns"):
                assert row.get(name) == rows[key].get(name)
            assert to_the_second(row["last_modified"]) == to_the_second(rows[key]["last_modified"])
            assert await read(found.store, row["path"], pin_of(row)) == body_of(key)
            assert (await found.store.head(Key(row["path"]))).size == row["size"]

    async def test_objects_that_are_known_need_no_opening(
        self, connection: Connection, hostile: Filled, source: OpenedSource
    ) -> None:
        rows = await full_rows(source.store)
        below = await connection.objects(hostile.bucket.uri(""))
        for key in (key for key in hostile.keys if not key.endswith(b"/")):
            pin = pin_of(rows[key])
            assert await read(below, key, pin) == body_of(key)
            uri = hostile.bucket.uri(key.decode())
            alone = await connection.objects(uri)
            assert await read(alone, uri.last_component, pin) == body_of(key)
            assert (await alone.head(Key(uri.last_component))).size == pin.size

    async def test_what_is_no_lone_object(self, connection: Connection, hostile: Filled) -> None:
        for key in ("", "dir/", "deep/er/", "deep/er/nothing", "deep/er", "nothing"):
            assert await connection.lone_object(hostile.bucket.uri(key)) is None

    # --- versions

    @pytest.fixture(scope="class")
    @classmethod
    def versioned(cls, server: Server) -> Filled:
        """A bucket with many versions, marks of deletion, and `null` versions."""
        if not cls.keeps_versions:
            pytest.skip("the server under test does not list versions in key order")
        bucket = server.make_bucket()
        filled = fill(bucket, [b"%02d" % number for number in range(40)] + [b"dir/", b"dir/%25 +"])
        keys = filled.keys
        bucket.keep_versions()
        for key in (*keys[5:20], *[keys[7]] * 2 * PAGE_ENTRIES_MAX):
            bucket.put(key, b"newer")
        for key in (*keys[10:15], *keys[21:36]):
            bucket.delete(key)
        for key in keys[13:15]:
            bucket.put(key, b"again")
        bucket.suspend_versions()
        bucket.put(keys[3], b"suspended")
        bucket.delete(keys[4])
        gone = {*keys[10:13], *keys[21:36], keys[4]}
        live = [key for key in keys if key not in gone]
        return Filled(bucket, live, [], filled.started_at, datetime.now(UTC))

    @pytest.mark.parametrize("by_token", [False, True], ids=["by key", "by token"])
    async def test_the_newest_versions_are_listed(
        self, connection: Connection, versioned: Filled, *, by_token: bool
    ) -> None:
        source = await connection.open(versioned.bucket.uri())
        assert source.store.properties.versions
        pages = await walk(source.store, by_token=by_token)
        rows = rows_on(pages)
        assert list(rows) == versioned.keys
        assert sum(page.entries for page in pages) > len(rows)
        for key, row in rows.items():
            head = versioned.bucket.head(key)
            assert (row["size"], row["etag"]) == (head.size, head.etag)
            assert row["version_id"] == (head.version_id or "null")
        are_null = [row["version_id"] == "null" for row in rows.values()]
        assert are_null[:6] == [True, True, True, True, False, False]

    async def test_a_version_listing_begins_after_any_key(
        self, connection: Connection, versioned: Filled
    ) -> None:
        source = await connection.open(versioned.bucket.uri())
        for after in (*map(Key, versioned.keys), *keys_between(versioned.keys)[::3]):
            page = await source.store.list_page(KeyRange(after=after))
            following = [key for key in versioned.keys if key > after]
            assert paths_of(page.rows) == following[: page.rows.num_rows]
            assert page.first is None or page.first > after

    async def test_versions_can_be_done_without(
        self, connection: Connection, versioned: Filled
    ) -> None:
        source = await connection.open(versioned.bucket.uri(), without={"versions"})
        assert not source.store.properties.versions
        rows = rows_on(await walk(source.store))
        assert list(rows) == versioned.keys
        assert {row.get("version_id") for row in rows.values()} == {None}

    async def test_a_lone_object_has_its_version(
        self, connection: Connection, versioned: Filled
    ) -> None:
        for key in versioned.keys[4:7]:
            found = await connection.lone_object(versioned.bucket.uri(key.decode()))
            assert found is not None
            (row,) = rows_of(found.row)
            assert row["version_id"] == versioned.bucket.head(key).version_id
        assert await connection.lone_object(versioned.bucket.uri("25")) is None
