"""Sources: what is read is read exactly, and what cannot be read is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.errors import InvalidReference
from indexer.sources import (
    Source,
    SourceUri,
    check_sources,
    located,
    parse_mounted,
    parse_source,
    uri_below,
)

keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)

# --- sources -------------------------------------------------------------------------------------


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{1,60}", fullmatch=True), keys)
@example("bucket", "/")
@example("bucket", "//a//b/")
@example("bucket", "%2F?versionId=3#fragment +")
@example("bucket", "a/../b/./c")
@example("bucket", " \t\n\x7f\x85\u2028\ufeff")
def test_a_key_is_taken_verbatim(bucket: str, key: str) -> None:
    source = parse_source(f"s3://{bucket}/{key}")
    assert source == SourceUri("s3", bucket, key)
    assert parse_source(str(source)) == source
    assert source.names_folder == (key == "" or key.endswith("/"))


def test_a_bucket_without_a_slash_is_its_root() -> None:
    assert parse_source("s3://bucket") == parse_source("s3://bucket/")
    assert str(parse_source("s3://bucket")) == "s3://bucket/"


def test_the_scheme_may_be_written_in_capitals() -> None:
    assert parse_source("S3://Bucket/Key") == SourceUri("s3", "Bucket", "Key")


def test_a_key_has_at_most_1024_bytes() -> None:
    assert parse_source("s3://bucket/" + "\u00e9" * 512).key == "\u00e9" * 512
    with pytest.raises(InvalidReference, match="1,025 bytes"):
        parse_source("s3://bucket/" + "\u00e9" * 512 + "a")


@pytest.mark.parametrize(
    "text",
    [
        "", "bucket", "bucket/prefix", "/data", "./data", "s3:bucket", "s3:/bucket", "s3:///key",
        "s3://", "s3:// bucket/", "s3://b/", "s3://-bucket/", "s3://buck et/", "s3://buck\u00e9t/",
        "s3://bucket?/", "s3://arn:aws:s3:::bucket/", " s3://bucket/",
        "s3://" + "b" * 256, "://bucket", "3s://bucket", "s3://bucket/\0", "s3://bucket/\udcff",
        "name=s3://bucket/",
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused(text: str) -> None:
    refused(parse_source, text)


@pytest.mark.parametrize(
    "text", ["gs://b/c", "https://host/x", "file:///data", "ftp://a", "S4://b"]
)
def test_an_unknown_scheme_is_named(text: str) -> None:
    with pytest.raises(InvalidReference, match=text.partition(":")[0].lower()):
        parse_source(text)


def test_a_password_is_not_repeated() -> None:
    for text in ("s3://user:planted@bucket/", "ftp://user:planted@host/"):
        with pytest.raises(InvalidReference) as caught:
            parse_source(text)
        assert "planted" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_source_or_refused(text: str) -> None:
    try:
        source = parse_source(text)
    except InvalidReference:
        return
    assert parse_source(str(source)) == source


