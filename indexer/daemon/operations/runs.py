"""Runs: start, look, end; what they used and made; and the lineage that comes of it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from indexer.daemon.operation import (
    VERSION,
    Answer,
    Call,
    Operation,
    PageQuery,
    Parts,
    number_of_cursor,
    text_of_cursor,
)
from indexer.label_rules import check_run_change
from indexer.limits import (
    LINEAGE_DEPTH_DEFAULT,
    LINEAGE_DEPTH_MAX,
    RUN_NAME_CHARACTERS_MAX,
)
from indexer.records import RunChange, RunLink, RunState
from indexer.references import parse_project, parse_reference, parse_run
from indexer.remote import API
from indexer.wire.artifacts import VersionDocument
from indexer.wire.base import cursor_after
from indexer.wire.runs import (
    LineageDocument,
    LinkDocument,
    LinkPage,
    RunDocument,
    RunOrder,
    RunPage,
    RunPatch,
    UseOrder,
)


class RunsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a project's runs, and of which kind of job."""

    job_type: Annotated[str, Meta(max_length=RUN_NAME_CHARACTERS_MAX)] | None = None


class LineageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a lineage is followed, and where to."""

    direction: Literal["up", "down", "both"] = "both"
    depth: Annotated[int, Meta(ge=0, le=LINEAGE_DEPTH_MAX)] = LINEAGE_DEPTH_DEFAULT


async def start_run(parts: Parts, call: Call) -> Answer:
    """Starts a run, or goes on with the one of that id."""
    order: RunOrder = call.body
    run = await parts.workspace.start_run(order.request(parse_project(call.path["project"])))
    return Answer(RunDocument.of(run), status=201, headers={"Location": f"{API}/runs/{run.id}"})


async def list_runs(parts: Parts, call: Call) -> Answer:
    """Lists a project's runs, newest first."""
    query: RunsQuery = call.query
    found = await parts.workspace.runs(
        parse_project(call.path["project"]),
        job_type=query.job_type,
        after=text_of_cursor(query.after),
        limit=query.limit,
    )
    after = cursor_after(found[-1].id) if len(found) == query.limit else None
    return Answer(RunPage(results=[RunDocument.of(one) for one in found], next=after))


async def get_run(parts: Parts, call: Call) -> Answer:
    """Looks at a run."""
    return Answer(RunDocument.of(await parts.workspace.run(_run(call))))


async def change_run(parts: Parts, call: Call) -> Answer:
    """Changes what is said of a run, and ends it."""
    patch: RunPatch = call.body
    run_id = _run(call)
    # What cannot be said is refused before the run is ended.
    check_run_change(patch.change)
    run = await parts.workspace.run(run_id)
    if patch.state is not None:
        run = await parts.workspace.finish_run(run_id, RunState(patch.state))
    if patch.change != RunChange():
        run = await parts.workspace.change_run(run_id, patch.change)
    return Answer(RunDocument.of(run))


async def use_version(parts: Parts, call: Call) -> Answer:
    """Records that a run uses a version."""
    order: UseOrder = call.body
    ref = parse_reference(order.ref)
    return Answer(VersionDocument.of(await parts.workspace.use(ref, _run(call), order.use_as)))


async def list_inputs(parts: Parts, call: Call) -> Answer:
    """Lists what a run used."""
    query: PageQuery = call.query
    after = number_of_cursor(query.after)
    found = await parts.workspace.inputs(_run(call), after=after, limit=query.limit)
    return _links(found, query)


async def list_outputs(parts: Parts, call: Call) -> Answer:
    """Lists what a run made or found unchanged."""
    query: PageQuery = call.query
    after = number_of_cursor(query.after)
    found = await parts.workspace.outputs(_run(call), after=after, limit=query.limit)
    return _links(found, query)


async def get_lineage(parts: Parts, call: Call) -> Answer:
    """Follows a version to what it came from, and to what came from it."""
    query: LineageQuery = call.query
    found = await parts.workspace.lineage(call.ref, direction=query.direction, depth=query.depth)
    return Answer(LineageDocument.of(found))


def _run(call: Call) -> str:
    return parse_run(call.path["run"])


def _links(found: list[RunLink], query: PageQuery) -> Answer:
    after = cursor_after(str(found[-1].id)) if len(found) == query.limit else None
    return Answer(LinkPage(results=[LinkDocument.of(one) for one in found], next=after))


_RUNS: Final = f"{API}/projects/{{project}}/runs"
_RUN: Final = f"{API}/runs/{{run}}"

RUNS: Final = (
    Operation(
        "POST", _RUNS, "Start a run", start_run, {201: RunDocument}, body=RunOrder, problems=(415,),
    ),
    Operation(
        "GET", _RUNS, "List a project's runs", list_runs, {200: RunPage}, query=RunsQuery,
    ),
    Operation("GET", _RUN, "Look at a run", get_run, {200: RunDocument}),
    Operation(
        "PATCH", _RUN, "End a run, or change what is said of it", change_run, {200: RunDocument},
        body=RunPatch, problems=(409, 415),
    ),
    Operation(
        "POST", f"{_RUN}/inputs", "Record that a run uses a version", use_version,
        {200: VersionDocument}, body=UseOrder, problems=(409, 415),
    ),
    Operation(
        "GET", f"{_RUN}/inputs", "List what a run used", list_inputs,
        {200: LinkPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{_RUN}/outputs", "List what a run made", list_outputs,
        {200: LinkPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{VERSION}/lineage", "Follow a version's lineage", get_lineage,
        {200: LineageDocument}, query=LineageQuery,
    ),
)  # fmt: skip
