"""Sources: what is read is read exactly, and what cannot be read is said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

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
        "", "bucket", "bucket/prefix", "./data", "s3:bucket", "s3:/bucket", "s3:///key",
        "s3://", "s3:// bucket/", "s3://b/", "s3://-bucket/", "s3://buck et/", "s3://buck\u00e9t/",
        "s3://bucket?/", "s3://arn:aws:s3:::bucket/", " s3://bucket/",
        "s3://" + "b" * 256, "://bucket", "3s://bucket", "s3://bucket/\0", "s3://bucket/\udcff",
        "name=s3://bucket/",
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused(text: str) -> None:
    refused(parse_source, text)


@pytest.mark.parametrize("text", ["ftp://a", "S4://b", "urls+s3://b/c"])
def test_an_unknown_scheme_is_named(text: str) -> None:
    with pytest.raises(InvalidReference, match=re.escape(text.partition(":")[0].lower())):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a?sig=b", "https://host/a?…"),
        ("urls+https://host/a?sig=b", "urls+https://host/a?…"),
        ("m=https://host/a?sig=b", "m=https://host/a?…"),
        ("https://host/a", "https://host/a"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
        ("file:///a%3Fb", "file:///a%3Fb"),
    ],
)
def test_the_query_of_a_web_address_is_not_shown(text: str, shown: str) -> None:
    assert parse_mounted(text).shown == shown


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


def refused(parse: Callable[[str], object], text: str) -> None:
    """The error quotes the text, or its part that is wrong, in one printable line."""
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    message = str(caught.value)
    parts = (text, text.partition("@")[0], text.partition(":")[0], text.rpartition("=")[2])
    assert any(repr(part)[1:-1] in message for part in parts)
    assert message.isprintable()
    assert message.endswith(".")


# --- other stores --------------------------------------------------------------------------------


def test_gcs_is_written_as_s3_is() -> None:
    source = parse_source("gs://bucket/a%20b?#//")
    assert source == SourceUri("gs", "bucket", "a%20b?#//")
    assert str(source) == "gs://bucket/a%20b?#//"


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("https://host", "host", ""),
        ("HTTPS://Host/A/b", "host", "A/b"),
        ("https://host:443/a/", "host", "a/"),
        ("https://host:8443/a/", "host:8443", "a/"),
        ("http://host:80/a", "host", "a"),
        ("http://[::1]:8080/a%20b", "[::1]:8080", "a%20b"),
        ("http://host/a?b=c&d", "host", "a?b=c&d"),
    ],
)
def test_a_web_address(text: str, bucket: str, key: str) -> None:
    source = parse_source(text)
    assert source == SourceUri(text.partition(":")[0].lower(), bucket, key)
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://", "no web address"),
        ("https:///a", "no web address"),
        ("https://host:0/", "no web address"),
        ("https://host:x/", "no web address"),
        ("https://host/a b", "%20"),
        ("https://host/\u00e9", "quoted"),
        ("https://host/a#b", "fragment"),
        ("https://host/a/../b", "leads to"),
        ("https://host/a/%2e%2e/b", "leads to"),
        ("https://host/a?b/", "query"),
        ("urls+https://host/list/", "folder"),
    ],
)
def test_what_is_no_web_address(text: str, why: str) -> None:
    refused(parse_source, text)
    with pytest.raises(InvalidReference, match=why):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "key", "written"),
    [
        ("/data/a b/", "data/a b/", "file:///data/a%20b/"),
        ("/", "", "file:///"),
        ("file:///data/x%23%3F", "data/x#?", "file:///data/x%23%3F"),
        ("file://localhost/data", "data", "file:///data"),
        ("/data/\udcff\n", "data/\udcff\n", "file:///data/%FF%0A"),
    ],
)
def test_a_file(text: str, key: str, written: str) -> None:
    source = parse_source(text)
    assert source == SourceUri("file", "", key)
    assert str(source) == written
    assert parse_source(written) == source


@pytest.mark.parametrize(
    "text",
    [
        "file://host/a",
        "file://",
        "file:///a?b",
        "file:///a#b",
        "/a/../b",
        "/a//b",
        "/a/./b",
        "/a\0",
    ],
)  # fmt: skip
def test_what_is_no_file(text: str) -> None:
    refused(parse_source, text)


def test_a_path_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("data") == f"{tmp_path}/data"
    assert located("data/") == f"{tmp_path}/data/"
    assert located(".") == located("./") == f"{tmp_path}/"
    assert located("..") == f"{tmp_path.parent}/"
    assert located("/data//x/../y") == "/data/y"
    for text in ("s3://b/c", "a=s3://b/c", ""):
        assert located(text) == text


# --- mounts --------------------------------------------------------------------------------------


def test_a_mount_stands_before_a_uri() -> None:
    assert parse_mounted("s3://bucket/a=b") == Source(parse_source("s3://bucket/a=b"))
    mounted = parse_mounted("train/x=s3://bucket/a=https://c")
    assert mounted == Source(parse_source("s3://bucket/a=https://c"), "train/x")
    assert str(mounted) == "train/x=s3://bucket/a=https://c"
    assert mounted.path_prefix == b"train/x/"
    assert parse_mounted("/data/a=b").uri.key == "data/a=b"


@pytest.mark.parametrize("mount", ["", "a/", "a//b", ".", "..", "a/../b", "\udcff", "a\0"])
def test_what_is_no_mount(mount: str) -> None:
    with pytest.raises(InvalidReference, match="mount"):
        parse_mounted(f"{mount}=s3://bucket/")


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([], "no source"),
        (["s3://bucket-a/", "b=s3://bucket-b/"], "NAME=s3://bucket-a/"),
        (["a=s3://bucket-a/", "a=s3://bucket-b/"], "'a'"),
        (["a=s3://bucket-a/", "a/b=s3://bucket-b/"], "'a/b'"),
        (["a/b=s3://bucket-a/", "a.c=s3://bucket-x/", "a=s3://bucket-b/"], "'a/b'"),
        ([f"m{number}=s3://bucket-a/" for number in range(1_001)], "1,001"),
    ],
)
def test_sources_that_do_not_go_together(texts: list[str], why: str) -> None:
    with pytest.raises(InvalidReference, match=why):
        check_sources(tuple(map(parse_mounted, texts)))


def test_sources_beside_each_other() -> None:
    for texts in (
        ["s3://bucket-a/"],
        ["m=s3://bucket-a/"],
        ["a=s3://bucket-a/", "a.b=gs://bucket-b/", "a0=/data/"],
    ):
        check_sources(tuple(map(parse_mounted, [t.replace("=/", "=file:///") for t in texts])))


def test_what_stands_below_a_folder() -> None:
    assert uri_below("s3://b/", b"\xc3\xa9 #%") == "s3://b/\u00e9 #%"
    assert uri_below("https://h/a/", b"\xc3\xa9 #%") == "https://h/a/%C3%A9%20%23%25"
