"""Page: the Arrow record batch of entries that flows through the pipeline, and its digest.

Invariants
  * Rows ascend strictly by `path`, compared as bytes; a path occurs once.
  * `path` and `size` are always there. Another column is absent from a page when none of its rows
    has a value; nothing tells an absent column from one that is all null.
  * Each ETag is held once: as `etag_md5` (with `etag_parts` when it was a multipart upload's)
    where that packing gives back the very same text, else as `etag_raw`.
  * The digest of rows is a function of their identity columns alone: not of how they are chunked,
    of absent columns, of observed columns, or of any file they are kept in.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

IDENTITY: Final = (
    pa.field("path", pa.binary(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("uri", pa.string()),
    pa.field("etag_md5", pa.binary(16)),
    pa.field("etag_parts", pa.uint32()),
    pa.field("etag_raw", pa.string()),
    pa.field("version_id", pa.string()),
    pa.field("checksum_algorithm", pa.string()),
    pa.field("checksum_type", pa.string()),
    pa.field("checksum", pa.binary()),
    pa.field("mtime_ns", pa.int64()),
)
"""The columns that say what an object is, in the order in which they are hashed."""

OBSERVED: Final = (
    pa.field("last_modified", pa.timestamp("ms", tz="UTC")),
    pa.field("storage_class", pa.string()),
)
"""The columns that say what was seen of it; a change in one of them makes no new version."""

SCHEMA: Final = pa.schema([*IDENTITY, *OBSERVED])

DIGEST_HEADER: Final = b"indexer-shard/1\0"

MD5_HEX_CHARACTERS: Final = 32

PARTS_DIGITS_MAX: Final = len(str(2**32 - 1))
"""A multipart upload's count of parts is packed as a u32."""

_BETTER_THAN_TIMES: Final = ("version_id", "etag_md5", "etag_raw", "checksum")

Page: TypeAlias = pa.RecordBatch


def make_page(columns: dict[str, pa.Array]) -> Page:
    """A page of the given columns, in the schema's order, without those that are all null.

    Raises `AssertionError` when `path` or `size` is missing or a column is not of the schema.
    """
    assert {"path", "size"} <= columns.keys() <= set(SCHEMA.names)
    kept = [field for field in SCHEMA if _has_values(columns.get(field.name), field)]
    return pa.RecordBatch.from_arrays(
        [columns[field.name] for field in kept], schema=pa.schema(kept)
    )


def empty_page() -> Page:
    """A page without rows."""
    return make_page({"path": pa.array([], pa.binary()), "size": pa.array([], pa.int64())})


def _has_values(column: pa.Array | None, field: pa.Field) -> bool:
    if column is None:
        return False
    return not field.nullable or column.null_count < len(column)


def paths_of(page: Page | pa.Table) -> list[bytes]:
    """The paths of a page's rows, in order."""
    return page.column("path").to_pylist()  # type: ignore[no-any-return]


def is_ascending(keys: Sequence[bytes]) -> bool:
    """Whether keys ascend strictly as bytes."""
    following = iter(keys)
    next(following, None)
    return all(map(lt, keys, following))


def ascends(page: Page | pa.Table) -> bool:
    """Whether a page's paths ascend strictly as bytes; as columns, which lets other threads run."""
    paths = page.column("path")
    flat = paths.combine_chunks() if isinstance(paths, pa.ChunkedArray) else paths
    return pc.all(pc.less(flat[:-1], flat[1:]), min_count=0).as_py()  # type: ignore[no-any-return]


def with_prefix(page: Page, prefix: bytes) -> Page:
    """The page with `prefix` in front of all of its paths."""
    nothing = pa.scalar(b"", pa.binary())
    paths = pc.binary_join_element_wise(
        pa.scalar(prefix, pa.binary()), page.column("path"), nothing
    )
    columns = [paths if name == "path" else page.column(name) for name in page.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=page.schema)


