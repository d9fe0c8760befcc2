"""Every command works on a daemon as it does on a data folder."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from indexer.client import connect
from indexer.records import FolderPage
from indexer.references import parse_reference
from indexer.testing.keysets import keys
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.integration.commands import TIMEOUT_S, Command, Ran, failed
from tests.integration.test_serve import serving, streams

OBJECTS = 3_000
LATENCY_MS = 4_000.0
FOLLOWERS = 2
NOBODY = "http://127.0.0.1:1"

Seen = TypeVar("Seen")

ITS_OWN = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b[0-9a-f]{16}\b", "RUN"),
    (r"\d+\.\d\d s \([\d,]+ a second, [\d,]+ requests\)", "SECONDS"),
    (r'"requests": \d+', '"requests": N'),
    (r'"elapsed_s": [\d.]+', '"elapsed_s": SECONDS'),
)
"""What differs from one run to the next."""


@dataclass(frozen=True)
class Pair:
    """A command that works on a daemon, and one that works on a data folder, side by side.

    The one of the daemon has no credentials and never makes a folder: the daemon has both.
    """

    remote: Command
    local: Command
    daemon: Command
    url: str

    def __call__(self, *arguments: str, code: int = 0) -> Ran:
        """What the command comes to on the daemon, and the same on the folder."""
        remote, local = self.remote(*arguments), self.local(*arguments)
        assert (remote.code, remote.errors) == (local.code, self._folder(local.errors))
        assert remote.code == code, remote.errors
        assert own_left_out(remote.output) == own_left_out(self._folder(local.output))
        assert not self.remote.data.exists()
        return remote

    def _folder(self, text: str) -> str:
        return text.replace(str(self.local.data), str(self.daemon.data))


def own_left_out(text: str) -> str:
    """The text without what differs from one run to the next."""
    for pattern, name in ITS_OWN:
        text = re.sub(pattern, name, text)
    return text


@pytest.fixture(scope="module")
def s3() -> Iterator[SyntheticS3]:
    with SyntheticS3(buckets={"few": "tree:5", "images": f"tree:{OBJECTS}"}) as server:
        yield server


@pytest.fixture
def slow(s3: SyntheticS3) -> Iterator[None]:
    """Listings take their time."""
    s3.latency(LATENCY_MS)
    yield
    s3.latency(0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, s3: SyntheticS3) -> Iterator[Pair]:
    """A daemon and a folder to which the same is done, one test after the other."""
    daemon, local = (Command(tmp_path_factory.mktemp(name), s3) for name in ("daemon", "local"))
    remote = Command(tmp_path_factory.mktemp("remote"))
    with serving(daemon) as found:
        remote.environment |= {"INDEXER_SERVER": found.url, "HOME": local.environment["HOME"]}
        yield Pair(remote, local, daemon, found.url)
    for command in (daemon, local, remote):
        command.stop()


# --- snapshots -----------------------------------------------------------------------------------


def test_snapshots(pair: Pair, s3: SyntheticS3) -> None:
    s3.load("changing", keys("tree", OBJECTS))
    asked = ("snapshot", "s3://changing/", "--name", "snapshots/a")
    created = pair(*asked, "--alias", "first", "--alias", "best", "--type", "model")
    assert created.output.startswith("snapshots/a:v0  created\n")
    assert created.errors == ""
    unchanged = pair(*asked, "--notes", "not taken", "--alias", "again")
    assert unchanged.output.startswith("snapshots/a:v0  unchanged, no new version\n")
    s3.load("changing", keys("tree", OBJECTS + 1))
    document = pair(*asked, "--notes", "one more", "--json").document
    assert (document["version"], document["created"], document["objects"]) == ("v1", True, 3_001)
    assert pair(*asked, "-q").output == "snapshots/a:v1\n"
    partial = pair(*asked, "--max-objects", "1500", "--on-limit", "partial")
    assert "  partial  there are more objects" in partial.output
    assert pair(*asked, "--in-flight", "2", "--region", "us-east-1", "--json").document["listed"]
    empty = pair("snapshot", "s3://few/no/", "--name", "snapshots/empty", "--allow-empty", "--json")
    assert empty.document["objects"] == 0
    aliases = [version["aliases"] for version in pair("ls", "snapshots/a", "--json").documents]
    assert aliases == [[], ["latest"], ["again", "best", "first"]]


def test_artifacts_are_put(pair: Pair) -> None:
    asked = ("artifact", "put", "--name", "put/a", "--type", "model", "s3://few/")
    assert pair(*asked).output.startswith("put/a:v0  created\n")
    assert pair(*asked, "--json").document["created"] is False
    nothing = ("artifact", "put", "--name", "put/a", "/no-such-folder/")
    assert "no-such-folder/ holds no objects" in failed(pair(*nothing, code=3), 3)


def test_a_folder_and_a_bucket_are_put_together(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    asked = ("snapshot", f"files=file://{tmp_path}/", "few=s3://few/", "--name", "put/both")
    shown = pair(*asked, "--exclude", "few/**", "--dry-run").output
    assert "+ files/a.txt\n" in shown
    assert ": 1 of 1 objects would be kept (1 B)" in shown
    assert pair(*asked, "--exclude", "few/**", "--json").document["objects"] == 1
    assert pair("ls", "put/both:v0", "--json").document["checksum_algorithm"] == "md5"


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (4, ["s3://images/", "--max-objects", "10"], "more than 10 objects"),
        (3, ["s3://nowhere/"], "no such bucket"),
        (3, ["s3://few/no/"], "--allow-empty"),
        (2, ["s3://few/", "--alias", "latest"], "'latest'"),
        (2, ["s3://few/", "--alias", "a/b"], "'a/b'"),
        (2, ["s3://few/", "--type", "two words"], "two words"),
        (2, ["s3://few/", "--name", "artifact"], "project/artifact"),
        (2, ["s3://few/", "--max-objects", "0"], "from 1 to"),
        (3, ["/no/few"], "neither a file nor a folder"),
        (2, ["/no/few", "s3://few/"], "needs a mount"),
        (2, ["few=s3://few/", "/no/yard=yard/"], "as in yard=file:///data/yard/."),
        (2, ["s3://few/", "--include", "a**"], "whole folders"),
        (2, ["s3://few/", "--as-of", "yesterday"], "2026-03-01T12:00:00Z"),
        (2, ["s3://few/", "--as-of", "2026-01-01T00:00:00Z"], "keeps no versions"),
        (2, ["ftp://few/"], "'ftp'"),
        (2, ["s3://few/", "--profile", "nobody"], "nobody"),
        (2, ["s3://few/", "--endpoint-url", "localhost:9000"], "localhost:9000"),
        (2, ["s3://few/", "--endpoint-url", "http://user:planted@host/"], "Leave them out"),
        (75, ["s3://few/", "--endpoint-url", NOBODY], "127.0.0.1:1"),
        (2, ["s3://few/", "--notes", "n" * 100_001], "100,001"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_snapshots_that_cannot_be_made(
    code: int, arguments: list[str], words: str, pair: Pair
) -> None:
    given = arguments if "--name" in arguments else [*arguments, "--name", "failed/a"]
    assert words in failed(pair("snapshot", *given, code=code), code)
    failed(pair("ls", "failed", code=3), 3)


# --- what was recorded ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(pair: Pair) -> Pair:
    """With two versions of one artifact and one of another."""
    for bucket, name in [("images", "filled/a"), ("few", "filled/a"), ("images", "filled/b")]:
        pair("snapshot", f"s3://{bucket}/", "--name", name, "--notes", f"of {bucket}")
    return pair


@pytest.mark.parametrize("options", [[], ["--json"], ["-q"]], ids=str)
@pytest.mark.parametrize("target", [[], ["filled"], ["filled/a"], ["filled/a:v0"]], ids=str)
def test_every_level_is_listed(target: list[str], options: list[str], filled: Pair) -> None:
    assert filled("ls", *target, *options).output


@pytest.mark.parametrize("prefix", ["", "tree/000001/", "tree/000001/0", "tree", "no", "\u65e5"])
def test_entries_below_a_prefix_are_listed(prefix: str, filled: Pair) -> None:
    entries = filled("ls", "filled/b:v0", "--prefix", prefix, "--json").documents
    assert all(entry["path"].startswith(prefix) for entry in entries)
    lines = filled("ls", "filled/b:v0", "--prefix", prefix).output.splitlines()
    assert len(lines) == len(entries)
    # The very same, with its times: it is of the same objects.
    local = filled.local("ls", "filled/b:v0", "--prefix", prefix)
    assert lines == local.output.splitlines()
    digest = filled("show", "filled/b", "--json").document["digest"]
    assert filled("ls", f"filled/b@{digest}", "--prefix", prefix, "--json").documents == entries


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (3, ["ls", "nowhere"], "project"),
        (3, ["ls", "filled/nothing"], "artifact"),
        (3, ["ls", "filled/nothing:v0"], "artifact"),
        (3, ["show", "filled/a:v9"], "v0"),
        (3, ["show", "filled/a:best"], "latest"),
        (3, ["show", "filled/a@sha256:" + "0" * 64], "sha256"),
        (3, ["note", "filled/a:v9", "text"], "v0"),
        (3, ["alias", "set", "filled/a:v9", "best"], "v0"),
        (3, ["alias", "remove", "filled/a", "best"], "best"),
        (3, ["alias", "ls", "filled/nothing"], "filled"),
        (2, ["alias", "set", "filled/a:v0", "latest"], "latest"),
        (2, ["alias", "remove", "filled/a", "v0"], "v0"),
        (2, ["show", "filled/a:a b"], "a b"),
        (2, ["ls", "filled/a", "--prefix", "x"], "--prefix"),
        (2, ["note", "filled/a:v0", "n" * 100_001], "100,001"),
        (3, ["doctor", "s3://nowhere/"], "no such bucket"),
        (2, ["doctor", "ftp://host/"], "ftp"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_not_there(code: int, arguments: list[str], words: str, filled: Pair) -> None:
    assert words in failed(filled(*arguments, code=code), code)


def test_versions_are_shown_noted_and_named(filled: Pair) -> None:
    shown = filled("show", "filled/a:v0")
    assert shown.output.startswith("filled/a:v0\n")
    assert filled("show", "filled/a:v0", "--json").document["notes"] == "of images"
    assert filled("show", "filled/a").output.startswith("filled/a:v1\n")
    notes = "two\nlines \U0001f600 \x1b[31m"
    assert filled("note", "filled/a:v0", notes, "--json").document["notes"] == notes
    assert r"two\nlines" in filled("note", "filled/a:v0", notes).output
    assert filled("note", "filled/a:v0", "", "--json").document["notes"] == ""
    set_alias = ("alias", "set", "filled/a:v0", "best")
    assert filled(*set_alias, "--json").document["aliases"] == ["best"]
    assert "best" in filled(*set_alias).output
    assert filled("alias", "set", "filled/a", "best", "--json").document["version"] == "v1"
    assert filled("show", "filled/a:best", "--json").document["version"] == "v1"
    assert filled("alias", "ls", "filled/a", "--json").documents == [
        {"alias": "best", "ref": "filled/a:v1", "protected": False},
        {"alias": "latest", "ref": "filled/a:v1", "protected": False},
    ]
    assert filled("alias", "ls", "filled/a").output.startswith("ALIAS   VERSION      PROTECTED\n")
    remove = ("alias", "remove", "filled/a", "best")
    assert filled(*remove, "--json").document["aliases"] == ["latest"]
    failed(filled(*remove, code=3), 3)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ["snapshot", "s3://few/", "--name", "p/a", "--notes", "\udcff"]),
        (2, ["snapshot", "s3://few/", "--name", "p/a", "--type", "\udcff"]),
        (2, ["snapshot", "s3://few/", "--name", "p/a", "--alias", "\udcff"]),
        (2, ["snapshot", "s3://few/\udcff", "--name", "p/a"]),
        (2, ["note", "filled/a:v0", "\udcff"]),
        (2, ["ls", "\udcff"]),
        (3, ["jobs", "show", "\udcff"]),
    ],
    ids=ascii,
)
def test_what_is_no_utf8_is_said(code: int, arguments: list[str], filled: Pair) -> None:
    failed(filled.remote(*arguments), code)
    if arguments[0] != "jobs":
        failed(filled.local(*arguments), code)


def test_a_prefix_may_be_no_utf8(filled: Pair) -> None:
    assert filled("ls", "filled/b:v0", "--prefix", "\udcff").output == ""

    async def pages() -> list[FolderPage]:
        async with connect(filled.url) as client:
            version = await client.version(parse_reference("filled/b"))
            return [await read(version, b"\xff") for read in (client.entries, client.children)]

    assert [page.children for page in asyncio.run(pages())] == [(), ()]


def test_doctor(pair: Pair, s3: SyntheticS3) -> None:
    asked = ("doctor", "s3://images/tree")
    report = pair(*asked, "--json").document
    assert report["data_folder"] == str(pair.daemon.data)
    assert report["endpoint"] == s3.endpoint_url
    assert re.search(r"^source +s3://images/tree/$", pair(*asked).output, re.MULTILINE)
    given = ("--endpoint-url", s3.endpoint_url, "--no-sign-request")
    assert pair(*asked, *given, "--json").document["endpoint_from"] == "--endpoint-url"


# --- jobs ----------------------------------------------------------------------------------------


def test_jobs_are_listed_shown_and_followed(pair: Pair) -> None:
    command = pair.remote
    assert command("snapshot", "s3://few/", "--name", "jobs/a").code == 0
    failed(command("snapshot", "s3://images/", "--name", "jobs/b", "--max-objects", "10"), 4)
    refused, made = command("jobs", "ls", "--limit", "2", "--json").documents
    assert (made["state"], made["name"]) == ("succeeded", "jobs/a")
    assert made["sources"] == ["s3://few/"]
    assert made["result"]["ref"] == "jobs/a:v0"
    assert (refused["state"], refused["problem"]["code"]) == ("failed", "limit-exceeded")
    head, newest, *_ = command("jobs", "ls").output.splitlines()
    assert head.split() == ["JOB", "STATE", "ARTIFACT", "SOURCE", "OBJECTS", "ASKED"]
    assert newest.startswith(f"{refused['id']}  failed  ")
    assert len(command("jobs", "ls", "--limit", "1").output.splitlines()) == 2
    for verb in ("show", "follow"):
        ran = command("jobs", verb, made["id"])
        assert (ran.code, ran.errors) == (0, "")
        assert ran.output.startswith(f"{made['id']}\n  state        succeeded\n")
        assert re.search(r"^  version +jobs/a:v0$", ran.output, re.MULTILINE)
        assert command("jobs", verb, made["id"], "--json").document == made
        assert command("jobs", verb, made["id"], "-q").errors == ""
    assert command("jobs", "show", refused["id"], "--json").document == refused
    ran = command("jobs", "follow", refused["id"], "--json")
    assert (ran.code, ran.documents) == (4, [refused])
    assert ran.errors == f"Error: {refused['problem']['detail']}\n"
    # What has ended is not cancelled any more.
    assert command("jobs", "cancel", made["id"], "--json").document == made
    for verb in ("show", "follow", "cancel"):
        assert "'nobody'" in failed(command("jobs", verb, "nobody"), 3)
    failed(command("jobs", "ls", "--limit", "0"), 2)


@pytest.mark.usefixtures("slow")
def test_a_job_is_cancelled(pair: Pair) -> None:
    asked = ("s3://images/", "--name", "cancelled/a")
    with (
        pair.remote.start("snapshot", *asked) as waiting,
        a_job_of(pair, "cancelled/a") as job_id,
        pair.remote.start("jobs", "follow", job_id) as following,
    ):
        ran = pair.remote("jobs", "cancel", job_id)
        assert ran.output.startswith(f"{job_id}\n")
        for process in (waiting, following):
            output, errors = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 130
            assert re.fullmatch(rf"Error: the job {job_id} was cancelled.*\.\n", errors)
            assert ("cancelled" in output) == (process is following)
    failed(pair.remote("ls", "cancelled"), 3)


@contextmanager
def a_job_of(pair: Pair, name: str) -> Iterator[str]:
    """The id of the newest job of an artifact, when it runs; it is cancelled in the end."""
    (job,) = wait_for(lambda: jobs_of(pair, name, "running"))
    yield job["id"]
    pair.remote("jobs", "cancel", job["id"])


def jobs_of(pair: Pair, name: str, state: str) -> list[dict[str, Any]]:
    jobs = pair.remote("jobs", "ls", "--limit", "1", "--json").documents
    return [job for job in jobs if (job["name"], job["state"]) == (name, state)]


def wait_for(look: Callable[[], Seen]) -> Seen:
    """What there is to be seen, as soon as there is something."""
    end_s = time.monotonic() + TIMEOUT_S
    while not (found := look()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_a_snapshot_cancels_its_job(number: signal.Signals, pair: Pair) -> None:
    asked = ("s3://images/", "--name", name := f"interrupted/{number.name}")
    with pair.remote.start("snapshot", *asked) as process, a_job_of(pair, name):
        interrupted(process, number)
        # The daemon was told before the process ended.
        (job,) = wait_for(lambda: jobs_of(pair, name, "cancelled"))
        assert job["problem"]["code"] == "job-cancelled"
    failed(pair.remote("ls", "interrupted"), 3)


@pytest.mark.usefixtures("slow")
def test_leaving_off_does_not_end_a_job(pair: Pair, s3: SyntheticS3) -> None:
    asked = ("s3://images/", "--name", "left/a", "--in-flight", "1", "--quiet")
    with pair.remote.start("snapshot", *asked) as waiting, a_job_of(pair, "left/a") as job_id:
        with pair.remote.start("jobs", "follow", job_id, stderr=subprocess.STDOUT) as following:
            wait_for(lambda: asyncio.run(streams(pair.url)) == FOLLOWERS)
            interrupted(following, signal.SIGINT)
        s3.latency(0)
        output, errors = waiting.communicate(timeout=TIMEOUT_S)
        assert (waiting.returncode, output, errors) == (0, "left/a:v0\n", "")


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    said = (output or "") + (errors or "")
    assert said.lstrip() == "Interrupted; what 'indexer ls' does not show was not recorded.\n"


# --- telling a daemon of what is listed here -----------------------------------------------------


def test_versions_are_told_to_a_daemon(pair: Pair, tmp_path: Path, s3: SyntheticS3) -> None:
    here = Command(tmp_path, s3)
    asked = ("snapshot", "s3://images/", "--name", "told/a", "--alias", "best", "--to", pair.url)
    told = here(*asked, "--json").document
    own = pair.local("snapshot", "s3://images/", "--name", "told/a", "--json").document
    for name in ("ref", "created", "digest", "wandb_digest", "objects", "bytes", "shards_new"):
        assert told[name] == own[name], name
    assert here("ls").output.splitlines()[1:] == []
    assert here.recorded()["rows"] == []
    version = pair.remote("show", "told/a:best", "--json").document
    assert (version["version"], version["digest"]) == ("v0", own["digest"])
    entries = [command("ls", "told/a:v0", "--json").output for command in (pair.remote, pair.local)]
    assert entries[0] == entries[1]
    # It was listed here: the daemon has made no job of it.
    assert not [j for j in pair.remote("jobs", "ls", "--json").documents if j["name"] == "told/a"]

    again = here(*asked, "--notes", "again")
    assert again.output.startswith("told/a:v0  unchanged, no new version\n")
    assert "  shards   0 new, 1 reused\n" in again.output
    # A folder that the command line names wins over a server that it does not.
    given = ("--data", str(here.data), "-q")
    assert here(*asked, *given, INDEXER_SERVER=NOBODY).output == "told/a:v0\n"
    # The limit is a contract there, too.
    failed(here(*asked, "--max-objects", "10"), 4)


@pytest.mark.parametrize(
    ("code", "to", "words"),
    [
        (2, "nowhere", "'nowhere' is no URL of a daemon"),
        (2, "ftp://host", "no URL of a daemon"),
        (2, "http://user:planted@127.0.0.1:1", "leave them out"),
        (75, NOBODY, f"{NOBODY} cannot be reached"),
    ],
)
def test_a_daemon_that_cannot_be_told(
    code: int, to: str, words: str, tmp_path: Path, s3: SyntheticS3
) -> None:
    here = Command(tmp_path, s3)
    asked = ("snapshot", "s3://few/", "--name", "told/b", "--to", to)
    sentence = failed(here(*asked), code)
    assert words in sentence
    assert "planted" not in sentence
    assert here.recorded()["rows"] == []


# --- servers that are none -----------------------------------------------------------------------

COMMANDS: Sequence[Sequence[str]] = [
    ["snapshot", "s3://few/", "--name", "p/a"],
    ["ls"],
    ["ls", "p/a:v0"],
    ["note", "p/a:v0", "text"],
    ["alias", "set", "p/a:v0", "best"],
    ["doctor", "s3://few/"],
    ["jobs", "ls"],
    ["jobs", "follow", "nobody"],
    ["jobs", "cancel", "nobody"],
]


@pytest.fixture
def alone(tmp_path: Path, s3: SyntheticS3) -> Command:
    return Command(tmp_path, s3)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nobody_listens(arguments: Sequence[str], alone: Command) -> None:
    assert failed(alone(*arguments, INDEXER_SERVER=NOBODY), 75) == (
        f"Error: the daemon at {NOBODY} cannot be reached (Connection refused). "
        f"Check the URL, and start one with 'indexer serve'."
    )
    assert not alone.data.exists()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_somebody_else_listens(arguments: Sequence[str], alone: Command, s3: SyntheticS3) -> None:
    sentence = failed(alone(*arguments, "--server", s3.endpoint_url), 75)
    assert sentence.startswith(f"Error: {s3.endpoint_url} answered with the status 40")
    assert "Check that the URL is a daemon's" in sentence
    assert not alone.data.exists()


def test_somebody_shows_pages(alone: Command) -> None:
    class Page(Answers):
        def answer(self) -> tuple[int, str, bytes]:
            return 200, "text/html", b"<html>Welcome</html>"

    with listening(Page) as url:
        for arguments in COMMANDS:
            sentence = failed(alone(*arguments, "--server", url), 75)
            assert sentence.startswith(f"Error: {url} answered what no daemon ")
            assert "Check that the URL is a daemon's" in sentence
    assert not alone.data.exists()


class Answers(BaseHTTPRequestHandler):
    """Answers every request with what a test says."""

    def answer(self) -> tuple[int, str, bytes]:
        raise AssertionError

    def do_GET(self) -> None:
        """Answers, whatever the method."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, media_type, body = self.answer()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_PATCH = do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def listening(answers: type[Answers]) -> Iterator[str]:
    """The URL of a server on a thread of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(TIMEOUT_S)


def test_a_job_is_followed_where_streams_are_not_let_through(pair: Pair, alone: Command) -> None:
    assert pair.remote("snapshot", "s3://few/", "--name", "blocked/a").code == 0
    (ended,) = pair.remote("jobs", "ls", "--limit", "1", "--json").documents
    running = {**ended, "state": "running", "finished_at": None, "result": None}
    asked: list[str] = []

    class Blocking(Answers):
        def answer(self) -> tuple[int, str, bytes]:
            asked.append(self.path)
            if self.path.endswith("/events"):
                return 502, "text/html", b"<html>Bad gateway</html>"
            shown = ended if len(asked) > 6 else running
            return 200, "application/json", json.dumps(shown).encode()

    with listening(Blocking) as url:
        ran = alone("jobs", "follow", ended["id"], "--server", url, "--json")
    assert ran.document == ended
    assert len(asked) < 10


@pytest.mark.parametrize(
    "url",
    ["nowhere", "", "127.0.0.1:8765", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port",
     "http://127.0.0.1:70000", "http://127.0.0.1:8765/?a=b", "http://two words", "http://h\x1b[31m"],
)  # fmt: skip
def test_a_server_that_is_no_url(url: str, alone: Command) -> None:
    for arguments in COMMANDS:
        sentence = failed(alone(*arguments, "--server", url), 2)
        assert "http://127.0.0.1:8765" in sentence
        assert "\x1b" not in sentence
        sentence = failed(alone(*arguments, "--server", "http://user:planted@127.0.0.1:1"), 2)
        assert "leave them out" in sentence
        assert "planted" not in sentence
    assert not alone.data.exists()


def test_what_contradicts_itself(alone: Command, pair: Pair) -> None:
    for arguments in COMMANDS:
        both = ("--data", "data", "--server", pair.url)
        sentence = failed(alone(*arguments, *both), 2)
        assert "--data" in sentence
        assert "--server" in sentence
    asked = ("snapshot", "s3://few/", "--name", "p/a", "--to", pair.url)
    assert "--to" in failed(alone(*asked, "--server", pair.url), 2)
    assert "--to" in failed(alone(*asked, INDEXER_SERVER=pair.url), 2)
    for arguments in (["ls"], ["show", "x"], ["follow", "x"], ["cancel", "x"]):
        assert "INDEXER_SERVER" in failed(alone("jobs", *arguments), 2)
        assert "--server" in failed(alone("jobs", *arguments, "--data", "data"), 2)
    assert not alone.data.exists()
    assert not (alone.folder / "data").exists()


def test_a_folder_on_the_command_line_wins_over_a_server_elsewhere(alone: Command) -> None:
    given = ("snapshot", "s3://few/", "--name", "p/a", "--data", "own", "-q")
    assert alone(*given, INDEXER_SERVER=NOBODY).output == "p/a:v0\n"
    (alone.folder / "indexer.toml").write_text(f"server = '{NOBODY}'\n")
    assert alone("ls", "p/a", "--data", "own").code == 0
    failed(alone("ls", "p/a"), 75)
    assert NOBODY in failed(alone("ls", "p/a", INDEXER_DATA="own"), 75)
