"""The format, pinned: rows whose digests, shards and roots must stay what they are for ever.

Each JSON file beside this one holds rows and what was made of them once. A failing test shows, as a
diff of the file, what the code makes of them now. A difference is another format: versions that
people have would no longer be found unchanged. To pin something new, write a file with a source and
rows, or a count of numbered ones, and take over what the failing test shows.

Invariants
  * Shards are made by the pipeline itself; digests are checked against the plain model, too.
  * The Parquet file was written once and is never written again; it must stay readable.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from xxhash import xxh3_64_intdigest

from indexer.content import ContentStore, decode_shard
from indexer.keyspace import KeyRange
from indexer.manifest import Manifest, SourceRef, read_manifest
from indexer.page import SCHEMA, make_page, pack_etags, rows_digest, with_all_columns
from indexer.pipeline.rows import Waiting
from indexer.pipeline.seal import Sealer
from indexer.pipeline.shard import Assembler, stretch_of
from indexer.telemetry import Counters
from indexer.trackers.memory import MemoryTracker
from tests.unit.rows_model import Entry, MemoryBlobs, slow_digest
from workers.clock import SystemClock
from workers.pool import Pool
from workers.threads import Threads

FOLDER = Path(__file__).parent
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
PARQUET = "every-column"


def document_of(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return document


@pytest.mark.parametrize("name", FILES)
def test_what_was_made_once_is_made_again(name: str) -> None:
    written = (FOLDER / name).read_text()
    made = text_of(recomputed(document_of(name)))
    difference = difflib.unified_diff(
        written.splitlines(), made.splitlines(), "written once", "made now", lineterm=""
    )
    assert made == written, "\n".join(difference)


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_is_read_from_its_root(name: str) -> None:
    document = document_of(name)
    manifest = read_manifest(document["root"].encode())
    assert manifest.digest == document["digest"]
    assert manifest.sources == (SourceRef(document["source"]),)
    assert [shard.rows for shard in manifest.shards] == document["rows_of_shards"]


@pytest.mark.parametrize("name", [name for name in FILES if "rows" in document_of(name)])
def test_the_plain_model_gives_the_same_digest(name: str) -> None:
    document = document_of(name)
    rows = page_of(document).to_pylist()
    shards = read_manifest(document["root"].encode()).shards
    assert [shard.digest for shard in shards] == ([slow_digest(rows)] if rows else [])


def test_a_shard_of_long_ago_is_read() -> None:
    document = document_of(f"{PARQUET}.json")
    (shard,) = read_manifest(document["root"].encode()).shards
    table = decode_shard((FOLDER / f"{PARQUET}.parquet").read_bytes(), shard.digest)
    assert with_all_columns(table).schema.equals(SCHEMA)
    assert (
        with_all_columns(table).to_pylist()
        == with_all_columns(pa.Table.from_batches([page_of(document)])).to_pylist()
    )
    assert rows_digest(table) == shard.digest


def test_every_kind_of_row_is_pinned() -> None:
    pages = [page_of(document_of(name)) for name in FILES]
    assert {name for page in pages for name in page.schema.names} == set(SCHEMA.names)
    shards = [document_of(name)["rows_of_shards"] for name in FILES]
    assert any(len(rows) > 1 for rows in shards)
    assert any(65_536 in rows for rows in shards)


# --- from a file's rows to what it pins ----------------------------------------------------------


def recomputed(document: dict[str, Any]) -> dict[str, Any]:
    """The document as the code makes it now, from its source and rows."""
    given = ("about", "source", "rows", "numbered")
    made = {name: document[name] for name in given if name in document}
    manifest = asyncio.run(manifest_of(document["source"], page_of(document)))
    return made | {
        "rows_of_shards": [shard.rows for shard in manifest.shards],
        "digest": manifest.digest,
        "root": manifest.root.decode(),
    }


def text_of(document: dict[str, Any]) -> str:
    """A document as its file: a line for each row, so that differences are short."""
    text = json.dumps(document, indent=1)
    rows = document.get("rows")
    if rows:
        lines = ",\n  ".join(map(json.dumps, rows))
        text = json.dumps(document | {"rows": ["?"]}, indent=1).replace('"?"', lines)
    return text + "\n"


async def manifest_of(uri: str, page: pa.RecordBatch) -> Manifest:
    async with Threads(1) as threads:
        waiting = Waiting(ContentStore(MemoryBlobs()), threads)
        sealer = Sealer(
            tracker=MemoryTracker(SystemClock()),
            waiting=waiting,
            threads=threads,
            counters=Counters(),
        )
        async with Pool(1) as pool:
            assembler = Assembler(sealer=sealer, waiting=waiting, pool=pool)
            await assembler.add(stretch_of(KeyRange(), page))
            await assembler.seal_all()
    return Manifest((SourceRef(uri),), tuple(assembler.stretches[0].shards))


def page_of(document: dict[str, Any]) -> pa.RecordBatch:
    if "numbered" in document:
        return numbered_page(**document["numbered"])
    rows = [row_of(row) for row in document["rows"]]
    assert [row["path"] for row in rows] == sorted({row["path"] for row in rows})
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in SCHEMA
    }
    return make_page(columns)


def row_of(document: dict[str, Any]) -> Entry:
    """A row as the file has it: ETags as text, bytes in base64, times in ISO 8601."""
    row: dict[str, Any] = {}
    for name, value in document.items():
        if name.endswith("_base64"):
            row[name.removesuffix("_base64")] = base64.b64decode(value)
        elif name == "path":
            row[name] = value.encode()
        elif name == "last_modified":
            row[name] = datetime.fromisoformat(value)
        elif name == "etag":
            packed = pack_etags([value.encode()])
            row |= {column: array.to_pylist()[0] for column, array in packed.items()}
        else:
            row[name] = value
    return row


def numbered_page(count: int, *, bits_never_zero: int) -> pa.RecordBatch:
    """Rows `0000000` and on, each with the MD5 of its path.

    Left out are paths whose hash has its `bits_never_zero` low bits zero; 0 leaves none out.
    """
    paths: list[bytes] = []
    number = 0
    while len(paths) < count:
        path = b"%07d" % number
        if not bits_never_zero or xxh3_64_intdigest(path) % (1 << bits_never_zero):
            paths.append(path)
        number += 1
    return make_page(
        {
            "path": pa.array(paths, pa.binary()),
            "size": pa.array(range(count), pa.int64()),
            **pack_etags([hashlib.md5(path).hexdigest().encode() for path in paths]),  # noqa: S324
        }
    )
