"""Index pages of web servers: every format, hostile names, and what is no index.

Invariants
  * The samples are as the servers write them; the real servers are met in the contract tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import BrokenListing, IndexerError, StoreUnavailable, UsageError
from indexer.limits import HTTP_PATH_BYTES_MAX
from indexer.stores import http_index
from indexer.stores.http_index import (
    IndexedName,
    NoIndexPage,
    linked_uri,
    read_index,
    same_url,
)

URL: Final = "https://host:8443/data/%C3%A4%20b/"
SHOWN: Final = "/data/ä b"

NAMES: Final = (
    *(b"a", b"b/", b"a b", b" ", b"%", b"%41", b"%25", b"a?b#c", b"#", b"?x=1", b"a&amp;b", b"a&b"),
    *(b'"', b"'q'", b"<a href=x>", b"<html>", b"<!--", b"a+b", b"a:b", b"http:", b"~", b"..."),
    *(b"new\nline", b"\x01\x7f", b"back\\slash", "é".encode(), "日本/".encode(), b"\xff\xfe"),
    *(b"n" * 255, b"index.html", b"[]", b";=,!*()$@", b"C=N;O=D", b".hidden", b"..x/"),
)
"""Names in a folder, those of folders with a slash at the end."""


def nginx(names: list[bytes]) -> bytes:
    """As `autoindex` writes it, which shortens names of more than 50 characters."""
    lines = [b'<a href="../">../</a>\r\n']
    for name in names:
        shown = name if len(name) <= 50 else name[:47] + b"..>"
        href = quote_from_bytes(name, safe="/").encode()
        lines.append(
            b'<a href="%s">%s</a>%s 25-Nov-2026 19:32   1\r\n' % (href, html(shown), b" " * 9)
        )
    title = SHOWN.encode() + b"/"
    return (
        b"<html>\r\n<head><title>Index of %s</title></head>\r\n<body>\r\n<h1>Index of %s</h1><hr>"
        b"<pre>%s</pre><hr></body>\r\n</html>\r\n" % (title, title, b"".join(lines))
    )


def nginx_json(names: list[bytes]) -> bytes:
    """As `autoindex_format json` writes it: bytes as they are, control characters escaped."""
    entries = []
    for name in names:
        kind = b"directory" if name.endswith(b"/") else b"file"
        text = json.dumps(name.rstrip(b"/").decode("latin-1"), ensure_ascii=False)
        entries.append(b'{ "name":%s, "type":"%s", "size":0 }' % (text.encode("latin-1"), kind))
    return b"[\r\n" + b",\r\n".join(entries) + b"\r\n]"


def apache_href(name: bytes) -> bytes:
    href = quote_from_bytes(name, safe="/!$&'()*+,;=:@~").encode()
    href = re.sub(rb"%..", lambda match: match[0].lower(), href)
    return (b"./" if b":" in href.partition(b"/")[0] else b"") + href


def apache(body: bytes) -> bytes:
    title = html(SHOWN.encode())
    return (
        b'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://w3.org/TR/html4/strict.dtd">'
        b"\n<html>\n <head>\n <title>Index of %s</title>\n </head>\n <body>\n<h1>Index of %s</h1>\n"
        b"%s<address>Apache/2.4 Server at <a href='mailto:x@host'>host</a></address>\n"
        b"</body></html>\n" % (title, title, body)
    )


def apache_plain(names: list[bytes]) -> bytes:
    items = [b'<li><a href="/data/"> Parent Directory</a></li>\n']
    items += [b'<li><a href="%s"> %s</a></li>\n' % (html(apache_href(n)), html(n)) for n in names]
    return apache(b"<ul>%s</ul>\n" % b"".join(items))


SORTING: Final = (
    b'<a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a> '
    b'<a href="?C=S;O=A">Size</a> <a href="?C=D;O=A">Description</a>'
)


def apache_pre(names: list[bytes]) -> bytes:
    lines = [
        b'<img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/data/">Parent Directory</a>\n'
    ]
    for name in names:
        shown = html(name if len(name) <= 23 else name[:20] + b"..>")
        lines.append(
            b'<img src="/icons/u.gif" alt="[   ]"> <a href="%s">%s</a> 2026-11-25 1K\n'
            % (html(apache_href(name)), shown)
        )
    return apache(b"<pre>%s<hr>%s<hr></pre>\n" % (SORTING, b"".join(lines)))


def apache_table(names: list[bytes]) -> bytes:
    rows = [b"<tr><th>&nbsp;</th><th>%s</th></tr>" % SORTING]
    rows.append(b'<tr><td>&nbsp;</td><td><a href="/data/">Parent Directory</a></td></tr>')
    for name in names:
        href = html(apache_href(name))
        rows.append(
            b'<tr><td valign="top"><a href="%s"><img src="/icons/u.gif"></a></td>'
            b'<td><a href="%s">%s</a></td></tr>\n' % (href, href, html(name[:20]))
        )
    return apache(b"<table>%s</table>\n" % b"".join(rows))


def python(names: list[bytes]) -> bytes:
    """As http.server writes it, to which a name that is no UTF-8 has surrogates."""
    items = []
    for name in names:
        href = quote_from_bytes(name, safe="/").encode()
        items.append(b'<li><a href="%s">%s</a></li>\n' % (href, html(name)))
    title = SHOWN.encode() + b"/"
    return (
        b'<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        b"<title>Directory listing for %s</title>\n</head>\n<body>\n"
        b"<h1>Directory listing for %s</h1>\n<hr>\n<ul>\n%s</ul>\n<hr>\n</body>\n</html>\n"
        % (title, title, b"".join(items))
    )


def html(text: bytes) -> bytes:
    return escape(text.decode("latin-1")).encode("latin-1")


FORMATS: Final = (nginx, nginx_json, apache_plain, apache_pre, apache_table, python)
Write = Callable[[list[bytes]], bytes]

formats = pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)


def names_on(page: bytes, url: str = URL) -> list[bytes]:
    """The names on a page as the samples give them."""
    return [found.name + b"/" * found.is_folder for found in read_index(page, url)]


def sample(*hrefs: str) -> bytes:
    links = "".join(f'<a href="{href}">x</a>\n' for href in hrefs)
    title = "<title>Index of /data</title>"
    return f"<html><head>{title}</head><body><pre>{links}</pre></body></html>".encode()


@formats
def test_hostile_names_come_back_exactly(write: Write) -> None:
    assert sorted(names_on(write(list(NAMES)))) == sorted(NAMES)


@formats
def test_an_empty_folder_has_no_names(write: Write) -> None:
    assert names_on(write([])) == []


@formats
def test_urls_lead_to_the_names(write: Write) -> None:
    for found in read_index(write(list(NAMES)), URL):
        assert found.url.startswith(URL)
        segment = found.url.removeprefix(URL)
        assert segment.isascii()
        assert unquote_to_bytes(segment) == found.name + b"/" * found.is_folder


@given(names=st.lists(st.binary(min_size=1, max_size=20), unique=True), at=st.sampled_from(FORMATS))
def test_any_names_come_back_exactly(names: list[bytes], at: Write) -> None:
    possible = [
        name for name in names if not {b"/", b"\0"} & {bytes([byte]) for byte in name}
        and name not in (b".", b"..")
    ]  # fmt: skip
    assert sorted(names_on(at(possible))) == sorted(possible)


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "href",
    [
        *("", "./", "../", "..", ".", "/", "//", "/data/", "/data/%C3%A4%20b/", "/data/%c3%a4%20b"),
        *("/data/other/a", "/data", "?", "?C=N;O=D", "a?x=1", "/data/%C3%A4%20b/?C=N", "#", "a#b"),
        *("a/b", "a/b/", "./a/b", "a//", "../x", "%2e%2e/", "%2E", "./../a", "..//a", "//a"),
        *("http://host:8443/data/%C3%A4%20b/a", "https://other/data/%C3%A4%20b/a", "mailto:a@b"),
        *("https://host/data/%C3%A4%20b/a", "//other/a", "javascript:x()", "data:,x", "a:b"),
        *("https://host:8443@evil/data/%C3%A4%20b/a", "https://host:8443", "/icons/x.gif", "&#9;"),
    ],
)
def test_links_elsewhere_are_no_children(href: str) -> None:
    assert names_on(sample(href)) == []


@pytest.mark.parametrize(
    ("href", "name"),
    [
        *(("a", b"a"), ("./a", b"a"), ("././a/", b"a/"), ("/data/%C3%A4%20b/a", b"a")),
        *(("/data/%c3%a4 b/a/", b"a/"), ("/data/ä b/a", b"a"), ("//host:8443/data/ä%20b/a", b"a")),
        *(("https://host:8443/data/%C3%A4%20b/a", b"a"), (" a ", b"a"), ("a b", b"a b")),
        *(("%C3%A4", "ä".encode()), ("ä", "ä".encode()), ("&euro;", "€".encode()), ("%zz", b"%zz")),
        *(("%ff", b"\xff"), ("100%", b"100%"), ("%2525", b"%25"), ("a&amp;amp;b", b"a&amp;b")),
        *(("&quot;", b'"'), ("%3Ca", b"<a"), ("...", b"..."), ("./a:b", b"a:b"), ("a%3Ab", b"a:b")),
    ],
)
def test_links_one_step_below_are_children(href: str, name: bytes) -> None:
    (found,) = read_index(sample(href), URL)
    assert found.name + b"/" * found.is_folder == name
    assert found.url.startswith(URL)
    assert found.url.isascii()
    assert " " not in found.url


def test_the_same_link_twice_is_one_child() -> None:
    assert names_on(sample("a", "./a", "a", "%61", "a/")) == [b"a", b"a/"]


@pytest.mark.parametrize("href", ["a%2Fb", "..%2fa", "%2F", "%00", "n" * (HTTP_PATH_BYTES_MAX + 1)])
def test_names_that_cannot_be_are_refused(href: str) -> None:
    with pytest.raises(BrokenListing, match="https://host"):
        read_index(sample("fine", href), URL)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0"])
def test_names_in_json_that_cannot_be_are_refused(name: str) -> None:
    page = json.dumps([{"name": name, "type": "file"}]).encode()
    with pytest.raises(BrokenListing):
        read_index(page, URL)


def test_links_in_headers_and_footers_are_passed_over() -> None:
    page = sample("a").replace(b"</pre>", b'</pre><p>See <a href="README">README</a>.</p>')
    assert names_on(page) == [b"a"]


def test_a_uri_is_told_where_it_does_not_follow() -> None:
    folder = "https://host/d/"
    assert linked_uri(folder, b"a b", "https://host/d/a%20b") is None
    assert linked_uri(folder, b"a~\xff", "https://host/d/a%7e%fF") is None
    assert linked_uri(folder, b"a+b", "https://host/d/a+b") is None
    assert linked_uri(folder, b"a+b", "https://host/d/a%2Bb") == "https://host/d/a%2Bb"
    assert not same_url("https://host/a%2fb", "https://host/a/b")


# --- other pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        *(b"", b"   ", b"<html></html>", b"plain text", b"\x89PNG\r\n\0\0", b"\0" * 100, b"%PDF"),
        b"<html><head><title>My holiday</title></head><body><ul><li><a href=a>a</a></ul></html>",
        b"<html><head><title>Index of my holiday</title></head><pre><a href=a>a</a></pre></html>",
        b"<?xml version='1.0'?><ListBucketResult><Key>a</Key></ListBucketResult>",
        b"<html><h1>Index of /data</h1><pre><a href=a>a</a></pre></html>",
        sample("a").replace(b"<head>", b'<head><base href="https://other/">'),
        *(b"[1, 2]", b'["a"]', b"[{}]", b'[{"name": "a"}]', b'[{"name": 1, "type": "file"}]', b"["),
        *(b'[{"name": "a", "type": "link"}]', b'[{"name": "\\ud800", "type": "file"}]'),
        b"[" * 99_999,
        *(b"[" + b"9" * 10_000 + b"]", b'[{"name": "a", "type": "file"}] x', b'{"name": "a"}'),
    ],
)  # fmt: skip
def test_other_pages_are_no_index(page: bytes) -> None:
    with pytest.raises(NoIndexPage, match="is no index page that is known: ") as caught:
        read_index(page, URL)
    assert isinstance(caught.value, UsageError)
    assert URL in str(caught.value)


@formats
def test_a_page_that_is_cut_off_is_not_believed(write: Write) -> None:
    page = write([b"name-%03d" % number for number in range(30)])
    for end in range(0, len(page.rstrip()) - len(b"</html>"), 97):
        with pytest.raises((StoreUnavailable, NoIndexPage)):
            read_index(page[:end], URL)


def test_entities_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE html [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (97 + level, b"&%c;" % (96 + level) * 10) for level in range(1, 12)
    )
    page = bomb + b'<!ENTITY file SYSTEM "file:///etc/passwd">]>' + sample("a", "&l;", "&file;")
    assert all(len(name) < 20 and b"root" not in name for name in names_on(page))


def test_deep_nesting_loses_no_link() -> None:
    page = sample("a", "b").replace(b"<pre>", b"<div>" * 5_000 + b"<pre>")
    assert names_on(page) == [b"a", b"b"]


@formats
def test_entries_are_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"{%d" % number for number in range(20)]
    monkeypatch.setattr(http_index, "HTTP_PAGE_ENTRIES_MAX", 20 + 10)
    assert len(names_on(write(names))) == 20
    monkeypatch.setattr(http_index, "HTTP_PAGE_ENTRIES_MAX", 19)
    with pytest.raises(UsageError, match="more than 19 entries"):
        read_index(write(names), URL)


# --- anything ------------------------------------------------------------------------------------


def read_or_refused(page: bytes) -> list[IndexedName]:
    try:
        found = read_index(page, URL)
    except IndexerError:
        return []
    for one in found:
        assert one.name not in (b"", b".", b"..")
        assert b"/" not in one.name
        assert one.url.startswith(URL)
        assert one.url.isascii()
        assert one.url.isprintable()
    return found


@given(page=st.binary(max_size=300), wrapped=st.booleans())
def test_any_bytes_are_a_page_or_refused(page: bytes, wrapped: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    read_or_refused(page)
    read_or_refused(sample("@").replace(b"@", page) if wrapped else b"[" + page + b"]")


@given(
    at=st.sampled_from(FORMATS),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=8)), min_size=1, max_size=6
    ),
)
def test_changed_pages_are_pages_or_refused(
    at: Write, changes: list[tuple[float, int, bytes]]
) -> None:
    page = at([b"a", b"b/", b"%41", b"\xff", b"a&b"])
    for place, removed, added in changes:
        start = int(place * len(page))
        page = page[:start] + added + page[start + removed :]
    read_or_refused(page)
