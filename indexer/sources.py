"""What a user may write to name a source, parsed once: URIs of buckets, web servers and files.

Invariants
  * The key in an `s3://` or `gs://` URI is verbatim: `%`, `?`, `#`, `//` and blanks belong to it.
  * In `http://`, `https://` and `file://` URIs the usual quoting holds. The key of a web address is
    kept as it is written; that of a file is its path, bytes that are no text as surrogates.
  * A canonical folder URI ends in `/` (or is a bucket's root); an object's URI is as written.
  * Text that cannot be read raises `InvalidReference` with what to write instead; nothing is
    guessed, trimmed or repaired.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from indexer.errors import InvalidReference
from indexer.keyspace import KEY_BYTES_MAX
from indexer.limits import SOURCES_MAX
from indexer.telemetry import without_credentials

_BUCKET_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SCHEME_PATTERN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MOUNTED_PATTERN: Final = re.compile(
    r"(?![A-Za-z][A-Za-z0-9+.-]*://|/[^=]*=)([^=]*)=([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL
)

_TORN_PATTERN: Final = re.compile(r"(?:s3|gs|https?|file):(?!//)", re.IGNORECASE)

BUCKET_SCHEMES: Final = ("s3", "gs")
WEB_SCHEMES: Final = ("http", "https")
FILE_SCHEME: Final = "file"

LIST_PREFIX: Final = "urls+"
"""In front of the scheme of a list of URLs, as in `urls+https://host/list.txt`."""

SCHEMES: Final = (
    *BUCKET_SCHEMES, *WEB_SCHEMES, FILE_SCHEME,
    *(LIST_PREFIX + scheme for scheme in (*WEB_SCHEMES, FILE_SCHEME)),
)  # fmt: skip

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_EXAMPLES: Final = (
    "write s3://bucket/prefix/, gs://bucket/prefix/, https://host/path/, file:///folder/ or a path "
    "on this machine"
)

PATH_SAFE: Final = "/!$&'()*+,;=:@~"
"""What a path in a URL may hold as it is, besides letters, digits, `-`, `.` and `_` (RFC 3986)."""


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A source as written: its scheme, its bucket and its key (empty for a bucket's root).

    Of a web address the bucket is the host, with its port unless that is the usual one; a file has
    none.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def names_folder(self) -> bool:
        """Whether only a folder can be meant."""
        return not self.is_list and (not self.key or self.key.endswith("/"))

    @property
    def is_list(self) -> bool:
        """Whether this names a list of URLs."""
        return self.scheme.startswith(LIST_PREFIX)

    @property
    def folder(self) -> SourceUri:
        """The folder of this name."""
        return self if self.names_folder else SourceUri(self.scheme, self.bucket, self.key + "/")

    @property
    def parent(self) -> SourceUri:
        """The folder that holds the object of this name."""
        path = self.key if self.scheme in BUCKET_SCHEMES else self.key.partition("?")[0]
        head, slash, _ = path.rpartition("/")
        return SourceUri(self.scheme, self.bucket, head + slash)

    @property
    def last_component(self) -> bytes:
        """The name of the object in its `parent`, which is its path where it is a source alone."""
        if self.scheme in BUCKET_SCHEMES:
            return self.key.rpartition("/")[2].encode()
        if self.scheme == FILE_SCHEME:
            return os.fsencode(self.key.rpartition("/")[2])
        path, question, query = self.key.partition("?")
        written = path.rpartition("/")[2]
        name = unquote_to_bytes(written)
        if b"/" in name or b"\0" in name:
            return written.encode()
        return name or (question + query).encode()

    @property
    def shown(self) -> str:
        """The URI as messages show it: without the query of a web address, which may sign it."""
        text = str(self)
        if self.scheme.removeprefix(LIST_PREFIX) not in WEB_SCHEMES:
            return text
        path, question, _ = text.partition("?")
        return path + (question and "?…")

    def __str__(self) -> str:
        key = self.key
        if self.scheme.endswith(FILE_SCHEME):
            key = quote(os.fsencode(key), safe=PATH_SAFE)
        return f"{self.scheme}://{self.bucket}/{key}"


@dataclass(frozen=True, slots=True)
class Source:
    """A source and the mount below which its entries stand; an empty one for the root."""

    uri: SourceUri
    mount: str = ""

    @property
    def path_prefix(self) -> bytes:
        """What the paths of its entries begin with."""
        return self.mount.encode() + b"/" if self.mount else b""

    @property
    def shown(self) -> str:
        """The source as messages show it."""
        return f"{self.mount}={self.uri.shown}" if self.mount else self.uri.shown

    def __str__(self) -> str:
        return f"{self.mount}={self.uri}" if self.mount else str(self.uri)


def parse_source(text: str) -> SourceUri:
    """The source that a URI or an absolute path names. Raises `InvalidReference`."""
    if text.startswith("/"):
        return _file(text, text)
    match, quoted = _SCHEME_PATTERN.match(text), repr(without_credentials(text))
    if match is None:
        raise InvalidReference(f"{quoted} is no source URI: {_EXAMPLES}.")
    scheme, rest = match.group(1).lower(), text[match.end() :]
    if scheme not in SCHEMES:
        raise InvalidReference(
            f"{quoted} has the scheme {scheme!r}, which is not known: {_EXAMPLES}."
        )
    if scheme in BUCKET_SCHEMES:
        return _in_bucket(scheme, rest, quoted)
    bare = scheme.removeprefix(LIST_PREFIX)
    found = _file_uri(text, rest) if bare == FILE_SCHEME else _web(bare, rest, quoted)
    if bare != scheme:
        if found.names_folder:
            raise InvalidReference(f"{quoted} names a folder, not a list of URLs.")
        return SourceUri(scheme, found.bucket, found.key)
    return found


def parse_mounted(text: str) -> Source:
    """The source that `URI`, an absolute path or `MOUNT=URI` names. Raises `InvalidReference`."""
    match = _MOUNTED_PATTERN.fullmatch(text)
    if match is None:
        return Source(parse_source(text))
    return Source(parse_source(match.group(2)), check_mount(match.group(1)))


def check_mount(mount: str) -> str:
    """A mount that entries can stand below. Raises `InvalidReference`."""
    parts = mount.split("/")
    if not mount or {"", ".", ".."} & set(parts) or "\0" in mount:
        raise InvalidReference(
            f"{mount!r} is no mount: write a name such as train or data/train, without a slash at "
            f"its ends."
        )
    try:
        size_bytes = len(mount.encode())
    except UnicodeEncodeError:
        raise InvalidReference(f"the mount {mount!r} is not UTF-8.") from None
    if size_bytes > KEY_BYTES_MAX:
        raise InvalidReference(f"a mount has at most {KEY_BYTES_MAX:,} bytes.")
    return mount


def check_sources(sources: tuple[Source, ...]) -> None:
    """Checks that sources can stand in one version. Raises `InvalidReference`."""
    if not sources:
        raise InvalidReference("there is no source: name one at least.")
    if len(sources) > SOURCES_MAX:
        raise InvalidReference(
            f"{len(sources):,} sources are more than the {SOURCES_MAX:,} allowed."
        )
    if len(sources) == 1:
        return
    if bare := next((source for source in sources if not source.mount), None):
        shown = bare.uri.shown
        # Without a scheme, `yard=yard/` is a path with `=` in it.
        path = " Behind a mount a path is a URI, as in yard=file:///data/yard/." * ("=" in shown)
        raise InvalidReference(
            f"with several sources each needs a mount: write NAME={shown} instead of {shown}.{path}"
        )
    ordered = sorted(sources, key=lambda source: source.path_prefix)
    for one, other in pairwise(ordered):
        if other.path_prefix.startswith(one.path_prefix):
            raise InvalidReference(
                f"the mount {other.mount!r} is the same as, or lies inside of, {one.mount!r}; "
                f"choose mounts that lie beside each other."
            )


def located(text: str) -> str:
    """A source as written on this machine, relative paths made absolute; URIs are left alone.

    Raises `InvalidReference` for what looks like a URI of which a slash is missing.
    """
    if _TORN_PATTERN.match(text):
        raise InvalidReference(
            f"{text!r} is no source URI: write two slashes after the colon, or ./ before a path."
        )
    if _SCHEME_PATTERN.match(text) or _MOUNTED_PATTERN.fullmatch(text) or not text:
        return text
    absolute = os.path.abspath(text)  # noqa: PTH100 - links in it are kept as they are
    is_folder = text.endswith(("/", "/.", "/..")) or text in (".", "..")
    return absolute.rstrip("/") + "/" if is_folder else absolute


def uri_below(folder: str, path: bytes) -> str:
    """The URI of what stands at `path` below the folder of that URI."""
    if folder.startswith(tuple(f"{scheme}://" for scheme in BUCKET_SCHEMES)):
        return folder + path.decode("utf-8", "surrogateescape")
    return folder + quote(path, safe=PATH_SAFE)


def _in_bucket(scheme: str, rest: str, quoted: str) -> SourceUri:
    bucket, _, key = rest.partition("/")
    if not _BUCKET_PATTERN.fullmatch(bucket):
        raise InvalidReference(f"{quoted} names no valid bucket: write {scheme}://bucket/prefix/.")
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidReference(f"{quoted} is not UTF-8, as object keys must be.") from None
    if size_bytes > KEY_BYTES_MAX:
        raise InvalidReference(
            f"the key in {scheme}://{bucket}/… has {size_bytes:,} bytes: object keys have at most "
            f"{KEY_BYTES_MAX:,}."
        )
    if "\0" in key:
        raise InvalidReference(f"{quoted} holds a NUL character, which no object key may have.")
    return SourceUri(scheme, bucket, key)


def _web(scheme: str, rest: str, quoted: str) -> SourceUri:
    example = f"write {scheme}://host/path"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidReference(f"{quoted} is no web address: {example}.") from None
    if not host or port == 0:
        raise InvalidReference(f"{quoted} is no web address: {example}.")
    if "@" in parts.netloc:
        raise InvalidReference(
            f"{quoted} holds a user name or a password: leave them out, and put them into the file "
            f".netrc."
        )
    if not rest.isascii() or not rest.isprintable() or " " in rest or "\\" in rest:
        raise InvalidReference(f"{quoted} is not quoted: write blanks and the like as %20.")
    if "#" in rest:
        raise InvalidReference(f"{quoted} has a fragment, which is never sent: leave the # out.")
    segments = parts.path.split("/")
    if {".", ".."} & {unquote_to_bytes(segment).decode("latin-1") for segment in segments}:
        raise InvalidReference(f"{quoted} has '.' or '..' in its path: write where it leads to.")
    if ":" in host:
        host = f"[{host}]"
    bucket = host if port in (None, DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    key = parts.path.removeprefix("/")
    if "?" in rest:
        key += "?" + parts.query
        if key.endswith("/"):
            raise InvalidReference(
                f"{quoted} ends in a slash within its query, by which it cannot be told from a "
                f"folder; write that slash as %2F."
            )
    return SourceUri(scheme, bucket, key)


def _file_uri(text: str, rest: str) -> SourceUri:
    host, slash, path = rest.partition("/")
    if not slash or host not in ("", "localhost"):
        raise InvalidReference(
            f"{text!r} is no file of this machine: write file:// and an absolute path, as in "
            f"file:///data/."
        )
    if "?" in path or "#" in path:
        raise InvalidReference(
            f"{text!r} is not quoted: write ? as %3F and # as %23, or give the path alone."
        )
    return _file(os.fsdecode(unquote_to_bytes("/" + path)), text)


def _file(path: str, text: str) -> SourceUri:
    if "\0" in path:
        raise InvalidReference(f"{text!r} holds a NUL character, which no path may have.")
    key = path.lstrip("/")
    inner = key.removesuffix("/").split("/")
    if key and {"", ".", ".."} & set(inner):
        raise InvalidReference(f"{text!r} has '.', '..' or '//' in it: write where it leads to.")
    return SourceUri(FILE_SCHEME, "", key)
