"""The library's verbs, on files."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import pytest

import indexer
from indexer.artifact.handle import Handle
from indexer.artifact.verify.references import ReferenceReport
from indexer.errors import InvalidSetting, ObjectChanged
from indexer.library import VersionDiff
from indexer.records import StructureReport


def test_sources_are_mounts_and_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b=c", "d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.chdir(tmp_path)
    version = indexer.snapshot(
        {"one": "a", "two": f"{tmp_path}/b=c/", "three": f"file://{tmp_path}/d/"},
        name="project/artifact",
        data=tmp_path / "data",
    )
    paths = [path for table in version.entries() for path in table.column("path").to_pylist()]
    assert paths == [b"one/file", b"three/file", b"two/file"]


def test_a_shard_that_was_lost_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("one")
    made = indexer.snapshot(tmp_path / "a", name="p/a", data=tmp_path / "data")
    (shard,) = (tmp_path / "data" / "shards").glob("*/*.parquet")
    shard.unlink()
    confirmed = indexer.snapshot(tmp_path / "a", name="p/a", data=tmp_path / "data")
    assert (confirmed.ref, confirmed.created) == (made.ref, False)
    assert [table.num_rows for table in made.entries()] == [1]


@pytest.fixture
def version(tmp_path: Path) -> indexer.Version:
    """A version of three files, one of which is a table."""
    files = tmp_path / "files"
    for path, text in {"t.csv": "path\na/1.txt\n", "a/1.txt": "1", "a/2.bin": "2"}.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text)
    return indexer.snapshot(files, name="p/a", data=tmp_path / "data")


VERBS = (
    *("entries", "to_pandas", "query", "tables", "table", "compare_table", "diff", "download"),
    *("verify", "urls", "lineage", "change", "set_alias", "expire_after", "remove"),
)
ONE_SIDED = {"progress", "structure", "tell", "counters", "tally"}
"""How whoever waits is told how far it is; and a proof, which asynchronously is another verb."""


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_take_the_same_whether_they_are_awaited_or_not(verb: str) -> None:
    taken = [
        {
            (name, given.kind, str(given.default))
            for name, given in inspect.signature(getattr(kind, verb)).parameters.items()
            if name not in ONE_SIDED
        }
        for kind in (indexer.Version, Handle)
    ]
    assert taken[0] == taken[1]


def test_every_public_verb_has_its_asynchronous_side() -> None:
    public = {name for name, _ in inspect.getmembers(indexer.Version, inspect.isfunction)}
    assert {name for name in public if not name.startswith("_")} == {*VERBS, "filesystem"}


def test_entries_are_chosen_alike_by_every_verb(version: indexer.Version, tmp_path: Path) -> None:
    for chosen, paths in (
        ({"prefix": "a/"}, [b"a/1.txt", b"a/2.bin"]),
        ({"prefix": b"a/", "exclude": ["**/*.bin"]}, [b"a/1.txt"]),
        ({"include": ["t.*", "a/2.*"]}, [b"a/2.bin", b"t.csv"]),
        ({"prefix": "none"}, []),
    ):
        selected: dict[str, Any] = chosen
        tables = list(version.entries(**selected))
        assert [path for table in tables for path in table.column("path").to_pylist()] == paths
        assert [link.path for link in version.urls(**selected)] == paths
        assert version.verify(**selected).entries == len(paths)
        assert version.download(tmp_path / "out", **selected).objects == len(paths)
        assert version.to_pandas(**selected)["raw_path"].to_list() == paths
    verbs: list[Any] = [version.entries, version.urls, version.verify, version.download]
    for verb in verbs:
        with pytest.raises(InvalidSetting, match="the glob"):
            list(verb(include=["a[/"]))


def test_what_cannot_be_asked_is_an_error_of_ours(version: indexer.Version) -> None:
    verify: Any = version.verify
    with pytest.raises(InvalidSetting, match="leave out prefix"):
        verify("a/", structure=True)
    with pytest.raises(InvalidSetting, match="no kind of change"):
        version.diff(version).tables("more")
    with pytest.raises(InvalidSetting, match="not UTF-8"):
        version.query("FROM entries", prefix=b"\xff")
    lineage: Any = version.lineage
    with pytest.raises(InvalidSetting, match="no direction"):
        lineage(direction="left")
    wrong: Any = {"endpont_url": "http://127.0.0.1:1"}
    for verb in (partial(indexer.open, "p/a:v0"), partial(indexer.run, project="p")):
        with pytest.raises(InvalidSetting, match="'endpont_url' is no argument"):
            verb(**wrong)
    with pytest.raises(InvalidSetting, match="no time to live"):
        version.expire_after(timedelta.max)
    with pytest.raises(InvalidSetting, match="no time to live"):
        indexer.snapshot("files", name="p/a", ttl=timedelta.max)


def test_a_text_is_one_word_and_not_its_letters(version: indexer.Version, tmp_path: Path) -> None:
    assert version.verify(include="**/*.bin").entries == 1
    assert version.download(tmp_path / "out", exclude="a/*").objects == 1
    assert version.change(add_tags="good").record.tags == ("good",)
    again = indexer.snapshot(
        tmp_path / "files", name="p/b", aliases="best", include="t.csv", data=tmp_path / "data"
    )
    assert (again.record.objects, again.record.aliases) == (1, ("best", "latest"))
    assert indexer.Artifact("a", aliases="best", tags="good").tags == ("good",)


def test_a_table_that_was_overwritten_is_an_error_that_says_so(
    version: indexer.Version, tmp_path: Path
) -> None:
    pytest.importorskip("duckdb")
    (tmp_path / "files" / "t.csv").write_text("path\n")
    with pytest.raises(ObjectChanged, match=r"t\.csv: the object was overwritten: 13 bytes, .*"):
        version.table("t.csv")


def test_what_is_shown_is_short_and_asks_nothing(
    version: indexer.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    results = [
        (version.verify(), "<ReferenceReport of p/a:v0: 3 of 3 fetchable>"),
        (version.verify(structure=True), "<StructureReport of p/a:v0: nothing wrong>"),
        (version.tables(), "<Result: 1 rows of path, format, size, uri>"),
        (version.compare_table("t.csv", "v0", key="path"), "<Comparison: 0 added, 0 removed, "),
        (version.lineage(), "<Lineage of p/a:v0: 1 versions, 1 runs>"),
        (version.diff("v0"), "<p/a:v0 → p/a:v0: no changes>"),
        (version.download(tmp_path / "o"), "<DownloadResult of p/a:v0: 3 of 3 objects in "),
        (indexer.Artifact("a"), "<Artifact a: 0 references, not logged>"),
        (version, "<Version p/a:v0: 3 objects, 15 B>"),
    ]
    monkeypatch.setattr("indexer.library.version.open_workspace", None)
    for value, shown in results:
        assert repr(value).startswith(shown)
    aliases = tuple(f"alias-{number}" for number in range(1_000))
    tags = ("<i>",)
    record = replace(version.record, aliases=aliases, tags=tags)
    text = replace(version, record=record)._repr_html_()
    assert "&lt;i&gt;" in text
    assert "<i>" not in text
    assert "and 992 more" in text
    assert len(text) < 1_500


def test_progress_is_shown_where_somebody_watches(
    version: indexer.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.console.PROGRESS_LINE_INTERVAL_S", 0.001)
    for progress, is_told in ((True, True), (None, False), (False, False)):
        monkeypatch.setattr("sys.stderr", errors := io.StringIO())
        version.verify(progress=progress)
        version.download(tmp_path / str(progress), progress=progress)
        indexer.snapshot(tmp_path / "files", name="p/b", data=tmp_path / "data", progress=progress)
        told = {line.partition(": ")[0] for line in errors.getvalue().splitlines()}
        assert told == ({"p/a:v0", "p/b"} if is_told else set())


def test_types_are_known_to_whoever_writes_a_program(version: indexer.Version) -> None:
    # What a type checker makes of it; run, it says nothing.
    assert_type(version.verify(), ReferenceReport)
    assert_type(version.verify(structure=True), StructureReport)
    assert_type(version.diff("v0"), VersionDiff)
    assert_type(version.set_alias("best"), indexer.Version)
    assert_type(version.tables().to_pylist(), list[dict[str, Any]])
    assert_type(next(version.urls()).url, str)
    with indexer.run(project="p", data=version.place.data) as run:
        assert_type(run, indexer.Run)
        assert_type(run.use_artifact(version), indexer.Version)

    async def asynchronous(client: indexer.Client) -> None:
        opened = await client.open(version.ref)
        assert_type(opened, Handle)
        assert_type(await opened.verify(), ReferenceReport)

    assert inspect.iscoroutinefunction(asynchronous)
