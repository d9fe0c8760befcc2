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
