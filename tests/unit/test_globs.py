"""Globs: against a matcher that tries everything, and what cannot be read."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.errors import InvalidSetting
from indexer.globs import Filters
from indexer.limits import GLOB_CHARACTERS_MAX, GLOBS_CHARACTERS_MAX
from indexer.page import Page, empty_page, make_page, pack_etags, paths_of


def page_of(paths: Sequence[bytes]) -> Page:
    return make_page(
        {
            "path": pa.array(paths, pa.binary()),
            "size": pa.array(range(len(paths)), pa.int64()),
            **pack_etags([b"etag" for _ in paths]),
        }
    )


def kept(
    paths: Sequence[str], include: Sequence[str] = (), exclude: Sequence[str] = (), mount: str = ""
) -> list[str]:
    filters = Filters(tuple(include), tuple(exclude))
    selector = filters.selector(mount.encode() + b"/" if mount else b"")
    page = selector.select(page_of([path.encode() for path in paths]))
    return [path.decode() for path in paths_of(page)]


def matches(glob: str, path: str) -> bool:
    return kept([path], [glob]) == [path]


# --- a model: each token against each rest of the path -------------------------------------------

Token = tuple[str, str]
"""A kind, and its text: literal characters, `?`, `*`, `**`, `**/`, or a set's members."""


def is_matched(tokens: Sequence[Token], path: str) -> bool:
    """Whether tokens match a path in full, found out by trying all ways."""
    if not tokens:
        return not path
    (kind, text), rest = tokens[0], tokens[1:]
    if kind == "*":
        ends = [end for end in range(len(path) + 1) if "/" not in path[:end]]
    elif kind == "**":
        ends = list(range(len(path) + 1))
    elif kind == "**/":
        ends = [0, *(end for end in range(1, len(path) + 1) if path[end - 1] == "/")]
    else:
        ends = [1] if path and is_one(kind, text, path[0]) else []
    return any(is_matched(rest, path[end:]) for end in ends)


def is_one(kind: str, text: str, character: str) -> bool:
    if kind == "literal":
        return character == text
    if character == "/":
        return False
    return kind == "?" or (character in text) is (kind == "set")


def written(tokens: Sequence[Token]) -> str:
    """The glob of tokens."""
    return "".join(written_token(*token) for token in tokens)


def written_token(kind: str, text: str) -> str:
    if kind == "literal":
        return "\\" + text if text in "*?[\\" else text
    if kind in ("set", "other"):
        members = "".join("\\" + one if one in "]\\-!^[" else one for one in text)
        return f"[{'!' if kind == 'other' else ''}{members}]"
    return kind


ALPHABET = "ab.-*?[]\\!é€\n😀"
LITERALS = st.sampled_from(ALPHABET).map(lambda text: ("literal", text))
SETS = st.tuples(st.sampled_from(["set", "other"]), st.text("ab-!^]\\[é", min_size=1, max_size=3))
IN_NAMES = st.lists(
    st.one_of(LITERALS, SETS, st.sampled_from([("?", ""), ("*", "")])), min_size=1, max_size=4
).filter(lambda name: "**" not in written(name))
FOLDERS = st.lists(
    st.one_of(
        IN_NAMES.map(lambda name: [*name, ("literal", "/")]), st.just([("**/", "")])
    ),
    max_size=3,
)  # fmt: skip
GLOBS = st.tuples(FOLDERS, st.one_of(IN_NAMES, st.just([("**", "")]))).map(
    lambda parts: [token for part in (*parts[0], parts[1]) for token in part]
)
PATHS = st.text(ALPHABET + "//", max_size=8)


@given(GLOBS, st.lists(PATHS, max_size=20, unique=True))
def test_globs_match_as_the_model_does(tokens: list[Token], paths: list[str]) -> None:
    assert kept(paths, [written(tokens)]) == [path for path in paths if is_matched(tokens, path)]


@given(GLOBS, st.data())
def test_a_path_made_from_a_glob_is_matched(tokens: list[Token], data: st.DataObject) -> None:
    pieces = {
        "*": st.text("ab", max_size=2),
        "**": st.text("ab/", max_size=4),
        "**/": st.sampled_from(["", "a/", "/", "a//b/"]),
        "?": st.sampled_from("aé"),
    }
    path = ""
    for kind, text in tokens:
        if kind == "literal":
            path += text
        elif kind == "set":
            path += data.draw(st.sampled_from(text))
        elif kind == "other":
            path += data.draw(st.sampled_from(sorted(set("xyzé") - set(text))))
        else:
            path += data.draw(pieces[kind])
    assert matches(written(tokens), path)


@given(st.text(max_size=12), PATHS)
@example("a\\", "")
@example("[", "")
@example("[z-a]", "")
def test_any_text_is_a_glob_or_refused(glob: str, path: str) -> None:
    try:
        matches(glob, path)
    except InvalidSetting as error:
        assert repr(glob)[1:-1] in str(error)  # noqa: PT017 - only some are refused


