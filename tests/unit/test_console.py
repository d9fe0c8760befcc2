"""The console: what people see of any key is one line, and progress is a bar on terminals alone."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import console as console_module
from indexer.console import Console, shown
from indexer.telemetry import Counters

TERMINAL_TIMEOUT_S = 10.0


def captured(**options: Any) -> tuple[Console, io.StringIO, io.StringIO]:
    output, errors = io.StringIO(), io.StringIO()
    return Console(output=output, errors=errors, **options), output, errors


# --- text from buckets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"a/b.txt", "a/b.txt"),
        (b"", ""),
        ("日本/画像.png".encode(), "日本/画像.png"),
        ("\U0001f600".encode(), "\U0001f600"),
        (b"two words", "two words"),
        (b"a\nb", r"a\nb"),
        (b"a\r\tb", r"a\r\tb"),
        (b"\x00\x07\x1b[31mred\x7f", r"\x00\x07\x1b[31mred\x7f"),
        ("\x85\x9b31m".encode(), r"\x85\x9b31m"),
        ("\u202etxt.exe".encode(), r"\u202etxt.exe"),
        ("a\u2066b\u2069\u200f".encode(), r"a\u2066b\u2069\u200f"),
        ("\u2028\u2029\u200b\ufeff".encode(), r"\u2028\u2029\u200b\ufeff"),
        ("\U000e0041".encode(), r"\U000e0041"),
        (b"\xff\xfe/a", r"\xff\xfe/a"),
        (b"caf\xe9", r"caf\xe9"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_is_not_printable_is_escaped(value: bytes | str, text: str) -> None:
    assert shown(value) == text
    if isinstance(value, bytes) and (decoded := value.decode("utf-8", "ignore")).encode() == value:
        assert shown(decoded) == text


@given(st.one_of(st.binary(), st.text()))
def test_whatever_is_shown_is_one_printable_line(value: bytes | str) -> None:
    text = shown(value)
    assert text.isprintable()
    text.encode()


def test_other_values_are_shown_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    values = (None, 0, 1234567, True, False)
    assert [shown(value) for value in values] == ["-", "0", "1,234,567", "yes", "no"]
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert shown(moment) == moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def test_columns_are_as_wide_as_they_need() -> None:
    console, output, _ = captured()
    console.table(("NAME", "SIZE"), [("a", 1), ("long name", 1_000_000), ("x\ny", None), ("", 5)])
    assert output.getvalue() == (
        "NAME       SIZE\na          1\nlong name  1,000,000\nx\\ny       -\n           5\n"
    )


def test_a_table_without_rows_is_its_heads() -> None:
    console, output, _ = captured()
    console.table(("A", "LONG"), [])
    assert output.getvalue() == "A  LONG\n"


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5))
def test_a_table_has_a_line_a_row(rows: list[tuple[str, str]]) -> None:
    console, output, _ = captured()
    console.table(("A", "B"), rows)
    lines = output.getvalue().split("\n")
    assert len(lines) == len(rows) + 2
    starts = {line.find("B") for line in lines[:1]}
    assert all(line[starts.copy().pop() - 2 :][:2] in ("  ", "") for line in lines)


def test_json_is_exact_and_one_line() -> None:
    console, output, _ = captured(is_json=True)
    odd = "\n\x1b\u2028日\U0001f600\u202e"
    moment = datetime(2026, 1, 2, 3, 4, 5, 678900, UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=2)))
    console.record({"path": odd, "at": moment, "there": elsewhere, "none": None, "n": 2**63})
    line = output.getvalue()
    assert (line.count("\n"), line.isascii()) == (1, True)
    document = json.loads(line)
    assert (document["path"], document["none"], document["n"]) == (odd, None, 2**63)
    assert document["at"] == "2026-01-02T03:04:05.678900Z"
    assert datetime.fromisoformat(document["there"]) == moment


def test_notes_go_beside_the_data_unless_it_is_quiet() -> None:
    for is_quiet, expected in [(False, "here\n"), (True, "")]:
        console, output, errors = captured(is_quiet=is_quiet)
        console.note("here")
        assert (output.getvalue(), errors.getvalue()) == ("", expected)


# --- progress ------------------------------------------------------------------------------------

COUNTERS = Counters(objects_listed=12_345, requests=67, open_segments=8)


async def watched(console: Console, seconds: float, title: str = "s3://bucket/") -> None:
    async with console.progress(COUNTERS, title):
        await asyncio.sleep(seconds)


def test_elsewhere_a_line_comes_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PROGRESS_LINE_INTERVAL_S", 0.01)
    console, output, errors = captured()
    asyncio.run(watched(console, 0.1, "s3://bucket/a\nb\x1b"))
    lines = errors.getvalue().splitlines()
    assert len(lines) > 1
    assert output.getvalue() == ""
    pattern = (
        r"s3://bucket/a\\nb\\x1b: 12,345 objects, [\d,]+ a second, 67 requests, 8 segments, 0 s"
    )
    assert [line for line in lines if not re.fullmatch(pattern, line)] == []


@pytest.mark.parametrize("options", [{}, {"is_json": True}])
def test_a_short_job_shows_no_line(options: dict[str, bool]) -> None:
    console, output, errors = captured(**options)
    asyncio.run(watched(console, 0))
    assert (output.getvalue(), errors.getvalue()) == ("", "")


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PROGRESS_LINE_INTERVAL_S", 0.001)
    console, output, errors = captured(is_quiet=True)
    asyncio.run(watched(console, 0.02))
    assert (output.getvalue(), errors.getvalue()) == ("", "")


def test_the_jobs_own_error_leaves_as_it_is() -> None:
    async def fail() -> None:
        async with captured()[0].progress(COUNTERS, "title"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(fail())


def test_a_job_goes_on_when_nobody_reads_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PROGRESS_LINE_INTERVAL_S", 0.001)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as errors:  # noqa: PTH123 - a descriptor
        asyncio.run(watched(Console(errors=errors), 0.05))
        # What stayed in its buffer cannot be written when it is closed, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


@contextmanager
def pseudo_terminal() -> Iterator[tuple[TextIO, list[bytes]]]:
    """A real terminal to write on, and all that came out of it by the end of the block."""
    leader, follower = os.openpty()
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(leader, 65_536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            seen.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with open(follower, "w") as terminal:  # noqa: PTH123 - a descriptor
            yield terminal, seen
    finally:
        reader.join(TERMINAL_TIMEOUT_S)
        os.close(leader)


def on_terminal(title: str) -> str:
    with pseudo_terminal() as (terminal, seen):
        asyncio.run(watched(Console(errors=terminal), 0.6, title))
    return b"".join(seen).decode()


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    text = on_terminal("s3://bucket/[bold]a\x1b[2J\u202e:smile:")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert r"s3://bucket/[bold]a\x1b[2J\u202e:smile:" in plain
    assert re.search(r"12,345 objects +[\d,]+/s +67 requests +8 segments", plain)
    # It is redrawn in its place, and its line is cleared in the end.
    assert plain.count("67 requests") >= 2
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in text[-40:]
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(("columns", "room"), [(80, 12), (100, 28)])
def test_a_long_title_leaves_room_for_the_figures(
    columns: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    text = on_terminal("s3://bucket/" + "prefix/" * 140)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    title = ("s3://bucket/" + "prefix/" * 9)[: room - 1] + "…"
    assert re.search(
        re.escape(title) + r" 12,345 objects  [\d,]+/s  67 requests  8 segments 0:00:00", plain
    )


def test_a_notebook_gets_one_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PROGRESS_INTERVAL_S", 0.05)
    assert not console_module.is_watched(io.StringIO())
    shell: Any = SimpleNamespace(kernel=None)
    ipython: Any = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    errors = io.StringIO()
    assert console_module.is_watched(errors)
    asyncio.run(watched(Console(errors=errors), 0.3, "s3://bucket/\x1b"))
    start, *lines, blanks, end = errors.getvalue().split("\r")
    assert (start, blanks.strip(), end) == ("", "", "")
    assert all(line.startswith(r"s3://bucket/\x1b  12,345 objects  ") for line in lines)
    assert len(blanks) == max(map(len, lines))
    shell = None
    assert not console_module.is_watched(errors)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(console_module, "PROGRESS_LINE_INTERVAL_S", 0.05)
    text = on_terminal("s3://bucket/")
    assert "\x1b" not in text
    assert re.search(r"s3://bucket/: 12,345 objects, ", text)
