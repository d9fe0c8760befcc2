"""Runs and artifacts for Python, on a data folder and on a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import indexer
from indexer.errors import (
    CommitConflict,
    IndexerError,
    InvalidReference,
    InvalidSetting,
    LimitExceeded,
    NoSuchRun,
    NoSuchVersion,
    RunEnded,
)
from indexer.library import Version
from indexer.records import Relation, RunState
from tests.integration.commands import Command
from tests.integration.test_serve import serving

Place = dict[str, Any]


@pytest.fixture(scope="module")
def daemon_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = Command(tmp_path_factory.mktemp("daemon"))
    with serving(command) as found:
        yield found.url
    command.stop()


@pytest.fixture(params=["folder", "daemon"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a test keeps things: a data folder of its own, or the daemon that all of them share."""
    if request.param == "folder":
        return {"data": tmp_path / "data"}
    return {"server": request.getfixturevalue("daemon_url")}


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """A project of the test's own."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("images", "model", "report"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def artifact(files: Path, name: str, **said: Any) -> indexer.Artifact:
    made = indexer.Artifact(name, type=name, **said)
    made.add_reference(files / name)
    return made


def record_of(run: indexer.Run, place: Place) -> Any:
    """The run as it is kept: started again it would go on, so that it is read another way."""
    from indexer.places import open_workspace
    from indexer.runner import Portal

    with Portal(open_workspace(run.place)) as portal:
        return portal.run(lambda workspace: workspace.run(run.id))


def test_a_model_is_traced_to_the_exact_objects(place: Place, project: str, files: Path) -> None:
    indexer.snapshot(str(files / "images"), name=f"{project}/images", **place)
    with indexer.run(
        project=project, job_type="train", name="first", config={"epochs": 3}, **place
    ) as run:
        images = run.use_artifact("images:latest", use_as="input")
        model = run.log_artifact(
            artifact(files, "model", metadata={"accuracy": 0.93}, description="m"), aliases=["best"]
        )
    assert (run.record.state, run.config) == (RunState.FINISHED, {"epochs": 3})
    assert isinstance(model, Version)
    assert (model.ref, model.created) == (f"{project}/model:v0", True)
    assert (model.record.metadata, model.record.description) == ({"accuracy": 0.93}, "m")
    assert (model.record.run_id, model.record.aliases) == (run.id, ("best", "latest"))
    with indexer.run(project=project, job_type="evaluate", **place) as evaluation:
        assert evaluation.use_artifact(model).record == model.record
        report = evaluation.log_artifact(files / "report", name="report", type="report")
    up = report.lineage(direction="up")
    assert [version.ref for version in up.versions] == [report.ref, model.ref, images.ref]
    assert [run.job_type for run in up.runs] == ["evaluate", "train", "snapshot"]
    down = indexer.open(images.ref, **place).lineage(direction="down")
    assert [edge.ref for edge in down.edges if edge.relation is Relation.PRODUCES] == [
        model.ref,
        report.ref,
    ]
    (table,) = indexer.open(up.versions[-1].ref, **place).entries()
    assert table.column("path").to_pylist() == [b"file"]


def test_a_use_snapshots_what_was_not_logged(place: Place, project: str, files: Path) -> None:
    with indexer.run(project=project, **place) as run:
        first = run.use_artifact(artifact(files, "images"))
        again = run.use_artifact(artifact(files, "images"))
        (files / "images" / "file").write_text("changed")
        images = artifact(files, "images")
        other = run.use_artifact(images)
        assert run.use_artifact(images).ref == other.ref
    assert [(one.record.number, one.created) for one in (first, again, other)] == [
        (0, True),
        (0, False),
        (1, True),
    ]
    assert run.id not in {first.record.run_id, other.record.run_id}
    used = [edge for edge in other.lineage().edges if edge.relation is Relation.USES]
    assert [edge.run_id for edge in used] == [run.id]
    assert len(first.lineage().edges) == 3


def test_a_run_whose_block_raises_has_failed(place: Place, project: str, files: Path) -> None:
    with pytest.raises(ZeroDivisionError), indexer.run(project=project, **place) as run:
        run.log_artifact(artifact(files, "model"))
        _ = 1 / 0
    assert record_of(run, place).state is RunState.FAILED
    assert indexer.open(f"{project}/model", **place).record.run_id == run.id
    with pytest.raises(RunEnded):
        run.log_artifact(artifact(files, "report"))
    with pytest.raises(RunEnded):
        run.use_artifact("model")
    with pytest.raises(NoSuchVersion):
        indexer.open(f"{project}/report", **place)


@pytest.mark.parametrize(
    ("code", "state"), [(0, "finished"), (None, "finished"), (3, "failed"), ("why", "failed")]
)
def test_a_script_that_ends_itself(code: object, state: str, place: Place, project: str) -> None:
    with pytest.raises(SystemExit), indexer.run(project=project, **place) as run:
        raise SystemExit(code)
    assert record_of(run, place).state == state


def test_a_run_goes_on_by_its_id(place: Place, project: str) -> None:
    run_id = f"{project[:100]}-1"
    with indexer.run(project=project, id=run_id, config={"epochs": 3}, **place) as run:
        run.change(notes="halfway", config={"epochs": 4})
        run.finish("failed")
    assert run.record.state is RunState.FAILED
    again = indexer.run(project=project, id=run_id, **place)
    assert (again.id, again.config, again.record.notes) == (run_id, {"epochs": 4}, "halfway")
    assert again.record.state is RunState.RUNNING
    again.finish()
    with pytest.raises(InvalidSetting, match=project):
        indexer.run(project="other", id=run_id, **place)


def test_what_a_block_raises_is_not_hidden(
    project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(state: str) -> None:
        raise CommitConflict(f"not {state}")

    run = indexer.run(project=project, data=tmp_path / "data")
    monkeypatch.setattr(run, "finish", broken)
    with pytest.raises(ZeroDivisionError) as raised, run:
        _ = 1 / 0
    assert raised.value.__notes__ == [f"The run {run.id} could not be ended: not failed"]
    with pytest.raises(CommitConflict, match="not finished"), run:
        pass


def test_logging_outside_of_a_run_makes_one(place: Place, project: str, files: Path) -> None:
    images = artifact(files, "images", tags=["pets"], notes="as delivered", aliases=["first"])
    version = images.save(project, **place)
    assert images.version == version
    assert (version.record.tags, version.record.notes) == (("pets",), "as delivered")
    made = version.lineage().runs[0]
    assert (made.id, made.job_type, made.state) == (version.record.run_id, "snapshot", "finished")
    with pytest.raises(InvalidSetting, match="logged as"):
        images.add_reference(files / "model")


def test_references_have_mounts_and_bounds(place: Place, project: str, files: Path) -> None:
    both = indexer.Artifact("both")
    with pytest.raises(InvalidSetting, match="no references"):
        both.save(project, **place)
    both.add_reference(files / "images", name="train", max_objects=1)
    both.add_reference(str(files / "model"), name="data/val", checksum=False)
    (table,) = both.save(project, **place).entries()
    assert table.column("path").to_pylist() == [b"data/val/file", b"train/file"]
    assert "checksum" not in table.schema.names
    few = indexer.Artifact("few")
    few.add_reference(files, max_objects=2)
    with pytest.raises(LimitExceeded):
        few.save(project, **place)
    wrong = indexer.Artifact("wrong")
    wrong.add_reference(files / "images", checksum="md5")
    wrong.add_reference(files / "model", name="b", checksum="sha256")
    with pytest.raises(InvalidSetting, match="several checksums"):
        wrong.save(project, **place)
    unnamed = indexer.Artifact("unnamed")
    for name in ("images", "model"):
        unnamed.add_reference(files / name)
    with pytest.raises(InvalidReference, match="name of its own"):
        unnamed.save(project, **place)


def test_labels_of_a_version_change(place: Place, project: str, files: Path) -> None:
    version = artifact(files, "images", tags=["a"]).save(project, **place)
    changed = version.change(notes="n", metadata={"x": [1]}, add_tags=["b"], remove_tags=["a"])
    assert (changed.record.notes, changed.record.metadata) == ("n", {"x": [1]})
    assert changed.record.tags == ("b",)
    assert changed.change(tags=["z", "y"]).record.tags == ("y", "z")
    assert changed.change(description="d").record.notes == "n"
    assert changed.set_alias("best", expect=None).record.aliases == ("best", "latest")
    with pytest.raises(CommitConflict):
        changed.set_alias("best", expect=None)
    for wrong in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(InvalidSetting, match="JSON cannot hold"):
            changed.change(metadata=wrong)


def test_versions_of_elsewhere_are_not_used(place: Place, project: str, files: Path) -> None:
    elsewhere = artifact(files, "images").save(project, data=files / "elsewhere")
    with indexer.run(project=project, **place) as run:
        with pytest.raises(InvalidSetting, match="is kept at"):
            run.use_artifact(elsewhere)
        with pytest.raises(NoSuchVersion):
            run.use_artifact(f"{project}/images:v0")
        with pytest.raises(InvalidReference, match="needs the name"):
            run.log_artifact(str(files / "images"))


def test_a_snapshot_is_of_a_run_that_is_there(place: Place, project: str, files: Path) -> None:
    with pytest.raises(NoSuchRun):
        indexer.snapshot(str(files / "images"), name=f"{project}/a", run="nobody", **place)
    for said in ({"project": "a b"}, {"id": "a/b"}, {"config": {"x": {1, 2}}}):
        with pytest.raises(IndexerError):
            indexer.run(**{"project": project, **place, **said})