def without_needless_times(page: Page) -> Page:
    """The page without modification times of rows that something better tells apart.

    That is a version id, an ETag or a checksum: a file that was merely touched, or copied, is then
    still the same.
    """
    names = page.schema.names
    if "mtime_ns" not in names:
        return page
    better = [name for name in _BETTER_THAN_TIMES if name in names]
    times = page.column("mtime_ns")
    for name in better:
        times = pc.if_else(pc.is_valid(page.column(name)), pa.scalar(None, pa.int64()), times)
    columns = {name: page.column(name) for name in names} | {"mtime_ns": times}
    return make_page(columns) if better else page


def pack_times(texts: pa.Array) -> pa.Array:
    """ISO 8601 times as the schema has them, in milliseconds. Raises `pa.ArrowInvalid`."""
    type_ = SCHEMA.field("last_modified").type
    try:
        return pc.cast(texts, type_)
    except pa.ArrowInvalid:
        # Finer than milliseconds: what is below them is cut off.
        return pc.cast(pc.cast(texts, pa.timestamp("ns", tz="UTC")), type_, safe=False)


def pack_etags(etags: Sequence[bytes | None]) -> dict[str, pa.Array]:
    """The three ETag columns for ETags without their outer quotes, as bytes of the response.

    None is for a row that has no ETag. Most pages hold plain MD5s alone, which are packed in one
    call.
    """
    if None not in etags and (packed := _pack_md5s(etags)):  # type: ignore[arg-type]
        return packed
    md5s: list[bytes | None] = []
    parts: list[int | None] = []
    raws: list[str | None] = []
    for etag in etags:
        packed_one = None if etag is None else _pack_etag(etag)
        md5s.append(packed_one[0] if packed_one else None)
        parts.append(packed_one[1] if packed_one else None)
        raws.append(None if etag is None or packed_one else etag.decode("utf-8", "replace"))
    return {
        "etag_md5": pa.array(md5s, pa.binary(16)),
        "etag_parts": pa.array(parts, pa.uint32()),
        "etag_raw": pa.array(raws, pa.string()),
    }


def _pack_md5s(etags: Sequence[bytes]) -> dict[str, pa.Array] | None:
    joined = b"".join(etags)
    if not (set(map(len, etags)) <= {MD5_HEX_CHARACTERS} and _are_lower_hex(joined)):
        return None
    packed = pa.py_buffer(binascii.unhexlify(joined))
    return {"etag_md5": pa.Array.from_buffers(pa.binary(16), len(etags), [None, packed])}


def _are_lower_hex(text: bytes) -> bool:
    try:
        return binascii.hexlify(binascii.unhexlify(text)) == text
    except binascii.Error:
        return False


def _pack_etag(etag: bytes) -> tuple[bytes, int | None] | None:
    digest, dash, count = etag.partition(b"-")
    if len(digest) != MD5_HEX_CHARACTERS or not _are_lower_hex(digest):
        return None
    if not dash:
        return binascii.unhexlify(digest), None
    # Only a count that is written the same way again may be packed: `-03` and `-0` are kept raw.
    if not count.isdigit() or count.startswith(b"0") or len(count) > PARTS_DIGITS_MAX:
        return None
    if int(count) >= 2**32:
        return None
    return binascii.unhexlify(digest), int(count)


def etag_texts(page: Page | pa.Table) -> pa.ChunkedArray | pa.Array:
    """The ETags of a page's rows as strings, without quotes; null where a row has none."""
    rows = page.num_rows
    names = page.schema.names
    texts = pa.nulls(rows, pa.string())
    if "etag_md5" in names:
        texts = _hex_strings(page.column("etag_md5"))
        if "etag_parts" in names:
            parts = pc.cast(page.column("etag_parts"), pa.string())
            texts = pc.coalesce(pc.binary_join_element_wise(texts, parts, "-"), texts)
    if "etag_raw" in names:
        texts = pc.coalesce(texts, page.column("etag_raw"))
    return texts


