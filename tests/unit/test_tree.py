"""The walk of a tree of folders, against a sorted list of its paths.

Invariants
  * The folders of a test know nothing but their own names, in any order, and count what they are
    asked.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import AccessDenied
from indexer.keyspace import Key, KeyRange
from indexer.limits import TREE_WINDOW_SLACK
from indexer.stores.tree import NamesPage, Tree, Window, window_of

NAMES = st.binary(min_size=1, max_size=3).map(lambda name: name.replace(b"/", b"!"))
SMALL_NAMES = st.text("ab.0\x01", min_size=1, max_size=2).map(str.encode)
PATHS = st.lists(
    st.lists(SMALL_NAMES | NAMES, min_size=1, max_size=4).map(b"/".join), max_size=40, unique=True
)
"""A file may have the name of a folder, as on web servers."""


class Folders:
    """Folders of a tree, also empty ones, that note what they are asked."""

    def __init__(self, paths: Iterable[bytes], empty: Iterable[bytes] = ()) -> None:
        self.names: dict[bytes, set[bytes]] = defaultdict(set)
        self.asked: list[tuple[bytes, bytes, int]] = []
        self.asked_at_once = 0
        self.asked_at_once_peak = 0
        self.denied: set[bytes] = set()
        for path in paths:
            self.add(path)
        for folder in empty:
            self.add(folder + b"/")

    def add(self, path: bytes) -> None:
        parts = path.removesuffix(b"/").split(b"/")
        folder = b""
        for part in parts[:-1]:
            self.names[folder].add(part + b"/")
            folder += part + b"/"
        self.names[folder].add(parts[-1] + b"/" * path.endswith(b"/"))

    async def children(self, folder: bytes, start: bytes, names_max: int) -> Window:
        self.asked.append((folder, start, names_max))
        self.asked_at_once += 1
        self.asked_at_once_peak = max(self.asked_at_once_peak, self.asked_at_once)
        await asyncio.sleep(0)
        self.asked_at_once -= 1
        if folder in self.denied:
            raise AccessDenied(f"{folder!r} is not to be read")
        names = list(self.names.get(folder, ()))
        random.Random(len(names)).shuffle(names)
        return window_of(names, start, names_max)


def tree_of(folders: Folders, page_entries: int = 3, window: int = 2, cached: int = 6) -> Tree:
    return Tree(
        folders.children,
        page_entries=page_entries,
        folders_at_once=3,
        window_names=window,
        window_names_max=window + 1,
        names_cached_max=cached,
    )


async def pages_of(
    tree: Tree, keys: KeyRange, prefix: bytes = b"", *, by_token: bool = False
) -> list[NamesPage]:
    pages: list[NamesPage] = []
    token = None
    while True:
        page = await tree.list_names(keys, prefix=Key(prefix), token=token)
        pages.append(page)
        assert len(pages) < 1_000
        if not page.more:
            assert page.token is None
            return pages
        if by_token:
            token = page.token
            assert token is not None
        else:
            keys = KeyRange(Key(page.paths[-1]), keys.through)


def joined(pages: list[NamesPage]) -> list[bytes]:
    return [path for page in pages for path in page.paths]


@given(
    paths=PATHS,
    empty=st.lists(NAMES | SMALL_NAMES, max_size=3),
    bounds=st.lists(st.binary(max_size=6) | st.none(), min_size=2, max_size=2),
    page_entries=st.integers(1, 5),
    window=st.integers(1, 4),
    by_token=st.booleans(),
    at_key=st.randoms(use_true_random=False),
)
async def test_a_walk_is_the_sorted_list(
    paths: list[bytes],
    empty: list[bytes],
    bounds: list[bytes | None],
    page_entries: int,
    window: int,
    by_token: bool,  # noqa: FBT001 - drawn
    at_key: random.Random,
) -> None:
    tree = tree_of(Folders(paths, empty), page_entries, window)
    if paths and at_key.random() < 0.7:
        start = at_key.choice(paths)
        bounds[0] = start[: at_key.randint(0, len(start))]
    if None not in bounds and bounds[0] > bounds[1]:  # type: ignore[operator]
        bounds.reverse()
    after, through = (None if bound is None else Key(bound) for bound in bounds)
    expected = [path for path in sorted(paths) if path in KeyRange(after, through)]
    pages = await pages_of(tree, KeyRange(after, through), by_token=by_token)
    assert joined(pages) == expected
    assert all(len(page.paths) == page_entries for page in pages[:-1])
    assert len(pages) == max(1, -(-len(expected) // page_entries)), "`more` was told in vain"


@given(paths=PATHS, data=st.data(), window=st.integers(1, 4), by_token=st.booleans())
async def test_a_prefix_is_a_walk_of_its_own(
    paths: list[bytes],
    data: st.DataObject,
    window: int,
    by_token: bool,  # noqa: FBT001 - drawn
) -> None:
    folders = sorted({path[: path.rfind(b"/") + 1] for path in paths} | {b"a/", b"\xff/"})
    prefix = data.draw(st.sampled_from(folders))
    inside = [path for path in sorted(paths) if path.startswith(prefix)]
    after = data.draw(st.none() | st.sampled_from([Key(b""), *map(Key, sorted(paths))]))
    folders_of = Folders(paths)
    pages = await pages_of(
        tree_of(folders_of, window=window), KeyRange(after), prefix, by_token=by_token
    )
    assert joined(pages) == [path for path in inside if after is None or path > after]
    assert all(folder.startswith(prefix) for folder, _, _ in folders_of.asked)


@given(
    names=st.lists(SMALL_NAMES | NAMES, max_size=60),
    start=SMALL_NAMES | st.just(b""),
    names_max=st.integers(1, 9),
)
def test_a_window_holds_the_least_names_and_few_others(
    names: list[bytes], start: bytes, names_max: int
) -> None:
    wanted = sorted({name for name in names if name >= start})
    window = window_of(iter(names), start, names_max)
    assert list(window.names) == wanted[:names_max]
    assert window.more == (len(wanted) > names_max)


async def test_no_folder_is_asked_for_in_vain() -> None:
    paths = [b"%02d/%02d/%02d" % (a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    folders = Folders(paths)
    tree = Tree(folders.children, folders_at_once=4)
    after, through = Key(b"02/01/03"), Key(b"02/03/01")
    page = await tree.list_names(KeyRange(after, through))
    assert page.paths == paths[bisect_right(paths, after) : bisect_right(paths, through)]
    assert not page.more
    assert sorted(folder for folder, _, _ in folders.asked) == [
        *(b"", b"02/", b"02/01/", b"02/02/", b"02/03/")
    ]


async def test_pages_of_a_folder_read_it_once() -> None:
    folders = Folders(b"in/%04d" % number for number in range(500))
    tree = Tree(folders.children, page_entries=10)
    assert len(await pages_of(tree, KeyRange())) == 50
    assert [folder for folder, _, _ in folders.asked] == [b"", b"in/"]
    # A listing from the start sees what is there then; one from elsewhere goes on with what it has.
    folders.add(b"in/0000a")
    assert b"in/0000a" not in joined(await pages_of(tree, KeyRange(Key(b"in/"))))
    assert b"in/0000a" in joined(await pages_of(tree, KeyRange()))


async def test_a_folder_is_read_once_by_all_who_want_it() -> None:
    folders = Folders(b"in/%04d" % number for number in range(100))
    tree = Tree(folders.children, page_entries=10)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(tree.list_names(KeyRange(Key(b"in/%04d" % number))))
    assert [folder for folder, _, _ in folders.asked] == [b"", b"in/"]


async def test_small_folders_are_read_side_by_side() -> None:
    folders = Folders(b"%03d/file" % number for number in range(200))
    tree = Tree(folders.children, folders_at_once=8)
    assert len((await tree.list_names(KeyRange())).paths) == 200
    assert 4 <= folders.asked_at_once_peak <= 8
    assert len(folders.asked) == 201


async def test_memory_is_bounded_by_names() -> None:
    folders = Folders(b"%04d" % number for number in range(1_000))
    tree = tree_of(folders, page_entries=10, window=20, cached=50)
    kept = []
    for after in (None, *(b"%04d" % number for number in range(9, 999, 10))):
        page = await tree.list_names(KeyRange(None if after is None else Key(after)))
        kept.append(tree.names_cached)
        assert page.more == (page.paths[-1] != b"0999")
    assert 0 < max(kept) <= 50
    # The first window is small; those that go on are larger.
    assert [names_max for _, _, names_max in folders.asked] == [20, *[21] * 47]
    assert TREE_WINDOW_SLACK < 2


async def test_folders_without_names_are_kept_and_forgotten_too() -> None:
    folders = Folders((), (b"%04d" % number for number in range(500)))
    tree = Tree(folders.children, names_cached_max=600)
    page = await tree.list_names(KeyRange())
    assert (page.paths, page.more) == ([], False)
    assert 500 < tree.names_cached <= 600


async def test_a_folder_that_cannot_be_read_fails_the_walks_that_come_to_it() -> None:
    folders = Folders([b"a/1", b"a/2", b"b/1", b"c/1"])
    folders.denied.add(b"b/")
    tree = Tree(folders.children, page_entries=1)
    assert (await tree.list_names(KeyRange())).paths == [b"a/1"]
    with pytest.raises(AccessDenied, match="b/"):
        await tree.list_names(KeyRange(Key(b"a/1")))
    assert (await tree.list_names(KeyRange(Key(b"b0")))).paths == [b"c/1"]
    folders.denied = {b"c/"}
    # What was read ahead in vain is no error of who does not come to it.
    ahead = tree_of(folders, page_entries=2, window=5, cached=60)
    assert (await ahead.list_names(KeyRange())).paths == [b"a/1", b"a/2"]
    assert (b"c/", b"", 5) in folders.asked
    folders.denied.clear()
    assert joined(await pages_of(tree, KeyRange())) == [b"a/1", b"a/2", b"b/1", b"c/1"]
