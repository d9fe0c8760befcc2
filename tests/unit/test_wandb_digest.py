"""The W&B digest, against a slow reference that does it entry by entry."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath, PureWindowsPath

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.page import make_page, pack_etags
from indexer.wandb_digest import WandbDigest, WandbDigester

Entry = tuple[bytes, int, str | None]
"""Path, size, ETag."""

EMPTY_MANIFEST = "64e7c61456b10382e2f3b571ac24b659"
ONE_ENTRY = "f2cbc889d2df2c6aeb6e8fc95f991d7c"
MD5 = "0123456789abcdef0123456789abcdef"


def rows_of(entries: list[Entry]) -> pa.Table:
    etags = [etag.encode() if etag is not None else b"" for _, _, etag in entries]
    columns = pack_etags(etags)
    nulls = pa.array([etag is None for _, _, etag in entries], pa.bool_())
    columns = {
        name: pa.compute.if_else(nulls, pa.scalar(None, column.type), column)
        for name, column in columns.items()
    }
    page = make_page(
        {
            "path": pa.array([path for path, _, _ in entries], pa.binary()),
            "size": pa.array([size for _, size, _ in entries], pa.int64()),
            **columns,
        }
    )
    return pa.Table.from_batches([page])


def digest_of(*shards: list[Entry]) -> WandbDigest:
    digester = WandbDigester()
    for entries in shards:
        digester.add(rows_of(entries))
    return digester.finish()


def reference(entries: list[Entry]) -> str | None:
    """The digest as W&B's own client makes it; None where it would not keep a path as it is."""
    contents: dict[str, str] = {}
    for path, size, etag in entries:
        if not size and (not path or path.endswith(b"/")):
            continue
        if etag is None or not is_held(path):
            return None
        contents[path.decode()] = etag
    digest = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for name, etag in sorted(contents.items()):
        digest.update(f"{name}:{etag}\n".encode())
    return digest.hexdigest()


def is_held(path: bytes) -> bool:
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return False
    windows = PureWindowsPath(text)
    return (
        text not in ("", ".")
        and str(PurePosixPath(text)) == text
        and not text.startswith("/")
        and ".." not in PurePosixPath(text).parts
        and not windows.anchor
        # From Python 3.12 on any character before the colon makes a drive.
        and text[1:2] != ":"
        and ".." not in windows.parts
    )


def test_the_vectors() -> None:
    assert digest_of() == WandbDigest(EMPTY_MANIFEST, None)
    assert digest_of([]) == WandbDigest(EMPTY_MANIFEST, None)
    assert digest_of([(b"a", 1, "d")]) == WandbDigest(ONE_ENTRY, None)


def test_each_kind_of_etag_is_hashed_as_text() -> None:
    etags = [MD5, f"{MD5}-12", f"{MD5}-012", MD5.upper(), "\u00e9", ""]
    entries: list[Entry] = [(b"%d" % row, row, etag) for row, etag in enumerate(etags)]
    assert digest_of(entries).digest == reference(entries)


def test_markers_of_folders_are_left_out() -> None:
    entries: list[Entry] = [(b"", 0, MD5), (b"../", 0, None), (b"a", 0, MD5), (b"b/", 0, MD5)]
    assert digest_of(entries) == digest_of([(b"a", 0, MD5)])
    assert digest_of([(b"a//", 0, MD5)]).digest == EMPTY_MANIFEST


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"", "it is empty"),
        (b"/a", "it begins with a slash"),
        (b"\\a", "on Windows it begins at a drive's root"),
        (b"c:a", "on Windows it begins with a drive"),
        ("é:a".encode(), "on Windows it begins with a drive"),
        (b"a//b", "it has an empty component"),
        (b"a/", "it ends in a slash, and the object is not empty"),
        (b".", "it has the component '.'"),
        (b"./a", "it has the component '.'"),
        (b"a/./b", "it has the component '.'"),
        (b"a/.", "it has the component '.'"),
        (b"..", "it has the component '..'"),
        (b"../a", "it has the component '..'"),
        (b"a/../b", "it has the component '..'"),
        (b"a\\..\\b", "it has the component '..'"),
        (b"a\xff", "it is not UTF-8"),
        (b"\n/../\n", "it has the component '..'"),
    ],
)
def test_a_path_that_cannot_be_held_is_named(path: bytes, why: str) -> None:
    entries: list[Entry] = [(b"#", 1, MD5), (path, 1, MD5), (b"~", 1, MD5)]
    found = digest_of(sorted(entries))
    assert found.digest is None
    assert found.reason is not None
    assert found.reason.endswith(f": {why}.")
    assert reference(entries) is None


@pytest.mark.parametrize(
    "path",
    [
        "...",
        ".a",
        "a.",
        "a/.b/..c",
        "ab/a:b",
        "ab:",
        "a\\b",
        "a\n",
        "\n",
        "a b?#%+*",
        "🙂/日本",
        "\x01",
    ],
)
def test_an_odd_path_is_held(path: str) -> None:
    entries: list[Entry] = [(path.encode(), 1, MD5)]
    assert digest_of(entries).digest == reference(entries) is not None


def test_an_object_without_an_etag_is_named() -> None:
    found = digest_of([(b"a", 1, MD5), (b"b", 1, None)])
    assert found.digest is None
    assert found.reason is not None
    assert "'b'" in found.reason


def test_a_reason_stays() -> None:
    found = digest_of([(b"a//b", 1, MD5)], [(b"b", 1, MD5)], [(b"c//d", 1, MD5)])
    assert found.digest is None
    assert "a//b" in str(found.reason)


pieces = st.sampled_from(["", "a", "b", ".", "..", "/", "//", "\\", ":", "é", "🙂", "\n", " "])
paths = st.lists(pieces, max_size=5).map("".join)
etags = st.sampled_from([MD5, f"{MD5}-3", "W/odd", None])
entry_lists = st.dictionaries(
    st.one_of(paths.map(str.encode), st.binary(max_size=4)),
    st.tuples(st.integers(0, 2), st.one_of(st.just(MD5), etags)),
    max_size=8,
)


@given(found=entry_lists, cut=st.integers(0, 8))
def test_it_is_what_the_reference_makes(
    found: dict[bytes, tuple[int, str | None]], cut: int
) -> None:
    entries: list[Entry] = [(path, *found[path]) for path in sorted(found)]
    made = digest_of(entries[:cut], entries[cut:])
    assert made.digest == reference(entries)
    assert (made.digest is None) == (made.reason is not None)
