"""Local paths: read back exactly, never out of the folder, never two of one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.artifact.download.local_paths import (
    NAME_BYTES_MAX,
    OWN_FOLDER,
    Ancestors,
    LocalPath,
    Rules,
    entry_path_of,
    folded,
    folders_of,
    is_folder,
    kept_apart,
    local_path,
)
from indexer.testing.store_suite import HOSTILE_KEYS

POSIX, WINDOWS, TEXT = Rules(), Rules(windows=True, folds=True), Rules(text=True, folds=True)
RULES = st.sampled_from([POSIX, WINDOWS, TEXT])

PIECES = st.sampled_from(
    [
        *(b"", b"a", b"A", b"b", b".", b"..", b"%", b"%2", b"%2E", b"2E", b"+", b"-", b"%+", b"%-"),
        *(b"/", b"//", b"\x00", b"\xff", b"\xc3", b"\xa9", "é".encode(), "ß".encode(), b"ss"),
        *(b"C:", b"\\", b"con", b"NUL", b"com1.txt", b" ", b".", b"\n", b"n" * 200, OWN_FOLDER),
        *(b"\x80" * 150, "e\u0301".encode(), "日本語".encode() * 30),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map(b"".join)
SETS = st.dictionaries(PATHS, st.integers(0, 1), max_size=8)


def places(paths: Iterable[tuple[bytes, int]], rules: Rules) -> dict[bytes, LocalPath]:
    """Where all of them lie, as a download finds it out."""
    ancestors, files, folders = Ancestors(), set[str](), set[str]()
    found: dict[bytes, LocalPath] = {}
    for path, size in sorted(paths):
        local = local_path(path, size, rules, apart=ancestors.of(path, size))
        if rules.folds:
            local = kept_apart(local, files.__contains__, {*files, *folders}.__contains__)
        ends = range(1, len(local.names) + local.is_folder)
        folders |= {folded(local.names[:end]) for end in ends}
        if not local.is_folder:
            files.add(folded(local.names))
        found[path] = local
    return found


@given(PATHS, st.integers(0, 1), RULES)
def test_a_path_is_read_back_and_stays_inside(path: bytes, size: int, rules: Rules) -> None:
    local = local_path(path, size, rules)
    assert entry_path_of(local) == path
    assert local.is_folder == is_folder(path, size)
    for name in local.names:
        assert name not in {b"", b".", b".."}
        assert b"/" not in name
        assert b"\x00" not in name
        assert len(name) <= NAME_BYTES_MAX
        if rules.windows or rules.text:
            name.decode()
        if rules.windows:
            assert not set(name) & set(b'<>:"\\|?*') | set(filter(lambda byte: byte < 32, name))
            assert name[-1:] not in {b".", b" "}
            stem = name.decode().partition(".")[0].rstrip(" ").casefold()
            assert stem not in {"con", "nul", "com1"}
    assert local.names[:1] != (OWN_FOLDER,)


@given(SETS, RULES)
def test_no_two_paths_share_a_place(paths: dict[bytes, int], rules: Rules) -> None:
    found = places(paths.items(), rules)
    files = {path: one for path, one in found.items() if not one.is_folder}
    fold = folded if rules.folds else b"/".join
    at = [fold(one.names) for one in files.values()]
    assert len(set(at)) == len(at)
    for path, local in found.items():
        assert entry_path_of(local) == path
        # Nobody's folder is anybody's file.
        ends = range(1, len(local.names) + local.is_folder)
        assert not {fold(local.names[:end]) for end in ends} & set(at)


@given(SETS, PATHS)
def test_a_part_of_a_version_lies_where_it_lies_in_the_whole(
    paths: dict[bytes, int], prefix: bytes
) -> None:
    whole = places(paths.items(), POSIX)
    above = [
        each for each in folders_of(prefix) if each in paths and not is_folder(each, paths[each])
    ]
    ancestors = Ancestors(above)
    for path in sorted(paths):
        if path.startswith(prefix):
            apart = ancestors.of(path, paths[path])
            assert local_path(path, paths[path], POSIX, apart=apart) == whole[path]


@pytest.mark.parametrize(
    ("path", "size", "rules", "local"),
    [
        (b"train/0001.jpg", 1, POSIX, b"train/0001.jpg"),
        (b"100%/a b?:\\|*.txt", 1, POSIX, b"100%/a b?:\\|*.txt"),
        (b"\xff", 1, POSIX, b"\xff"),
        (b"../../etc/passwd", 1, POSIX, b"%2E%2E/%2E%2E/etc/passwd"),
        (b"/etc/passwd", 1, POSIX, b"%-/etc/passwd"),
        (b"a//b", 1, POSIX, b"a/%-/b"),
        (b"a/./b", 1, POSIX, b"a/%2E/b"),
        (b"", 1, POSIX, b"%-"),
        (b"", 0, POSIX, b""),
        (b"dir/", 0, POSIX, b"dir/"),
        (b"dir/", 1, POSIX, b"dir/%-"),
        (b"a%2Fb", 1, POSIX, b"a%252Fb"),
        (b"a\x00b", 1, POSIX, b"a%00b"),
        (b"n" * 256, 1, POSIX, b"n" * 253 + b"%+/nnn"),
        (b".indexer-download/state", 1, POSIX, b"%2Eindexer-download/state"),
        (b"C:\\windows", 1, WINDOWS, b"C%3A%5Cwindows"),
        (b"CON", 1, WINDOWS, b"%43ON"),
        (b"aux.txt", 1, WINDOWS, b"%61ux.txt"),
        (b"last. ", 1, WINDOWS, b"last.%20"),
        (b"\xff", 1, WINDOWS, b"%FF"),
    ],
)  # fmt: skip
def test_names_are_written_so(path: bytes, size: int, rules: Rules, local: bytes) -> None:
    assert local_path(path, size, rules).path == local


def test_an_object_that_is_a_folder_too_is_kept_apart() -> None:
    found = places([(b"a", 1), (b"a.txt", 1), (b"a/b", 1), (b"a/b/c", 1), (b"a/", 0)], POSIX)
    assert {path: local.path for path, local in found.items()} == {
        b"a": b"a",
        b"a.txt": b"a.txt",
        b"a/": b"%+/a/",
        b"a/b": b"%+/a/b",
        b"a/b/c": b"%+/a/%+/b/c",
    }


def test_names_that_differ_in_case_are_kept_apart() -> None:
    paths = [(path, 1) for path in (b"A", b"Dir/x", b"a", b"dir/X", b"dir/y")]
    found = places(paths, TEXT)
    assert {path: local.path for path, local in found.items()} == {
        b"A": b"A",
        b"Dir/x": b"Dir/x",
        b"a": b"%+/a",
        b"dir/X": b"dir/%+/X",
        b"dir/y": b"dir/y",
    }


def test_hostile_keys_all_have_places() -> None:
    for rules in (POSIX, WINDOWS, TEXT):
        found = places([(key, 1) for key in HOSTILE_KEYS], rules)
        assert {entry_path_of(local) for local in found.values()} == set(HOSTILE_KEYS)
