"""Checks of all documents: links, paths, names, data, code and options."""

from __future__ import annotations

import ast
import json
import re
import tomllib

from indexer import config, errors
from tests.doc_checks.check import Checks, Complaints
from tests.doc_checks.command import commands, options_of
from tests.documents import (
    CONTRIBUTING,
    FORMAT,
    LISTING,
    OWN,
    README,
    ROOT,
    SERVED,
    SETTINGS,
    Documents,
    blocks,
    codes,
    run_code,
)
from tests.test_tidy import MACHINE_PATH, REGISTRY

MADE_LATER = {ROOT / "benchmarks" / "results.jsonl"}


def links_resolve(docs: Documents) -> Complaints:
    for path, text in docs.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            found = (ROOT / path).parent / file if file else ROOT / path
            if not found.exists() and found not in MADE_LATER:
                yield f"{path}: {target} is not there"
            elif anchor:
                there = docs[found.resolve().relative_to(ROOT).as_posix()]
                if anchor not in anchors(there):
                    yield f"{path}: {target} has no such heading"


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths_exist(docs: Documents) -> Complaints:
    """Files and tests that are named are there, and so are targets of make."""
    start = re.compile(r"(?:indexer|workers|tests|benchmarks|deploy|docs|\.ci)/[\w./-]*")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in OWN:
        text = docs[path]
        for code in codes(text):
            file, _, test = code.partition("::")
            if start.fullmatch(file) and ROOT / file not in MADE_LATER:
                if not (ROOT / file).exists():
                    yield f"{path}: {file} is not there"
                elif test and f"def {test}(" not in (ROOT / file).read_text():
                    yield f"{path}: there is no test {code}"
        lines = [line for block in blocks(text, "sh") for line in block.text.splitlines()]
        for target in re.findall(r"^make (\w+)", "\n".join([*codes(text), *lines]), re.MULTILINE):
            if target not in targets:
                yield f"{path}: make {target} is no target"


def names_no_place(docs: Documents) -> Complaints:
    for path, text in docs.items():
        for pattern in (MACHINE_PATH, REGISTRY):
            yield from (f"{path}: {match[0]}" for match in pattern.finditer(text))


def data_parses(docs: Documents) -> Complaints:
    for path in OWN:
        for block in blocks(docs[path]):
            try:
                if block.language == "json":
                    json.loads(block.text)
                elif block.language == "python":
                    ast.parse(block.text)
                elif block.language == "toml":
                    for name, value in tomllib.loads(block.text).items():
                        known = {setting.name: setting for setting in config.SETTINGS}
                        known[name].parse(value, path)
            except (ValueError, KeyError, SyntaxError, errors.IndexerError) as error:
                yield f"{path}, line {block.line}: {error!r}"


def code_runs(docs: Documents) -> Complaints:
    """Blocks of Python run, those of one document in order."""
    for path in OWN:
        if path not in SERVED:
            try:
                run_code(docs[path])
            except Exception as error:  # noqa: BLE001 - whatever it is, the document is wrong
                yield f"{path}: {error!r}"


def options_are_known(docs: Documents) -> Complaints:
    """Whatever looks like an option or variable of ours is one."""
    known = {name for command in commands().values() for name in options_of(command)}
    known |= {"--help", "-h", "--quick"}
    variables = {setting.variable for setting in config.SETTINGS} | {"INDEXER_CONFIG"}
    for path in OWN:
        text = docs[path]
        lines = [line for block in blocks(text) for line in block.text.splitlines()]
        said = [*codes(text), *(line for line in lines if line.startswith("indexer "))]
        for code in said:
            for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", code):
                if code.startswith(("-", "indexer")) and name not in known:
                    yield f"{path}: {name} is no option"
        for name in re.findall(r"\bINDEXER_\w+", text):
            if name not in variables:
                yield f"{path}: {name} is no variable"


CHECKS: Checks = {
    links_resolve: [
        (README, "docs/command.md)", "docs/commands.md)"),
        (FORMAT, "", "[x](#no-such)"),
    ],
    paths_exist: [
        (CONTRIBUTING, "`indexer/commands/views.py`", "`indexer/commands/view.py`"),
        (LISTING, "::test_requests_stay", "::test_requests_remain"),
        (README, "make demo\n", "make show\n"),
    ],
    names_no_place: [(README, "`INDEXER_DATA`", "/ho" + "me/me/x"), (README, "", "py" + "pi.org")],
    data_parses: [
        (FORMAT, '{"tiles": [', '{"tiles": {'),
        (SETTINGS, "no_sign_request = false", "no_sign_request = 3"),
        (README, "import indexer\n", "import\n"),
    ],
    code_runs: [
        (FORMAT, "import hashlib\n", "import hash\n"),
        (CONTRIBUTING, "import Server, ", "import Servant, "),
    ],
    options_are_known: [
        (README, "--prefix val/", "--below val/"),
        (LISTING, "`--allow-empty`", "`--empty`"),
        (README, "`INDEXER_DATA`", "`INDEXER_FOLDER`"),
    ],
}
