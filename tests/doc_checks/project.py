"""Checks of what is said of the project: its bounds, its modules, its dependencies."""

from __future__ import annotations

import ast
import re
import tomllib

from indexer import limits
from indexer.pipeline.carry import MODIFIED_SLACK_S
from tests.doc_checks.check import Checks, Complaints, differences
from tests.documents import (
    COMMAND,
    CONTRIBUTING,
    ENRICHMENT,
    HTTP,
    LISTING,
    OWN,
    ROOT,
    STORES,
    Documents,
    blocks,
    codes,
    section,
    table,
    tables,
)

LIMIT = re.compile(
    r"(?!INDEXER_|AWS_)[A-Z]+(_[A-Z]+)*_(MAX|MIN|S|BYTES|DEFAULT|START|ROWS|CALL|ONCE)"
)
"""What looks like the name of a bound."""


def limits_are_right(docs: Documents) -> Complaints:
    """Bounds that are named are there, and those in tables have the value that is said."""
    for path in OWN:
        for row in (row for rows in tables(docs[path]) for row in rows):
            name = row[0].strip("`")
            if LIMIT.fullmatch(name):
                bound = getattr(limits, name, None)
                yield from differences(f"{path}: {name}", amount_of(row[1]), bound)
        for name in filter(LIMIT.fullmatch, codes(docs[path])):
            if not hasattr(limits, name):
                yield f"{path}: {name} is no limit"
    for path, heading, wanted in (
        (LISTING, "How many requests at once", {"IN_FLIGHT_START", "REQUEST_ATTEMPTS_MAX"}),
        (HTTP, "Limits", limits_of_the_daemon() - {"MIB", "LAG_INTERVAL_S"}),
        (STORES, "Bounds", {"SOURCES_MAX", "GCS_PAGE_ROWS", "HTTP_DEPTH_MAX", "URL_LIST_URLS_MAX"}),
        (ENRICHMENT, "Limits to requests", {"READ_RANGE_BYTES", "READ_AHEAD_MAX"}),
    ):
        missing = wanted - {*codes(section(docs[path], heading))}
        if missing:
            yield f"{path}: limits are missing: {missing}"


def amount_of(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * {"KiB": 1024, "MiB": 1024**2}.get(unit, 1)


def numbers_in_sentences_are_right(docs: Documents) -> Complaints:
    for path, sentence, *bounds in SENTENCES:
        said = sentence.format(*(f"{bound:,.0f}" for bound in bounds))
        if said not in " ".join(docs[path].split()):
            yield f"{path} does not say: {said}"


SENTENCES = (
    (COMMAND, "each has one, {} sources at most", limits.SOURCES_MAX),
    (
        *(COMMAND, "A glob has at most {} characters, all globs together {}."),
        *(limits.GLOB_CHARACTERS_MAX, limits.GLOBS_CHARACTERS_MAX),
    ),
    (COMMAND, "the first {} paths that would be kept", limits.PREVIEW_PATHS_MAX),
    (COMMAND, "at most {} characters |", limits.NOTES_CHARACTERS_MAX),
    (STORES, "for the listing, {} objects a page", limits.GCS_PAGE_ROWS),
    (STORES, "more than {} MiB (`S3_PAGE_BYTES_MAX`)", limits.S3_PAGE_BYTES_MAX // limits.MIB),
    (
        *(STORES, "sends fewer than {} bytes of an object in {} s"),
        *(limits.READ_BYTES_MIN, limits.REQUEST_TIMEOUT_S),
    ),
    (ENRICHMENT, "One of up to {} MiB is read by one", limits.READ_RANGE_BYTES // limits.MIB),
    (ENRICHMENT, "together {} MiB are on their way", limits.READ_BYTES_MAX // limits.MIB),
    (ENRICHMENT, "less than {} seconds before it was last looked at", MODIFIED_SLACK_S),
)
"""Documents, sentences with numbers in them, and the bounds that these are."""


def limits_of_the_daemon() -> set[str]:
    """The bounds that the daemon's own modules and its service know."""
    paths = [*(ROOT / "indexer" / "daemon").rglob("*.py"), ROOT / "indexer" / "service.py"]
    return {
        alias.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "indexer.limits"
        for alias in node.names
    }


def the_map_is_whole(docs: Documents) -> Complaints:
    text = docs[CONTRIBUTING]
    mapped = re.findall(r"`indexer/(\w+)(?:\.py|/)`", section(text, "Where things are"))
    names = {path.stem for path in (ROOT / "indexer").iterdir() if path.suffix in ("", ".py")}
    there = names - {"__pycache__"}
    yield from differences("modules", sorted(set(mapped)), sorted(there))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    kept = [[n for n in re.findall(r"\w+", layer) if n in there] for layer in layers]
    lines = blocks(section(text, "Where things are"), "text")[0].text.splitlines()
    said = [re.findall(r"\w+", line) for line in lines]
    yield from differences("layers", said, [layer for layer in kept if layer])


def dependencies_are_told(docs: Documents) -> Complaints:
    """Each library that is asked for has a line that says what for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (together,) = extras["all"]
    names = re.search(r"\[(.+)\]", together)[1].split(",")  # type: ignore[index]
    asked = [*project["dependencies"], *(library for name in names for library in extras[name])]
    true = {re.match(r"[\w-]+", each)[0].lower() for each in asked}  # type: ignore[index]
    said = {
        name.lower()
        for row in table(docs[CONTRIBUTING], "Dependencies")
        for name in re.findall(r"[A-Za-z][\w-]+", row[0].partition(" (")[0])
    }
    yield from differences("dependencies", sorted(said), sorted(true))


CHECKS: Checks = {
    limits_are_right: [
        (LISTING, "| 1,024 |", "| 1,000 |"),
        (HTTP, "| 16 KiB |", "| 32 KiB |"),
        (HTTP, "| 0.25 s |", "| 0.5 s |"),
        (HTTP, "| `JOBS_KEPT_MAX` | 1,000 |", "| `JOBS_MAX` | 64 |"),
        (STORES, "| `HTTP_DEPTH_MAX` | 32 |", "| `HTTP_DEPTH_MAX` | 40 |"),
        (STORES, "| `URL_LIST_URLS_MAX` |", "| URLs |"),
        (STORES, "(`S3_PAGE_BYTES_MAX`)", "(`PAGE_LENGTH_MAX`)"),
        (ENRICHMENT, "| `READ_AHEAD_MAX` | 4 |", "| `READ_AHEAD_MAX` | 8 |"),
    ],
    numbers_in_sentences_are_right: [
        (COMMAND, "1,000 sources at most", "100 sources at most"),
        (ENRICHMENT, "One of up to 8 MiB", "One of up to 16 MiB"),
        (STORES, "1,024 bytes of an object in 120 s", "1,024 bytes of an object in 60 s"),
    ],
    dependencies_are_told: [
        (CONTRIBUTING, "| blake3 | BLAKE3 |\n", ""),
        (CONTRIBUTING, "| click, rich |", "| click, rich, typer |"),
    ],
    the_map_is_whole: [
        (CONTRIBUTING, "| `indexer/places.py` |", "| places |"),
        (CONTRIBUTING, "manifest | page\n", "manifest\npage\n"),
    ],
}
