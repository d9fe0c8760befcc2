"""Runs, what they used and made, and lineage as documents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexer.records import (
    Lineage,
    LineageEdge,
    Relation,
    RunChange,
    RunLink,
    RunRecord,
    RunRequest,
    RunState,
)
from indexer.wire.artifacts import VersionDocument
from indexer.wire.base import Answer, Order

RunId = Annotated[str, Meta(examples=["8f14e45fceea167a"])]


class RunOrder(Order, frozen=True, kw_only=True):
    """A run to start, or to go on with where its `id` is known; what is null stays as it was.

    `config` is what it is run with, as any JSON.
    """

    id: RunId | None = None
    name: str | None = None
    job_type: Annotated[str, Meta(examples=["train"])] | None = None
    config: dict[str, Any] | None = None
    notes: str | None = None

    @classmethod
    def of(cls, request: RunRequest, run_id: str) -> RunOrder:
        """The document of a request, whose project is named apart."""
        return cls(
            id=run_id,
            name=request.name,
            job_type=request.job_type,
            config=request.config,
            notes=request.notes,
        )

    def request(self, project: str) -> RunRequest:
        """The request for a run of `project`."""
        return RunRequest(project, self.id, self.name, self.job_type, self.config, self.notes)


class RunPatch(Order, frozen=True, kw_only=True):
    """What is to change of a run; what is left out stays as it is. With a `state` it ends."""

    state: Literal["finished", "failed"] | None = None
    name: str | None = None
    config: dict[str, Any] | None = None
    notes: str | None = None

    @classmethod
    def ending(cls, state: RunState) -> RunPatch:
        """The patch that ends a run."""
        return cls(state="finished" if state is RunState.FINISHED else "failed")

    @property
    def change(self) -> RunChange:
        """What is to change beside its state."""
        return RunChange(self.name, self.config, self.notes)


class RunDocument(Answer, frozen=True, kw_only=True):
    """A run. `finished_at` is null while it runs."""

    id: str
    project: str
    name: str
    job_type: str
    state: RunState
    config: dict[str, Any]
    notes: str
    created_at: datetime
    started_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: RunRecord) -> RunDocument:
        """The document of a record."""
        return cls(**{name: getattr(run, name) for name in cls.__struct_fields__})

    def record(self) -> RunRecord:
        """The record of the document."""
        return RunRecord(**msgspec.structs.asdict(self))


class RunPage(Answer, frozen=True, kw_only=True):
    """Runs, newest first; `next` continues after them."""

    results: list[RunDocument]
    next: str | None


class UseOrder(Order, frozen=True, kw_only=True):
    """A version that a run uses, and as what."""

    ref: Annotated[str, Meta(examples=["vision/images:v3"])]
    use_as: str | None = None


class LinkDocument(Answer, frozen=True, kw_only=True):
    """A version that a run used, made or found unchanged. `id` ascends with time."""

    id: int
    relation: Relation
    at: datetime
    use_as: str | None
    version: VersionDocument

    @classmethod
    def of(cls, link: RunLink) -> LinkDocument:
        """The document of a link."""
        return cls(
            id=link.id,
            relation=link.relation,
            at=link.at,
            use_as=link.use_as,
            version=VersionDocument.of(link.version),
        )

    def record(self) -> RunLink:
        """The link of the document."""
        return RunLink(self.id, self.relation, self.version.record(), self.at, self.use_as)


class LinkPage(Answer, frozen=True, kw_only=True):
    """What a run used, or what it made, in that order; `next` continues after them."""

    results: list[LinkDocument]
    next: str | None


class RunShown(RunDocument, frozen=True, kw_only=True):
    """A run, with all that it used, and that it made or found unchanged."""

    inputs: list[LinkDocument]
    outputs: list[LinkDocument]


class EdgeDocument(Answer, frozen=True, kw_only=True):
    """What a run, by its id, has to do with a version, by its reference."""

    run: str
    relation: Relation
    ref: str


class LineageDocument(Answer, frozen=True, kw_only=True):
    """What the version `ref` came from, and what came from it, nearest first.

    Where `cut`, there is more than was followed.
    """

    ref: str
    versions: list[VersionDocument]
    runs: list[RunDocument]
    edges: list[EdgeDocument]
    cut: bool

    @classmethod
    def of(cls, lineage: Lineage) -> LineageDocument:
        """The document of a lineage."""
        return cls(
            ref=lineage.root.ref,
            versions=[VersionDocument.of(version) for version in lineage.versions],
            runs=[RunDocument.of(run) for run in lineage.runs],
            edges=[
                EdgeDocument(run=edge.run_id, relation=edge.relation, ref=edge.ref)
                for edge in lineage.edges
            ],
            cut=lineage.is_cut,
        )

    def record(self) -> Lineage:
        """The lineage of the document."""
        versions = tuple(version.record() for version in self.versions)
        return Lineage(
            root=next(version for version in versions if version.ref == self.ref),
            versions=versions,
            runs=tuple(run.record() for run in self.runs),
            edges=tuple(LineageEdge(edge.run, edge.relation, edge.ref) for edge in self.edges),
            is_cut=self.cut,
        )
