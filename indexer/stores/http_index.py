"""Index pages of web servers: which files and folders a page says are one step below it.

    nginx             `autoindex` as HTML and as JSON
    Apache            `mod_autoindex`: plain list, preformatted text, table
    Python            `python -m http.server`

Invariants
  * What is shown is never read, as servers shorten it: names come from the links, percent-decoded
    to bytes, which need be no text.
  * A link that does not lead exactly one step below the page's own URL is no child: other origins,
    parents, the page itself, queries (by which Apache sorts) and fragments are passed over.
  * Nothing is fetched and no entity is expanded; a page is bounded in bytes and in links.
  * A page that is cut off, or of another kind, is refused; it is never taken for a short one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from lxml import etree

from indexer.errors import BrokenListing, StoreUnavailable, UsageError
from indexer.limits import HTTP_PAGE_ENTRIES_MAX, HTTP_PATH_BYTES_MAX
from indexer.sources import PATH_SAFE, uri_below

_TITLE: Final = re.compile(r"\s*(Index of|Directory listing for)\s+/")
_TITLE_CHARACTERS_MAX: Final = 256
"""Of a title no more is looked at; the path in it may be long."""

_TAIL_BYTES: Final = 4_096
"""A whole page has its end within these; some servers add a comment after it."""

_LISTS: Final = frozenset(("pre", "li", "td"))
"""What links to children stand in: headers and footers, which people write, are elsewhere."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BLANKS: Final = "".join(map(chr, range(0x21)))
"""What browsers strip from a link's ends."""

_UNRESERVED: Final = re.compile(
    rb"%(2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])", re.IGNORECASE
)
_ESCAPE: Final = re.compile(rb"%[0-9a-fA-F]{2}")
_OBJECT: Final = re.compile(rb"[\[,]\s*\{")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class NoIndexPage(UsageError):
    """The page is no index page that is known."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"{url} is no index page that is known: {reason}. Folders are read from the indexes of "
            f"nginx, Apache and Python's http.server; where there are none, write the addresses of "
            f"the files into a list and name that as urls+{url.partition('://')[0]}://…."
        )


@dataclass(frozen=True, slots=True)
class IndexedName:
    """A file or folder one step below an index page.

    `url` is its address as linked, for a folder with the slash at its end.
    """

    name: bytes
    is_folder: bool
    url: str


def read_index(body: bytes, url: str) -> list[IndexedName]:
    """The files and folders that the index page at `url`, which ends in a slash, links to.

    Each comes once, in no order. Raises `NoIndexPage`; `StoreUnavailable` for a page that is cut
    off; `BrokenListing` for one that links to what cannot be; `UsageError` for too many links.
    """
    assert url.endswith("/")
    if body.lstrip()[:1] == b"[":
        return _read_json(body, url)
    return _read_html(body, url)


def same_url(one: str, other: str) -> bool:
    """Whether two URLs are the same one by RFC 3986, section 6.2.2: case and needless quoting."""
    return one == other or _normalised(one) == _normalised(other)


def linked_uri(folder: str, path: bytes, url: str) -> str | None:
    """The URL of what stands at `path` below a folder, where quoting the path does not give it."""
    return None if same_url(url, uri_below(folder, path)) else url


def _normalised(url: str) -> bytes:
    raw = _UNRESERVED.sub(lambda match: bytes.fromhex(match[1].decode()), url.encode())
    return _ESCAPE.sub(lambda match: match[0].upper(), raw)


# --- nginx's JSON --------------------------------------------------------------------------------


def _read_json(body: bytes, url: str) -> list[IndexedName]:
    # Before they are made, as they would take twenty times the memory of a page of nothing else.
    _check_count(sum(1 for _ in islice(_OBJECT.finditer(body), HTTP_PAGE_ENTRIES_MAX + 1)), url)
    # nginx writes the bytes of names as they are. Where escaped surrogates are about, those could
    # not be told from bytes that are no UTF-8, so then it has to be.
    errors = "strict" if _SURROGATE.search(body) else "surrogateescape"
    try:
        entries = json.loads(body.decode("utf-8", errors))
        return [_of_json(entry, url, errors) for entry in _dicts(entries, url)]
    except (ValueError, RecursionError) as error:
        raise NoIndexPage(url, "its JSON is broken or of another kind") from error


def _dicts(entries: Any, url: str) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise NoIndexPage(url, "its JSON is not that of nginx")
    return entries


def _of_json(entry: Mapping[str, Any], url: str, errors: str) -> IndexedName:
    name, kind = entry.get("name"), entry.get("type")
    if not isinstance(name, str) or kind not in ("file", "directory", "other"):
        raise NoIndexPage(url, "its JSON is not that of nginx")
    raw, is_folder = name.encode("utf-8", errors), kind == "directory"
    if raw in (b"", b".", b".."):
        raise BrokenListing(f"{url}: the index names {name!r}, which cannot be below it")
    # A link that leads nowhere is `other` here and a name like any in HTML; a HEAD tells.
    _check_name(raw, url)
    return IndexedName(raw, is_folder, url + quote(raw, safe=PATH_SAFE) + "/" * is_folder)


# --- HTML ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Links:
    """Takes what lxml's parser finds, and keeps the title and the links within lists."""

    url: str
    title: str = ""
    hrefs: dict[str, None] = field(default_factory=dict)
    has_base: bool = False
    _is_title: bool = False
    _lists_open: int = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "title":
            self._is_title = not self.title
        elif tag in _LISTS:
            self._lists_open += 1
        elif tag == "base":
            self.has_base = True
        elif tag == "a" and self._lists_open and (href := attributes.get("href")):
            self.hrefs[href] = None
            _check_count(len(self.hrefs), self.url)

    def end(self, tag: str) -> None:
        if tag == "title":
            self._is_title = False
        elif tag in _LISTS:
            self._lists_open -= 1

    def data(self, text: str) -> None:
        if self._is_title:
            self.title = (self.title + text)[:_TITLE_CHARACTERS_MAX]

    def comment(self, text: str) -> None:
        """Comments say nothing here."""

    def close(self) -> _Links:
        return self


