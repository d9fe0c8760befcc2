"""What the command shows: progress on standard error, results on standard output.

Invariants
  * A terminal gets a bar that is redrawn; everything else a line every few seconds.
  * Text from buckets is escaped where it is shown to people, so that no key can end a line or move
    a cursor; JSON holds it exactly.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TextIO, TypeAlias

from indexer.limits import PROGRESS_INTERVAL_S, PROGRESS_LINE_INTERVAL_S
from indexer.telemetry import Counters
from workers.errors import single_error

TITLE_WIDTH_MIN: Final = 12
FIGURES_WIDTH: Final = 72
"""What the figures of a hundred million objects take of a line; the title has the rest."""


Figures: TypeAlias = Callable[[float], str]
"""What is shown of work that has gone on for so many seconds."""


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command writes. `quiet` leaves out progress and summaries for people."""

    is_json: bool = False
    is_quiet: bool = False
    output: TextIO = field(default_factory=lambda: sys.stdout)
    errors: TextIO = field(default_factory=lambda: sys.stderr)

    def line(self, text: str) -> None:
        """A line of data for people."""
        self.output.write(text + "\n")

    def record(self, document: dict[str, Any]) -> None:
        """A line of data as JSON."""
        self.output.write(json.dumps(document, default=_plain) + "\n")

    def note(self, text: str) -> None:
        """A line beside the data."""
        if self.is_quiet:
            return
        with suppress(OSError):  # where nobody listens, the data is written all the same
            self.errors.write(shown(text) + "\n")
            self.errors.flush()

    def table(self, heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
        """Rows below heads, in columns as wide as they need."""
        texts = [heads, *(tuple(shown(cell) for cell in row) for row in rows)]
        widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
        for row in texts:
            cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            self.line("  ".join(cells).rstrip())

    @asynccontextmanager
    async def progress(
        self, counters: Counters, title: str, figures: Figures | None = None
    ) -> AsyncIterator[None]:
        """Shows the counters, or other figures, for as long as the block lasts."""
        if self.is_quiet:
            yield
            return
        show = _lines
        if is_terminal(self.errors):
            show = _bar
        elif is_notebook():
            show = _line
        with single_error():
            async with asyncio.TaskGroup() as group:
                shower = group.create_task(
                    _while_it_can(show, self.errors, counters, title, figures)
                )
                try:
                    yield
                finally:
                    shower.cancel()


def is_watched(errors: TextIO) -> bool:
    """Whether somebody is likely to look at progress while it is made."""
    return is_terminal(errors) or is_notebook()


def is_terminal(errors: TextIO) -> bool:
    """Whether lines can be redrawn there."""
    return errors.isatty() and os.environ.get("TERM") != "dumb"


def is_notebook() -> bool:
    """Whether this process runs the cells of a notebook."""
    # Who runs cells has imported IPython; it is not imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def shown(value: object) -> str:
    """A value as people read it, with control characters escaped."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bytes_shown(size_bytes: int) -> str:
    """A number of bytes with a binary unit."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(0, size_bytes.bit_length() - 1) // 10, len(units) - 1)
    return f"{size_bytes / 1024**power:,.{1 if power else 0}f} {units[power]}"


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat().replace("+00:00", "Z")


async def _while_it_can(
    show: Callable[[TextIO, Counters, str, Figures | None], Awaitable[None]],
    errors: TextIO,
    counters: Counters,
    title: str,
    figures: Figures | None,
) -> None:
    # When nobody reads it any more, as after `2>&1 | head`, the job goes on all the same.
    with suppress(OSError):
        await show(errors, counters, title, figures)


async def _lines(errors: TextIO, counters: Counters, title: str, figures: Figures | None) -> None:
    started_s = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_LINE_INTERVAL_S)
        elapsed_s = time.monotonic() - started_s
        said = (
            f"{counters.objects_listed:,} objects, "
            f"{counters.objects_listed / elapsed_s:,.0f} a second, {counters.requests:,} requests, "
            f"{counters.open_segments:,} segments"
            if figures is None
            else figures(elapsed_s)
        )
        errors.write(f"{shown(title)}: {said}, {elapsed_s:.0f} s\n")
        errors.flush()


async def _line(errors: TextIO, counters: Counters, title: str, figures: Figures | None) -> None:
    """One line, written over itself: what a notebook shows of standard error."""
    started_s, width = time.monotonic(), 0
    try:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            elapsed_s = time.monotonic() - started_s
            said = _listed(counters, elapsed_s) if figures is None else figures(elapsed_s)
            line = f"{shown(title)}  {said}  {elapsed_s:.0f} s"
            width = max(width, len(line))
            errors.write(f"\r{line:<{width}}")
            errors.flush()
    finally:
        errors.write(f"\r{'':<{width}}\r")
        errors.flush()


def _listed(counters: Counters, elapsed_s: float) -> str:
    """The figures of a listing, in as few words as fit beside a title."""
    return (
        f"{counters.objects_listed:,} objects  "
        f"{counters.objects_listed / elapsed_s:,.0f}/s  "
        f"{counters.requests:,} requests  {counters.open_segments:,} segments"
    )


async def _bar(errors: TextIO, counters: Counters, title: str, figures: Figures | None) -> None:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    terminal = RichConsole(file=errors)
    width_max = max(TITLE_WIDTH_MIN, terminal.width - FIGURES_WIDTH)
    title = shown(title)
    title = title if len(title) <= width_max else title[: width_max - 1] + "…"
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        console=terminal,
        transient=True,
        auto_refresh=False,
    )
    started_s = time.monotonic()
    with progress:
        task = progress.add_task(title, total=None, figures="")
        while True:
            elapsed_s = max(time.monotonic() - started_s, PROGRESS_INTERVAL_S)
            said = _listed(counters, elapsed_s) if figures is None else figures(elapsed_s)
            progress.update(task, figures=said)
            progress.refresh()
            await asyncio.sleep(PROGRESS_INTERVAL_S)
