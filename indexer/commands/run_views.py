"""Views of runs and lineage, as JSON and for people.

Invariants
  * A tree shows each version and each run with what is behind it once; where it comes again, only
    its name does, so that no graph is too tangled to be shown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from indexer.commands.views import document
from indexer.console import Console, shown
from indexer.records import Lineage, LineageEdge, Relation, RunLink, RunRecord, VersionRecord
from indexer.wire.runs import LineageDocument, LinkDocument, RunDocument, RunShown

_MADE = {Relation.PRODUCES: "made", Relation.CONFIRMS: "found unchanged"}


def show_runs(console: Console, runs: list[RunRecord]) -> None:
    """Runs, one a line."""
    if console.is_json:
        for run in runs:
            console.record(document(RunDocument.of(run)))
        return
    rows = (
        (run.id, _name_of(run), run.job_type or None, run.state, run.started_at, run.finished_at)
        for run in runs
    )
    console.table(("RUN", "NAME", "JOB TYPE", "STATE", "STARTED", "ENDED"), rows)


def show_run(console: Console, run: RunRecord) -> None:
    """A run that was started, changed or ended: its id alone where little is wanted."""
    if console.is_json:
        console.record(document(RunDocument.of(run)))
    elif console.is_quiet:
        console.line(run.id)
    else:
        _show_fields(console, run)


def show_run_and_links(
    console: Console, run: RunRecord, inputs: Sequence[RunLink], outputs: Sequence[RunLink]
) -> None:
    """A run with what it used and made."""
    if console.is_json:
        fields = document(RunDocument.of(run))
        links = {
            "inputs": [document(LinkDocument.of(link)) for link in inputs],
            "outputs": [document(LinkDocument.of(link)) for link in outputs],
        }
        assert RunShown.__struct_fields__ == (*fields, *links)
        console.record({**fields, **links})
        return
    _show_fields(console, run)
    for link in inputs:
        use_as = f", as {shown(link.use_as)}" if link.use_as else ""
        console.line(f"  used         {link.version.ref} ({_kind_of(link.version)}{use_as})")
    for link in outputs:
        console.line(f"  {_MADE[link.relation]:<12} {link.version.ref} ({_kind_of(link.version)})")


def show_lineage(console: Console, lineage: Lineage) -> None:
    """What a version came from, and what came from it: as a tree for people."""
    if console.is_json:
        console.record(document(LineageDocument.of(lineage)))
        return
    for line in tree_of(lineage):
        console.line(line)
    if lineage.is_cut:
        console.note("Note: there is more; --depth follows further, and another REF elsewhere.")


def _kind_of(version: VersionRecord) -> str:
    return version.type if version.deleted_at is None else f"{version.type}, deleted"


def _name_of(run: RunRecord) -> str | None:
    """The name of a run that was given one."""
    return run.name if run.name != run.id else None


def _show_fields(console: Console, run: RunRecord) -> None:
    lines = {
        "project": run.project,
        "name": _name_of(run) or "-",
        "job type": run.job_type or "-",
        "state": run.state,
        "started": run.started_at,
        "ended": run.finished_at,
        "config": json.dumps(run.config, ensure_ascii=False) if run.config else "-",
        "notes": run.notes or "-",
    }
    console.line(run.id)
    for name, value in lines.items():
        console.line(f"  {name:<12} {shown(value)}")


# --- trees


@dataclass(frozen=True, slots=True)
class _Node:
    text: str
    below: list[_Node] = field(default_factory=list)


def tree_of(lineage: Lineage) -> list[str]:
    """The lines of a lineage's tree: first what its root came from, then what came from it."""
    branches = _Branches(lineage)
    root = _Node(
        f"{lineage.root.ref} ({_kind_of(lineage.root)})",
        [*branches.up(lineage.root.ref), *branches.down(lineage.root.ref)],
    )
    return [root.text, *_drawn(root.below)]


def _drawn(nodes: list[_Node], indent: str = "") -> Iterator[str]:
    for number, node in enumerate(nodes, 1):
        is_last = number == len(nodes)
        yield f"{indent}{'└─' if is_last else '├─'} {node.text}"
        yield from _drawn(node.below, indent + ("   " if is_last else "│  "))


class _Branches:
    """What is behind a version, upwards and downwards, each thing once."""

    def __init__(self, lineage: Lineage) -> None:
        self._runs = {run.id: run for run in lineage.runs}
        self._kinds = {version.ref: _kind_of(version) for version in lineage.versions}
        self._of_version: defaultdict[str, list[LineageEdge]] = defaultdict(list)
        self._of_run: defaultdict[str, list[LineageEdge]] = defaultdict(list)
        for edge in lineage.edges:
            self._of_version[edge.ref].append(edge)
            self._of_run[edge.run_id].append(edge)
        self._shown = {(way, lineage.root.ref) for way in ("up", "down")}

    def up(self, ref: str) -> list[_Node]:
        """The runs that a version came from."""
        nodes, idle = [], []
        for edge in self._of_version[ref]:
            if edge.relation is Relation.USES:
                continue
            inputs = [one for one in self._of_run[edge.run_id] if one.relation is Relation.USES]
            if edge.relation is Relation.CONFIRMS and not inputs:
                idle.append(edge.run_id)
                continue
            did = "made by" if edge.relation is Relation.PRODUCES else "found unchanged by"
            nodes.append(self._run(f"{did} run", edge.run_id, "up", inputs))
        if idle:
            more = f" and {len(idle) - 1:,} before" if len(idle) > 1 else ""
            nodes.append(_Node(f"found unchanged by run {self._said(idle[0])}{more}"))
        return nodes

    def down(self, ref: str) -> list[_Node]:
        """The runs that came of a version."""
        return [
            self._run("used by run", edge.run_id, "down", self._outputs(edge.run_id))
            for edge in self._of_version[ref]
            if edge.relation is Relation.USES
        ]

    def _outputs(self, run_id: str) -> list[LineageEdge]:
        return [one for one in self._of_run[run_id] if one.relation is not Relation.USES]

    def _run(self, did: str, run_id: str, way: str, edges: list[LineageEdge]) -> _Node:
        text = f"{did} {self._said(run_id)}"
        if not self._is_new(way, run_id):
            return _Node(f"{text}, see above" if edges else text)
        return _Node(text, [self._version(edge, way) for edge in edges])

    def _version(self, edge: LineageEdge, way: str) -> _Node:
        did = "which used" if edge.relation is Relation.USES else f"which {_MADE[edge.relation]}"
        text = f"{did} {edge.ref} ({self._kinds[edge.ref]})"
        if not self._is_new(way, edge.ref):
            return _Node(f"{text}, see above")
        return _Node(text, self.up(edge.ref) if way == "up" else self.down(edge.ref))

    def _is_new(self, way: str, name: str) -> bool:
        is_new = (way, name) not in self._shown
        self._shown.add((way, name))
        return is_new

    def _said(self, run_id: str) -> str:
        run = self._runs[run_id]
        name = f" {shown(run.name)}" if _name_of(run) else ""
        kind = f"{shown(run.job_type)}, " if run.job_type else ""
        return f"{run.id}{name} ({kind}{run.state})"
