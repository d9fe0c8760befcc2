"""The taste of this code base as tests: sizes, task ownership, and words that must not be there.

Invariants
  * Every file that is or could be committed is looked at: whatever .gitignore does not name.
  * Each rule is tried on a planted sample that breaks it, so none can pass by looking away.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = ("indexer/", "workers/")

MODULE_LINES_MAX = 600
MODULE_LINES_MEDIAN_MAX = 180
FUNCTION_LINES_MAX = 70

TASK_STARTERS = frozenset({"create_task", "ensure_future", "gather"})
TASK_OWNERS: frozenset[str] = frozenset()
"""Modules that may start tasks outside a TaskGroup: none needs to."""

# A class of one letter, here and there, keeps a pattern from finding itself.
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|raise NotImplemented[E]rror)\b")
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
REGISTRY = re.compile(
    r"(pypi|pythonhosted|golang|npmjs|debian|ubuntu|docker|crates|conda)\.(org|com|io|net)\b"
    r"|(quay|ghcr)\.io\b|--(extra-)?index-ur[l]|--find-lin[k]s"
)
MACHINE_PATH = re.compile(r"(?<![\w.$}*-])/(work|root|home|Users|tmp)/\w")
SENTENCE = re.compile(r"\S+\s+\S+.*?[.:?!](\s|\Z)", re.DOTALL)

Complaints = Iterator[str]


@dataclass(frozen=True)
class Rule:
    """A property of one file, with samples of files that lack it and that have it."""

    name: str
    applies: Callable[[str], bool]
    complaints: Callable[[str], Complaints]
    broken: list[str]
    kept: list[str]


# --- the rules -----------------------------------------------------------------------------------


def long_modules(source: str) -> Complaints:
    lines = len(source.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{lines} lines, of {MODULE_LINES_MAX}"


def long_functions(source: str) -> Complaints:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {lines} lines, of {FUNCTION_LINES_MAX}"


def unowned_tasks(source: str) -> Complaints:
    tree = ast.parse(source)
    groups = set(_task_groups(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            for alias in node.names:
                if alias.name in TASK_STARTERS:
                    yield f"line {node.lineno}: {alias.name}"
        if isinstance(node, ast.Attribute) and node.attr in TASK_STARTERS:
            is_owned = node.attr == "create_task" and _last_name(node.value) in groups
            if not is_owned:
                yield f"line {node.lineno}: {ast.unparse(node)} outside a TaskGroup"


def _task_groups(tree: ast.Module) -> Iterator[str | None]:
    """The names that hold a TaskGroup somewhere in the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and _mentions(node.context_expr, "TaskGroup"):
            yield _last_name(node.optional_vars)
        elif isinstance(node, ast.Assign) and _mentions(node.value, "TaskGroup"):
            yield from map(_last_name, node.targets)
        elif isinstance(node, ast.AnnAssign) and _mentions(node.annotation, "TaskGroup"):
            yield _last_name(node.target)
        elif isinstance(node, ast.arg) and _mentions(node.annotation, "TaskGroup"):
            yield node.arg


def yields_in_scopes(source: str) -> Complaints:
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        if any(
            _mentions(decorator, "asynccontextmanager") for decorator in function.decorator_list
        ):
            continue  # whoever enters one leaves it in the same task
        for scope in _own_nodes(function):
            if isinstance(scope, ast.AsyncWith) and _is_cancel_scope(scope):
                for node in _own_nodes(scope):
                    if isinstance(node, ast.Yield):
                        yield f"line {node.lineno}: yield inside {ast.unparse(scope.items[0])}"


def _is_cancel_scope(block: ast.AsyncWith) -> bool:
    """Whether one is entered: made here, or made before; an argument may well be called timeout."""
    scopes = ("TaskGroup", "timeout", "timeout_at")
    entered = [item.context_expr for item in block.items]
    called = [
        node.func for each in entered for node in ast.walk(each) if isinstance(node, ast.Call)
    ]
    return any(_last_name(node) in scopes for node in (*entered, *called))


def printing(source: str) -> Complaints:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id == "print":
            yield f"line {node.lineno}: print"


def missing_opening(source: str) -> Complaints:
    docstring = ast.get_docstring(ast.parse(source))
    if docstring is None:
        yield "no docstring"
    elif not SENTENCE.match(docstring.split("\n\n")[0]):
        yield f"does not open with a sentence: {docstring.splitlines()[0]!r}"


def matches(pattern: re.Pattern[str]) -> Callable[[str], Complaints]:
    def complaints(source: str) -> Complaints:
        for number, line in enumerate(source.splitlines(), start=1):
            for match in pattern.finditer(line):
                yield f"line {number}: {match[0]}"

    return complaints


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a block, without those of functions defined in it."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _own_nodes(node)


def _mentions(node: ast.AST | None, name: str) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return name in node.value
    return node is not None and any(_last_name(part) == name for part in ast.walk(node))


def _last_name(node: ast.AST | None) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def anywhere(_path: str) -> bool:
    return True


def python(path: str) -> bool:
    return path.endswith(".py")


