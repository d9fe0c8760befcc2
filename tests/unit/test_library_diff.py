"""What changed between two versions, for scripts and notebooks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import indexer
from indexer.errors import NoSuchVersion
from indexer.page import SCHEMA
from tests.documents import DIFF, documents, run_code


@pytest.fixture
def versions(tmp_path: Path) -> tuple[indexer.Version, indexer.Version]:
    """Two versions of a folder: of its files one is moved, one changed, one gone, one new."""
    source = tmp_path / "source"
    for name in ("a/moved", "a/changed", "a/gone", "b/same"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    old = indexer.snapshot(str(source), name="project/artifact", data=tmp_path / "data")
    (source / "a/moved").rename(source / "b/moved")
    (source / "a/gone").unlink()
    (source / "a/changed").write_text("other")
    (source / "new<b>").write_text("")
    new = indexer.snapshot(str(source), name="project/artifact", data=tmp_path / "data")
    return old, new


def test_a_diff_tells_what_changed_since_another_version(
    versions: tuple[indexer.Version, indexer.Version],
) -> None:
    old, new = versions
    for diff in (new.diff("v0"), new.diff(old), new.diff("project/artifact:v0")):
        assert diff
        for table, found in ((diff.added, [b"new<b>"]), (diff.removed, [b"a/gone"])):
            assert table.schema.equals(SCHEMA)
            assert table.column("path").to_pylist() == found
        assert [(row["path"], row["kind"], row["before"]["size"], row["after"]["size"])
                for row in diff.changed.to_pylist()] == [
            (b"a/changed", "content", 9, 5),
        ]  # fmt: skip
        (renamed,) = diff.renamed.to_pylist()
        assert (renamed["before"]["path"], renamed["after"]["path"]) == (b"a/moved", b"b/moved")
        assert sum(table.num_rows for table in diff.tables()) == diff.summary.changes == 4
        assert [list(row.values()) for row in diff.folders().to_pylist()] == [
            [b"a/", 0, 2, 1, 0, 0, 22, 5],
            [b"b/", 1, 0, 0, 0, 0, 0, 7],
            [b"new<b>", 1, 0, 0, 0, 0, 0, 0],
        ]
        counts = "1 added, 1 removed, 1 content, 1 renamed"
        assert repr(diff) == f"<project/artifact:v0 → project/artifact:v1: {counts}>"
        assert len(diff._repr_html_()) < 1_000


def test_a_prefix_narrows_a_diff_down(versions: tuple[indexer.Version, indexer.Version]) -> None:
    old, new = versions
    diff = new.diff(old, prefix="b/")
    assert diff.added.column("path").to_pylist() == [b"b/moved"]
    assert diff.renamed.num_rows == diff.removed.num_rows == 0
    assert "below b/" in repr(diff)
    assert "&lt;" in new.diff(old, prefix="new<")._repr_html_()


def test_a_version_is_no_different_from_itself(
    versions: tuple[indexer.Version, indexer.Version],
) -> None:
    diff = versions[1].diff("latest")
    assert not diff
    assert repr(diff).endswith(": no changes>")
    assert diff.changed.num_rows == diff.added.num_rows == diff.folders().num_rows == 0
    with pytest.raises(NoSuchVersion):
        versions[1].diff("v7")


def test_a_checksum_that_is_new_is_another_identity_and_a_time_is_other_content(
    tmp_path: Path,
) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.write_text("text")

    def snapshot(checksum: str) -> indexer.Version:
        source = str(tmp_path / "source")
        return indexer.snapshot(
            source, name="project/artifact", data=tmp_path / "data", checksum=checksum
        )

    old, new = snapshot("none"), snapshot("md5")
    assert new.diff(old).changed.column("kind").to_pylist() == ["identity"]
    os.utime(file, (1, 1))
    assert snapshot("none").diff(old).changed.column("kind").to_pylist() == ["content"]


def test_the_code_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEXER_DATA", str(tmp_path / "data"))
    (tmp_path / "source").mkdir()
    for name in ("one", "two"):
        (tmp_path / "source" / name).write_text(name)
        indexer.snapshot(str(tmp_path / "source"), name="vision/images")
    run_code(documents()[DIFF])
