"""What may be said of versions and runs survives being written as JSON and read again."""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import InvalidReference, InvalidSetting
from indexer.label_rules import check_change, check_metadata, plain
from indexer.limits import METADATA_DEPTH_MAX, TAG_CHARACTERS_MAX
from indexer.records import LabelChange
from indexer.references import parse_tag


class Split(StrEnum):
    TRAIN = "train"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=2),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_passes_is_the_same_when_it_is_read_again(metadata: dict[str, Any]) -> None:
    try:
        check_metadata("metadata", metadata)
    except InvalidSetting:
        return
    read = msgspec.json.decode(msgspec.json.encode(metadata))
    assert read == metadata
    assert repr(read) == repr(metadata)


@pytest.mark.parametrize(
    "value",
    [float("nan"), -float("inf"), "\udcff", (1,), {1: 2}, {"\udcff": 1}, 2**64, -(2**63) - 1, b"x"],
    ids=repr,
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InvalidSetting, match="JSON cannot hold"):
        check_metadata("metadata", {"here": [value]})


def test_types_that_json_does_not_know_become_those_it_does() -> None:
    numpy = pytest.importorskip("numpy")
    numbers = {
        "accuracy": numpy.float64(0.5),
        "loss": numpy.float32(0.25),
        "epoch": numpy.int64(3),
    }
    given = OrderedDict(**numbers, split=Split.TRAIN)
    read = {"accuracy": 0.5, "loss": 0.25, "epoch": 3, "split": "train"}
    found = plain({"shape": (1, (2,)), "of": given})
    assert repr(found) == repr({"shape": [1, [2]], "of": read})
    check_metadata("metadata", found)
    with pytest.raises(InvalidSetting, match="JSON cannot hold"):
        check_metadata("metadata", given)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidSetting, match="levels"):
        check_metadata("metadata", {"x": plain(endless)})


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_plain_stays_as_it_is(metadata: dict[str, Any]) -> None:
    assert repr(plain(metadata)) == repr(metadata)


def test_depth_has_a_bound() -> None:
    deep: dict[str, Any] = {}
    for _ in range(METADATA_DEPTH_MAX - 2):
        deep = {"below": deep}
    check_metadata("config", {"x": deep})
    with pytest.raises(InvalidSetting, match=f"config has more than {METADATA_DEPTH_MAX}"):
        check_metadata("config", {"x": {"below": {"below": deep}}})


@pytest.mark.parametrize("tag", ["a", "two words", "v1.0", "owner:me", "x" * TAG_CHARACTERS_MAX])
def test_a_tag_is_a_few_words(tag: str) -> None:
    assert parse_tag(tag) == tag


@pytest.mark.parametrize(
    "tag", ["", " a", "a ", "a\n", "a,b", "ä", "a/b", "x" * (TAG_CHARACTERS_MAX + 1)]
)
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidReference, match="is no tag"):
        parse_tag(tag)


def test_tags_change_in_one_order() -> None:
    change = LabelChange(tags=("c", "b"), add_tags=("a",), remove_tags=("b", "nothing"))
    check_change(change)
    assert change.tags_of(("z",)) == ("a", "c")
    assert LabelChange(add_tags=("a",)).tags_of(("z",)) == ("a", "z")
    assert LabelChange(remove_tags=("z",)).tags_of(("z",)) == ()
