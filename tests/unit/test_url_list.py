"""Lists of URLs: what is one, what its entries are, and what is said of one that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import IndexerError, InvalidReference, UsageError
from indexer.limits import HTTP_PATH_BYTES_MAX
from indexer.stores import url_list
from indexer.stores.url_list import read_url_list

URI = "urls+https://lists/list.txt"


def entries_of(text: str | bytes) -> list[tuple[bytes, str]]:
    data = text if isinstance(text, bytes) else text.encode()
    return [(entry.path, entry.url) for entry in read_url_list(data, URI)]


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidReference) as caught:
        entries_of(text)
    said = str(caught.value)
    assert said.startswith(f"{URI}")
    assert "secret" not in said
    return said


def test_a_text_is_one_url_a_line() -> None:
    text = "\ufeff# ours\r\n\r\nhttps://b/x%20y.bin\r\n  http://a:80/z?q=1,2  \n\n#https://c/\nhttps://a/"
    assert entries_of(text) == [
        (b"a/", "https://a/"),
        (b"a/z", "http://a/z?q=1,2"),
        (b"b/x y.bin", "https://b/x%20y.bin"),
    ]


def test_a_csv_names_its_columns() -> None:
    text = '# ours\nid,Path,URL\n1,"b, c",https://h/b\r\n\n2,"a\nb",https://h/a,\n'
    assert "line 6 has 4 fields" in refusal(text)
    text = text.replace("/a,", "/a")
    assert entries_of(text) == [(b"a\nb", "https://h/a"), (b"b, c", "https://h/b")]
    assert entries_of("url\nhttps://h/%FF\n") == [(b"h/\xff", "https://h/%FF")]
    assert entries_of("url,path\nhttps://h/a,ä/#b") == [("ä/#b".encode(), "https://h/a")]


def test_the_names_of_columns_may_be_quoted_and_each_is_there_once() -> None:
    assert entries_of('"url","path"\r\n"https://h/a","b"\r\n') == [(b"b", "https://h/a")]
    assert "names the column 'url' more than once" in refusal("url,url\nhttps://h/a,https://h/b")
    assert "names the column 'path' more than once" in refusal("url,path,Path\nhttps://h/a,b,c")


def test_the_same_url_twice_is_there_once() -> None:
    assert entries_of("https://h/a\nhttps://h/b\nhttps://h/a\nHTTPS://h:443/a") == [
        (b"h/a", "https://h/a"),
        (b"h/b", "https://h/b"),
    ]
    assert entries_of("url,path\nhttps://h/a,1\nhttps://h/a,2\nhttps://h/a,1") == [
        (b"1", "https://h/a"),
        (b"2", "https://h/a"),
    ]


def test_two_urls_of_one_path_are_both_named() -> None:
    said = refusal("https://h/a?x=secret\nhttps://h/b\nhttp://h/a\n")
    assert "https://h/a?… in line 1" in said
    assert "http://h/a in line 3" in said
    assert "column 'path'" in said
    assert "line 2" in refusal("url,path\nhttps://h/a,p\nhttps://h/b,p\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://h/a\ns3://bucket/key", "line 2: s3://bucket/key is not http or https"),
        ("gs://bucket/key", "line 1: gs://bucket/key is not http or https"),
        ("file:///etc/passwd", "is not http or https"),
        ("/etc/passwd", "is not http or https"),
        ("urls+https://h/list", "is not http or https"),
        ("https://me:secret@h/a", "holds a user name or a password"),
        ("https://h/a b?signature=secret", "line 1: 'https://h/a b?…' is not quoted"),
        ("https://h/a#b", "has a fragment"),
        ("nonsense", "line 1: 'nonsense' is no source URI"),
        ("name,size\na,1", "line 1 names no column 'url'"),
        ("url,path\nhttps://h/a,", "line 2 has no path"),
        ("url,path\nhttps://h/%00,", "line 2 has no path"),
        ("https://h/%00", "line 1 has no path"),
        (f"url,path\nhttps://h/a,{'p' * (HTTP_PATH_BYTES_MAX + 1)}", "line 2 has no path"),
        ('url,path\nhttps://h/a,"x', "is no CSV"),
        ("url,path\nhttps://h/a", "line 2 has 1 fields"),
        (b"https://h/a\n\xff", "byte 12 is not UTF-8"),
        (b"https://h/a\0", "it is not text"),
        (b"\x89PNG\r\n", "byte 0 is not UTF-8"),
        ("<html><title>Not Found</title></html>", "is no source URI"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str | bytes, said: str) -> None:
    assert said in refusal(text)


def test_nothing_is_an_empty_list() -> None:
    for text in ("", "\n\n", "# only words", "url\n", "url,path\n\n"):
        assert entries_of(text) == []


def test_urls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(f"https://h/{number}" for number in range(20))
    monkeypatch.setattr(url_list, "URL_LIST_URLS_MAX", 20)
    assert len(entries_of(text)) == 20
    monkeypatch.setattr(url_list, "URL_LIST_URLS_MAX", 19)
    with pytest.raises(UsageError, match="more than 19 URLs"):
        entries_of(text)


@given(data=st.binary(max_size=200), at=st.sampled_from([b"", b"url,path\n", b"https://h/a\n"]))
def test_any_bytes_are_a_list_or_refused(data: bytes, at: bytes) -> None:
    try:
        found = entries_of(at + data)
    except IndexerError:
        return
    assert [path for path, _ in found] == sorted({path for path, _ in found})


@given(
    names=st.lists(st.text("abc%é \n,\"'", min_size=1, max_size=8), unique=True, max_size=8),
)
def test_any_paths_come_back_from_csv(names: list[str]) -> None:
    lines = [
        '"{}",https://h/{}'.format(name.replace('"', '""'), at) for at, name in enumerate(names)
    ]
    found = entries_of("\n".join(["path,url", *lines]))
    assert found == sorted((name.encode(), f"https://h/{at}") for at, name in enumerate(names))