def _read_html(body: bytes, url: str) -> list[IndexedName]:
    if b"\0" in body:
        raise NoIndexPage(url, "it is not text")
    links = _parse_html(body, url)
    if not _TITLE.match(links.title):
        raise NoIndexPage(url, "it has another title than the index of a folder")
    if links.has_base:
        raise NoIndexPage(url, "its links are relative to another address")
    if b"</html" not in body[-_TAIL_BYTES:].lower():
        raise StoreUnavailable(f"{url}: the index page ends in the middle.")
    found: dict[tuple[bytes, bool], IndexedName] = {}
    path = _segments(urlsplit(url).path)
    for href in links.hrefs:
        child = _child(href, url, path)
        if child is not None:
            found.setdefault((child.name, child.is_folder), child)
    return list(found.values())


def _parse_html(body: bytes, url: str) -> _Links:
    # As Latin-1 every byte is a character, so that no name shown can disturb the parser, and a
    # link's characters give back its bytes.
    parser = etree.HTMLParser(target=_Links(url), encoding="iso-8859-1", no_network=True)
    try:
        parser.feed(body)
        links: _Links = parser.close()
    except etree.LxmlError as error:
        raise NoIndexPage(url, "it is no HTML") from error
    return links


def _child(href: str, url: str, path: Sequence[bytes]) -> IndexedName | None:
    """What a link leads to, if that is one step below the page, whose path is given decoded."""
    target = href.strip(_BLANKS).translate({9: None, 10: None, 13: None})
    if not target or "?" in target or "#" in target:
        return None
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    for start in (origin + "/", f"//{parts.netloc}/"):
        if target.startswith(start):
            target = target[len(start) - 1 :]
    if target.startswith("//") or _SCHEME.match(target):
        return None
    if target.startswith("/"):
        segments = _segments(target)
        if segments[: len(path) - 1] != path[:-1]:
            return None
        rest = "/".join(target.split("/")[len(path) - 1 :])
    else:
        rest = re.sub(r"^(\./)+", "", target)
    segment, slash, further = rest.partition("/")
    name = unquote_to_bytes(_quoted(segment))
    if further or name in (b"", b".", b".."):
        return None
    _check_name(name, url)
    return IndexedName(name, bool(slash), url + _quoted(segment) + slash)


def _segments(path: str) -> list[bytes]:
    return [unquote_to_bytes(_quoted(each)) for each in path.split("/")]


def _quoted(segment: str) -> str:
    """A segment of a link as it is sent: what no URL may hold is quoted, as browsers do it."""
    if segment.isascii() and segment.isprintable() and " " not in segment:
        return segment
    raw = b"".join(
        one.encode("latin-1") if one <= "\xff" else one.encode("utf-8", "replace")
        for one in segment
    )
    return quote(raw, safe=PATH_SAFE + '%"<>[]\\^`{|}')


# --- bounds --------------------------------------------------------------------------------------


def _check_name(name: bytes, url: str) -> None:
    if b"/" in name or b"\0" in name:
        raise BrokenListing(f"{url}: the index links to the name {name!r}, which no file can have")
    if len(name) > HTTP_PATH_BYTES_MAX:
        raise BrokenListing(
            f"{url}: the index links to a name of {len(name):,} bytes, of at most "
            f"{HTTP_PATH_BYTES_MAX:,}"
        )


def _check_count(entries: int, url: str) -> None:
    if entries > HTTP_PAGE_ENTRIES_MAX:
        raise UsageError(
            f"{url}: the index has more than {HTTP_PAGE_ENTRIES_MAX:,} entries, which is the limit "
            f"for one folder. Write the addresses of its files into lists of URLs instead."
        )
