"""The commands for labels, runs and lineage do on a daemon what they do on a data folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.test_command import Pair, own_left_out
from tests.integration.commands import Command, failed
from tests.integration.test_serve import serving


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is recorded: the same folder for both."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("images", "models", "reports"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A daemon and a folder to which the same is done, one test after the other."""
    daemon, local, remote = (
        Command(tmp_path_factory.mktemp(name)) for name in ("daemon", "local", "remote")
    )
    with serving(daemon) as found:
        remote.environment |= {"INDEXER_SERVER": found.url}
        yield Pair(remote, local, daemon, found.url)
    for command in (daemon, local, remote):
        command.stop()


@pytest.fixture(scope="module")
def story(pair: Pair, files: Path) -> Pair:
    """A dataset, a model that was trained on it, and a report on the model."""
    labels = ("--tag", "pets", "--metadata", '{"camera": "B7"}', "--description", "Pets")
    pair("snapshot", f"{files}/images/", "--name", "vision/images", *labels)
    for run_id, used, folder, name in (
        ("train", "images", "models", "model"),
        ("evaluate", "model", "reports", "report"),
    ):
        pair("runs", "start", "vision", "--id", run_id, "--job-type", run_id)
        pair("runs", "use", run_id, f"vision/{used}", "--as", "input")
        asked = ("snapshot", f"{files}/{folder}/", "--name", f"vision/{name}", "--type", name)
        pair(*asked, "--run", run_id)
        pair("runs", "finish", run_id)
    return pair


def test_a_model_is_traced_both_ways(story: Pair) -> None:
    assert own_left_out(story("lineage", "vision/model").output).splitlines() == [
        "vision/model:v0 (model)",
        "├─ made by run train (train, finished)",
        "│  └─ which used vision/images:v0 (dataset)",
        "│     └─ made by run RUN (snapshot, finished)",
        "└─ used by run evaluate (evaluate, finished)",
        "   └─ which made vision/report:v0 (report)",
    ]
    up = story("lineage", "vision/report:latest", "--up", "--json").document
    assert [version["ref"] for version in up["versions"]] == [
        "vision/report:v0",
        "vision/model:v0",
        "vision/images:v0",
    ]
    assert up["edges"][0] == {
        "run": "evaluate",
        "relation": "produces",
        "ref": "vision/report:v0",
    }
    down = story("lineage", "vision/images", "--down", "--depth", "1")
    assert len(down.output.splitlines()) == 3
    assert "--depth" in down.errors
    assert story("lineage", "vision/images", "--down", "--depth", "1", "--json").document["cut"]
    assert len(story("lineage", "vision/model", "--up", "--down").output.splitlines()) == 6


def test_runs_are_listed_and_shown(story: Pair) -> None:
    assert [run["id"] for run in story("runs", "ls", "vision", "--json").documents][:2] == [
        "evaluate",
        "train",
    ]
    listed = story("runs", "ls", "vision", "--job-type", "train").output.splitlines()
    assert listed[0].split() == ["RUN", "NAME", "JOB", "TYPE", "STATE", "STARTED", "ENDED"]
    assert listed[1].split()[:4] == ["train", "-", "train", "finished"]
    assert len(story("runs", "ls", "vision", "--limit", "1").output.splitlines()) == 2
    shown = story("runs", "show", "train", "--json").document
    (used,), (made,) = shown["inputs"], shown["outputs"]
    assert (used["relation"], used["use_as"]) == ("uses", "input")
    assert (made["relation"], made["version"]["ref"]) == ("produces", "vision/model:v0")
    text = story("runs", "show", "train").output
    assert "  used         vision/images:v0 (dataset, as input)\n" in text
    assert "  made         vision/model:v0 (model)\n" in text


