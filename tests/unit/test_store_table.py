"""The table of stores: what outcomes become in it, and when it is not written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from indexer.testing.past_suite import PastSuite
from indexer.testing.store_suite import StoreSuite
from tests import store_table
from tests.documents import tables
from tests.store_table import PASSED, REFUSED, Outcomes, StoreTable, cases, words


class Plain(StoreSuite):
    pass


class Past(PastSuite):
    pass


def report(
    outcome: Literal["passed", "failed", "skipped"] = "passed",
    when: Literal["setup", "call"] = "call",
    refused: int | None = None,
) -> pytest.TestReport:
    reason = ("suite.py", 1, "Skipped: it has none") if outcome == "skipped" else None
    said: list[tuple[str, object]] = [] if refused is None else [("keys_left_out", refused)]
    return pytest.TestReport(
        "case", ("suite.py", 1, "case"), {}, outcome, reason, when, user_properties=said
    )


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StoreTable:
    """A table of two servers that have passed everything, with some keys refused."""
    servers = {"Plain": ("plain", "a plain one"), "Past": ("past", "one with a past")}
    monkeypatch.setattr(store_table, "SERVERS", servers)
    table = StoreTable(tmp_path / "table.md", [Plain, Past])
    for suite, refused in ((Plain, 3), (Past, 0)):
        for case in cases(suite):
            table.outcomes[suite, case].note(
                report(refused=refused if "every_key" in case else None)
            )
    return table


def test_a_whole_run_is_written(tried: StoreTable, tmp_path: Path) -> None:
    case = "test_lone_objects"
    tried.outcomes[Plain, case] = Outcomes()
    tried.outcomes[Plain, case].note(report("skipped", "setup"))
    tried.pytest_sessionfinish(0)
    text = (tmp_path / "table.md").read_text("utf-8")
    servers, rows = tables(text)
    assert servers == [["plain", "a plain one"], ["past", "one with a past"]]
    found = {row[0]: row[1:] for row in rows}
    assert list(found) == [*(words(each) for each in cases(Past)), REFUSED]
    assert found["every key comes back once and exactly"] == [PASSED, PASSED]
    assert found["a bucket is shown as it was"] == ["", PASSED]
    assert found["lone objects"] == ["(1)", PASSED]
    assert found[REFUSED] == ["3", "0"]
    assert text.endswith("\n1. it has none\n")


def test_what_passes_with_some_parameters_alone_says_so(tried: StoreTable, tmp_path: Path) -> None:
    tried.outcomes[Past, "test_lone_objects"].note(report("skipped", "setup"))
    tried.pytest_sessionfinish(0)
    assert f"| lone objects | {PASSED} | {PASSED} (1) |" in (tmp_path / "table.md").read_text()


def test_a_run_that_failed_is_not_written(tried: StoreTable, tmp_path: Path) -> None:
    tried.pytest_sessionfinish(1)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_case_is_not_written(tried: StoreTable, tmp_path: Path) -> None:
    del tried.outcomes[Plain, "test_lone_objects"]
    tried.pytest_sessionfinish(0)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_server_is_not_written(
    tried: StoreTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(store_table.SERVERS, "Absent", ("absent", "one that is not there"))
    tried.pytest_sessionfinish(0)
    assert not list(tmp_path.iterdir())
