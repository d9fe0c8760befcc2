"""Checks of what is said of the manifest format, against the format."""

from __future__ import annotations

import hashlib
import re

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.catalog.schema import metadata
from indexer.content import encode_shard
from indexer.page import IDENTITY, OBSERVED, SCHEMA, make_page, pack_etags, rows_digest
from indexer.wandb_digest import WandbDigester
from tests.doc_checks.check import Checks, Complaints, differences
from tests.documents import (
    FORMAT,
    Documents,
    blocks,
    codes,
    run_code,
    section,
    table,
    tables,
)
from tests.golden.test_golden import FILES, document_of, page_of


def example(docs: Documents) -> pa.Table:
    """The entries of the example, as a table."""
    rows = tables(section(docs[FORMAT], "The digest of rows"))[0]
    columns = {
        "path": pa.array([row[0].strip("`").encode() for row in rows], pa.binary()),
        "size": pa.array([int(row[1]) for row in rows], pa.int64()),
        **pack_etags([row[2].strip("`").encode() for row in rows]),
    }
    return pa.Table.from_batches([make_page(columns)])


def columns_are_right(docs: Documents) -> Complaints:
    text = docs[FORMAT]
    rows = table(text, "Entries")
    yield from differences("columns", [row[1].strip("`") for row in rows], SCHEMA.names)
    tags = [str(tag) for tag in range(len(IDENTITY))]
    yield from differences("tags", [row[0] for row in rows], tags + [""] * len(OBSERVED))
    written = pq.ParquetFile(pa.BufferReader(encode_shard(example(docs)))).schema
    true = [
        (
            f"`{column.name}`",
            column.physical_type,
            logical_type(str(column.logical_type)),
            "optional" if column.max_definition_level else "required",
        )
        for column in written
    ]
    yield from differences("Parquet", [(*row,) for row in table(text, "Files of shards")], true)
    said = {row[0]: codes(row[1]) for row in tables(section(text, "The data folder"))[1]}
    known = {f"`{name}`": [c.name for c in each.columns] for name, each in metadata.tables.items()}
    yield from differences("tables of the catalog", said, known)


def logical_type(words: str) -> str:
    for start, name in (
        ("String", "String"),
        ("Int(bitWidth=32, isSigned=false)", "Int, 32 bits, unsigned"),
        ("Timestamp(isAdjustedToUTC=true, timeUnit=milliseconds", "Timestamp, milliseconds, UTC"),
    ):
        if words.startswith(start):
            return name
    return {"None": ""}.get(words, words)


def etags_are_packed_so(docs: Documents) -> Complaints:
    for etag, *said in table(docs[FORMAT], "ETags"):
        packed = pack_etags([etag.strip("`").encode()])
        values = [packed[name][0].as_py() if name in packed else None for name in PACKED]
        true = [v.hex() if isinstance(v, bytes) else "" if v is None else str(v) for v in values]
        yield from differences(etag, [cell.strip("`") for cell in said], true)


PACKED = ("etag_md5", "etag_parts", "etag_raw")


def digests_are_right(docs: Documents) -> Complaints:
    text, rows = docs[FORMAT], example(docs)
    dump = blocks(section(text, "The digest of rows"), "text")[0].text
    hashed = bytes.fromhex(re.sub(r"#.*", "", dump))
    (said,) = re.findall(r"The digest: `(\w+)`", text)
    yield from differences("bytes that are hashed", hashlib.sha256(hashed).hexdigest(), said)
    yield from differences("digest of rows", said, rows_digest(rows))
    root = blocks(section(text, "The root"), "json")[0].text.strip().encode()
    names = run_code(text)
    yield from differences(
        "root", root, names["root_of"]([("", "s3://bucket/data/")], rows.to_pylist())
    )
    (digest,) = re.findall(r"^`(sha256:\w+)`$", text, re.MULTILINE)
    yield from differences("digest", digest, "sha256:" + hashlib.sha256(root).hexdigest())
    for path, value, ends in table(text, "Where shards end"):
        true = names["xxh3_64_intdigest"](path.strip("`").encode())
        yield from differences(path, value, f"`{true:016x}`")
        yield from differences(f"cut after {path}", ends, "no" if true % 2**14 else "yes")


def wandb_digest_is_right(docs: Documents) -> Complaints:
    text = section(docs[FORMAT], "The W&B digest")
    digester = WandbDigester()
    digester.add(example(docs))
    (said,) = re.findall(r"The W&B digest: `(\w+)`", text)
    yield from differences("digest", said, digester.finish().digest)
    hashed = hashlib.md5(blocks(text, "text")[0].text.encode(), usedforsecurity=False)
    yield from differences("bytes that are hashed", hashed.hexdigest(), said)
    refused = [path.encode() for row in tables(text)[0] for path in codes(row[0])]
    for path in (*refused, b"", b"\xff"):
        if wandb_reason(path) is None:
            yield f"{path!r} is not refused"


def wandb_reason(path: bytes) -> str | None:
    columns = {"path": pa.array([path], pa.binary()), "size": pa.array([1], pa.int64())}
    digester = WandbDigester()
    digester.add(pa.Table.from_batches([make_page(columns | pack_etags([b"etag"]))]))
    return digester.finish().reason


def the_code_makes_what_we_make(docs: Documents) -> Complaints:
    """The document's own code gives the roots that the golden files pin."""
    root_of = run_code(docs[FORMAT])["root_of"]
    for name in FILES:
        document = document_of(name)
        root = root_of([("", document["source"])], page_of(document).to_pylist())
        yield from differences(name, root.decode()[-200:], document["root"][-200:])


CHECKS: Checks = {
    columns_are_right: [
        (FORMAT, "| 2 | `uri`", "| 2 | `url`"),
        (FORMAT, "| `uri` | BYTE_ARRAY | String |", "| `uri` | BYTE_ARRAY | |"),
        (FORMAT, "`notes`, ", ""),
    ],
    etags_are_packed_so: [(FORMAT, "| `2` | |", "| `3` | |")],
    digests_are_right: [
        (FORMAT, "01 00  ", "01 01  "),
        (FORMAT, "The digest: `d", "The digest: `e"),
        (FORMAT, '"rows":3', '"rows":4'),
        (FORMAT, "`sha256:5e2", "`sha256:5e3"),
        (FORMAT, "`73bd5f7387c80000`", "`73bd5f7387c80001`"),
    ],
    wandb_digest_is_right: [
        (FORMAT, "b/z:W/opaque", "b/z:W/other"),
        (FORMAT, "digest: `28", "digest: `29"),
        (FORMAT, "`/a`, `a//b`", "`/a`, `a/b`"),
    ],
    the_code_makes_what_we_make: [
        (FORMAT, "bits - 2)", "bits - 4)"),
        (FORMAT, '"<Q", len(rows)', '">Q", len(rows)'),
    ],
}
