"""fsspec's own tests of copying to a local folder, inherited; what they copy is a version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

import indexer
from indexer.filesystem import IndexerFileSystem

Scenario = Callable[[Any, Callable[..., str], str], str]


class TestGet(AbstractFixtures, AbstractGetTests):  # type: ignore[misc]
    # It writes into the file system.
    test_get_directory_recursive = None

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where the scenarios are made, each once, and their versions kept."""
        return tmp_path_factory.mktemp("suite")

    @pytest.fixture(scope="class")
    @classmethod
    def fs(cls, folder: Path) -> IndexerFileSystem:
        return IndexerFileSystem(data=folder / "data")

    @pytest.fixture
    def fs_path(self) -> str:
        return "p"

    @pytest.fixture
    def version_of(
        self, folder: Path, local_fs: Any, local_join: Callable[..., str]
    ) -> Callable[[Scenario], str]:
        """The files of a scenario as a version, and where they are in it."""

        def make(scenario: Scenario) -> str:
            name = scenario.__name__.strip("_")
            if not (folder / name).exists():
                scenario(local_fs, local_join, str(folder / name))
                indexer.snapshot(f"{folder / name}/", name=f"p/{name}", data=folder / "data")
            return f"p/{name}:v0/source"

        return make

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, version_of: Callable[[Scenario], str]) -> str:
        return version_of(self._bulk_operations_scenario_0)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, version_of: Callable[[Scenario], str]) -> str:
        return version_of(self._glob_edge_cases_files)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, version_of: Callable[[Scenario], str]) -> str:
        return version_of(self._dir_and_file_with_same_name_prefix)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, version_of: Callable[[Scenario], str]) -> str:
        return version_of(self._10_files_with_hashed_names)
