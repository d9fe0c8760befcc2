"""Ranges of keys, what comes after and before a key, and the rule that cuts runs of rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer import keyspace
from indexer.keyspace import (
    CUT_BITS,
    CUT_BITS_MIN,
    CUT_BITS_STEP,
    KEY_BYTES_MAX,
    RUN_ROWS_MAX,
    Key,
    KeyRange,
    character_at,
    common_prefix_length,
    cut_long_run,
    cut_rows,
    greatest_key_below,
    low_digests,
    next_character,
)

keys = st.one_of(
    st.binary(max_size=6),
    st.binary(max_size=3).map(lambda key: b"prefix/" + key),
    st.text("a/\x7f\u07ff\uffff\U0010ffff", max_size=6).map(str.encode),
).map(Key)
bounds = st.one_of(st.none(), keys)


@st.composite
def ranges(draw: st.DrawFn) -> KeyRange:
    after, through = draw(bounds), draw(bounds)
    if after is not None and through is not None and after > through:
        after, through = through, after
    return KeyRange(after, through)


# --- ranges --------------------------------------------------------------------------------------


@given(keys_of=ranges(), key=keys)
def test_a_range_leaves_out_its_start_and_has_its_end(keys_of: KeyRange, key: Key) -> None:
    is_after = keys_of.after is None or key > keys_of.after
    is_through = keys_of.through is None or key <= keys_of.through
    assert (key in keys_of) == (is_after and is_through)
    if keys_of.after is not None:
        assert keys_of.after not in keys_of
    if keys_of.through is not None:
        assert (keys_of.through in keys_of) != keys_of.is_empty
    if keys_of.is_empty:
        assert key not in keys_of


def test_a_range_does_not_end_before_it_begins() -> None:
    with pytest.raises(AssertionError):
        KeyRange(Key(b"b"), Key(b"a"))


@given(keys_of=ranges(), cuts=st.lists(keys, max_size=8), key=keys)
def test_pieces_of_a_range_tile_it(keys_of: KeyRange, cuts: list[Key], key: Key) -> None:
    inside = sorted({cut for cut in cuts if cut in keys_of and cut != keys_of.through})
    pieces = keys_of.split(inside)
    assert len(pieces) == len(inside) + 1
    assert pieces[0].after == keys_of.after
    assert pieces[-1].through == keys_of.through
    assert all(a.through == b.after for a, b in pairwise(pieces))
    assert sum(key in piece for piece in pieces) == (key in keys_of)


@pytest.mark.parametrize("cuts", [[b"a"], [b"z"], [b"c", b"b"], [b"b", b"b"], [b"zz"]])
def test_cuts_ascend_inside_of_the_range(cuts: list[bytes]) -> None:
    with pytest.raises(AssertionError):
        KeyRange(Key(b"a"), Key(b"z")).split([Key(cut) for cut in cuts])


# --- keys and characters -------------------------------------------------------------------------


@given(left=st.binary(max_size=12), right=st.binary(max_size=12), shared=st.binary(max_size=8))
def test_common_prefix_of_bytes(left: bytes, right: bytes, shared: bytes) -> None:
    left, right = shared + left, shared + right
    length = common_prefix_length(left, right)
    assert length == common_prefix_length(right, left)
    assert length >= len(shared)
    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or left == right


@given(left=st.text(max_size=8), right=st.text(max_size=8))
def test_common_prefix_of_text_counts_characters(left: str, right: str) -> None:
    length = common_prefix_length(left, right)
    assert left[:length] == right[:length]
    assert length in (len(left), len(right)) or left[length] != right[length]


@given(st.characters(exclude_categories=["Cs"]))
@example("\ud7ff")
@example("\x7f")
@example("\uffff")
@example("\U0010ffff")
def test_next_character_is_the_least_that_is_greater(character: str) -> None:
    following = next_character(character)
    if following is None:
        assert ord(character) == sys.maxunicode
    else:
        assert character.encode() < following.encode()
        between = range(ord(character) + 1, ord(following))
        assert all(0xD800 <= code_point <= 0xDFFF for code_point in between)


def test_surrogates_are_no_characters() -> None:
    assert {character_at(code_point) for code_point in range(0xD800, 0xE001)} == {"\ue000"}
    assert character_at(sys.maxunicode) == "\U0010ffff"
    assert character_at(sys.maxunicode + 1) is None


@given(prefix=keys, rest=st.text(max_size=20), other=keys, size_bytes_max=st.integers(0, 40))
@example(prefix=Key(b"a"), rest="\U0010ffff" * 12, other=Key(b""), size_bytes_max=40)
@example(prefix=Key(b"a/"), rest="\uffff", other=Key(b"a0"), size_bytes_max=5)
def test_greatest_key_below(prefix: Key, rest: str, other: Key, size_bytes_max: int) -> None:
    greatest = greatest_key_below(prefix, size_bytes_max)
    assert greatest.startswith(prefix)
    below = prefix + rest.encode()
    if len(below) <= size_bytes_max:
        assert below <= greatest
        assert len(greatest) <= size_bytes_max
    assert greatest[len(prefix) :].decode() is not None
    if not other.startswith(prefix):
        assert (other < prefix) == (other < greatest)


@pytest.mark.parametrize("size", range(KEY_BYTES_MAX - 6, KEY_BYTES_MAX + 3))
def test_greatest_key_below_a_long_prefix(size: int) -> None:
    greatest = greatest_key_below(b"k" * size)
    assert len(greatest) == max(size, KEY_BYTES_MAX)
    assert greatest.decode()


# --- the cut rule --------------------------------------------------------------------------------


def reference(digests: Sequence[int], bits: int) -> Iterator[int]:
    """Rows of each shard, in the words of the rule: short enough, or cut at ever more rows."""
    if len(digests) <= RUN_ROWS_MAX:
        yield len(digests)
    elif bits < CUT_BITS_MIN:
        whole, rest = divmod(len(digests), RUN_ROWS_MAX)
        yield from [RUN_ROWS_MAX] * whole + [rest] * (rest > 0)
    else:
        piece: list[int] = []
        for digest in digests:
            piece.append(digest)
            if digest % 2**bits == 0:
                yield from reference(piece, bits - CUT_BITS_STEP)
                piece = []
        if piece:
            yield from reference(piece, bits - CUT_BITS_STEP)


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of more than five rows are long, so that few rows show every branch of the rule."""
    monkeypatch.setattr(keyspace, "RUN_ROWS_MAX", 5)
    monkeypatch.setitem(globals(), "RUN_ROWS_MAX", 5)


