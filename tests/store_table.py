"""A plugin of pytest: what each server makes of the contract of stores, as a table in a document.

    pytest tests/contract --store-table docs/store-contract.md

Invariants
  * Rows are the cases of the suites, columns the classes that inherit them; other tests of these
    classes, and other classes, are not looked at.
  * A table is written of a run in which every case of every server came to something and nothing
    failed; else the file stays as it is, and the run says why.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from indexer.testing.past_suite import PastSuite
from indexer.testing.store_suite import HOSTILE_KEYS, StoreSuite

PASSED, ABSENT = "✓", ""

REFUSED: Final = "keys that are refused"
"""The row that counts hostile keys which the server cannot keep or would not list."""

SERVERS: Final = {
    "TestSyntheticS3": ("synthetic S3", "`indexer/testing/synthetic_s3`"),
    "TestMinIO": ("MinIO", "MinIO, over a folder"),
    "TestVersitygw": ("versitygw", "Versity's S3 gateway, over a folder"),
    "TestMoto": ("moto", "moto's server, in memory"),
    "TestSyntheticGCS": ("synthetic GCS", "`indexer/testing/synthetic_gcs`"),
    "TestFakeGCS": ("fake GCS", "fake-gcs-server, in memory"),
    "TestNginx": ("nginx", "nginx, with index pages as HTML, as JSON, and without a frame"),
    "TestApache": ("Apache", "Apache, with index pages that are plain, preformatted and tables"),
    "TestPython": ("Python", "Python's `http.server`"),
    "TestFile": ("files", "a folder of this machine"),
    "TestMemoryStore": ("memory", "`indexer/stores/memory.py`, the reference"),
}
"""The classes that inherit a suite, in the order of their columns: name, and what it is."""

HEAD: Final = """\
# The contract of stores, tried

What each server makes of the cases of `indexer/testing/store_suite.py` and
`indexer/testing/past_suite.py`. `make table` writes this page from a run of `tests/contract`; what
stores do for their users is in [stores.md](stores.md).
"""

LEGEND: Final = f"""\
`{PASSED}` passed; nothing: not asked, as the server cannot show a bucket as it was, or, with GCS,
is asked for that by `tests/contract/test_gcs_versions.py`; a number in brackets: skipped, for the
reason below. The last row counts those of {len(HOSTILE_KEYS)} hostile keys that the server cannot
keep or would not list."""


def cases(suite: type) -> list[str]:
    """The names of the cases that a class has from the suites, in their order."""
    return [
        name
        for owner in (StoreSuite, PastSuite)
        if issubclass(suite, owner)
        for name, value in vars(owner).items()
        if name.startswith("test_") and inspect.isfunction(value)
    ]


def words(case: str) -> str:
    """A case as a sentence would have it."""
    return case.removeprefix("test_").replace("_", " ")


@dataclass(slots=True)
class Outcomes:
    """What one case came to with one server, over all of its parameters."""

    passed: int = 0
    failed: int = 0
    skips: set[str] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def note(self, report: pytest.TestReport) -> None:
        """Counts a report."""
        self.failed += report.failed
        self.passed += report.passed and report.when == "call"
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skips.add(report.longrepr[2].removeprefix("Skipped: "))
        said = dict(report.user_properties)
        if report.when == "call" and "keys_left_out" in said:
            self.refused.add(int(str(said["keys_left_out"])))

    @property
    def is_known(self) -> bool:
        """Whether it came to anything."""
        return bool(self.passed or self.failed or self.skips)


class StoreTable:
    """Watches a run, and writes the table at its end."""

    def __init__(self, path: Path, suites: Sequence[type] = ()) -> None:
        self.outcomes: defaultdict[tuple[type, str], Outcomes] = defaultdict(Outcomes)
        self._path = path
        self._suites = list(suites)
        self._said = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learns which servers there are."""
        found = {item.cls for item in session.items if isinstance(item, pytest.Function)}
        suites = [cls for cls in found if cls is not None and issubclass(cls, StoreSuite)]
        self._suites = sorted(suites, key=lambda suite: list(SERVERS).index(suite.__name__))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Notes what a case came to."""
        report = yield
        if isinstance(item, pytest.Function) and item.cls in self._suites:
            self.outcomes[item.cls, item.originalname].note(report)
        return report

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Writes the table, unless something is missing."""
        missing = [
            f"{suite.__name__}: {words(case)}"
            for suite in self._suites
            for case in cases(suite)
            if not self.outcomes[suite, case].is_known
        ]
        absent = sorted(set(SERVERS) - {suite.__name__ for suite in self._suites})
        if exitstatus or missing or absent:
            why = "something failed" if exitstatus else f"not run: {', '.join(absent + missing)}"
            self._said = f"{self._path} was not written, as the run was not whole: {why}"
            return
        self._path.write_text(self._document(), "utf-8")
        self._said = f"{self._path} was written"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Says what became of the table."""
        terminalreporter.write_line(self._said)

    def _document(self) -> str:
        notes: list[str] = []
        heads = [SERVERS[suite.__name__][0] for suite in self._suites]
        every = max(self._suites, key=lambda suite: len(cases(suite)))
        rows = [
            [words(case), *(self._cell(suite, case, notes) for suite in self._suites)]
            for case in cases(every)
        ]
        rows.append([REFUSED, *(self._refused(suite) for suite in self._suites)])
        lines = [
            HEAD,
            *_table(["column", "server"], [[*SERVERS[suite.__name__]] for suite in self._suites]),
            "",
            LEGEND,
            "",
            *_table(["case", *heads], rows),
            "",
            *(f"{number}. {note}" for number, note in enumerate(notes, 1)),
        ]
        return "\n".join(lines) + "\n"

    def _cell(self, suite: type, case: str, notes: list[str]) -> str:
        if case not in cases(suite):
            return ABSENT
        outcomes = self.outcomes[suite, case]
        if not outcomes.skips:
            return PASSED
        for reason in sorted(outcomes.skips):
            if reason not in notes:
                notes.append(reason)
        numbers = " ".join(f"({notes.index(reason) + 1})" for reason in sorted(outcomes.skips))
        return f"{PASSED} {numbers}" if outcomes.passed else numbers

    def _refused(self, suite: type) -> str:
        found = {count for case in cases(suite) for count in self.outcomes[suite, case].refused}
        return " to ".join(map(str, sorted({min(found), max(found)})))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "|" + "|".join(cell if cell == "---" else f" {cell} " for cell in row) + "|"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option."""
    parser.addoption("--store-table", metavar="FILE", help="Write the table of stores to FILE.")


def pytest_configure(config: pytest.Config) -> None:
    """Watches the run if a table is wanted."""
    if path := config.getoption("--store-table"):
        config.pluginmanager.register(StoreTable(Path(path)))
