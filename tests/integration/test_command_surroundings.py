"""The command in its surroundings: data folders, pipes, terminals, signals, logs and secrets."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from indexer.catalog.folder import FORMAT
from indexer.commands import views
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.integration.commands import PYTHON, TIMEOUT_S, Command, failed, snapshot

MANY = 20_000
LATENCY_MS = 150.0
SECRET = "planted-secret-key"
TOKEN = "planted-session-token"


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    """Two buckets of many keys, one of which is slow to list; and one of a few."""
    with SyntheticS3(buckets={"many": f"tree:{MANY}", "few": "tree:5"}) as running:
        yield running


@pytest.fixture
def indexer(tmp_path: Path, server: SyntheticS3) -> Iterator[Command]:
    command = Command(tmp_path, server)
    yield command
    command.stop()


@pytest.fixture
def slow(server: SyntheticS3) -> Iterator[None]:
    """Listings take their time."""
    server.latency(LATENCY_MS)
    yield
    server.latency(0)


# --- data folders --------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_file(folder: Path) -> None:
    folder.write_text("a file")


def make_newer(folder: Path) -> None:
    folder.mkdir()
    (folder / "format").write_text(f"bucket-indexer data folder, format {FORMAT + 1}\n")


def make_foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "format").write_text("something else\n")


def make_unwritable(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_file, "is a file"),
        (make_newer, "newer version"),
        (make_foreign, "something else"),
        (make_unwritable, "cannot be written"),
    ],
)
def test_a_folder_that_cannot_be_used_is_left_as_it_is(
    make: Callable[[Path], None], words: str, indexer: Command
) -> None:
    make(indexer.data)
    before = contents(indexer.folder)
    for arguments in (["snapshot", "s3://few/", "--name", "p/a"], ["ls"], ["doctor", "s3://few/"]):
        assert words in failed(indexer(*arguments), 2)
    assert contents(indexer.folder) == before


def test_a_folder_below_a_file_cannot_be_made(indexer: Command) -> None:
    (indexer.folder / "file").touch()
    given = ("--name", "p/a", "--data", "file/data")
    assert "is a file" in failed(indexer("snapshot", "s3://few/", *given), 2)


def test_a_catalog_of_a_newer_version_is_left_as_it_is(indexer: Command) -> None:
    snapshot(indexer, "s3://few/", "--name", "p/a")
    database = indexer.data / "catalog.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = indexer.recorded()
    for arguments in (["snapshot", "s3://many/", "--name", "p/a"], ["ls"]):
        assert "newer" in failed(indexer(*arguments), 2)
    assert indexer.recorded() == before


def test_only_what_records_makes_a_folder(indexer: Command) -> None:
    for arguments in (["ls"], ["show", "p/a"], ["note", "p/a:v0", "x"], ["alias", "ls", "p/a"]):
        assert str(indexer.data) in failed(indexer(*arguments), 3)
    for arguments in (["snapshot", "s4://x/", "--name", "p/a"], ["snapshot", "s3://few/"]):
        failed(indexer(*arguments), 2)
    assert not indexer.data.exists()


def test_settings_come_from_the_file_in_the_current_folder(indexer: Command) -> None:
    (indexer.folder / "indexer.toml").write_text("max_objects = 4\ndata = 'elsewhere'\n")
    given = ("s3://few/", "--name", "p/a")
    assert " 4 objects" in failed(indexer("snapshot", *given, INDEXER_DATA=None), 4)
    failed(indexer("snapshot", *given, INDEXER_MAX_OBJECTS="3"), 4)
    assert indexer("snapshot", *given, "--max-objects", "5", INDEXER_DATA=None).code == 0
    assert (indexer.folder / "elsewhere" / "catalog.db").exists()
    (indexer.folder / "indexer.toml").write_text("colour = 'red'\n")
    assert "'colour'" in failed(indexer("ls"), 2)


# --- whoever reads -------------------------------------------------------------------------------


def test_who_has_seen_enough_closes_the_pipe(indexer: Command) -> None:
    snapshot(indexer, "s3://many/", "--name", "p/a", "--max-objects", str(MANY))
    for options in ([], ["--json"]):
        with indexer.start("ls", "p/a:v0", *options) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait(TIMEOUT_S) == 0


def test_what_reads_ascii_alone_gets_ascii(indexer: Command) -> None:
    snapshot(indexer, "s3://few/", "--name", "p/a", "--notes", "日本")
    ran = indexer.process("show", "p/a", PYTHONIOENCODING="ascii")
    assert (ran.code, ran.errors) == (0, "")
    assert r"\u65e5\u672c" in ran.output


@pytest.mark.usefixtures("slow")
def test_progress_is_a_bar_on_a_terminal(indexer: Command) -> None:
    leader, follower = os.openpty()
    indexer.environment |= {"TERM": "xterm-256color", "COLUMNS": "120"}
    given = ("s3://many/", "--name", "p/a", "--max-objects", str(MANY), "--json")
    with indexer.start("snapshot", *given, stderr=follower) as process:
        os.close(follower)
        seen = b""
        with suppress(OSError):  # how a terminal says that the other end is closed
            while data := os.read(leader, 65_536):
                seen += data
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["objects"] == MANY
        assert process.wait(TIMEOUT_S) == 0
    os.close(leader)
    figures = r"s3://many/ +[\d,]+ objects +[\d,]+/s +[\d,]+ requests +\d+ segments"
    assert re.search(figures, seen.decode())
    assert seen.endswith(b"\x1b[2K")


def test_quiet_is_quiet_and_elsewhere_is_no_bar(indexer: Command) -> None:
    given = ("s3://few/", "--name", "p/a")
    assert indexer("snapshot", *given).errors == ""
    ran = indexer("snapshot", *given, "--quiet")
    assert (ran.output, ran.errors) == ("p/a:v0\n", "")


# --- being told to stop --------------------------------------------------------------------------


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("number", "on_limit"), [(signal.SIGINT, "error"), (signal.SIGTERM, "partial")]
)
def test_an_interrupted_snapshot_records_nothing(
    number: signal.Signals, on_limit: str, indexer: Command, server: SyntheticS3
) -> None:
    server.reset_counters("many")
    given = ("s3://many/", "--name", "p/a", "--max-objects", str(MANY), "--on-limit", on_limit)
    with indexer.start("snapshot", *given) as process:
        wait_until(lambda: server.counters("many").requests.get("ListObjectsV2", 0) > 4)
        process.send_signal(number)
        output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (130, "")
    assert errors.lstrip() == "Interrupted; what 'indexer ls' does not show was not recorded.\n"
    assert indexer.recorded()["rows"] == []
    assert [path.name for path in indexer.data.rglob(".tmp-*")] == []
    server.latency(0)
    assert snapshot(indexer, *given)["objects"] == MANY


def wait_until(happened: Callable[[], bool]) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_an_error_that_nobody_foresaw_is_one_line(
    indexer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(views, "document", break_down)
    given = ("snapshot", "s3://few/", "--name", "p/a", "--json")
    ran = indexer(*given)
    assert (ran.code, ran.output, ran.errors.count("\n")) == (1, "", 1)
    assert "ZeroDivisionError" in ran.errors
    assert "--log-level debug" in ran.errors


# --- logs and secrets ----------------------------------------------------------------------------


def test_logs_are_json_lines_beside_the_data(indexer: Command, server: SyntheticS3) -> None:
    server.load("troubled", "tree", 3_000)
    server.faults("troubled", error_first=2, operations=("ListObjectsV2",), error_code="SlowDown")
    given = ("s3://troubled/", "--name", "p/a", "--json")
    for level, events in [("warning", []), ("info", ["retry", "retry", "committed"])]:
        server.faults("troubled", error_first=2, operations=("ListObjectsV2",))
        ran = indexer("snapshot", *given, "--log-format", "json", "--log-level", level)
        assert ran.document["objects"] == 3_000
        lines = [json.loads(line) for line in ran.errors.splitlines()]
        assert [line["event"] for line in lines] == events
        for line in lines:
            assert (line["level"], line["job"], line["source"]) == ("info", "p/a", "s3://troubled/")
    told = indexer("snapshot", *given, "--log-level", "info").errors
    assert "committed" in told
    assert "{" not in told


def test_no_secret_is_told_or_kept(indexer: Command, server: SyntheticS3) -> None:
    server.load("guarded", "tree", 3_000)
    server.faults("guarded", error_first=1, operations=("ListObjectsV2",))
    port = server.endpoint_url.rpartition(":")[2]
    secrets = {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    debug = ("--log-level", "debug", "--log-format", "json")
    given = ("s3://guarded/", "--name", "p/a", *debug)
    with_password = f"http://user:planted-password@127.0.0.1:{port}"
    (indexer.folder / "aws").write_text(
        f"[profile known]\naws_access_key_id = a\naws_secret_access_key = {SECRET}\n"
        f"endpoint_url = {with_password}\n"
    )
    as_profile = {"AWS_PROFILE": "known", "AWS_CONFIG_FILE": "aws", "AWS_ENDPOINT_URL": None}
    runs = [
        indexer.process("snapshot", *given, **secrets),
        indexer("doctor", "s3://guarded/", *debug, **secrets),
        indexer("show", "p/a", *debug, **secrets),
        indexer("snapshot", "s3://nowhere/", "--name", "p/a", *debug, **secrets),
        indexer("snapshot", *given, **secrets, AWS_ENDPOINT_URL="http://127.0.0.1:1"),
        indexer("snapshot", *given, **secrets, AWS_ENDPOINT_URL=with_password),
        indexer("snapshot", *given, **secrets, INDEXER_ENDPOINT_URL=with_password),
        indexer("snapshot", *given, **as_profile),
        indexer("doctor", "s3://guarded/", *debug, **secrets, AWS_ENDPOINT_URL=with_password),
        indexer("snapshot", "s3://user:planted-password@bucket/", "--name", "p/a", *debug),
    ]
    assert [ran.code for ran in runs] == [0, 0, 0, 3, 75, 2, 2, 2, 2, 2]
    assert "retry" in runs[0].errors
    told = "".join(ran.output + ran.errors for ran in runs).encode()
    kept = b"".join(contents(indexer.data).values())
    assert len(kept) > 1_000
    for secret in (SECRET, TOKEN, "planted-password"):
        assert secret.encode() not in told
        assert secret.encode() not in kept


def test_it_is_a_module_and_a_script(indexer: Command) -> None:
    version = indexer.process("--version")
    assert re.fullmatch(r"indexer, version \d+\.\d+\.\d+\n", version.output)
    script = "from indexer.cli import main; main()"
    ran = subprocess.run(
        [*PYTHON, "-c", script, "--help"],
        env=indexer.environment,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert ran.stdout.decode() == indexer("--help").output == indexer("-h").output
