"""The catalog's database: how it is made, what makes it unusable, and that it starts fast."""

from __future__ import annotations

import ast
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, select

from indexer.catalog import database as database_module
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import Database
from indexer.catalog.folder import DataFolder
from indexer.catalog.schema import REVISION, metadata, projects
from indexer.errors import Temporary, UnusableDataFolder
from indexer.records import RunState
from indexer.references import ArtifactName
from workers.clock import SystemClock

ROOT = Path(__file__).parents[2]
CLOCK = SystemClock()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder.prepare(tmp_path / "data", CLOCK.now())


def sql(path: Path, *statements: str) -> list[object]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return [row for line in statements for row in connection.execute(line).fetchall()]


def add_project(connection: Connection, name: str) -> None:
    connection.execute(insert(projects).values(name=name, created_at=CLOCK.now()))


def project_names(connection: Connection) -> list[str]:
    return list(connection.execute(select(projects.c.name)).scalars())


# --- how it is made


async def test_the_migrations_make_the_schema(folder: DataFolder) -> None:
    async with Database.open(folder, CLOCK):
        pass
    engine = create_engine(f"sqlite:///{folder.database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "indexer" / "catalog" / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


async def test_it_has_a_log_and_flushes_every_commit(folder: DataFolder) -> None:
    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    async with Database.open(folder, CLOCK) as database:
        full = 2
        assert await database.write(pragmas) == ["wal", full, 1, 60_000]
        assert await database.read(pragmas) == ["wal", full, 1, 60_000]


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 0", "PRAGMA journal_mode = WAL"])
async def test_a_database_whose_making_was_cut_short_is_made(
    folder: DataFolder, statement: str
) -> None:
    sql(folder.database, statement)
    async with Database.open(folder, CLOCK) as database:
        await database.write(add_project, "project")
        assert await database.read(project_names) == ["project"]


async def test_names_of_a_folder_may_be_odd(tmp_path: Path) -> None:
    folder = DataFolder.prepare(tmp_path / "a %20?b#c;é", CLOCK.now())
    async with Database.open(folder, CLOCK) as database:
        await database.write(add_project, "project")
    assert folder.database.exists()
    async with Database.open(folder, CLOCK) as database:
        assert await database.read(project_names) == ["project"]


# --- how it is brought up to date

CATALOG_OF_0001 = """
INSERT INTO projects VALUES (1, 'project', 1);
INSERT INTO artifact_types VALUES (1, 1, 'images');
INSERT INTO artifacts VALUES (1, 1, 1, 'artifact', 1, 9);
INSERT INTO runs VALUES ('run-0', 1, 5), ('run-1', 1, 7), ('run-2', 1, 9);
INSERT INTO manifests VALUES ('sha256:a', 3, 30, NULL, NULL), ('sha256:b', 4, 40, NULL, NULL);
INSERT INTO versions VALUES
    (1, 1, 0, 'sha256:a', 'run-0', 3, 'window', 'first', 5, 7),
    (2, 1, 1, 'sha256:b', 'run-2', 4, 'instant', '', 9, 9);
INSERT INTO aliases VALUES (1, 'latest', 2, 9), (1, 'best', 1, 5);
INSERT INTO alias_moves VALUES (1, 1, 'latest', 1, 5), (2, 1, 'latest', 2, 9);
INSERT INTO scans VALUES
    (1, 'request-0', 1, 'run-0', 1, 4, 5, 3, 'window', 'tiling-0', '{}', '[]'),
    (2, 'request-1', 1, 'run-1', 0, 6, 7, 3, 'window', 'tiling-1', '{}', '[]'),
    (3, 'request-2', 2, 'run-2', 1, 8, 9, 4, 'instant', 'tiling-2', '{}', '[]');
"""


@pytest.fixture
def old_folder(folder: DataFolder) -> DataFolder:
    """A folder whose catalog the first revision wrote, with two versions."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "indexer" / "catalog" / "migrations"))
    engine = create_engine(f"sqlite:///{folder.database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    statements = [line for line in CATALOG_OF_0001.split(";\n") if line.strip()]
    sql(folder.database, "PRAGMA journal_mode = WAL", *statements)
    return folder


async def test_a_catalog_of_the_first_revision_is_read_after_its_upgrade(
    old_folder: DataFolder,
) -> None:
    async with Catalog.open(old_folder.path, CLOCK) as catalog:
        name = ArtifactName("project", "artifact")
        newest, first = await catalog.reader.versions(name)
        assert [newest.number, first.number] == [1, 0]
        assert (newest.aliases, first.aliases) == (("latest",), ("best",))
        assert (first.type, first.notes, first.objects) == ("images", "first", 3)
        assert first.seen_at == first.confirmed_at == moment(7)
        assert newest.seen_at == moment(9)
        for version in (newest, first):
            assert (version.as_of, version.checksum, version.touched) == (None, None, None)
            assert version.notices == ()
        assert await catalog.tracker.parent(name) == newest
        outcome = await catalog.tracker.outcome("request-1")
        assert outcome is not None
        assert (outcome.version, outcome.created) == (first, False)
        for version in (newest, first):
            assert (version.description, version.metadata, version.tags) == ("", {}, ())
        runs = await catalog.runs.runs("project")
        assert [run.id for run in runs] == ["run-2", "run-1", "run-0"]
        assert {(run.job_type, run.state) for run in runs} == {("snapshot", RunState.FINISHED)}
        assert [run.name for run in runs] == [run.id for run in runs]
        assert (runs[0].started_at, runs[0].finished_at) == (moment(8), moment(9))
        assert (runs[0].config, runs[0].notes) == ({}, "")
        found = await catalog.reader.lineage(name, "v0")
        assert [(edge.run_id, edge.relation) for edge in found.edges] == [
            ("run-0", "produces"),
            ("run-1", "confirms"),
        ]
        (artifact,) = await catalog.reader.artifacts("project")
        assert artifact.description == ""
    assert sql(old_folder.database, "PRAGMA foreign_key_check") == []
    assert sql(old_folder.database, "SELECT count(*) FROM alias_moves") == [(2,)]


async def test_an_upgraded_catalog_has_the_schema_of_a_new_one(
    old_folder: DataFolder, tmp_path: Path
) -> None:
    new_folder = DataFolder.prepare(tmp_path / "new", CLOCK.now())
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    for folder in (old_folder, new_folder):
        async with Database.open(folder, CLOCK):
            pass
    assert sql(old_folder.database, tables) == sql(new_folder.database, tables)


def moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


# --- transactions


async def test_what_raises_is_not_written(folder: DataFolder) -> None:
    def fail(connection: Connection) -> None:
        add_project(connection, "project")
        raise KeyError("later")

    async with Database.open(folder, CLOCK) as database:
        with pytest.raises(KeyError):
            await database.write(fail)
        assert await database.read(project_names) == []


async def test_a_reader_sees_one_moment(folder: DataFolder) -> None:
    def read_twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = project_names(connection)
        sql(folder.database, "INSERT INTO projects (name, created_at) VALUES ('other', 0)")
        return before, project_names(connection)

    async with Database.open(folder, CLOCK) as database:
        assert await database.read(read_twice) == ([], [])
        assert await database.read(project_names) == ["other"]


# --- what makes it unusable


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "DATABASE_BUSY_TIMEOUT_S", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_a_database_held_by_another_is_temporary(folder: DataFolder) -> None:
    async with Database.open(folder, CLOCK) as database:
        with closing(sqlite3.connect(folder.database)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Temporary, match="another process"):
                await database.write(add_project, "project")
            assert await database.read(project_names) == []


async def test_a_newer_database_is_left_alone(folder: DataFolder) -> None:
    async with Database.open(folder, CLOCK):
        pass
    sql(folder.database, "UPDATE alembic_version SET version_num = '9999'")
    before = contents(folder.path)
    with pytest.raises(UnusableDataFolder, match="newer version"):
        async with Catalog.open(folder.path, CLOCK):
            pytest.fail("a newer catalog was opened")
    assert contents(folder.path) == before


@pytest.mark.parametrize("data", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 5_000])
async def test_a_damaged_database_is_said(folder: DataFolder, data: bytes) -> None:
    folder.database.write_bytes(data)
    with pytest.raises(UnusableDataFolder, match="Restore it"):
        async with Database.open(folder, CLOCK):
            pytest.fail("a damaged catalog was opened")
    assert contents(folder.path)["catalog.db"] == data


async def test_a_database_that_cannot_be_opened_is_said(folder: DataFolder) -> None:
    folder.database.mkdir()
    (folder.database / "file").touch()
    with pytest.raises(UnusableDataFolder, match="cannot be opened"):
        async with Database.open(folder, CLOCK):
            pytest.fail("a folder was opened as a database")


async def test_a_full_disk_is_said(folder: DataFolder) -> None:
    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        for number in range(10_000):
            add_project(connection, f"project-{number}")

    async with Database.open(folder, CLOCK) as database:
        with pytest.raises(UnusableDataFolder, match="disk is full"):
            await database.write(fill)
        assert await database.read(project_names) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- how it starts


@pytest.fixture
def loaded(tmp_path: Path) -> set[str]:
    """The modules that opening a catalog which is there loads."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from indexer.catalog.catalog import Catalog\n"
        "from workers.clock import SystemClock\n"
        "async def open_catalog():\n"
        "    async with Catalog.open(Path(sys.argv[1]), SystemClock()) as catalog:\n"
        "        await catalog.reader.projects()\n"
        "asyncio.run(open_catalog())\n"
        "print(sorted(sys.modules))\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    run()
    ran = run()
    return set(ast.literal_eval(ran.stdout))


def test_opening_a_catalog_loads_no_alembic_and_no_orm(loaded: set[str]) -> None:
    assert "sqlalchemy.engine" in loaded
    assert not [name for name in loaded if name.startswith(("alembic", "mako", "sqlalchemy.orm"))]
