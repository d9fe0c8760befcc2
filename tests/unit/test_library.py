"""The library's verbs, on files."""

from __future__ import annotations

from pathlib import Path

import pytest

import indexer


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
