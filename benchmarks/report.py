"""Tables of measurements for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.goals import MEGABYTE, OURS, outcomes
from benchmarks.results import Measurement

COLUMNS: Final = (
    ("objects", "objects", 0, 1.0),
    ("wall s", "wall_s", 2, 1.0),
    ("start-up s", "start_wall_s", 2, 1.0),
    ("net s", "net_wall_s", 2, 1.0),
    ("objects/s", "objects_per_s", 0, 1.0),
    ("MB/s", "bytes_per_s", 0, MEGABYTE),
    ("CPU s", "cpu_s", 2, 1.0),
    ("CPU µs/object", "cpu_us_per_object", 1, 1.0),
    ("peak MB", "memory_peak_bytes", 0, MEGABYTE),
    ("requests", "requests", 0, 1.0),
    ("objects read", "checksums_read", 0, 1.0),
    ("MB read", "bytes_read", 2, MEGABYTE),
    ("changes", "changes", 0, 1.0),
    ("shards", "shards", 0, 1.0),
    ("shards read", "shards_read", 0, 1.0),
    ("page ms", "page_s", 1, 1e-3),
    ("status calls", "status_calls", 0, 1.0),
    ("p50 ms", "status_p50_s", 1, 1e-3),
    ("p95 ms", "status_p95_s", 1, 1e-3),
    ("p99 ms", "status_p99_s", 1, 1e-3),
    ("lag p99 ms", "lag_p99_s", 0, 1e-3),
    ("lag max ms", "lag_max_s", 0, 1e-3),
    ("callback max ms CPU", "callback_max_cpu_s", 1, 1e-3),
)
"""Head, figure, decimals, divisor. What is net, a rate or an object's is without the start-up."""

WORDS: Final = {
    "shape": "{}",
    "latency_ms": "{:g} ms a page",
    "in_flight": "{} in flight",
    "only_the_first": "the first {:,}",
    "place": "{}",
    "query": "{}",
    "jobs": "{} jobs",
    "clients": "{} clients",
}
"""Of a workload; a flag is named where it is true, and the rest has columns of its own."""


def report(measurements: Sequence[Measurement], *, has_goals: bool = True) -> str:
    """A table for each benchmark, and one of the goals, which are meant for the full sizes."""
    parts = []
    benchmarks = dict.fromkeys(one.benchmark for one in measurements)
    for benchmark in benchmarks:
        of_it = [one for one in measurements if one.benchmark == benchmark]
        parts.append(_heading(benchmark, of_it[-1]) + "\n\n" + _table_of(of_it))
    reached = [
        (
            outcome.benchmark,
            outcome.text,
            f"{outcome.value:,.2f} {outcome.unit}".rstrip(),
            f"{outcome.kind} {outcome.bound:g}",
            "yes" if outcome.is_reached else "NO",
        )
        for outcome in outcomes(measurements)
    ]
    if reached and has_goals:
        heads = ("benchmark", "goal", "figure", "bound", "reached")
        parts.append("## goals\n\n" + table(heads, reached))
    return "\n\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it, in columns as wide as they need."""
    texts = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |"
        for row in texts
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _heading(benchmark: str, last: Measurement) -> str:
    machine = last.machine
    changed = "" if last.is_clean else ", with changes"
    return (
        f"## {benchmark}: {last.at}, commit {last.commit or 'unknown'}{changed}, "
        f"{machine['cores']} cores of {machine['cpu']}, Python {machine['python']}"
    )


def _table_of(found: Sequence[Measurement]) -> str:
    columns = [
        column for column in COLUMNS if any(one.figure(column[1]) is not None for one in found)
    ]
    rows = []
    for one in found:
        cells = [_cell(one.figure(name), places, unit) for _, name, places, unit in columns]
        rows.append((_words(one.workload), one.tool, *cells, _ratio_to_ours(one, found)))
    heads = ("workload", "tool", *(column[0] for column in columns), "rate to ours")
    if all(row[-1] == "-" for row in rows):
        return table(heads[:-1], (row[:-1] for row in rows))
    return table(heads, rows)


def _cell(value: float | None, places: int, divisor: float) -> str:
    return "-" if value is None else f"{value / divisor:,.{places}f}"


def _ratio_to_ours(one: Measurement, found: Sequence[Measurement]) -> str:
    """Its objects a second to ours, on the same bucket; only where other tools are."""
    if not any(other.tool != OURS and other.figure("objects_per_s") for other in found):
        return "-"
    bucket = _bucket(one)
    ours = next((o for o in found if o.tool == OURS and _bucket(o) == bucket), None)
    rate, our_rate = one.figure("objects_per_s"), ours and ours.figure("objects_per_s")
    return f"{rate / our_rate:.3f}" if rate and our_rate else "-"


def _bucket(one: Measurement) -> tuple[Any, Any]:
    return one.workload.get("shape"), one.workload.get("versioned")


def _words(workload: Mapping[str, Any]) -> str:
    words = [WORDS[name].format(value) for name, value in workload.items() if name in WORDS]
    flags = [name for name, value in workload.items() if value is True]
    return ", ".join([*words, *flags]) or "-"
