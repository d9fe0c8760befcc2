"""What a table's column of paths and URIs may mean."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from indexer.artifact.query.media import candidates, names_of, split_address
from indexer.errors import QueryRefused
from indexer.manifest import SourceRef

BUCKET = SourceRef("s3://bucket/data/")
MOUNTED = SourceRef("https://host/x/", "web")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a.wav", ["tables/a.wav", "a.wav"]),
        ("../a.wav", ["tables/../a.wav", "a.wav"]),
        ("../../a.wav", ["tables/../../a.wav"]),
        ("m//a.wav", ["tables/m//a.wav", "tables/m/a.wav", "m//a.wav", "m/a.wav"]),
        ("/m/a.wav", ["m/a.wav"]),
        (
            "..",
            [
                "tables/..",
            ],
        ),
        ("s3://bucket/data/m/a b.wav", ["m/a b.wav"]),
        ("https://host/x/a%20b.wav", ["web/a b.wav"]),
        ("s3://other/a.wav", []),
        ("wandb-artifact://0af1/media/a.wav", ["media/a.wav"]),
        ("indexer://p/a:v3/media/a.wav", ["media/a.wav"]),
    ],
)
def test_paths_that_are_tried(value: str, paths: list[str]) -> None:
    found = list(candidates(value, "tables", [BUCKET, MOUNTED]))
    assert [key for is_uri, key in found if not is_uri] == paths


def test_a_uri_is_tried_as_it_is_as_well() -> None:
    assert list(candidates("s3://other/a", "", [BUCKET])) == [(True, "s3://other/a")]


def test_media_of_wandb_are_named_by_their_paths() -> None:
    image = {"_type": "image-file", "path": "media/images/a.png", "size": 3}
    structs = pa.table({"image": [image, None]})
    assert names_of(structs, "IMAGE", "t#image") == ["media/images/a.png", None]
    texts = pa.table({"image": [json.dumps(image), "b.png", '{"a": 1}', '{"', None]})
    assert names_of(texts, "image", "t#image") == [
        "media/images/a.png", "b.png", '{"a": 1}', '{"', None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "said"), [("b", "no column 'b'; it has a, s"), ("a", "int64"), ("s", "no path")]
)
def test_a_column_that_names_nothing_is_told_of(column: str, said: str) -> None:
    with pytest.raises(QueryRefused, match=said):
        names_of(pa.table({"a": [1], "s": [{"x": 1}]}), column, "t.csv#b")


def test_addresses() -> None:
    assert split_address("a/b.csv") is None
    assert split_address("a/b.csv#file") == ("a/b.csv", "file", "")
    assert split_address("a#1.csv#file@other") == ("a#1.csv", "file", "other")
