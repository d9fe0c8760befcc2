"""The project's documents for tests: where they are, and what tests look at in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README, COMMAND, SETTINGS = "README.md", "docs/command.md", "docs/settings.md"
HTTP = "docs/http.md"
FORMAT, LISTING, CONTRIBUTING = "docs/manifest-format.md", "docs/listing.md", "CONTRIBUTING.md"
STORES, ENRICHMENT = "docs/stores.md", "docs/enrichment.md"
LINEAGE, RETENTION, DIFF = "docs/lineage.md", "docs/retention.md", "docs/diff.md"
QUERY = "docs/query.md"
VERIFY, FILESYSTEM = "docs/verify.md", "docs/filesystem.md"
DOWNLOAD = "docs/download.md"
GUIDE, PYTHON = "docs/guide.md", "docs/python.md"
CONTRACT = "docs/store-contract.md"
OWN = (
    *(README, COMMAND, SETTINGS, HTTP, STORES, ENRICHMENT, LINEAGE, RETENTION, DIFF),
    *(QUERY, VERIFY, FILESYSTEM, DOWNLOAD, GUIDE, PYTHON),
    *(FORMAT, LISTING, CONTRACT, CONTRIBUTING),
)
"""Those that are looked at word by word."""
SERVED = (*(README, HTTP, LINEAGE, DIFF, QUERY, VERIFY, FILESYSTEM, DOWNLOAD, GUIDE, PYTHON),)
"""Those whose Python needs servers or folders; it is run beside those."""

Documents = Mapping[str, str]


@cache
def documents() -> Documents:
    """All documents of the project, by path."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[a-z]*/README.md")]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and the line of its document that it begins after."""

    language: str
    text: str
    line: int


def blocks(text: str, language: str = "") -> list[Block]:
    """The blocks of code, of one language."""
    found = re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    made = [Block(m[2], textwrap.dedent(m[3]), text[: m.start()].count("\n") + 1) for m in found]
    return [block for block in made if language in ("", block.language)]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of its kind."""
    below = rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)"
    found = re.search(below, text, re.DOTALL | re.MULTILINE)
    return found[2] if found else ""


def tables(text: str) -> list[list[list[str]]]:
    """The tables: rows of cells, without heads."""
    found = re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", row)[1:-1] for row in rows.splitlines()[2:]] for rows in found]
    return [[[cell.strip() for cell in row] for row in rows] for rows in split]


def table(text: str, heading: str) -> list[list[str]]:
    """The first table below a heading; nothing where there is none."""
    return next(iter(tables(section(text, heading))), [])


def codes(text: str) -> list[str]:
    """What stands in backticks, blocks apart."""
    without = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", without)


def run_code(text: str) -> dict[str, Any]:
    """The names that a document's Python defines."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks(text, "python"):
        exec(compile(block.text, f"line {block.line}", "exec"), names)  # noqa: S102
    return names
