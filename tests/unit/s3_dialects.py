"""Listing responses as different servers write them, and the two ways in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import escape
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, quote_plus

import pyarrow as pa
from hypothesis import strategies as st

from indexer.page import Page, etag_texts
from indexer.stores import s3_xml
from indexer.stores.s3_wire import Listing, Operation, Question, parse_listing

MD5 = "0123456789abcdef0123456789abcdef"
TIME = datetime(2024, 2, 29, 23, 59, 59, 123000, UTC)


@dataclass(frozen=True)
class Row:
    """One row of a listing. `extras` are elements that nobody reads, as they stand in the XML."""

    key: str
    size: int = 1
    etag: str = MD5
    time: datetime = TIME
    storage_class: str = "STANDARD"
    version_id: str = "v1"
    is_latest: bool = True
    is_marker: bool = False
    extras: tuple[str, ...] = ()


Elements = list[tuple[str, str]]
Text = Callable[[str], str]


@dataclass(frozen=True)
class Dialect:
    """How a server writes: the quote of an ETag, what stands between elements, encodings."""

    quote: str = "&quot;"
    separator: str = ""
    url: Callable[[str], str] | None = quote_plus
    milliseconds: bool = False
    shuffles: bool = False
    heads_last: bool = False

    def key(self, key: str) -> str:
        return self.url(key) if self.url else escape(key)

    def time(self, time: datetime) -> str:
        shown = time.isoformat(timespec="milliseconds" if self.milliseconds else "seconds")
        return shown.removesuffix("+00:00") + ("Z" if self.milliseconds else ".000Z")


AWS = Dialect()
MINIO = Dialect(
    quote="&#34;", url=lambda key: quote(key, safe="/"), milliseconds=True, heads_last=True
)
MOTO = Dialect(quote='"', separator="\n  ", url=lambda key: quote(key, safe=""))
PLAIN = Dialect(url=None)
SHUFFLED = Dialect(shuffles=True)
DIALECTS = {"aws": AWS, "minio": MINIO, "moto": MOTO, "plain": PLAIN, "shuffled": SHUFFLED}


def render_row(row: Row, dialect: Dialect, chance: Random, *, versions: bool) -> str:
    elements = [f"<Key>{dialect.key(row.key)}</Key>"]
    if versions:
        elements.append(f"<VersionId>{escape(row.version_id)}</VersionId>")
        elements.append(f"<IsLatest>{'true' if row.is_latest else 'false'}</IsLatest>")
    elements.append(f"<LastModified>{dialect.time(row.time)}</LastModified>")
    if not row.is_marker:
        etag = escape(row.etag, quote=False)
        elements.append(f"<ETag>{dialect.quote}{etag}{dialect.quote}</ETag>")
        elements += [extra for extra in row.extras if extra.startswith("<Checksum")]
        elements.append(f"<Size>{row.size}</Size>")
        elements.append(f"<StorageClass>{escape(row.storage_class)}</StorageClass>")
    elements += [extra for extra in row.extras if not extra.startswith("<Checksum")]
    if dialect.shuffles:
        chance.shuffle(elements)
    tag = ("DeleteMarker" if row.is_marker else "Version") if versions else "Contents"
    return dialect.separator.join([f"<{tag}>", *elements, f"</{tag}>"])


def render(
    rows: Sequence[Row],
    dialect: Dialect = AWS,
    *,
    versions: bool = False,
    more: bool = False,
    head: Sequence[str] = (),
    prefix: str = "",
    seed: int = 0,
) -> bytes:
    """The whole body; keys of `rows` are below `prefix`."""
    chance = Random(seed)
    root = "ListVersionsResult" if versions else "ListBucketResult"
    heads = [
        "<Name>bucket</Name>",
        f"<Prefix>{dialect.key(prefix)}</Prefix>",
        "<MaxKeys>1000</MaxKeys>",
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>",
        *(["<EncodingType>url</EncodingType>"] if dialect.url else []),
        *([] if versions else [f"<KeyCount>{len(rows)}</KeyCount>"]),
        *head,
    ]
    written = [
        render_row(replace(row, key=prefix + row.key), dialect, chance, versions=versions)
        for row in rows
    ]
    parts = [*written, *heads] if dialect.heads_last else [*heads, *written]
    inside = dialect.separator.join(parts)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{root}>\n'
    ).encode()


def operation(*, versions: bool) -> Operation:
    return "ListObjectVersions" if versions else "ListObjectsV2"


def parse(body: bytes, *, versions: bool = False, prefix: str = "") -> Listing:
    return parse_listing(body, Question(operation(versions=versions), prefix.encode()))


def parse_slowly(body: bytes, *, versions: bool = False, prefix: str = "") -> Listing:
    return read_slowly(body, Question(operation(versions=versions), prefix.encode()))


def read_slowly(body: bytes, question: Question) -> Listing:
    """As `parse_listing`, by lxml."""
    with patch.object(s3_xml, "fast_columns", return_value=None):
        return parse_listing(body, question)


def is_fast(body: bytes, *, versions: bool = False) -> bool:
    """Whether the body is read without lxml."""
    return s3_xml.fast_columns(body, operation(versions=versions)) is not None


def prefixed(body: bytes) -> bytes:
    """The same document with its elements' namespace in every tag."""
    body = body.replace(b"<", b"<s3:").replace(b"<s3:/", b"</s3:").replace(b"<s3:?", b"<?")
    return body.replace(b"xmlns=", b"xmlns:s3=")