def library(path: str) -> bool:
    return python(path) and path.startswith(LIBRARIES)


def tasks_are_owned(path: str) -> bool:
    return library(path) and path not in TASK_OWNERS


RULES = [
    Rule(
        "modules are short",
        python,
        long_modules,
        broken=["a = 1\n" * (MODULE_LINES_MAX + 1)],
        kept=["a = 1\n" * MODULE_LINES_MAX],
    ),
    Rule(
        "functions are short",
        python,
        long_functions,
        broken=["async def f():\n" + "    a = 1\n" * FUNCTION_LINES_MAX],
        kept=["async def f():\n" + "    a = 1\n" * (FUNCTION_LINES_MAX - 1)],
    ),
    Rule(
        "only a TaskGroup owns tasks",
        tasks_are_owned,
        unowned_tasks,
        broken=[
            "def f(loop): loop.create_task(g())",
            "async def f(): await asyncio.gather(g(), h())",
            "from asyncio import ensure_future",
        ],
        kept=[
            "async with TaskGroup() as group: group.create_task(g())",
            "def f(self, tasks: 'TaskGroup'): tasks.create_task(g())",
            "class C:\n    _group: TaskGroup\n    def f(self): self._group.create_task(g())",
            "group = await stack.enter_async_context(asyncio.TaskGroup())\ngroup.create_task(g())",
        ],
    ),
    Rule(
        "nothing is yielded inside a TaskGroup or a timeout",
        library,
        yields_in_scopes,
        broken=[
            "async def f():\n    async with asyncio.timeout(1):\n        yield 1",
            "async def f():\n    async with await enter(asyncio.TaskGroup()):\n        yield 1",
            "async def f(timeout):\n    async with timeout:\n        yield 1",
        ],
        kept=[
            "async def f():\n    async with request(timeout=timeout):\n        yield 1",
            "async def f():\n    async with timeout(1):\n        a = await g()\n    yield a",
            "@asynccontextmanager\nasync def f():\n    async with TaskGroup():\n        yield",
        ],
    ),
    Rule(
        "nothing is left to be done",
        anywhere,
        matches(UNFINISHED),
        broken=["# TO" + "DO: the rest", "raise NotImplemented" + "Error"],
        kept=["# to do so, it asks", "except NotImplementedError:"],
    ),
    Rule(
        "no merge is left half done",
        anywhere,
        matches(CONFLICT),
        broken=["a = 1\n" + "<" * 7 + " HEAD\na = 2\n", ">" * 7 + " topic\n"],
        kept=["heads = '" + "<" * 7 + " HEAD'", "<" * 8 + " deep"],
    ),
    Rule(
        "no registry is named",
        anywhere,
        matches(REGISTRY),
        broken=["https://py" + "pi.org/simple", "pip install --index-" + "url=x"],
        kept=["uv pip compile --no-emit-index-url"],
    ),
    Rule(
        "no folder of a machine is named",
        anywhere,
        matches(MACHINE_PATH),
        broken=["data = '/home" + "/somebody'", "file:///tmp" + "/data"],
        kept=["s3://bucket/work/x and /data/x"],
    ),
    Rule(
        "the libraries do not print",
        library,
        printing,
        broken=["print('here')"],
        kept=["console.print('here')"],
    ),
    Rule(
        "a module opens with what it is for",
        python,
        missing_opening,
        broken=["a = 1", '"""Some helpers"""'],
        kept=['"""Cuts runs\ninto shards.\n\nInvariants"""', '"""Cuts runs: nothing else."""'],
    ),
]


# --- the tests -----------------------------------------------------------------------------------


def name_of(rule: Rule) -> str:
    return rule.name


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_file_keeps(rule: Rule) -> None:
    assert [
        f"{path}: {complaint}"
        for path, source in project_files().items()
        if rule.applies(path)
        for complaint in rule.complaints(source)
    ] == []


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_breach_is_seen(rule: Rule) -> None:
    assert [sample for sample in rule.broken if not list(rule.complaints(sample))] == []
    assert [sample for sample in rule.kept if list(rule.complaints(sample))] == []


def test_half_of_the_modules_are_small() -> None:
    lines = {p: len(s.splitlines()) for p, s in project_files().items() if library(p)}
    assert median(lines.values()) < MODULE_LINES_MEDIAN_MAX, lines


def test_the_files_are_seen() -> None:
    seen = project_files()
    assert {"pyproject.toml", ".ci/run", "indexer/__init__.py", "tests/test_tidy.py"} <= set(seen)
    assert not [path for path in seen if path.startswith((".venv/", ".git/"))]


@cache
def project_files() -> dict[str, str]:
    """The text files that are or could be committed, by their path from the root."""
    ignored = [".git", *(ROOT / ".gitignore").read_text().split()]
    patterns = [pattern.strip("/") for pattern in ignored]

    def is_ignored(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    found = {}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        for name in sorted(name for name in names if not is_ignored(name)):
            path = Path(folder, name)
            try:
                found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # a golden file
                continue
    return found
