"""Checks of what is said of stores, of what is asked of objects, and of the contract."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache

from indexer import errors
from indexer.checksums import CHECKSUMS
from indexer.config import SYMLINKS
from indexer.globs import translate
from indexer.records import Consistency
from indexer.sources import SCHEMES
from indexer.stores import s3_objects
from indexer.stores.s3_endpoint import ENDPOINT_VARIABLES
from indexer.stores.s3_probe import Facts
from indexer.testing.past_suite import PastSuite
from indexer.testing.store_suite import HOSTILE_KEYS, StoreSuite
from tests.doc_checks.check import Checks, Complaints, differences
from tests.documents import (
    COMMAND,
    CONTRACT,
    ENRICHMENT,
    README,
    ROOT,
    STORES,
    Documents,
    codes,
    section,
    table,
    tables,
)
from tests.store_table import LEGEND, PASSED, REFUSED, SERVERS, cases, words


def schemes_are_documented(docs: Documents) -> Complaints:
    """Every scheme stands in the table of stores, and among what a command takes."""
    overview = tables(docs[STORES])[0]
    said = [scheme for row in overview for scheme in schemes_in(row[1])]
    yield from differences("schemes of stores", sorted(said), sorted(SCHEMES))
    said = [scheme for row in table(docs[COMMAND], "Names") for scheme in schemes_in(row[0])]
    yield from differences("schemes of the command", {*said} >= {*SCHEMES}, true=True)
    said = [scheme for row in tables(docs[README])[0] for scheme in schemes_in(row[0])]
    yield from differences("schemes of the README", {*said} <= {*SCHEMES} and len(said), 5)


def schemes_in(cell: str) -> list[str]:
    return [m[1] for code in codes(cell) if (m := re.match(r"([a-z0-9+]+)://", code))]


def checksums_are_documented(docs: Documents) -> Complaints:
    text = section(docs[ENRICHMENT], "Checksums")
    said = [name for row in tables(text)[0] for name in codes(row[0])]
    yield from differences("checksums", sorted(said), sorted(CHECKSUMS))
    (strongest,) = re.findall(r"in the order (.*?),\s+and only", text, re.DOTALL)
    yield from differences("strength", codes(strongest), [*s3_objects.CHECKSUMS])


def words_are_documented(docs: Documents) -> Complaints:
    """What a value may be: moments of versions, links, abilities of a server."""
    said = [codes(row[0]) for row in table(docs[ENRICHMENT], "Of what moment a version is")]
    yield from differences("consistency", said, [[one.value] for one in Consistency])
    linked = {code.split()[-1] for code in codes(section(docs[STORES], "Files and NFS"))}
    yield from differences("symlinks", {*SYMLINKS} - linked, set())
    rows = table(docs[STORES], "What an S3 server can do")
    said = [codes(row[0])[:1] for row in rows]
    able = Facts("").abilities(keeps_versions=True)
    yield from differences("abilities", said, [[name] for name in able if name != "known_from"])
    kinds = {
        kind.kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.IndexerError)
    }
    for row in tables(section(docs[STORES], "S3"))[1]:
        if not {*codes(row[1])[:1]} <= kinds:
            yield f"{row[1]} is no error"
    if ENDPOINT_VARIABLES[1] not in codes(section(docs[STORES], "S3")):
        yield f"{ENDPOINT_VARIABLES[1]} is not told"


def globs_are_globs(docs: Documents) -> Complaints:
    rows = table(docs[COMMAND], "Globs")
    for glob in (glob for row in rows for glob in codes(row[0])):
        try:
            translate(glob)
        except errors.InvalidSetting as error:
            yield str(error)
    yield from differences("globs", len(rows) > 3, true=True)


# --- the contract


@cache
def suites() -> dict[str, type[StoreSuite]]:
    """Every class of the contract tests that inherits a suite, by name."""
    found = {}
    for path in sorted((ROOT / "tests" / "contract").glob("test_*.py")):
        module = importlib.import_module(f"tests.contract.{path.stem}")
        for name, value in vars(module).items():
            is_suite = inspect.isclass(value) and issubclass(value, StoreSuite)
            if is_suite and name.startswith("Test") and value.__module__ == module.__name__:
                found[name] = value
    return found


def the_contract_is_whole(docs: Documents) -> Complaints:
    """The table has every case and every server, and says nothing that cannot be."""
    text = docs[CONTRACT]
    yield from differences("servers that are named", sorted(SERVERS), sorted(suites()))
    servers, rows = tables(text)
    yield from differences("servers", [tuple(row) for row in servers], [*SERVERS.values()])
    every = [words(case) for case in cases(PastSuite)]
    yield from differences("cases", [row[0] for row in rows], [*every, REFUSED])
    notes = {
        f"({number})" for number, _ in enumerate(re.findall(r"^\d+\. ", text, re.MULTILINE), 1)
    }
    for row in rows[:-1]:
        for name, cell in zip(SERVERS, row[1:], strict=True):
            is_asked = row[0] in {words(case) for case in cases(suites()[name])}
            if not {*cell.split()} <= {PASSED, *notes} or bool(cell) != is_asked:
                yield f"{name}: {row[0]} cannot be {cell!r}"
    for name, cell in zip(SERVERS, rows[-1][1:], strict=True):
        if int(cell) > suites()[name].refused_max:
            yield f"{name} refuses {cell} keys, and may refuse {suites()[name].refused_max}"
    yield from differences("hostile keys", str(len(HOSTILE_KEYS)) in text, true=True)
    yield from differences("legend", LEGEND in text, true=True)


CHECKS: Checks = {
    schemes_are_documented: [
        (STORES, "`urls+http://host/list.txt`, ", ""),
        (COMMAND, "| `file:///folder/`, `/folder/`", "| `/folder/`"),
        (README, "| `gs://bucket/prefix/` |", "| `gcs://bucket/prefix/` |"),
    ],
    checksums_are_documented: [
        (ENRICHMENT, "| `sha256`, `crc64nvme`, `blake3` |", "| `sha256`, `blake3` |"),
        (ENRICHMENT, "`sha256`, `sha1`, `crc64nvme`", "`sha256`, `crc64nvme`, `sha1`"),
    ],
    words_are_documented: [
        (ENRICHMENT, "| `window` |", "| `span` |"),
        (STORES, "`--symlinks follow`", "`--symlinks all`"),
        (STORES, "| `ordered`: keys", "| `sorted`: keys"),
        (STORES, "| `object-changed` |", "| `changed` |"),
        (STORES, "`AWS_ENDPOINT_URL`", "`AWS_ENDPOINT`"),
    ],
    globs_are_globs: [(COMMAND, "| `**/*.jpg` |", "| `**.jpg` |")],
    the_contract_is_whole: [
        (CONTRACT, "| MinIO | MinIO, over a folder |\n", ""),
        (CONTRACT, "| hostile prefixes |", "| prefixes |"),
        (CONTRACT, "| an empty folder | ✓ |", "| an empty folder | (9) |"),
        (CONTRACT, "| there was nothing before | ✓ |", "| there was nothing before |  |"),
        (CONTRACT, f"| {REFUSED} | 0 | 12 |", f"| {REFUSED} | 0 | 13 |"),
        (CONTRACT, "skipped, for the\n", "skipped for the\n"),
    ],
}
