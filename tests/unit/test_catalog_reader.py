"""What the catalog answers to people, and what they may change of a version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from indexer.catalog.catalog import Catalog
from indexer.errors import (
    CommitConflict,
    CorruptContent,
    InvalidReference,
    InvalidSetting,
    NoSuchVersion,
)
from indexer.limits import DESCRIPTION_CHARACTERS_MAX, NOTES_CHARACTERS_MAX, TAGS_MAX
from indexer.records import Consistency, LabelChange
from indexer.references import ArtifactName
from indexer.testing.commits import (
    FIRST,
    NAME,
    PARTIAL,
    SECOND,
    THIRD,
    make_request,
    make_scan,
    make_shard,
    manifest_of,
    put_and_commit,
)

START = datetime(2026, 1, 2, tzinfo=UTC)


class TickClock:
    """A clock that is a second later each time it is asked."""

    def __init__(self) -> None:
        self.ticks = 0

    def monotonic(self) -> float:
        return float(self.ticks)

    def now(self) -> datetime:
        self.ticks += 1
        return START + timedelta(seconds=self.ticks)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    async with Catalog.open(tmp_path / "data", TickClock()) as catalog:
        yield catalog


@pytest_asyncio.fixture
async def filled(catalog: Catalog) -> Catalog:
    """Versions v0 (FIRST), v1 (partial), v2 (SECOND, best), v3 (FIRST, latest)."""
    await put_and_commit(catalog.tracker, FIRST, type="images")
    await put_and_commit(catalog.tracker, THIRD, scan=PARTIAL)
    await put_and_commit(catalog.tracker, SECOND, aliases=["best"])
    await put_and_commit(catalog.tracker, FIRST)
    return catalog


# --- lists


async def test_an_empty_catalog_lists_nothing(catalog: Catalog) -> None:
    assert await catalog.reader.projects() == []
    with pytest.raises(NoSuchVersion, match="none was made yet"):
        await catalog.reader.artifacts("project")


async def test_projects_are_counted(filled: Catalog) -> None:
    await put_and_commit(filled.tracker, FIRST, name=ArtifactName("project", "b"))
    await put_and_commit(filled.tracker, FIRST, name=ArtifactName("another", "c"))
    another, project = await filled.reader.projects()
    assert (another.name, another.artifacts, another.versions) == ("another", 1, 1)
    assert (project.name, project.artifacts, project.versions) == ("project", 2, 5)
    assert project.updated_at < another.updated_at


async def test_artifacts_show_their_latest_version(filled: Catalog) -> None:
    name = ArtifactName("project", "only-partial")
    await put_and_commit(filled.tracker, FIRST, name=name, scan=PARTIAL)
    first, second = await filled.reader.artifacts("project")
    assert (first.name, first.type, first.versions) == (NAME, "images", 4)
    assert first.latest == await filled.tracker.parent(NAME)
    assert first.latest is not None
    assert (first.latest.objects, first.latest.size_bytes) == (2, 3)
    assert (second.name, second.type, second.versions) == (name, "dataset", 1)
    assert second.latest is None


async def test_an_unchanged_scan_updates_its_artifact(filled: Catalog) -> None:
    (before,) = await filled.reader.artifacts("project")
    await put_and_commit(filled.tracker, FIRST)
    (after,) = await filled.reader.artifacts("project")
    assert after.updated_at > before.updated_at
    assert before.latest is not None
    assert after.latest is not None
    assert after.latest.created_at == before.latest.created_at
    assert after.latest.confirmed_at == after.updated_at > before.latest.confirmed_at


async def test_versions_are_listed_newest_first(filled: Catalog) -> None:
    versions = await filled.reader.versions(NAME)
    assert [version.number for version in versions] == [3, 2, 1, 0]
    assert [version.aliases for version in versions] == [("latest",), ("best",), (), ()]
    assert versions[2].consistency is Consistency.PARTIAL


async def test_lists_go_on_after_a_cursor(filled: Catalog) -> None:
    reader = filled.reader
    for project in ("a", "b"):
        for artifact in ("x", "y", "z"):
            name = ArtifactName(project, artifact)
            await put_and_commit(filled.tracker, FIRST, name=name)
    assert [p.name for p in await reader.projects(limit=2)] == ["a", "b"]
    assert [p.name for p in await reader.projects(after="b", limit=2)] == ["project"]
    page = await reader.artifacts("a", after="x", limit=1)
    assert [artifact.name.artifact for artifact in page] == ["y"]
    assert [v.number for v in await reader.versions(NAME, after=3, limit=2)] == [2, 1]
    assert await reader.versions(NAME, after=0) == []


# --- references


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("v0", 0),
        ("v1", 1),
        ("latest", 3),
        ("best", 2),
        (manifest_of(FIRST).digest, 3),
        (manifest_of(SECOND).digest, 2),
    ],
)
async def test_a_selector_finds_its_version(filled: Catalog, selector: str, number: int) -> None:
    assert (await filled.reader.version(NAME, selector)).number == number


@pytest.mark.parametrize(
    ("name", "selector", "words"),
    [
        (ArtifactName("projekt", "artifact"), "v0", r"no project 'projekt'.*are project\."),
        (
            ArtifactName("project", "artefact"),
            "v0",
            r"no artifact project/artefact.*has artifact\.",
        ),
        (NAME, "v4", r"no project/artifact:v4.*v0 to v3 and the aliases best, latest\."),
        (NAME, "bets", r"no project/artifact:bets.*the aliases best, …"),
        (NAME, "v007", r"no project/artifact:v007"),
        (NAME, "sha256:" + "0" * 64, r"no project/artifact@sha256:0000"),
    ],
)
async def test_a_wrong_name_is_answered_with_right_ones(
    filled: Catalog, name: ArtifactName, selector: str, words: str
) -> None:
    with pytest.raises(NoSuchVersion, match=words):
        await filled.reader.version(name, selector)


async def test_many_names_are_cut_short(catalog: Catalog) -> None:
    for number in range(8):
        name = ArtifactName("project", f"artifact-{number}")
        await put_and_commit(catalog.tracker, FIRST, name=name)
    with pytest.raises(NoSuchVersion) as raised:
        await catalog.reader.versions(ArtifactName("project", "zzz"))
    assert str(raised.value).count("artifact-") == 5
    assert str(raised.value).endswith(", ….")


# --- scans


async def test_scans_tell_how_a_version_came_and_was_confirmed(filled: Catalog) -> None:
    await put_and_commit(filled.tracker, FIRST, scan=make_scan(Consistency.INSTANT))
    created, confirmed = await filled.reader.scans(NAME, "latest")
    scan = make_scan()
    assert (created.created, confirmed.created) == (True, False)
    assert (created.started_at, created.finished_at) == (scan.started_at, scan.finished_at)
    assert (created.listed, created.consistency) == (3, Consistency.WINDOW)
    assert confirmed.consistency is Consistency.INSTANT
    assert (created.statistics, created.sources) == (scan.statistics, scan.sources)
    assert await filled.content.get(created.tiling) == scan.tiling
    assert created.run_id == (await filled.reader.version(NAME, "latest")).run_id
    assert confirmed.run_id != created.run_id
    assert await filled.reader.scans(NAME, "latest", after=created.id) == [confirmed]
    assert await filled.reader.scans(NAME, "latest", limit=1) == [created]


# --- aliases and notes


async def test_an_alias_moves_and_leaves_a_trace(filled: Catalog) -> None:
    labels = filled.labels
    moved = await labels.set_alias(NAME, "best", 0)
    assert moved.aliases == ("best",)
    assert (await filled.reader.version(NAME, "v2")).aliases == ()
    await labels.set_alias(NAME, "best", 0)
    removed = await labels.remove_alias(NAME, "best")
    assert (removed.number, removed.aliases) == (0, ())
    with pytest.raises(NoSuchVersion):
        await filled.reader.version(NAME, "best")
    moves = await filled.reader.alias_moves(NAME, "best")
    assert [move.number for move in moves] == [None, 0, 2]
    assert moves[0].moved_at > moves[1].moved_at > moves[2].moved_at


async def test_an_alias_moves_only_from_where_it_was_seen(filled: Catalog) -> None:
    labels = filled.labels
    for wrong in (None, 1):
        with pytest.raises(CommitConflict, match="it is at v2"):
            await labels.set_alias(NAME, "best", 0, expect=wrong)
        with pytest.raises(CommitConflict, match="it is at v2"):
            await labels.remove_alias(NAME, "best", expect=wrong)
    with pytest.raises(CommitConflict, match="it is at no version"):
        await labels.set_alias(NAME, "new", 0, expect=1)
    assert (await filled.reader.version(NAME, "best")).number == 2
    assert (await labels.set_alias(NAME, "best", 0, expect=2)).aliases == ("best",)
    assert (await labels.set_alias(NAME, "new", 0, expect=None)).aliases == ("best", "new")
    assert (await labels.remove_alias(NAME, "new", expect=0)).aliases == ("best",)


@pytest.mark.parametrize("alias", ["latest", "v0", "v12345", "", "two words", "a/b"])
async def test_some_aliases_cannot_be_set(filled: Catalog, alias: str) -> None:
    with pytest.raises(InvalidReference):
        await filled.labels.set_alias(NAME, alias, 0)
    with pytest.raises(InvalidReference):
        await filled.labels.remove_alias(NAME, alias)
    assert (await filled.reader.version(NAME, "latest")).number == 3


async def test_an_alias_needs_a_version(filled: Catalog) -> None:
    with pytest.raises(NoSuchVersion, match="v0 to v3"):
        await filled.labels.set_alias(NAME, "new", 4)
    with pytest.raises(NoSuchVersion, match="aliases"):
        await filled.labels.remove_alias(NAME, "new")


async def test_notes_are_replaced(filled: Catalog) -> None:
    assert (await filled.labels.change_version(NAME, 2, LabelChange("gut\n"))).notes == "gut\n"
    assert (await filled.reader.version(NAME, "best")).notes == "gut\n"
    with pytest.raises(InvalidSetting):
        await filled.labels.change_version(NAME, 2, LabelChange("x" * (NOTES_CHARACTERS_MAX + 1)))
    with pytest.raises(NoSuchVersion):
        await filled.labels.change_version(NAME, 9, LabelChange("gut"))
    assert (await filled.labels.change_version(NAME, 2, LabelChange(""))).notes == ""


async def test_labels_change_together_or_not_at_all(filled: Catalog) -> None:
    labels = filled.labels
    change = LabelChange("gut", "what it is", {"camera": ["B7", None]}, add_tags=("pets", "new"))
    changed = await labels.change_version(NAME, 2, change)
    assert (changed.notes, changed.description) == ("gut", "what it is")
    assert (changed.metadata, changed.tags) == ({"camera": ["B7", None]}, ("new", "pets"))
    assert await filled.reader.version(NAME, "best") == changed
    with pytest.raises(InvalidReference):
        await labels.change_version(NAME, 2, LabelChange(notes="other", add_tags=("a/b",)))
    with pytest.raises(InvalidSetting, match="tags"):
        many = tuple(f"tag-{number}" for number in range(TAGS_MAX - 1))
        await labels.change_version(NAME, 2, LabelChange(notes="other", add_tags=many))
    assert await filled.reader.version(NAME, "best") == changed
    assert await labels.change_version(NAME, 2, LabelChange()) == changed
    later = await labels.change_version(NAME, 2, LabelChange(metadata={}, remove_tags=("new",)))
    assert (later.metadata, later.tags, later.notes) == ({}, ("pets",), "gut")


async def test_labels_change_only_from_what_was_seen(filled: Catalog) -> None:
    seen = await filled.reader.version(NAME, "best")
    for change in (LabelChange(add_tags=("x",)), LabelChange(metadata={"a": 1})):
        newer = await filled.labels.change_version(NAME, 2, change)
        with pytest.raises(CommitConflict, match="changed meanwhile"):
            await filled.labels.change_version(NAME, 2, LabelChange("late"), expect=seen)
        seen = newer
    moved = await filled.labels.set_alias(NAME, "other", 2)
    assert moved.aliases == ("best", "other")
    done = await filled.labels.change_version(NAME, 2, LabelChange("in time"), expect=seen)
    assert done.notes == "in time"


async def test_versions_are_found_by_their_tags(filled: Catalog) -> None:
    for number in (0, 2):
        await filled.labels.change_version(NAME, number, LabelChange(add_tags=("pets", "x")))
    found = await filled.reader.versions(NAME, tag="pets")
    assert [version.number for version in found] == [2, 0]
    assert await filled.reader.versions(NAME, tag="pets", limit=1) == found[:1]
    assert await filled.reader.versions(NAME, tag="pets", after=2) == found[1:]
    assert await filled.reader.versions(NAME, tag="pet") == []


async def test_artifacts_are_described(filled: Catalog) -> None:
    await filled.labels.describe_artifact(NAME, "pets")
    artifact = await filled.reader.artifact(NAME)
    assert (artifact.description, artifact.versions) == ("pets", 4)
    assert await filled.reader.artifacts("project") == [artifact]
    await put_and_commit(filled.tracker, SECOND)
    assert (await filled.reader.artifact(NAME)).description == "pets"
    nobody = ArtifactName("project", "nobody")
    with pytest.raises(NoSuchVersion):
        await filled.labels.describe_artifact(nobody, "x")
    with pytest.raises(NoSuchVersion):
        await filled.reader.artifact(nobody)
    with pytest.raises(InvalidSetting):
        await filled.labels.describe_artifact(NAME, "x" * (DESCRIPTION_CHARACTERS_MAX + 1))


# --- facts, and content that is damaged


async def test_facts_of_an_endpoint_are_kept(catalog: Catalog) -> None:
    endpoint = "https://storage.example:9000"
    assert await catalog.facts.get_facts(endpoint) is None
    await catalog.facts.put_facts(endpoint, {"server": "MinIO", "honours": ["start-after"]})
    await catalog.facts.put_facts("other", {})
    await catalog.facts.put_facts(endpoint, {"server": "MinIO", "honours": []})
    assert await catalog.facts.get_facts(endpoint) == {"server": "MinIO", "honours": []}
    assert await catalog.facts.get_facts("other") == {}


async def test_a_damaged_shard_is_not_committed(catalog: Catalog) -> None:
    await catalog.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    (path,) = catalog.folder.path.glob("shards/*/*.parquet")
    path.write_bytes(THIRD.data)
    with pytest.raises(CorruptContent):
        await put_and_commit(catalog.tracker, FIRST)
    assert await catalog.tracker.parent(NAME) is None


async def test_a_shard_that_is_gone_is_not_confirmed(catalog: Catalog) -> None:
    shard = make_shard({"a": 1})
    await put_and_commit(catalog.tracker, shard)
    (path,) = catalog.folder.path.glob("shards/*/*.parquet")
    path.unlink()
    request_id = "again"
    with pytest.raises(CorruptContent, match="1 of the 1 files"):
        await catalog.tracker.commit(make_request(manifest_of(shard), request_id=request_id))
    assert await catalog.tracker.outcome(request_id) is None