def _hex_strings(digests: pa.Array | pa.ChunkedArray) -> pa.Array:
    flat = digests.combine_chunks() if isinstance(digests, pa.ChunkedArray) else digests
    valid = pc.is_valid(flat)
    filled = flat.fill_null(bytes(16)) if flat.null_count else flat
    raw = filled.buffers()[1]
    start = filled.offset * 16
    text = pa.py_buffer(memoryview(raw)[start : start + len(flat) * 16].hex().encode())
    hexes = pa.Array.from_buffers(pa.binary(MD5_HEX_CHARACTERS), len(flat), [None, text])
    strings = pc.cast(pc.cast(hexes, pa.binary()), pa.string())
    return pc.if_else(valid, strings, pa.scalar(None, pa.string())) if flat.null_count else strings


def join_pages(pages: Iterable[Page]) -> pa.Table:
    """One table of all pages' rows, each column in one chunk, in the schema's order.

    Columns that any page has are there; the others stay absent.
    """
    tables = [pa.Table.from_batches([page]) for page in pages]
    joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
    return joined.select([name for name in SCHEMA.names if name in joined.schema.names])


def with_all_columns(table: pa.Table) -> pa.Table:
    """The table with every column of the schema, absent ones as nulls."""
    columns = [
        table.column(field.name)
        if field.name in table.schema.names
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def without_null_columns(table: pa.Table) -> pa.Table:
    """The table without the columns that have no value."""
    return table.select(
        [
            field.name
            for field in SCHEMA
            if field.name in table.schema.names and _has_values(table.column(field.name), field)
        ]
    )


def rows_digest(table: pa.Table) -> str:
    """The lower-case hexadecimal SHA-256 that names these rows.

    Hashed are the header, the number of rows (u64) and, for each identity column that has a value:
    its tag (u8, its place in `IDENTITY`); whether it has nulls (u8) and, if so, a validity bitmap
    (least significant bit first, padded with zero bits); then, for columns of variable length,
    every length (u32) and all bytes, else all values. Numbers are little endian, nulls are zero.
    """
    digest = hashlib.sha256(DIGEST_HEADER)
    digest.update(table.num_rows.to_bytes(8, "little"))
    for tag, field in enumerate(IDENTITY):
        if field.name not in table.schema.names:
            continue
        column = table.column(field.name)
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if field.nullable and array.null_count == len(array):
            continue
        digest.update(bytes((tag, array.null_count > 0)))
        for piece in _canonical_bytes(array):
            digest.update(piece)
    return digest.hexdigest()


def _canonical_bytes(array: pa.Array) -> Iterator[bytes | memoryview]:
    rows = len(array)
    if array.null_count:
        yield _bitmap(pc.is_valid(array))
        array = array.fill_null(_zero_of(array.type))
    if pa.types.is_binary(array.type) or pa.types.is_string(array.type):
        lengths = pc.cast(pc.binary_length(array), pa.uint32())
        yield memoryview(lengths.buffers()[1])[: rows * 4]
        offsets = memoryview(array.buffers()[1]).cast("i")
        start, end = offsets[array.offset], offsets[array.offset + rows]
        data = array.buffers()[2]
        if data is not None:
            yield memoryview(data)[start:end]
        return
    width = array.type.bit_width // 8
    start = array.offset * width
    yield memoryview(array.buffers()[1])[start : start + rows * width]


def _zero_of(kind: pa.DataType) -> bytes | str | int:
    if pa.types.is_fixed_size_binary(kind):
        return bytes(kind.byte_width)
    if pa.types.is_binary(kind):
        return b""
    return "" if pa.types.is_string(kind) else 0


def _bitmap(flags: pa.BooleanArray) -> bytes:
    assert flags.offset == 0
    size = (len(flags) + 7) // 8
    bits = bytearray(memoryview(flags.buffers()[1])[:size])
    if len(flags) % 8:
        bits[-1] &= (1 << len(flags) % 8) - 1
    return bytes(bits)
