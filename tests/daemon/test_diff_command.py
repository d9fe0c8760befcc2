"""`indexer diff` on a data folder, and on a daemon that has the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.commands import Command, Ran, failed
from tests.integration.test_serve import serving

Diff = Callable[..., Ran]


@pytest.fixture(scope="module")
def diff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Diff]:
    """The command, which has to come to the same on both."""
    command = Command(tmp_path_factory.mktemp("diff"))
    source = command.folder / "source"
    _write(source, {"a/gone": "1", "a/moved": "22", "a/larger": "333", "b/same": "4444"})
    asked = ("snapshot", "source", "--name", "p/a", "-q")
    assert command(*asked).output == "p/a:v0\n"
    for name in ("a/gone", "a/moved", "a/larger"):
        (source / name).unlink()
    _write(source, {"b/moved": "22", "a/larger": "4444", "b/new\n": ""})
    assert command(*asked).output == "p/a:v1\n"
    with serving(command) as daemon:

        def both(*arguments: str, code: int = 0) -> Ran:
            local = command("diff", *arguments)
            assert local == command("diff", *arguments, "--server", daemon.url)
            assert local.code == code, local.errors
            return local

        yield both
    command.stop()


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_changes_are_shown_a_line_each_and_then_how_many(diff: Diff) -> None:
    changes = (
        "D  a/gone  1 B\nM  a/larger  3 B → 4 B\nR  a/moved → b/moved  2 B\nA  b/new\\n  0 B\n"
    )
    summary = (
        "p/a:v0 → p/a:v1\n  added     1 (0 B)\n  removed   1 (1 B)\n"
        "  content   1 (3 B → 4 B)\n  renamed   1 (2 B)\n  read      2 of 2 shards\n"
    )
    assert diff("p/a:v0", "v1").output == changes + summary
    assert diff("p/a:v0", "p/a:latest", "-q").output == changes
    assert diff("p/a:v0", "v1", "--summary", "-q").output == summary
    assert diff("p/a:v0", "v1", "--kind", "removed", "-q").output == "D  a/gone  1 B\n"
    assert (
        diff("p/a:v0", "v1", "--prefix", "b/", "-q").output == "A  b/moved  2 B\nA  b/new\\n  0 B\n"
    )
    folders = [line.split() for line in diff("p/a:v0", "v1", "--folders", "-q").output.splitlines()]
    assert folders[1:] == [
        ["a/", "-", "2", "1", "-", "-", "6", "B", "4", "B"],
        ["b/", "2", "-", "-", "-", "-", "0", "B", "2", "B"],
    ]


def test_json_has_an_object_for_each_change_and_the_summary_last(diff: Diff) -> None:
    *changes, summary = diff("p/a:v0", "v1", "--json").documents
    assert [(one["kind"], one["path"]) for one in changes] == [
        ("removed", "a/gone"),
        ("content", "a/larger"),
        ("renamed", "b/moved"),
        ("added", "b/new\n"),
    ]
    assert changes[2]["before"]["path"] == "a/moved"
    assert summary["kind"] == "summary"
    assert summary["tallies"]["content"] == {"objects": 1, "bytes_before": 3, "bytes_after": 4}
    assert diff("p/a:v0", "v1", "--summary", "--json").document == summary
    *folders, last = diff("p/a:v0", "v1", "--folders", "--json").documents
    assert [(one["kind"], one["path"]) for one in folders] == [("folder", "a/"), ("folder", "b/")]
    assert last == summary


def test_the_exit_code_tells_whether_anything_changed(diff: Diff) -> None:
    for view in ((), ("--summary",), ("--folders",), ("--json",)):
        assert diff("p/a:v0", "v1", "--exit-code", *view, code=5).errors == ""
        assert diff("p/a:v1", "v1", "--exit-code", *view).code == 0
    assert diff("p/a:v0", "v1", "--exit-code", "--prefix", "b/same").code == 0
    assert (
        diff("p/a:v1", "v1").output == "p/a:v1 → p/a:v1\n  no changes\n  read      0 of 2 shards\n"
    )


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (3, ["p/b:v0", "v1"], "p/b"),
        (3, ["p/a:v0", "v7"], "v7"),
        (2, ["p/a:v0", ":v1"], "names no version"),
        (2, ["p", "v1"], "project/artifact"),
        (2, ["p/a:v0", "v1", "--summary", "--folders"], "two views"),
        (2, ["p/a:v0", "v1", "--summary", "--kind", "added"], "--kind selects"),
    ],
)
def test_diffs_that_cannot_be_told(code: int, arguments: list[str], words: str, diff: Diff) -> None:
    assert words in failed(diff(*arguments, code=code), code)
