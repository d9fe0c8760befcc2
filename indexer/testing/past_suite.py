"""The contract of `Connection` and `Store` for servers that show a bucket as it was.

    class TestMyStore(PastSuite):          as with StoreSuite, whose tests it has, too

Invariants
  * Moments lie between changes by more than a second, the grain in which servers tell times.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from indexer.errors import InvalidSetting
from indexer.keyspace import Key, KeyRange
from indexer.page import paths_of
from indexer.protocols import Connection
from indexer.testing.store_suite import (
    PAGE_ENTRIES_MAX,
    Bucket,
    Server,
    StoreSuite,
    fill,
    keys_between,
    keys_on,
    md5_of,
    rows_of,
    rows_on,
    walk,
)

GRAIN_S: Final = 1.02
"""How long to wait so that times to the second differ."""


class History:
    """A bucket that is changed, and what it held at moments that lie between its changes."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.started_at = datetime.now(UTC)
        self.moments: list[tuple[datetime, dict[bytes, bytes]]] = []
        self._held: dict[bytes, bytes] = {}
        self._puts = 0

    def put(self, *keys: bytes) -> None:
        """Puts an object of new content at each key."""
        for key in keys:
            self._puts += 1
            body = b"%b %d" % (key, self._puts)
            assert self.bucket.put(key, body)
            self._held[key] = body

    def delete(self, *keys: bytes) -> None:
        """Deletes keys, whether they are there or not."""
        for key in keys:
            self.bucket.delete(key)
            self._held.pop(key, None)

    def forget(self, key: bytes) -> None:
        """Notes that what a key held before is gone for good."""
        for _, held in self.moments:
            held.pop(key, None)

    def next_moment(self) -> None:
        """Notes what there is now, and waits till the next change has another time."""
        self.moments.append((datetime.now(UTC), dict(self._held)))
        time.sleep(GRAIN_S)


@pytest.mark.asyncio(loop_scope="class")
class PastSuite(StoreSuite):
    """What every connection and its stores do that show the past."""

    @pytest.fixture(scope="class")
    @classmethod
    def history(cls, server: Server) -> History:
        """A bucket that was changed, with what it held at some moments."""
        history = History(server.make_bucket())
        history.put(*(b"%02d" % number for number in range(12)), b"dir/a", b"dir/b c+%25")
        history.next_moment()
        history.bucket.keep_versions()
        history.put(*(b"%02d" % number for number in range(4)), b"dir/b c+%25", b"new/a", b"new/b")
        history.delete(b"04", b"05", b"dir/a", b"nothing")
        history.put(*[b"06"] * 2 * PAGE_ENTRIES_MAX)
        history.next_moment()
        history.delete(b"00", b"06")
        history.put(
            b"04", b"newest", *[b"new/a"] * 3 * PAGE_ENTRIES_MAX, *[b"01"] * PAGE_ENTRIES_MAX
        )
        history.bucket.suspend_versions()
        history.put(b"07", b"suspended")
        # Where versioning is suspended, what has no version of its own is overwritten.
        history.forget(b"07")
        history.next_moment()
        history.bucket.keep_versions()
        history.put(b"02", b"too late")
        history.delete(b"03")
        return history

    @pytest.mark.parametrize("by_token", [False, True], ids=["by key", "by token"])
    async def test_a_bucket_is_shown_as_it_was(
        self, connection: Connection, history: History, *, by_token: bool
    ) -> None:
        for as_of, held in history.moments:
            source = await connection.open(history.bucket.uri(), as_of=as_of)
            assert source.store.properties.versions
            assert source.warnings
            rows = rows_on(await walk(source.store, by_token=by_token))
            assert list(rows) == sorted(held), as_of
            for key, row in rows.items():
                assert (row["size"], row["etag"]) == (len(held[key]), md5_of(held[key]).hex())
                assert row["version_id"] is not None
                assert row["last_modified"] <= as_of

    async def test_a_listing_of_the_past_begins_after_any_key(
        self, connection: Connection, history: History
    ) -> None:
        for as_of, held in history.moments:
            source = await connection.open(history.bucket.uri(), as_of=as_of)
            keys = sorted(held)
            for after in (*map(Key, keys), *keys_between(keys)[::3]):
                following = [key for key in keys if key > after]
                page = await source.store.list_page(KeyRange(after=after))
                assert paths_of(page.rows) == following[: page.rows.num_rows], (as_of, after)
                assert page.first is None or page.first > after
                assert keys_on(await walk(source.store, KeyRange(after=after))) == following

    async def test_a_folder_is_shown_as_it_was(
        self, connection: Connection, history: History
    ) -> None:
        for as_of, held in history.moments:
            source = await connection.open(history.bucket.uri("new/"), as_of=as_of)
            below = [key[4:] for key in sorted(held) if key.startswith(b"new/")]
            assert keys_on(await walk(source.store)) == below
            source = await connection.open(history.bucket.uri(), as_of=as_of)
            below = [key for key in sorted(held) if key.startswith(b"dir/")]
            assert keys_on(await walk(source.store, prefix=b"dir/")) == below

    async def test_lone_objects_are_shown_as_they_were(
        self, connection: Connection, history: History
    ) -> None:
        for as_of, held in history.moments:
            source = await connection.open(history.bucket.uri(), as_of=as_of)
            rows = rows_on(await walk(source.store))
            for key in {*held, b"00", b"04", b"newest", b"dir/a", b"dir", b"0"}:
                found = await connection.lone_object(history.bucket.uri(key.decode()), as_of=as_of)
                assert (found is not None) == (key in held), (as_of, key)
                if found is not None:
                    (row,) = rows_of(found.row)
                    assert row == {**rows[key], "path": key.rpartition(b"/")[2]}

    async def test_there_was_nothing_before(self, connection: Connection, history: History) -> None:
        as_of = history.started_at - timedelta(days=1)
        source = await connection.open(history.bucket.uri(), as_of=as_of)
        assert keys_on(await walk(source.store)) == []
        assert await connection.lone_object(history.bucket.uri("01"), as_of=as_of) is None

    async def test_the_future_is_not_shown(self, connection: Connection, history: History) -> None:
        as_of = datetime.now(UTC) + timedelta(hours=1)
        uri = history.bucket.uri()
        with pytest.raises(InvalidSetting, match=uri.bucket):
            await connection.open(uri, as_of=as_of)
        with pytest.raises(InvalidSetting, match=uri.bucket):
            await connection.lone_object(history.bucket.uri("01"), as_of=as_of)

    async def test_without_versions_nothing_is_shown_as_it_was(
        self, connection: Connection, server: Server
    ) -> None:
        bucket = fill(server.make_bucket(), [b"a"]).bucket
        as_of = datetime.now(UTC)
        with pytest.raises(InvalidSetting):
            await connection.open(bucket.uri(), as_of=as_of)
        with pytest.raises(InvalidSetting):
            await connection.lone_object(bucket.uri("a"), as_of=as_of)
