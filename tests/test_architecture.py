"""The shape of the code base as tests: who imports whom, what an import loads, what is shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {
    "aiobotocore",
    "aiohttp",
    "alembic",
    "botocore",
    "duckdb",
    "fsspec",
    "lxml",
    "msgspec",
    "numpy",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "structlog",
}
OF_A_DAEMON = {"aiohttp.web", "indexer.daemon", "prometheus_client"}
"""What only a daemon needs; the client of S3 and that of a daemon need `aiohttp` itself."""

COMMAND_TIMEOUT_S = 120


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


# --- layers --------------------------------------------------------------------------------------


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True, no_logo=True) == 0


SKELETON = [
    "indexer/__init__.py",
    "indexer/catalog/__init__.py",
    "indexer/cli.py",
    "indexer/errors.py",
    "indexer/stores/__init__.py",
    "indexer/testing/__init__.py",
    "workers/__init__.py",
]


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("indexer/errors.py", "import indexer.cli", "errors is not allowed to import indexer.cli"),
        ("indexer/errors.py", "def f(): import indexer.cli", "errors is not allowed to import"),
        ("indexer/stores/s3.py", "import indexer.catalog", "stores is not allowed to import"),
        (
            "indexer/cli.py",
            "import indexer.testing",
            "cli is not allowed to import indexer.testing",
        ),
        ("workers/pool.py", "import indexer.errors", "workers is not allowed to import indexer"),
        ("indexer/unplaced.py", "", "indexer.unplaced"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    for name in SKELETON:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / path).write_text(source)
    # The linter looks for packages in the folder it runs in.
    lint = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1]))"
    )
    linted = run("-c", lint, str(ROOT / "pyproject.toml"), folder=tmp_path)
    assert linted.returncode == 1
    assert complaint in linted.stdout


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("-c", "import indexer"), ("-m", "indexer", "--help"), ("-m", "indexer", "--version")],
    ids=" ".join,
)
def test_a_start_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    started = run("-X", "importtime", *command)
    assert started.returncode == 0, started.stderr[-1000:]
    assert imported(started.stderr) & HEAVY == set()


def test_a_data_folder_is_opened_without_what_reaches_servers() -> None:
    folder = imported(
        run("-X", "importtime", "-c", "import indexer.app, indexer.commands.views").stderr
    )
    assert "sqlalchemy" in folder
    assert folder & {"aiohttp", "aiobotocore", "pandas", "duckdb"} == set()


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    loaded = imported(run("-X", "importtime", "-c", "import indexer").stderr)
    assert {name for name in loaded if name.startswith(("indexer", "workers"))} == {"indexer"}


def test_the_library_loads_what_a_verb_needs_when_it_is_used() -> None:
    program = "import indexer; indexer.open, indexer.run, indexer.Version"
    loaded = imported(run("-X", "importtime", "-c", program).stderr)
    assert {"indexer.library.version", "pyarrow"} <= loaded
    optional = {"aiobotocore", "duckdb", "fsspec", "gcloud", "lxml", "pandas", "rich", "sqlalchemy"}
    assert loaded & (OF_A_DAEMON | optional) == set()


def test_a_command_does_without_pandas(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ("snapshot", f"{tmp_path}/file", "--name", "p/a", "--data", f"{tmp_path}/data")
    ran = run("-X", "importtime", "-m", "indexer", *words)
    assert ran.returncode == 0, ran.stderr[-1000:]
    assert "pyarrow.lib" in imported(ran.stderr)
    assert "pandas.core" not in imported(ran.stderr)  # it was looked for, and not found


def test_only_a_daemon_loads_a_server() -> None:
    loaded = imported(
        run("-X", "importtime", "-c", "import indexer.client, indexer.commands.views").stderr
    )
    assert "aiohttp" in loaded
    assert loaded & (OF_A_DAEMON | {"aiobotocore", "sqlalchemy"}) == set()


def test_what_is_heavy_is_seen() -> None:
    assert imported(run("-X", "importtime", "-c", "import lxml.etree").stderr) & HEAVY == {"lxml"}
    daemon = imported(run("-X", "importtime", "-c", "import indexer.daemon.server").stderr)
    assert daemon >= OF_A_DAEMON


def imported(importtime: str) -> set[str]:
    """The modules in what `-X importtime` wrote, and their packages."""
    modules = re.findall(r"^import time:.*\| +([\w.]+)$", importtime, re.MULTILINE)
    return {*modules, *(module.partition(".")[0] for module in modules)}


# --- what is shipped -----------------------------------------------------------------------------


def test_the_wheel_holds_the_packages_and_the_command(tmp_path: Path) -> None:
    built = run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path))
    assert built.returncode == 0, built.stderr
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in wheel.namelist() if n.endswith("/entry_points.txt"))
        assert "indexer = indexer.cli:main" in wheel.read(entry_points).decode()
    expected = {
        file.relative_to(ROOT).as_posix()
        for package in ("indexer", "workers")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped == expected
    assert {"indexer/py.typed", "workers/py.typed"} <= shipped


# --- locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("requirements.lock", ["gcs", "dev"]), ("requirements-bench.lock", ["bench"])],
)
def test_the_lock_holds_what_is_asked_for(lock: str, extras: list[str]) -> None:
    pins = pinned(lock)
    optional = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *(r for extra in extras for r in optional[extra])]
    if "dev" in extras:
        asked += PROJECT["build-system"]["requires"]
    for requirement in map(Requirement, asked):
        versions = pins[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement


def test_the_locks_agree() -> None:
    first, second = pinned("requirements.lock"), pinned("requirements-bench.lock")
    assert {n: first[n] for n in first.keys() & second} == {
        n: second[n] for n in first.keys() & second
    }


def pinned(lock: str) -> dict[str, set[Version]]:
    """The versions that a lock gives a package: one, or one for each of several markers."""
    pins: dict[str, set[Version]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line.startswith((" ", "#")):
            continue
        pin = re.fullmatch(r"([\w.-]+)(?:\[.*\])?==([^\s;]+)(?: ; .*)? \\", line)
        assert pin, f"{lock} has a line that is no pin with hashes: {line}"
        pins.setdefault(canonicalize_name(pin[1]), set()).add(Version(pin[2]))
    return pins
