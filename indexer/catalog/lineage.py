"""Lineage: the versions and runs that a version came from, and those that came from it.

    up:    version ← the runs that made or confirmed it ← the versions that those used ← …
    down:  version → the runs that used it → the versions that those made or confirmed → …

Invariants
  * Up and down are walked apart: what else came of a version's inputs is no part of its lineage.
  * Each version and each run is looked at once in each direction, so that a run which uses what it
    confirms ends the walk.
  * The walk is bounded in depth, in nodes, and in links of one node; where a bound cut it, it says
    so, but for confirmations, of which the newest are enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, Integer, Select, and_, cast, func, literal, or_, select

from indexer.catalog.lookup import require_version
from indexer.catalog.records import SELECT_VERSIONS, read_versions
from indexer.catalog.runs import SELECT_RUNS, read_run
from indexer.catalog.schema import runs, scans, uses, versions
from indexer.errors import InvalidSetting
from indexer.limits import (
    LINEAGE_CONFIRMATIONS_MAX,
    LINEAGE_DEPTH_MAX,
    LINEAGE_LINKS_MAX,
    LINEAGE_NODES_MAX,
)
from indexer.records import Direction, Lineage, LineageEdge, Relation
from indexer.references import ArtifactName

_Side = Literal["version_id", "run_id"]


@dataclass(frozen=True, slots=True)
class _Link:
    run_id: str
    version_id: int
    relation: Relation


@dataclass(slots=True)
class _Graph:
    """What was reached, in that order: dictionaries are the ordered sets that there are."""

    versions: dict[int, None] = field(default_factory=dict)
    runs: dict[str, None] = field(default_factory=dict)
    links: dict[_Link, None] = field(default_factory=dict)
    is_cut: bool = False

    def add(self, link: _Link) -> bool:
        """Adds a link and both its ends; false where there is no room for one of them."""
        news = (link.version_id not in self.versions) + (link.run_id not in self.runs)
        if len(self.versions) + len(self.runs) + news > LINEAGE_NODES_MAX:
            self.is_cut = True
            return False
        self.versions[link.version_id] = None
        self.runs[link.run_id] = None
        self.links[link] = None
        return True


def read_lineage(
    connection: Connection, name: ArtifactName, selector: str, direction: Direction, depth: int
) -> Lineage:
    """The lineage of a version. Raises `NoSuchVersion`, and `InvalidSetting` for the depth."""
    if not 0 <= depth <= LINEAGE_DEPTH_MAX:
        raise InvalidSetting(
            f"{depth} is no depth of a lineage: give a number from 0 to {LINEAGE_DEPTH_MAX}."
        )
    _, root = require_version(connection, name, selector, deleted=True)
    graph = _Graph(versions={root: None})
    if direction in ("up", "both"):
        _walk(connection, graph, root, depth, is_up=True)
    if direction in ("down", "both"):
        _walk(connection, graph, root, depth, is_up=False)
    return _read(connection, graph, root)


def _walk(connection: Connection, graph: _Graph, root: int, depth: int, *, is_up: bool) -> None:
    """Adds what is reached from `root` in one direction, `depth` runs away at most."""
    to_runs, to_versions = (_made, _used) if is_up else (_used, _made)
    frontier: list[int] = [root]
    seen_versions: set[int] = {root}
    seen_runs: set[str] = set()
    for _ in range(depth):
        found: list[str] = []
        for link in _links(connection, graph, to_runs("version_id", frontier)):
            if graph.add(link) and link.run_id not in seen_runs:
                seen_runs.add(link.run_id)
                found.append(link.run_id)
        frontier = []
        for link in _links(connection, graph, to_versions("run_id", found)):
            if graph.add(link) and link.version_id not in seen_versions:
                seen_versions.add(link.version_id)
                frontier.append(link.version_id)
        if not frontier:
            return
    if any(_links(connection, graph, to_runs("version_id", frontier))):
        graph.is_cut = True


def _links(
    connection: Connection, graph: _Graph, selected: Select[str, int, int, int]
) -> Iterator[_Link]:
    """The links of nodes that are on one level, of each the newest first."""
    for run_id, version_id, kind, place in connection.execute(selected):
        if place > LINEAGE_LINKS_MAX:
            graph.is_cut = True
        else:
            yield _Link(run_id, version_id, _RELATIONS[kind])


_CONFIRMS, _PRODUCES, _USES = range(3)
_RELATIONS = {
    _CONFIRMS: Relation.CONFIRMS,
    _PRODUCES: Relation.PRODUCES,
    _USES: Relation.USES,
}


def _made(side: _Side, keys: Collection[str | int]) -> Select[str, int, int, int]:
    """Which runs made or confirmed which versions, of these versions or of these runs.

    `place` counts the links of one node, apart for what was made and what was confirmed.
    """
    kind = func.max(cast(scans.c.created, Integer))
    found = (
        select(scans.c.run_id, scans.c.version_id, kind.label("kind"), func.max(scans.c.id))
        .where(scans.c[side].in_(keys))
        .group_by(scans.c.run_id, scans.c.version_id)
        .add_columns(
            func.row_number()
            .over(partition_by=(scans.c[side], kind), order_by=func.max(scans.c.id).desc())
            .label("place")
        )
        .subquery()
    )
    # Whoever looks at a version wants to know when it was last confirmed, not how often; whoever
    # looks at a run, all that came of it.
    confirmations = LINEAGE_CONFIRMATIONS_MAX if side == "version_id" else LINEAGE_LINKS_MAX + 1
    columns = found.c
    return (
        select(columns.run_id, columns.version_id, columns.kind, columns.place)
        .where(
            or_(
                and_(columns.kind == _PRODUCES, columns.place <= LINEAGE_LINKS_MAX + 1),
                and_(columns.kind == _CONFIRMS, columns.place <= confirmations),
            )
        )
        .order_by(columns.kind.desc(), columns.place, columns.version_id, columns.run_id)
    )


def _used(side: _Side, keys: Collection[str | int]) -> Select[str, int, int, int]:
    """Which runs used which versions, of these versions or of these runs."""
    place = func.row_number().over(partition_by=uses.c[side], order_by=uses.c.id.desc())
    found = (
        select(uses.c.run_id, uses.c.version_id, place.label("place"))
        .where(uses.c[side].in_(keys))
        .subquery()
    )
    columns = found.c
    return (
        select(columns.run_id, columns.version_id, literal(_USES), columns.place)
        .where(columns.place <= LINEAGE_LINKS_MAX + 1)
        .order_by(columns.place, columns.version_id, columns.run_id)
    )


def _read(connection: Connection, graph: _Graph, root: int) -> Lineage:
    """The records of what was reached."""
    found = read_versions(connection, SELECT_VERSIONS.where(versions.c.id.in_(graph.versions)))
    rows = connection.execute(SELECT_RUNS.where(runs.c.id.in_(graph.runs)))
    known = {row.id: read_run(row) for row in rows}
    return Lineage(
        root=found[root],
        versions=tuple(found[version_id] for version_id in graph.versions),
        runs=tuple(known[run_id] for run_id in graph.runs),
        edges=tuple(
            LineageEdge(link.run_id, link.relation, found[link.version_id].ref)
            for link in graph.links
        ),
        is_cut=graph.is_cut,
    )
