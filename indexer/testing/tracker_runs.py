"""What trackers make of runs and labels: a part of `TrackerSuite`.

Invariants
  * Every test here needs the fixture `tracker` and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexer.errors import InvalidReference, InvalidSetting, NoSuchRun, RunEnded, UsageError
from indexer.limits import (
    DESCRIPTION_CHARACTERS_MAX,
    METADATA_BYTES_MAX,
    RUN_NAME_CHARACTERS_MAX,
    TAGS_MAX,
)
from indexer.protocols import Tracker
from indexer.records import RunRequest, RunState
from indexer.references import ArtifactName
from indexer.testing.commits import (
    FIRST,
    NAME,
    SECOND,
    make_request,
    manifest_of,
    put_and_commit,
)

TRAIN = RunRequest("project", "train-1", "first try", "train", {"epochs": [3, None]}, "a note")


class RunsSuite:
    """What every tracker does with runs, and with labels that come with commits."""

    async def test_a_run_is_as_it_was_started(self, tracker: Tracker) -> None:
        run = await tracker.start_run(TRAIN)
        assert (run.id, run.project, run.name) == ("train-1", "project", "first try")
        assert (run.job_type, run.config, run.notes) == ("train", {"epochs": [3, None]}, "a note")
        assert (run.state, run.finished_at) == (RunState.RUNNING, None)
        assert run.created_at == run.started_at
        assert await tracker.run("train-1") == run

    async def test_runs_without_ids_are_different_ones(self, tracker: Tracker) -> None:
        runs = [await tracker.start_run(RunRequest("project")) for _ in range(2)]
        assert runs[0].id != runs[1].id
        assert [run.name for run in runs] == [run.id for run in runs]
        assert (runs[0].job_type, runs[0].config, runs[0].notes) == ("", {}, "")

    async def test_a_run_ends_once(self, tracker: Tracker) -> None:
        await tracker.start_run(TRAIN)
        failed = await tracker.finish_run("train-1", RunState.FAILED)
        assert failed.state is RunState.FAILED
        assert failed.finished_at is not None
        assert await tracker.finish_run("train-1", RunState.FAILED) == failed
        with pytest.raises(RunEnded, match="failed"):
            await tracker.finish_run("train-1")
        assert await tracker.run("train-1") == failed

    async def test_a_run_goes_on_by_its_id(self, tracker: Tracker) -> None:
        first = await tracker.start_run(TRAIN)
        assert await tracker.start_run(RunRequest("project", "train-1")) == first
        await tracker.finish_run("train-1")
        again = await tracker.start_run(RunRequest("project", "train-1", config={"epochs": 4}))
        assert (again.state, again.finished_at) == (RunState.RUNNING, None)
        assert (again.name, again.job_type, again.config) == ("first try", "train", {"epochs": 4})
        assert again.started_at >= first.started_at == again.created_at

    async def test_an_id_is_of_one_project(self, tracker: Tracker) -> None:
        first = await tracker.start_run(TRAIN)
        with pytest.raises(InvalidSetting, match="project"):
            await tracker.start_run(RunRequest("other", "train-1"))
        assert await tracker.run("train-1") == first

    @pytest.mark.parametrize(
        "changes",
        [
            {"project": "two words"},
            {"id": "a/b"},
            {"id": ""},
            {"name": "n" * (RUN_NAME_CHARACTERS_MAX + 1)},
            {"job_type": "n" * (RUN_NAME_CHARACTERS_MAX + 1)},
            {"config": {"lr": float("nan")}},
            {"config": {"text": "x" * METADATA_BYTES_MAX}},
            {"notes": "\udcff"},
        ],
        ids=lambda changes: str(changes)[:40],
    )
    async def test_a_run_that_cannot_be_is_refused(
        self, tracker: Tracker, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError):
            await tracker.start_run(replace(TRAIN, **changes))
        with pytest.raises(NoSuchRun):
            await tracker.run("train-1")

    async def test_a_commit_is_of_its_run(self, tracker: Tracker) -> None:
        await tracker.start_run(TRAIN)
        name = ArtifactName("elsewhere", "model")
        made = await put_and_commit(tracker, FIRST, name=name, run="train-1")
        assert (made.created, made.version.run_id) == (True, "train-1")
        other = await put_and_commit(tracker, SECOND)
        assert other.version.run_id != "train-1"
        confirmed = await put_and_commit(tracker, SECOND, run="train-1")
        assert (confirmed.created, confirmed.version.run_id) == (False, other.version.run_id)
        assert (await tracker.run("train-1")).state is RunState.RUNNING

    async def test_a_commit_without_a_run_has_one_that_finished(self, tracker: Tracker) -> None:
        made = await put_and_commit(tracker, FIRST)
        run = await tracker.run(made.version.run_id)
        assert (run.project, run.job_type, run.state) == ("project", "snapshot", RunState.FINISHED)
        assert run.finished_at is not None
        assert run.started_at <= run.finished_at
        with pytest.raises(RunEnded):
            await put_and_commit(tracker, SECOND, run=run.id)

    async def test_a_run_that_cannot_take_a_commit_refuses_it(self, tracker: Tracker) -> None:
        with pytest.raises(NoSuchRun, match="train-1"):
            await put_and_commit(tracker, FIRST, run="train-1")
        with pytest.raises(InvalidReference):
            await put_and_commit(tracker, FIRST, run="a/b")
        await tracker.start_run(TRAIN)
        await tracker.finish_run("train-1")
        with pytest.raises(RunEnded, match="train-1"):
            await put_and_commit(tracker, FIRST, run="train-1")
        assert await tracker.parent(NAME) is None

    async def test_a_commit_is_repeated_after_its_run_has_ended(self, tracker: Tracker) -> None:
        await tracker.start_run(TRAIN)
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        request = make_request(manifest_of(FIRST), run="train-1")
        first = await tracker.commit(request)
        await tracker.finish_run("train-1")
        assert await tracker.commit(request) == first

    # --- labels

    async def test_labels_are_kept_and_change_in_either_case(self, tracker: Tracker) -> None:
        said = {"description": "Ä", "metadata": {"a": {"b": [1, 2.5, True, None, "ö"]}}}
        first = await put_and_commit(tracker, FIRST, tags=["two words", "b"], **said)
        assert (first.version.description, first.version.metadata) == tuple(said.values())
        assert first.version.tags == ("b", "two words")
        same = (await put_and_commit(tracker, FIRST)).version
        assert replace(same, confirmed_at=first.version.confirmed_at) == first.version
        other = (await put_and_commit(tracker, FIRST, tags=["a", "b"], metadata={})).version
        assert (other.description, other.metadata) == ("Ä", {})
        assert other.tags == ("a", "b", "two words")
        second = (await put_and_commit(tracker, SECOND)).version
        assert (second.description, second.metadata, second.tags) == ("", {}, ())

    @pytest.mark.parametrize(
        "changes",
        [
            {"description": "x" * (DESCRIPTION_CHARACTERS_MAX + 1)},
            {"metadata": {"x": "x" * METADATA_BYTES_MAX}},
            {"metadata": {"x": float("inf")}},
            {"metadata": {"x": (1, 2)}},
            {"metadata": {1: "x"}},
            {"metadata": {"x": 2**64}},
            {"tags": [""]},
            {"tags": ["a/b"]},
            {"tags": ["x" * 65]},
            {"tags": [f"tag-{number}" for number in range(TAGS_MAX + 1)]},
        ],
        ids=lambda changes: str(changes)[:40],
    )
    async def test_labels_that_cannot_be_are_refused(
        self, tracker: Tracker, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError):
            await put_and_commit(tracker, FIRST, expect=None, **changes)
        assert await tracker.parent(NAME) is None

    async def test_tags_have_an_end(self, tracker: Tracker) -> None:
        tags = [f"tag-{number:03}" for number in range(TAGS_MAX)]
        first = await put_and_commit(tracker, FIRST, tags=tags)
        with pytest.raises(UsageError):
            await put_and_commit(tracker, FIRST, tags=["one more"])
        assert await tracker.parent(NAME) == first.version
