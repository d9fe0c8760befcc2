"""The documents against the code: what they say is what there is.

Invariants
  * A check reads all documents and yields complaints. Each is tried on documents into which a
    mistake was planted, so none can pass by looking away.
  * What needs a server is in `integration/test_docs_on_servers.py`: the README's commands among it.
"""

from __future__ import annotations

import inspect

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.content import decode_shard
from indexer.page import SCHEMA
from tests.doc_checks import command, daemon, everywhere, manifest_format, project, stores
from tests.doc_checks.check import Check, Checks
from tests.documents import FORMAT, documents, run_code

CHECKS: Checks = {
    check: mistakes
    for module in (everywhere, command, project, stores, daemon, manifest_format)
    for check, mistakes in module.CHECKS.items()
}


def name_of(value: object) -> str | None:
    return value.__name__ if inspect.isfunction(value) else None


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_the_documents_are_right(check: Check) -> None:
    assert list(check(documents())) == []


@pytest.mark.parametrize(
    ("check", "path", "old", "new"),
    [(check, *planted) for check, mistakes in CHECKS.items() for planted in mistakes],
    ids=lambda value: name_of(value) or "",
)
def test_a_mistake_is_seen(check: Check, path: str, old: str, new: str) -> None:
    text = documents()[path]
    assert old in text
    wrong = text.replace(old, new, 1) if old else text + new
    assert next(check({**documents(), path: wrong}), None) is not None


def test_a_file_by_the_code_of_the_format_is_taken() -> None:
    rows = manifest_format.example(documents()).to_pylist()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="none")
    digest = run_code(documents()[FORMAT])["rows_digest"](rows)
    assert decode_shard(sink.getvalue().to_pybytes(), digest).to_pylist() == rows
