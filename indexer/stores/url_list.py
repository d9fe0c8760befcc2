"""Lists of URLs: reading them, and the store of the objects that they name.

    # one URL a line; comments and blank lines are passed over
    https://host/a.bin

    url,path
    https://host/a.bin,train/a.bin        CSV, if the first line names a column `url`

Invariants
  * An entry's path is that of its column `path`, or else the host and the decoded path of its URL.
    Two URLs never have the same path: that is an error which names both.
  * URLs are http or https, quoted, and without names and passwords; they are kept as written.
  * Each object is asked for at its own origin.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import unquote_to_bytes

from indexer.errors import InvalidReference, NoSuchObject, UsageError
from indexer.keyspace import Key, KeyRange
from indexer.limits import HTTP_PATH_BYTES_MAX, PAGE_ROWS, URL_LIST_URLS_MAX
from indexer.objects import SIZE_UNKNOWN, Head, Pin, page_of_heads
from indexer.protocols import ListedPage, Sink, StoreProperties
from indexer.sources import WEB_SCHEMES, parse_source
from indexer.stores.http_client import HTTPClient, shown
from indexer.stores.http_object import Grades, head_url, read_url
from indexer.telemetry import without_credentials

URL_COLUMN: Final = "url"
PATH_COLUMN: Final = "path"

_URL_CHARACTERS_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class ListedUrl:
    """An entry of a list: its path, its URL, and the line that names it."""

    path: bytes
    url: str
    line: int = 0


def read_url_list(data: bytes, uri: str) -> list[ListedUrl]:
    """The entries of a list, in order of their paths; the same one twice is there once.

    Raises `InvalidReference` for what is no list, and `UsageError` for one that is too long.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidReference(
            f"{uri} is no list of URLs: byte {error.start:,} is not UTF-8. Write one URL a line, "
            f"or CSV with a column {URL_COLUMN!r}."
        ) from None
    if "\0" in text:
        raise InvalidReference(f"{uri} is no list of URLs: it is not text.")
    entries: list[ListedUrl] = []
    for line, url, path in _rows(text, uri):
        entries.append(_entry(uri, line, url, path))
        if len(entries) > URL_LIST_URLS_MAX:
            raise UsageError(
                f"{uri} has more than {URL_LIST_URLS_MAX:,} URLs, which is the limit for one list. "
                f"Split it, and name each part as a source with a mount of its own."
            )
    entries.sort(key=lambda entry: (entry.path, entry.line))
    for one, other in pairwise(entries):
        if one.path == other.path and one.url != other.url:
            raise InvalidReference(
                f"{uri}: {shown(one.url)} in line {one.line:,} and {shown(other.url)} in line "
                f"{other.line:,} have the same path, {one.path!r}. Write the list as CSV, with a "
                f"column {PATH_COLUMN!r} that tells them apart."
            )
    return list({entry.path: entry for entry in reversed(entries)}.values())[::-1]


def _rows(text: str, uri: str) -> Iterator[tuple[int, str, str | None]]:
    """The line, URL and path of each entry."""
    lines = text.split("\n")
    start = next((at for at, line in enumerate(lines) if _says_something(line)), len(lines))
    first = "".join(lines[start : start + 1])
    header = [name.strip().lower() for name in next(csv.reader([first]), [])]
    if URL_COLUMN in header:
        if twice := next((n for n in (URL_COLUMN, PATH_COLUMN) if header.count(n) > 1), None):
            raise InvalidReference(
                f"{uri}: line {start + 1:,} names the column {twice!r} more than once. Leave one."
            )
        yield from _csv_rows("\n".join(lines[start:]), start, header, uri)
        return
    if "," in first and "://" not in first:
        raise InvalidReference(
            f"{uri}: line {start + 1:,} names no column {URL_COLUMN!r}. Write one URL a line, or "
            f"CSV whose first line names its columns."
        )
    for number, line in enumerate(lines, start=1):
        if _says_something(line):
            yield number, line.strip(), None


