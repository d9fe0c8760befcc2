"""Which of a key's versions are shown: any history in any pages gives the bucket as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing, UsageError
from indexer.keyspace import KEY_BYTES_MAX, Key, KeyRange
from indexer.page import paths_of
from indexer.protocols import StoreProperties
from indexer.stores import s3_lister
from indexer.stores.s3 import S3Store
from indexer.stores.s3_list_requests import Parameters
from indexer.stores.s3_lister import S3Lister
from indexer.stores.s3_versions import VersionRows, at, interleaved, newest, order_of
from indexer.stores.s3_wire import Operation
from workers.turns import Turns

BEGIN = datetime(2024, 2, 29, 23, 59, 0, tzinfo=UTC)
PREFIX = "data/"
NAMES = ("", "a", "a b", "a/b", "é+%25", "z")


@dataclass(frozen=True)
class Version:
    """One version of a key: the second it was made in, and what is told of it."""

    key: str
    second: int
    number: int
    is_marker: bool = False
    etag: str = "0123456789abcdef0123456789abcdef"

    @property
    def version_id(self) -> str:
        return f"v{self.number}"


def history(made: Sequence[tuple[str, int, bool]]) -> list[Version]:
    """Versions as a server lists them: by key, the newest first."""
    versions = [
        Version(key, second, n, is_marker) for n, (key, second, is_marker) in enumerate(made)
    ]
    return sorted(versions, key=lambda one: (one.key.encode(), -one.second, -one.number))


def held(versions: Sequence[Version], moment: float) -> dict[bytes, str]:
    """The id of the version that each key had at a moment."""
    found: dict[bytes, str] = {}
    for one in reversed(versions):
        if one.second <= moment:
            found.pop(one.key.encode(), None)
            if not one.is_marker:
                found[one.key.encode()] = one.version_id
    return found


class Server:
    """The requests to a server of short pages that list versions. See `Lists`.

    `is_inclusive` lets it begin with its key-marker.
    """

    def __init__(
        self, versions: Sequence[Version], page_rows: int, *, is_inclusive: bool = False
    ) -> None:
        self._versions = list(versions)
        self._page_rows = page_rows
        self._is_inclusive = is_inclusive

    async def ask(self, operation: Operation, uri: str, parameters: Parameters) -> bytes:
        assert operation == "ListObjectVersions"
        asked = dict[str, Any](parameters)
        versions = [one for one in self._versions if self._is_after(one, asked)]
        rows = min(asked["MaxKeys"], self._page_rows)
        page, rest = versions[:rows], versions[rows:]
        head = [f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>"]
        head += ["<EncodingType>url</EncodingType>"]
        if rest:
            head += [f"<NextKeyMarker>{quote_plus(PREFIX + page[-1].key)}</NextKeyMarker>"]
            head += [f"<NextVersionIdMarker>{page[-1].version_id}</NextVersionIdMarker>"]
        body = "".join([*head, *map(self._written, page)])
        return f"<ListVersionsResult>{body}</ListVersionsResult>".encode()

    def _is_after(self, one: Version, asked: dict[str, Any]) -> bool:
        key = (PREFIX + one.key).encode()
        marker: bytes = asked.get("KeyMarker", "").encode()
        prefix: bytes = asked["Prefix"].encode()
        if not key.startswith(prefix):
            return False
        if key != marker:
            return key > marker
        versions = [one.version_id for one in self._versions if (PREFIX + one.key).encode() == key]
        if version_id := asked.get("VersionIdMarker"):
            return bool(versions.index(one.version_id) > versions.index(version_id))
        return self._is_inclusive

    def _written(self, one: Version) -> str:
        latest = next(other for other in self._versions if other.key == one.key)
        tag = "DeleteMarker" if one.is_marker else "Version"
        etag = "" if one.is_marker else f"<ETag>&quot;{one.etag}&quot;</ETag><Size>1</Size>"
        time = (BEGIN + timedelta(seconds=one.second)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return (
            f"<{tag}><Key>{quote_plus(PREFIX + one.key)}</Key>"
            f"<VersionId>{one.version_id}</VersionId>"
            f"<IsLatest>{'true' if one is latest else 'false'}</IsLatest>"
            f"<LastModified>{time}</LastModified>{etag}</{tag}>"
        )


def store_of(server: Server, moment: float | None) -> S3Store:
    as_of = None if moment is None else BEGIN + timedelta(seconds=moment)
    lister = S3Lister(server, "bucket", PREFIX, Turns(100), as_of=as_of)
    nothing: Any = None
    return S3Store(lister, nothing, StoreProperties(KEY_BYTES_MAX, versions=True))


async def walk(store: S3Store, after: bytes | None, *, by_token: bool) -> dict[bytes, str]:
    """The ids of the versions after a key."""
    keys = KeyRange(None if after is None else Key(after))
    token: str | None = None
    found: dict[bytes, str] = {}
    while True:
        page = await store.list_page(keys, token=token)
        paths = paths_of(page.rows)
        assert not found.keys() & set(paths), "a key came twice"
        ids = page.rows.column("version_id").to_pylist() if paths else []
        found |= dict(zip(paths, ids, strict=True))
        if page.first is not None:
            assert page.last is not None
            assert page.first >= (keys.after or b"")
            assert not paths or page.first <= paths[0] <= paths[-1] <= page.last
        if not page.more:
            return found
        assert page.last is not None
        if by_token:
            token = page.token
            assert token is not None
        else:
            assert keys.after is None or page.last > keys.after
            keys = KeyRange(page.last)


MADE = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 8), st.booleans()), max_size=40)
MOMENTS = st.one_of(
    st.none(), st.integers(-1, 9).map(lambda second: second + 0.5), st.integers(0, 9)
)


@given(
    made=MADE,
    moment=MOMENTS,
    page_rows=st.integers(1, 6),
    after=st.one_of(st.none(), st.sampled_from([name.encode() for name in NAMES]), st.just(b"a!")),
    by_token=st.booleans(),
    is_inclusive=st.booleans(),
)
def test_any_history_in_any_pages_is_the_bucket_as_it_was(
    *,
    made: list[tuple[str, int, bool]],
    moment: float | None,
    page_rows: int,
    after: bytes | None,
    by_token: bool,
    is_inclusive: bool,
) -> None:
    versions = history(made)
    server = Server(versions, page_rows, is_inclusive=is_inclusive)
    expected = held(versions, float("inf") if moment is None else moment)
    found = asyncio.run(walk(store_of(server, moment), after, by_token=by_token))
    assert found == {key: one for key, one in expected.items() if after is None or key > after}
    assert list(found) == sorted(found)


async def test_versions_of_a_key_that_are_too_many_are_an_error() -> None:
    versions = history([("a", second, False) for second in range(10)])
    store = store_of(Server(versions, page_rows=1), 0.5)
    with patch.object(s3_lister, "VERSION_PAGES_MAX", 10):
        assert paths_of((await store.list_page(KeyRange())).rows) == [b"a"]
    with (
        patch.object(s3_lister, "VERSION_PAGES_MAX", 9),
        pytest.raises(UsageError, match=r"^s3://bucket/data/: b'a' has more than .* later one\.$"),
    ):
        await store.list_page(KeyRange())


async def test_a_server_that_does_not_go_on_is_an_error() -> None:
    server = Server(history([("a", second, False) for second in range(10)]), page_rows=1)
    asked: list[Parameters] = []
    answer = server.ask

    async def always_the_same(operation: Operation, uri: str, parameters: Parameters) -> bytes:
        asked.append(parameters)
        again = {**parameters, "KeyMarker": "", "VersionIdMarker": ""}
        return await answer(operation, uri, again)

    server.ask = always_the_same  # type: ignore[method-assign]
    with pytest.raises(BrokenListing, match="does not go on"):
        await store_of(server, 0.5).list_page(KeyRange())
    assert len(asked) == 2


# --- rows ----------------------------------------------------------------------------------------


def rows_of(text: str, times: Sequence[int] = (), etags: Sequence[bytes] = ()) -> VersionRows:
    """`a` is a version, `a-` a mark of deletion, a capital the latest of its key."""
    marks = text.split()
    return VersionRows(
        [mark[0].lower().encode() for mark in marks],
        [mark.endswith("-") for mark in marks],
        [mark[0].isupper() for mark in marks],
        [time * 10**9 for time in times],
        etags or [b""] * len(times),
    )


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", None),
        ("A B", None),
        ("A a B", None),
        ("A- a B", "newest first"),
        ("A a- B", "newest first"),
        ("a A b- B", "out of order"),
        ("a- A b B-", "out of order"),
        ("a B A-", "markers apart"),
        ("A- C- a B", "markers apart"),
        ("a A-", "markers apart"),
        ("B A", "out of order"),
        ("A A", "out of order"),
        ("a b", "out of order"),
        ("B- A- a b", "out of order"),
    ],
)
def test_the_order_of_versions_is_told_by_a_page(text: str, order: str | None) -> None:
    assert order_of(rows_of(text)) == order


def test_rows_that_are_told_apart_are_one_listing() -> None:
    assert interleaved(rows_of("A a B- b")) is None
    assert interleaved(rows_of("a a B A- b-")) == [3, 0, 1, 2, 4]
    with pytest.raises(BrokenListing) as caught:
        interleaved(rows_of("B A C-"))
    assert caught.value.do_without == "versions"


def test_a_page_may_begin_in_the_middle_of_a_key() -> None:
    shown = newest(rows_of("a a- B"))
    assert (shown.live, shown.first, shown.last) == ([False, False, True], b"a", b"b")
    assert not shown.first_is_latest


def test_later_versions_after_earlier_ones_are_an_error() -> None:
    assert at(10**10, rows_of("A a a", [5, 5, 3]), more=False).live == [True, False, False]
    # Clocks differ by a little.
    assert at(10**10, rows_of("A a", [5, 6]), more=False).live == [True, False]
    with pytest.raises(BrokenListing, match="newest version first"):
        at(10**10, rows_of("A a", [5, 9]), more=False)


def test_an_upload_in_parts_may_have_begun_before_what_it_follows() -> None:
    etags = [b"0123456789abcdef0123456789abcdef-2", b"0123456789abcdef0123456789abcdef"]
    rows = rows_of("A a", [5, 9], etags)
    assert at(4 * 10**9, rows, more=False).live == [False, False]
    assert at(7 * 10**9, rows, more=False).live == [True, False]
    with pytest.raises(BrokenListing):
        at(7 * 10**9, rows_of("A a", [5, 9], etags[::-1]), more=False)


def test_a_key_that_is_not_decided_is_left_to_the_next_page() -> None:
    rows = rows_of("A B b", [1, 9, 8])
    for more, last, live in (
        (True, b"a", [True, False, False]),
        (False, b"b", [True, False, False]),
    ):
        shown = at(5 * 10**9, rows, more=more)
        assert (shown.first, shown.last, shown.live) == (b"a", last, live)
    shown = at(5 * 10**9, rows_of("B b", [9, 8]), more=True)
    assert (shown.first, shown.last) == (None, None)
