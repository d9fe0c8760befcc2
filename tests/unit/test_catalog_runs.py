"""Runs and lineage in the catalog: what is listed, what is followed, and where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio

from indexer.catalog import lineage as lineage_module
from indexer.catalog.catalog import Catalog
from indexer.commands.run_views import tree_of
from indexer.errors import InvalidSetting, NoSuchRun, NoSuchVersion, RunEnded
from indexer.limits import LINEAGE_CONFIRMATIONS_MAX, LINEAGE_DEPTH_MAX
from indexer.records import Direction, Lineage, Relation, RunChange, RunRequest, RunState
from indexer.references import ArtifactName, parse_reference
from indexer.testing.commits import FIRST, PARTIAL, SECOND, THIRD, put_and_commit
from tests.unit.test_catalog_reader import START, TickClock

IMAGES, MODEL, REPORT = (ArtifactName("vision", name) for name in ("images", "model", "report"))


class StoppedClock(TickClock):
    """A clock at which no time passes."""

    def now(self) -> datetime:
        return START


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    async with Catalog.open(tmp_path / "data", TickClock()) as catalog:
        yield catalog


@pytest_asyncio.fixture
async def story(catalog: Catalog) -> Catalog:
    """A dataset, a model that was trained on it, and a report on both."""
    await put_and_commit(catalog.tracker, FIRST, name=IMAGES)
    for run_id, used, name in (
        ("train", [IMAGES], MODEL),
        ("evaluate", [MODEL, IMAGES], REPORT),
    ):
        await catalog.runs.start(RunRequest("vision", run_id, job_type=run_id))
        for one in used:
            await catalog.runs.use(parse_reference(str(one)), run_id, None)
        await put_and_commit(catalog.tracker, SECOND, name=name, run=run_id)
        await catalog.runs.finish(run_id)
    return catalog


async def lineage(
    catalog: Catalog, ref: str, direction: Direction = "both", depth: int = 10
) -> Lineage:
    wanted = parse_reference(ref)
    return await catalog.reader.lineage(wanted.name, wanted.selector, direction, depth)


def edges(found: Lineage) -> list[str]:
    """The edges in a few words; runs of snapshots, whose ids are drawn, by their kind."""
    names = {run.id: run.job_type for run in found.runs}
    return [f"{names[edge.run_id]} {edge.relation} {edge.ref}" for edge in found.edges]


# --- lineage


async def test_a_model_is_traced_to_its_data_and_data_to_what_came_of_it(story: Catalog) -> None:
    up = await lineage(story, "vision/model", "up")
    assert edges(up) == [
        "train produces vision/model:v0",
        "train uses vision/images:v0",
        "snapshot produces vision/images:v0",
    ]
    assert [version.ref for version in up.versions] == ["vision/model:v0", "vision/images:v0"]
    assert up.root == up.versions[0]
    down = await lineage(story, "vision/images", "down")
    assert sorted(edges(down)) == [
        "evaluate produces vision/report:v0",
        "evaluate uses vision/images:v0",
        "evaluate uses vision/model:v0",
        "train produces vision/model:v0",
        "train uses vision/images:v0",
    ]
    both = await lineage(story, "vision/model")
    assert edges(both)[:3] == edges(up)
    assert edges(both)[3:] == [
        "evaluate uses vision/model:v0",
        "evaluate produces vision/report:v0",
    ]
    assert not any(found.is_cut for found in (up, down, both))


@pytest.mark.parametrize(
    ("depth", "direction", "count", "is_cut"),
    [
        (0, "up", 0, True),
        (1, "up", 2, True),
        (2, "up", 3, False),
        (1, "down", 2, False),
        (0, "down", 0, True),
    ],
)
async def test_it_is_followed_so_far(
    depth: int, direction: Direction, count: int, *, is_cut: bool, story: Catalog
) -> None:
    found = await lineage(story, "vision/model", direction, depth)
    assert (len(found.edges), found.is_cut) == (count, is_cut)


@pytest.mark.parametrize("depth", [-1, LINEAGE_DEPTH_MAX + 1])
async def test_a_depth_has_bounds(depth: int, story: Catalog) -> None:
    with pytest.raises(InvalidSetting, match="depth"):
        await lineage(story, "vision/model", "up", depth)
    with pytest.raises(NoSuchVersion):
        await lineage(story, "vision/model:v7")


async def test_a_run_that_uses_what_it_confirms_ends_the_walk(catalog: Catalog) -> None:
    made = await put_and_commit(catalog.tracker, FIRST, name=IMAGES)
    await catalog.runs.start(RunRequest("vision", "again", job_type="check"))
    await catalog.runs.use(parse_reference("vision/images"), "again", "checked")
    assert not (await put_and_commit(catalog.tracker, FIRST, name=IMAGES, run="again")).created
    found = await lineage(catalog, "vision/images", depth=LINEAGE_DEPTH_MAX)
    assert edges(found) == [
        "snapshot produces vision/images:v0",
        "check confirms vision/images:v0",
        "check uses vision/images:v0",
    ]
    assert (found.versions, found.is_cut) == ((await catalog.reader.version(IMAGES, "v0"),), False)
    assert found.versions[0].run_id == made.version.run_id
    assert tree_of(found)[2:] == [
        "├─ found unchanged by run again (check, running)",
        "│  └─ which used vision/images:v0 (dataset), see above",
        "└─ used by run again (check, running)",
        "   └─ which found unchanged vision/images:v0 (dataset), see above",
    ]


async def test_of_confirmations_the_newest_are_shown(catalog: Catalog) -> None:
    for _ in range(LINEAGE_CONFIRMATIONS_MAX + 3):
        await put_and_commit(catalog.tracker, FIRST, name=IMAGES)
    found = await lineage(catalog, "vision/images")
    assert [edge.relation for edge in found.edges] == [
        Relation.PRODUCES,
        *[Relation.CONFIRMS] * LINEAGE_CONFIRMATIONS_MAX,
    ]
    assert not found.is_cut
    newest = max(found.runs, key=lambda run: run.created_at)
    assert tree_of(found)[1:] == [
        f"├─ made by run {found.root.run_id} (snapshot, finished)",
        f"└─ found unchanged by run {newest.id} (snapshot, finished) and 9 before",
    ]


async def test_links_and_nodes_have_bounds(story: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage_module, "LINEAGE_LINKS_MAX", 1)
    one = await lineage(story, "vision/report", "up")
    assert one.is_cut
    assert edges(one)[:2] == [
        "evaluate produces vision/report:v0",
        "evaluate uses vision/images:v0",
    ]
    monkeypatch.setattr(lineage_module, "LINEAGE_LINKS_MAX", 200)
    monkeypatch.setattr(lineage_module, "LINEAGE_NODES_MAX", 3)
    few = await lineage(story, "vision/report", "up")
    assert (len(few.versions) + len(few.runs), few.is_cut) == (3, True)
    assert {edge.ref for edge in few.edges} <= {version.ref for version in few.versions}


async def test_a_tree_shows_everything_once(story: Catalog) -> None:
    lines = tree_of(await lineage(story, "vision/images"))
    images = (await story.reader.version(IMAGES, "v0")).run_id
    assert lines == [
        "vision/images:v0 (dataset)",
        f"├─ made by run {images} (snapshot, finished)",
        "├─ used by run evaluate (evaluate, finished)",
        "│  └─ which made vision/report:v0 (dataset)",
        "└─ used by run train (train, finished)",
        "   └─ which made vision/model:v0 (dataset)",
        "      └─ used by run evaluate (evaluate, finished), see above",
    ]


async def test_what_was_deleted_stays_in_the_lineage(story: Catalog) -> None:
    before = await lineage(story, "vision/report", "up")
    await story.retention.remove(MODEL, 0)
    after = await lineage(story, "vision/report", "up")
    assert edges(after) == edges(before)
    assert any("vision/model:v0 (dataset, deleted)" in line for line in tree_of(after))
    root = await lineage(story, "vision/model:v0")
    assert tree_of(root)[0] == "vision/model:v0 (dataset, deleted)"
    (made,) = await story.runs.outputs("train")
    assert made.version.deleted_at is not None
    await story.runs.start(RunRequest("vision", "late"))
    with pytest.raises(NoSuchVersion, match="was removed"):
        await story.runs.use(parse_reference("vision/model:v0"), "late", None)


# --- runs


async def test_runs_are_listed_newest_first(story: Catalog) -> None:
    runs = story.runs
    found = await runs.runs("vision")
    assert [run.job_type for run in found] == ["evaluate", "train", "snapshot"]
    assert [run.id for run in await runs.runs("vision", limit=1)] == ["evaluate"]
    assert await runs.runs("vision", after="evaluate") == found[1:]
    assert [run.id for run in await runs.runs("vision", job_type="train")] == ["train"]
    with pytest.raises(NoSuchVersion, match="no project"):
        await runs.runs("audio")
    with pytest.raises(NoSuchRun):
        await runs.runs("vision", after="nobody")


async def test_runs_of_one_moment_are_listed_once(tmp_path: Path) -> None:
    async with Catalog.open(tmp_path / "data", StoppedClock()) as stopped:
        made = {(await stopped.runs.start(RunRequest("vision"))).id for _ in range(5)}
        found: list[str] = []
        while page := await stopped.runs.runs(
            "vision", after=found[-1] if found else None, limit=2
        ):
            found += [run.id for run in page]
        assert len(found) == len(made) == 5
        assert set(found) == made


async def test_a_project_of_runs_alone_is_a_project(catalog: Catalog) -> None:
    started = await catalog.runs.start(RunRequest("audio"))
    (project,) = await catalog.reader.projects()
    assert (project.name, project.artifacts, project.versions) == ("audio", 0, 0)
    assert project.updated_at == started.created_at
    assert await catalog.reader.artifacts("audio") == []


async def test_a_use_is_recorded_once(story: Catalog) -> None:
    runs = story.runs
    with pytest.raises(RunEnded):
        await runs.use(parse_reference("vision/model"), "train", None)
    await runs.start(RunRequest("vision", "train"))
    used = await runs.use(parse_reference("vision/images"), "train", None)
    for use_as in ("validation", None):
        assert await runs.use(parse_reference("vision/images:v0"), "train", use_as) == used
    (images,) = await runs.inputs("train")
    assert (images.version, images.use_as, images.relation) == (used, "validation", Relation.USES)
    with pytest.raises(NoSuchVersion):
        await runs.use(parse_reference("vision/images:v7"), "train", None)
    with pytest.raises(NoSuchRun):
        await runs.use(parse_reference("vision/images"), "nobody", None)
    with pytest.raises(InvalidSetting):
        await runs.use(parse_reference("vision/images"), "train", "x" * 129)


async def test_inputs_and_outputs_are_paged(story: Catalog) -> None:
    runs = story.runs
    model, images = await runs.inputs("evaluate")
    assert [link.version.name for link in (model, images)] == [MODEL, IMAGES]
    assert await runs.inputs("evaluate", limit=1) == [model]
    assert await runs.inputs("evaluate", after=model.id) == [images]
    await runs.start(RunRequest("vision", "evaluate"))
    for shard, name in ((SECOND, REPORT), (FIRST, IMAGES), (THIRD, REPORT)):
        await put_and_commit(story.tracker, shard, name=name, run="evaluate")
    found = await runs.outputs("evaluate")
    assert [(link.relation, link.version.ref) for link in found] == [
        (Relation.PRODUCES, "vision/report:v0"),
        (Relation.CONFIRMS, "vision/images:v0"),
        (Relation.PRODUCES, "vision/report:v1"),
    ]
    assert await runs.outputs("evaluate", after=found[0].id, limit=1) == found[1:2]
    for read in (runs.inputs, runs.outputs):
        with pytest.raises(NoSuchRun):
            await read("nobody")


async def test_what_is_said_of_a_run_changes_at_any_time(story: Catalog) -> None:
    before = await story.runs.run("train")
    changed = await story.runs.change("train", RunChange(notes="good", config={"epochs": 3}))
    assert changed == replace(before, notes="good", config={"epochs": 3})
    assert await story.runs.change("train", RunChange()) == changed
    assert changed.state is RunState.FINISHED
    with pytest.raises(InvalidSetting):
        await story.runs.change("train", RunChange(config={"x": float("nan")}))
    with pytest.raises(NoSuchRun):
        await story.runs.change("nobody", RunChange(notes="x"))


async def test_partial_versions_have_a_lineage_too(catalog: Catalog) -> None:
    await put_and_commit(catalog.tracker, FIRST, name=IMAGES, scan=PARTIAL)
    assert edges(await lineage(catalog, "vision/images:v0")) == [
        "snapshot produces vision/images:v0"
    ]