def _csv_rows(
    text: str, lines_before: int, header: Sequence[str], uri: str
) -> Iterator[tuple[int, str, str | None]]:
    url_at = header.index(URL_COLUMN)
    path_at = header.index(PATH_COLUMN) if PATH_COLUMN in header else None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        next(reader)
        for fields in reader:
            line = lines_before + reader.line_num
            if not fields or fields == [""]:
                continue
            if len(fields) != len(header):
                raise InvalidReference(
                    f"{uri}: line {line:,} has {len(fields):,} fields, and the first one names "
                    f"{len(header):,} columns."
                )
            path = None if path_at is None else fields[path_at]
            yield line, fields[url_at].strip(), path
    except csv.Error as error:
        line = lines_before + reader.line_num
        raise InvalidReference(f"{uri}: line {line:,} is no CSV ({error}).") from None


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _entry(uri: str, line: int, url: str, path: str | None) -> ListedUrl:
    try:
        found = parse_source(url)
    except InvalidReference as error:
        # The reason without the URL, whose query may hold a signature.
        reason = str(error).removeprefix(repr(without_credentials(url)))
        written = without_credentials(shown(url))[:_URL_CHARACTERS_SHOWN]
        raise InvalidReference(f"{uri}: line {line:,}: {written!r}{reason}") from None
    if found.scheme not in WEB_SCHEMES:
        raise InvalidReference(
            f"{uri}: line {line:,}: {shown(url)[:_URL_CHARACTERS_SHOWN]} is not http "
            f"or https, of which alone a "
            f"list may hold URLs. Name buckets and folders as sources of their own."
        )
    if path is None:
        raw = found.bucket.encode() + b"/" + unquote_to_bytes(found.key.partition("?")[0])
    else:
        raw = path.encode()
    if not raw or b"\0" in raw or len(raw) > HTTP_PATH_BYTES_MAX:
        raise InvalidReference(
            f"{uri}: line {line:,} has no path that an entry can have: it is empty, holds a NUL "
            f"character, or has more than {HTTP_PATH_BYTES_MAX:,} bytes."
        )
    return ListedUrl(raw, str(found), line)


class UrlStore:
    """Objects at URLs that are known, in order of their paths. See `protocols.Store`.

    Rows have their URL unless `has_uris` is false: then it follows from the path.
    """

    def __init__(
        self,
        client: HTTPClient,
        entries: Sequence[ListedUrl],
        *,
        has_uris: bool = True,
        page_entries: int = PAGE_ROWS,
    ) -> None:
        assert page_entries > 0
        self._client = client
        self._paths = [entry.path for entry in entries]
        self._urls = [entry.url for entry in entries]
        self._has_uris = has_uris
        self._page_entries = page_entries
        self._grades = Grades()

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`; any page can be begun anywhere."""
        return StoreProperties(HTTP_PATH_BYTES_MAX, needs_head=True)

    def notices(self) -> tuple[str, ...]:
        """What a user must know of the objects that were asked for."""
        return self._grades.notices()

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        after = keys.after if token is None else Key(bytes.fromhex(token))
        start = bisect_left(self._paths, prefix)
        if after is not None:
            start = max(start, bisect_right(self._paths, after))
        end = start + self._page_entries
        listed = [path for path in self._paths[start:end] if path.startswith(prefix)]
        end = start + len(listed)
        more = any(path.startswith(prefix) for path in self._paths[end : end + 1])
        rows = page_of_heads(
            (path, Head(SIZE_UNKNOWN, uri=self._uri(start + offset)))
            for offset, path in enumerate(listed)
        )
        return ListedPage.of_keys(rows, listed, more=more, token=listed[-1].hex() if more else None)

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        del version_id, checksum
        place = self._place(key)
        head = await head_url(self._client, self._urls[place], uri=self._uri(place))
        self._grades.count(head)
        return head

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        await read_url(self._client, self._urls[self._place(key)], pin, sink, start=start, end=end)

    def _place(self, key: Key) -> int:
        place = bisect_left(self._paths, key)
        if self._paths[place : place + 1] != [key]:
            raise NoSuchObject(f"the list has no URL with the path {key!r}.")
        return place

    def _uri(self, place: int) -> str | None:
        return self._urls[place] if self._has_uris else None