def test_a_run_is_started_changed_and_ended(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    start = ("runs", "start", "started", "--id", "a")
    config = f"@{tmp_path}/config.json"
    said = ("--name", "first\ntry", "--config", config, "--notes", "ä")
    document = pair(*start, *said, "--json").document
    assert (document["state"], document["config"]) == ("running", {"epochs": 3})
    assert pair(*start, "-q").output == "a\n"
    assert r"first\ntry" in pair("runs", "show", "a").output
    assert pair("runs", "finish", "a", "--failed", "--json").document["state"] == "failed"
    assert "as failed; it cannot end as finished" in failed(pair("runs", "finish", "a", code=2), 2)
    assert pair(*start, "--json").document["state"] == "running"
    assert "of the project started" in failed(pair("runs", "start", "b", "--id", "a", code=2), 2)


def test_a_run_of_a_daemon_makes_what_is_listed_here(story: Pair, files: Path) -> None:
    story("runs", "start", "elsewhere", "--id", "told")
    asked = ("snapshot", f"{files}/images/", "--name", "elsewhere/told", "--to", story.url)
    assert story.local(*asked, "--run", "told", "--json").document["created"]
    story.remote("runs", "finish", "told")
    assert "has ended" in failed(story.local(*asked, "--run", "told"), 2)
    assert "nobody" in failed(story.local(*asked, "--run", "nobody"), 3)
    (made,) = story.remote("runs", "show", "told", "--json").document["outputs"]
    assert made["version"]["ref"] == "elsewhere/told:v0"


def test_labels_change_at_any_time(story: Pair, tmp_path: Path) -> None:
    ref = "vision/images:v0"
    (version,) = story("ls", "vision/images", "--tag", "pets", "--json").documents
    assert (version["description"], version["metadata"]) == ("Pets", {"camera": "B7"})
    assert story("tag", "add", ref, "two words", "x", "--json").document["tags"] == [
        "pets",
        "two words",
        "x",
    ]
    assert story("tag", "ls", "vision/images", "--json").documents[1] == {
        "tag": "two words",
        "ref": ref,
    }
    assert story("tag", "ls", "vision/images").output.startswith("TAG        VERSION\npets  ")
    removed = story("tag", "remove", ref, "x", "nothing", "two words", "--json").document
    assert removed["tags"] == ["pets"]
    assert story("ls", "vision/images", "--tag", "x").output.count("\n") == 1
    (tmp_path / "m.json").write_text(json.dumps({"a": [1.5, None]}))
    assert story("metadata", ref, f"@{tmp_path}/m.json", "--json").document["metadata"] == {
        "a": [1.5, None]
    }
    assert "\x1b" not in story("metadata", ref, '{"a": "\\u001b\\u009b"}').output
    story("metadata", ref, '{"camera": "B7"}')
    assert story("describe", ref, "Pets, again", "--json").document["description"] == "Pets, again"
    story("describe", ref, "Pets")
    artifact = story("describe", "vision/images", "All pets", "--json").document
    assert (artifact["artifact"], artifact["description"]) == ("vision/images", "All pets")
    assert story("describe", "vision/images", "All pets").output.startswith("ARTIFACT ")


def test_an_alias_moves_only_from_where_it_is_expected(story: Pair) -> None:
    move = ("alias", "set", "vision/images:v0", "best")
    assert story(*move, "--expect", "none", "--json").document["aliases"] == ["best", "latest"]
    assert "it is at v0" in failed(story(*move, "--expect", "none", code=75), 75)
    assert "not at v7" in failed(story(*move, "--expect", "v7", code=75), 75)
    remove = ("alias", "remove", "vision/images", "best")
    failed(story(*remove, "--expect", "v7", code=75), 75)
    assert story(*remove, "--expect", "v0", "--json").document["aliases"] == ["latest"]


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (3, ["runs", "show", "nobody"], "no run 'nobody'"),
        (3, ["runs", "ls", "nowhere"], "no project"),
        (3, ["runs", "finish", "nobody"], "nobody"),
        (3, ["runs", "use", "nobody", "vision/images"], "nobody"),
        (2, ["runs", "use", "train", "vision/images"], "has ended"),
        (3, ["runs", "use", "train", "vision/nothing"], "nothing"),
        (2, ["runs", "show", "a/b"], "is no run"),
        (2, ["runs", "start", "two words"], "two words"),
        (2, ["runs", "start", "vision", "--config", "[]"], "no JSON object"),
        (2, ["runs", "start", "vision", "--config", "{"], "no JSON"),
        (2, ["runs", "start", "vision", "--config", '{"a": NaN}'], "JSON cannot hold"),
        (2, ["runs", "start", "vision", "--config", "@no-such-file"], "no-such-file"),
        (2, ["runs", "start", "vision", "--name", "\udcff"], "not UTF-8"),
        (3, ["lineage", "vision/images:v9"], "v0"),
        (2, ["tag", "add", "vision/images", "a,b"], "is no tag"),
        (2, ["tag", "add", "vision/images", *(f"t{n}" for n in range(101))], "at most 100"),
        (3, ["tag", "ls", "vision/nothing"], "nothing"),
        (2, ["metadata", "vision/images", '{"a": 1e999}'], "JSON cannot hold"),
        (2, ["metadata", "vision/images", json.dumps({"a": "x" * 65_536})], "65,536 are kept"),
        (2, ["describe", "vision/images", "x" * 10_001], "10,001"),
        (2, ["describe", "vision/images:v0", "\udcff"], "not UTF-8"),
        (3, ["describe", "vision/nothing", "x"], "nothing"),
        (2, ["alias", "set", "vision/images", "best", "--expect", "best"], "v3, or none"),
        (2, ["ls", "vision", "--tag", "x"], "--tag"),
        (2, ["ls", "vision/images:v0", "--tag", "x"], "--tag"),
        (3, ["snapshot", ".", "--name", "vision/x", "--run", "nobody"], "nobody"),
        (2, ["snapshot", ".", "--name", "vision/x", "--run", "train"], "has ended"),
        (2, ["snapshot", ".", "--name", "vision/x", "--tag", "a,b"], "is no tag"),
        (2, ["snapshot", ".", "--name", "vision/x", "--metadata", "3"], "no JSON object"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_done(code: int, arguments: list[str], words: str, story: Pair) -> None:
    assert words in failed(story(*arguments, code=code), code)