# --- by example ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("*.jpg", ["a.jpg", ".jpg"], ["a/b.jpg", "a.jpg/", "a.JPG", "ajpg"]),
        ("**/*.jpg", ["a.jpg", "a/b.jpg", "a//b.jpg", "/.jpg"], ["a.jpg/b"]),
        ("train/**", ["train/", "train/a", "train/a/b", "train//"], ["train", "trains/a"]),
        ("train/", ["train/", "train/a", "train/a/b"], ["train", "a/train/b"]),
        ("**/", ["a", "a/b", ""], []),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a//b"], ["ab", "a/xb", "a/b/c"]),
        ("a/**/b/", ["a/b/c", "a/x/b/"], ["a/x/b"]),
        ("**", ["", "a", "a/b", "\n", "../."], []),
        ("*", ["", "a", ".hidden", "a\nb"], ["a/b", "/"]),
        ("shard-????", ["shard-0001", "shard-é€😀."], ["shard-001", "shard-0/01"]),
        ("[0-9a-f]*", ["0", "fx"], ["g", "", "F"]),
        ("[!a]", ["b", "é", "!"], ["a", "/", ""]),
        ("[^a]", ["b"], ["a", "^a", "/"]),
        ("[]a]", ["]", "a"], ["[]a]"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[--0]", ["-", ".", "0"], ["/"]),
        ("[!--0]", ["a"], ["/", "."]),
        ("[a\\-c]", ["a", "-", "c"], ["b"]),
        ("[\\]]", ["]"], ["\\", "\\]"]),
        ("\\*", ["*"], ["a", "\\*"]),
        ("\\**", ["*", "*a"], ["a"]),
        ("a\\/", ["a/"], ["a/b"]),
        ("a\\\\/", ["a\\/", "a\\/b"], ["a/"]),
        ("a.b+c(d)|e{2}$", ["a.b+c(d)|e{2}$"], ["aXb+c(d)|e{2}$", "a.bbcd"]),
        ("a//b", ["a//b"], ["a/b"]),
        ("../x", ["../x"], ["x"]),
    ],
)
def test_a_glob(glob: str, yes: list[str], no: list[str]) -> None:
    assert kept([*yes, *no], [glob]) == yes


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("", "1 to"),
        ("a" * (GLOB_CHARACTERS_MAX + 1), "1 to"),
        ("a**", "whole folders"),
        ("**a", "whole folders"),
        ("a/***", "whole folders"),
        ("\\***", "whole folders"),
        ("a\\", "backslash"),
        ("[", "set"),
        ("[]", "set"),
        ("[!]", "set"),
        ("[a", "set"),
        ("[a\\]", "set"),
        ("[a/b]", "set"),
        ("[!/]", "set"),
        ("[b-a]", "set"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_what_is_no_glob(glob: str, why: str) -> None:
    for globs in ({"include": (glob,)}, {"exclude": ("fine", glob)}):
        with pytest.raises(InvalidSetting, match=why):
            Filters(**globs)


def test_all_globs_together_have_a_bound() -> None:
    longest = "a" * GLOB_CHARACTERS_MAX
    count = GLOBS_CHARACTERS_MAX // GLOB_CHARACTERS_MAX
    assert Filters(include=(longest,) * count)
    with pytest.raises(InvalidSetting, match="together"):
        Filters(include=(longest,) * count, exclude=("a",))


def test_as_many_globs_as_may_be_are_matched() -> None:
    globs = [f"**/folder-{number:04}/*.[!a-z]??" for number in range(GLOBS_CHARACTERS_MAX // 26)]
    assert kept(["x/folder-0042/a.1bc", "x/folder-0042/a.abc"], globs) == ["x/folder-0042/a.1bc"]


# --- what is kept --------------------------------------------------------------------------------

PLACES = ["a.jpg", "train/a.jpg", "train/b.txt", "val/a.jpg"]


def test_exclude_wins() -> None:
    assert kept(PLACES, ["train/**"], ["**/*.txt"]) == ["train/a.jpg"]
    assert kept(PLACES, [], ["train/"]) == ["a.jpg", "val/a.jpg"]
    assert kept(PLACES, ["a.jpg", "val/*"]) == ["a.jpg", "val/a.jpg"]
    assert kept(PLACES, ["**"], ["**"]) == []
    assert kept(PLACES) == PLACES


def test_filters_without_globs_are_none() -> None:
    assert not Filters()
    assert Filters(include=("a",))
    assert Filters(exclude=("a",))


def test_paths_stand_below_the_mount() -> None:
    assert kept(PLACES, ["data/train/*"], mount="data") == ["train/a.jpg", "train/b.txt"]
    assert kept(PLACES, ["train/*"], mount="data") == []
    assert kept(["a"], ["é/a"], mount="é") == ["a"]


def test_what_is_not_utf8_is_a_character_like_any_other() -> None:
    page = page_of([b"a\xff.jpg", b"b.jpg", b"\xff/c.jpg"])
    assert paths_of(Filters(include=("a?.jpg",)).selector().select(page)) == [b"a\xff.jpg"]
    assert paths_of(Filters(exclude=("*.jpg",)).selector().select(page)) == [b"\xff/c.jpg"]
    mounted = Filters(include=("m/?/*",)).selector(b"m/")
    assert paths_of(mounted.select(page)) == [b"\xff/c.jpg"]


def test_all_columns_of_a_row_are_kept_together() -> None:
    page = Filters(include=("b", "c")).selector().select(page_of([b"a", b"b", b"c"]))
    assert page.column("size").to_pylist() == [1, 2]
    assert page.schema.names == ["path", "size", "etag_raw"]


def test_a_page_without_rows_stays_so() -> None:
    selector = Filters(include=("a",), exclude=("b",)).selector(b"m/")
    assert selector.select(empty_page()).num_rows == 0
    assert selector.select(page_of([b"x"])).num_rows == 0


def test_a_page_that_is_kept_whole_is_not_copied() -> None:
    page = page_of([b"a", b"b"])
    assert Filters(include=("**",)).selector().select(page) is page


def test_a_malicious_glob_takes_no_longer_for_longer_paths_than_they_are_long() -> None:
    glob = "*a" * 20 + "b"
    texts = ["a" * size for size in (100, 10_000)]
    matches(glob, "")
    took_s = []
    for text in texts:
        started_s = time.perf_counter()
        assert not matches(glob, text)
        took_s.append(time.perf_counter() - started_s)
    # A matcher that goes back takes longer than the age of the universe.
    assert took_s[1] < 5
