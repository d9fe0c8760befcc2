"""References: what is read is read exactly, and what cannot be read is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import InvalidReference
from indexer.references import (
    ArtifactName,
    VersionRef,
    parse_alias,
    parse_name,
    parse_project,
    parse_reference,
    parse_server,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
names = st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)
keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)

# --- names and versions --------------------------------------------------------------------------


@given(names, names, names)
def test_an_entity_is_accepted_and_left_out(entity: str, project: str, artifact: str) -> None:
    name = ArtifactName(project, artifact)
    assert (
        parse_name(f"{project}/{artifact}") == parse_name(f"{entity}/{project}/{artifact}") == name
    )
    assert str(name) == f"{project}/{artifact}"
    assert parse_project(project) == project


@given(names, names, names)
def test_a_reference_is_an_artifact_and_a_selector(project: str, artifact: str, word: str) -> None:
    name = ArtifactName(project, artifact)
    for text, selector in [
        (f"{name}", "latest"),
        (f"{name}:{word}", word),
        (f"entity/{name}:v12", "v12"),
        (f"{name}@{DIGEST}", DIGEST),
    ]:
        reference = parse_reference(text)
        assert reference == VersionRef(name, selector)
        assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "/", "a/", "/b", "a//b", "a/b/c/d", "a b/c", "a/b ", "a/b\n", "a/\u00e9",
        "a/" + "b" * 129, "a/b:c", "a/b@c", "a\\b",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    refused(parse_name, text)


@pytest.mark.parametrize("text", ["", "a/b", "a b", "a:b", "a" * 129, "a\n"])
def test_what_is_no_project_is_refused(text: str) -> None:
    refused(parse_project, text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a:v1", "a/b:", "a/b:v 1", "a/b:v1:v2", "a/b:v1@" + DIGEST, "a/b@", "a/b@v1",
        "a/b@" + DIGEST[:-1], "a/b@" + DIGEST + "0", "a/b@" + DIGEST.upper(), "a/b@md5:" + "0" * 32,
        "a/b:latest\n", "a/b/c/d:v1", ":v1", "@" + DIGEST, "a/b:" + "c" * 129,
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    refused(parse_reference, text)


@given(names)
def test_an_alias_is_a_name_that_is_no_version(text: str) -> None:
    if text == "latest" or (text[:1] == "v" and text[1:].isdigit()):
        refused(parse_alias, text)
    else:
        assert parse_alias(text) == text


@pytest.mark.parametrize("text", ["", "a b", "a/b", "latest", "v0", "v1", "v007", "a:b", "a\n"])
def test_what_is_no_alias_is_refused(text: str) -> None:
    refused(parse_alias, text)


def refused(parse: Callable[[str], object], text: str) -> None:
    """The error quotes the text, or its part that is wrong, in one printable line."""
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    message = str(caught.value)
    parts = (text, text.partition("@")[0], text.partition(":")[0])
    assert any(repr(part) in message for part in parts)
    assert message.isprintable()
    assert message.endswith(".")


@pytest.mark.parametrize("name", [".", ".."])
def test_what_means_a_folder_is_no_name(name: str) -> None:
    for parse, text in (
        (parse_name, f"project/{name}"),
        (parse_name, f"{name}/artifact"),
        (parse_project, name),
        (parse_alias, name),
        (parse_reference, f"project/artifact:{name}"),
    ):
        with pytest.raises(InvalidReference):
            parse(text)
    assert parse_name("project/...").artifact == "..."


@pytest.mark.parametrize("url", ["http://127.0.0.1:8765", "https://indexer.example/below/"])
def test_a_daemon_is_named_by_its_url(url: str) -> None:
    assert parse_server(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:8765", "ftp://host", "http://", "http://user:secret@host", "http://host?a=b",
     "http://host#a", "http://ho st", "http://host:port", "http://host:0", "http://h\u00f6st", "s3://b/"],
)  # fmt: skip
def test_what_is_no_url_of_a_daemon_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_server(text)
    assert "secret" not in str(caught.value)