def dictionaries(page: Page) -> list[dict[str, Any]]:
    etags = pa.array(etag_texts(page)).to_pylist()
    times = page.column("last_modified") if "last_modified" in page.schema.names else None
    return [
        {
            "key": row["path"].decode(),
            "size": row["size"],
            "etag": etag,
            "time": times and row["last_modified"],
            "storage_class": row.get("storage_class"),
            "version_id": row.get("version_id"),
        }
        for row, etag in zip(page.to_pylist(), etags, strict=True)
    ]


def expected(rows: Sequence[Row], dialect: Dialect, *, versions: bool) -> list[dict[str, Any]]:
    return [
        {
            "key": row.key,
            "size": row.size,
            "etag": row.etag or None,
            "time": row.time if dialect.milliseconds else row.time.replace(microsecond=0),
            "storage_class": row.storage_class,
            "version_id": row.version_id if versions else None,
        }
        for row in rows
        if row.is_latest and not row.is_marker
    ]


XML_TEXT = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffd\ufffe\uffff")
ANY_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
EXTRAS = st.lists(
    st.sampled_from(
        (
            "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>",
            "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>",
            "<Owner><ID>02d6176db174</ID><DisplayName>minio</DisplayName></Owner>",
            "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>",
            "<UserMetadata><Key>not a key</Key><Size>-1</Size></UserMetadata>",
        )
    ),
    max_size=3,
    unique=True,
).map(tuple)
ETAGS = st.one_of(
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.builds("{}-{}".format, st.just(MD5), st.integers(1, 20_000)),
    st.sampled_from(["", MD5.upper(), f"{MD5}-03", "not-md5", "a&b", 'a"b', f"{MD5[:31]}é"]),
)


@st.composite
def listings(draw: st.DrawFn) -> tuple[list[Row], Dialect, bool]:
    """Rows in key order, a dialect to write them in, and whether they are versions."""
    dialect = draw(st.sampled_from(list(DIALECTS.values())))
    text = st.text(ANY_TEXT if dialect.url else XML_TEXT, min_size=1, max_size=12)
    keys = draw(st.lists(text, max_size=12, unique=True).map(lambda k: sorted(k, key=str.encode)))
    versions = draw(st.booleans())
    usual = draw(EXTRAS)
    rows: list[Row] = []
    for key in keys:
        for age in range(draw(st.integers(1, 3)) if versions else 1):
            row = Row(
                key=key,
                size=draw(st.integers(0, 5 * 2**40)),
                etag=draw(ETAGS),
                time=TIME + timedelta(milliseconds=draw(st.integers(0, 10**9))),
                storage_class=draw(st.sampled_from(["STANDARD", "GLACIER", "DEEP_ARCHIVE"])),
                version_id=draw(
                    st.sampled_from(["null", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY", "a&b"])
                ),
                is_latest=age == 0,
                is_marker=versions and draw(st.booleans()),
                extras=draw(st.one_of(st.just(usual), EXTRAS)),
            )
            rows.append(row)
    return rows, dialect, versions