digests_of_runs = st.lists(
    st.one_of(st.integers(0, 2**CUT_BITS - 1), st.sampled_from([0, 4, 16, 64, 256, 1024, 4096])),
    min_size=6,
    max_size=80,
)


@pytest.mark.usefixtures("small_runs")
def test_long_runs_are_cut_as_the_rule_says() -> None:
    @given(digests_of_runs)
    def check(digests: list[int]) -> None:
        rows = cut_long_run(digests)
        assert rows == list(reference(digests, CUT_BITS - CUT_BITS_STEP))
        assert sum(rows) == len(digests)
        assert all(0 < each <= RUN_ROWS_MAX for each in rows)

    check()


def test_a_long_run_of_real_paths() -> None:
    digests = low_digests([b"path/%d" % row for row in range(90_000)])
    assert cut_long_run(digests) == list(reference(digests, CUT_BITS - CUT_BITS_STEP))


def test_rows_that_are_all_alike_are_cut_by_count() -> None:
    digests = [1] * (2 * RUN_ROWS_MAX + 7)
    assert cut_long_run(digests) == [RUN_ROWS_MAX, RUN_ROWS_MAX, 7]


@pytest.mark.parametrize("step", [1, 7, 1000, 40_000])
def test_cuts_do_not_depend_on_the_pieces_rows_come_in(step: int) -> None:
    paths = [b"path/%07d" % row for row in range(40_000)]
    pieces = [
        start + row
        for start in range(0, len(paths), step)
        for row in cut_rows(paths[start : start + step])
    ]
    assert pieces == cut_rows(paths)


def test_a_run_has_as_many_rows_as_the_rule_says_in_the_mean() -> None:
    rows = 300_000
    cuts = cut_rows([b"some/path/%d.jpg" % row for row in range(rows)])
    expected = rows / 2**CUT_BITS
    assert abs(len(cuts) - expected) <= 4 * math.sqrt(expected)


def test_rows_are_cut_where_the_low_bits_of_the_digest_are_zero() -> None:
    paths = [b"%d" % row for row in range(50_000)]
    digests = low_digests(paths)
    assert all(0 <= digest < 2**CUT_BITS for digest in digests)
    assert cut_rows(paths) == [row for row, digest in enumerate(digests) if digest == 0]


def test_the_digest_of_a_path_is_the_published_one() -> None:
    published = [0x2D06800538D394C2, 0xE6C632B61E964E1F]
    assert low_digests([b"", b"a"]) == [digest & (2**CUT_BITS - 1) for digest in published]
