"""The daemon as a process: how it starts, what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from indexer.catalog.folder import FORMAT
from indexer.client import Client, connect
from indexer.errors import NoSuchJob
from indexer.references import parse_name, parse_reference
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.wire.jobs import JobDocument, SnapshotOrder
from tests.daemon.daemons import http
from tests.integration.commands import TIMEOUT_S, Command, failed
from tests.integration.test_processes import check_folder

MANY = 20_000
LATENCY_MS = 2_000.0
STOP_S = 15.0
"""A daemon that is told to stop ends within this, also on a machine that is busy."""

SECRET = "planted-secret-key"
TOKEN = "planted-session-token"
PASSWORD = "planted-password"
BEARER = "planted-bearer"


@dataclass(frozen=True)
class Serving:
    """A daemon in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
        """What else it has said on both outputs when it was told to stop, which it did well."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=STOP_S)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def serving(indexer: Command, *arguments: str, **options: Any) -> Iterator[Serving]:
    """A daemon on the command's data folder that listens; it is killed in the end."""
    process = indexer.start("serve", "--port", "0", *arguments, **options)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        line = process.stdout.readline() if readable else ""
        assert re.fullmatch(r'({"url": ")?http://\S+:\d+("})?\n', line), process.communicate()
        yield Serving(process, json.loads(line)["url"] if line.startswith("{") else line.strip())
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def s3() -> Iterator[SyntheticS3]:
    buckets = {"many": f"tree:{MANY}", "others": f"flat:{MANY}", "few": "tree:5"}
    with SyntheticS3(buckets=buckets) as server:
        yield server


@pytest.fixture
def slow(s3: SyntheticS3) -> Iterator[None]:
    """Listings take their time."""
    s3.latency(LATENCY_MS)
    yield
    s3.latency(0)


@pytest.fixture
def indexer(tmp_path: Path, s3: SyntheticS3) -> Iterator[Command]:
    command = Command(tmp_path, s3)
    yield command
    command.stop()


def order(bucket: str = "many", name: str = "p/a", **fields: Any) -> SnapshotOrder:
    return SnapshotOrder(uri=f"s3://{bucket}/", name=name, max_objects=MANY, **fields)


async def until(happened: Callable[[], Any]) -> None:
    """Returns when something of another process is so."""
    end_s = time.monotonic() + TIMEOUT_S
    while not await happened():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)


async def ended(client: Client, job: JobDocument) -> JobDocument:
    """The job when it has ended."""
    async for changed in client.follow(job.id):
        job = changed
    return job


# --- starting ------------------------------------------------------------------------------------


async def test_it_says_where_it_listens(indexer: Command) -> None:
    with serving(indexer) as daemon:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", daemon.url)
        async with http(daemon.url) as session:
            for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/metrics"):
                async with session.get(path) as response:
                    assert response.status == 200, path
        output, errors = daemon.stop()
    assert output == ""
    listening, stopping = errors.splitlines()
    assert f"{daemon.url}/docs" in listening
    assert stopping == "Stopping."


def test_it_says_so_in_json_and_quietly(indexer: Command) -> None:
    port = free_port()
    with serving(indexer, "--json", "--quiet", "--port", str(port)) as daemon:
        assert daemon.url == f"http://127.0.0.1:{port}"
        assert daemon.stop(signal.SIGINT) == ("", "")
    # Its port can be taken again at once.
    with serving(indexer, "--host", "localhost", "--port", str(port)) as daemon:
        assert daemon.url == f"http://localhost:{port}"
        assert indexer("ls", INDEXER_SERVER=daemon.url).code == 0


def test_it_listens_on_ipv6(indexer: Command) -> None:
    try:
        free_port("::1")
    except OSError:
        pytest.skip("there is no IPv6 here")
    with serving(indexer, "--host", "::1") as daemon:
        assert daemon.url.startswith("http://[::1]:")
        assert indexer("ls", "--server", daemon.url).code == 0


def test_who_reads_its_url_may_leave(indexer: Command) -> None:
    with serving(indexer) as daemon:
        for pipe in (daemon.process.stdout, daemon.process.stderr):
            assert pipe is not None
            pipe.close()
        assert snapshot_at(indexer, daemon.url)["version"] == "v0"
        daemon.process.terminate()
        assert daemon.process.wait(STOP_S) == 0


def test_its_settings_are_those_of_snapshots_that_leave_them_open(
    indexer: Command, s3: SyntheticS3
) -> None:
    indexer.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    given = ("--max-objects", "4", "--endpoint-url", s3.endpoint_url)
    with serving(indexer, *given) as daemon:
        asked = ("snapshot", "s3://few/", "--name", "p/a", "--server", daemon.url)
        assert " 4 objects" in failed(indexer(*asked), 4)
        assert indexer(*asked, "--max-objects", "5").code == 0


def snapshot_at(indexer: Command, url: str, *arguments: str) -> dict[str, Any]:
    given = ("s3://few/", "--name", "p/a", "--server", url, *arguments)
    return indexer.process("snapshot", *given, "--json").document


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


# --- not starting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines"),  # noqa: S104
        (["--host", "::"], ":: can be reached from other machines"),
        (["--host", "192.0.2.7"], "192.0.2.7 can be reached from other machines"),
        (["--host", "2001:db8::7"], "2001:db8::7 can be reached from other machines"),
        (["--host", ""], "'' is no address"),
        (["--host", "example.com"], "'example.com' is no address"),
        (["--host", "127.0.0.1:80"], "'127.0.0.1:80' is no address"),
        (["--host", "127.0.0.300"], "'127.0.0.300' is no address"),
        (["--host", "[::1]"], "'[::1]' is no address"),
        (["--port", "-1"], "--port"),
        (["--port", "65536"], "--port"),
        (["--port", "http"], "'http'"),
        (["--jobs", "0"], "--jobs"),
        (["--max-objects", "0"], "--max-objects"),
        (["--server", "http://127.0.0.1:8765"], "--data"),
        (["--data", "data", "--server", "http://127.0.0.1:8765"], "--server"),
        (["--name", "p/a"], "--name"),
        (["s3://few/"], "s3://few/"),
    ],
    ids=str,
)
def test_what_cannot_be_listened_on_is_said(
    arguments: list[str], words: str, indexer: Command
) -> None:
    given = arguments if "--port" in arguments else [*arguments, "--port", "0"]
    assert words in failed(indexer("serve", *given), 2)


def test_a_port_in_use_is_said(indexer: Command) -> None:
    with serving(indexer) as daemon:
        port = daemon.url.rpartition(":")[2]
        sentence = failed(indexer.process("serve", "--port", port), 2)
        assert f"127.0.0.1, port {port}: " in sentence
        assert "--port 0" in sentence
        assert failed(indexer("serve", INDEXER_PORT=port), 2) == sentence
        assert indexer("ls", "--server", daemon.url).code == 0


def test_a_server_in_the_environment_is_for_other_commands(indexer: Command) -> None:
    indexer.environment["INDEXER_SERVER"] = "http://127.0.0.1:1"
    with serving(indexer) as daemon:
        assert snapshot_at(indexer, daemon.url)["created"]
    assert (indexer.data / "catalog.db").exists()


def test_a_folder_that_cannot_be_used_is_left_as_it_is(indexer: Command) -> None:
    indexer.data.write_text("a file")
    assert "is a file" in failed(indexer("serve", "--port", "0"), 2)
    assert indexer.data.read_text() == "a file"
    indexer.data.unlink()
    indexer.data.mkdir()
    (indexer.data / "format").write_text(f"bucket-indexer data folder, format {FORMAT + 1}\n")
    assert "newer version" in failed(indexer("serve", "--port", "0"), 2)
    assert [path.name for path in indexer.data.iterdir()] == ["format"]


# --- ending --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_interrupts_its_jobs_and_tells_their_followers(
    number: signal.Signals, indexer: Command, s3: SyntheticS3
) -> None:
    s3.reset_counters("many")
    with serving(indexer, "--jobs", "1") as daemon:
        async with connect(daemon.url) as client:
            running, queued = [await client.submit(order(name=name)) for name in ("p/a", "p/b")]
            asked = ("jobs", "follow", "--server", daemon.url)
            followers = [indexer.start(*asked, job.id) for job in (running, queued)]

            async def is_followed() -> bool:
                listed = s3.counters("many").requests.get("ListObjectsV2", 0)
                return listed > 0 and await streams(daemon.url) == len(followers) + 1

            async with asyncio.TaskGroup() as group:
                following = group.create_task(ended(client, running))
                await until(is_followed)
                started_s = time.monotonic()
                daemon.process.send_signal(number)
            output, errors = daemon.process.communicate(timeout=STOP_S)
            assert time.monotonic() - started_s < STOP_S
    assert (daemon.process.returncode, output) == (0, "")
    assert errors.splitlines()[1:] == ["Stopping."]
    job = following.result()
    assert (job.state, job.result) == ("interrupted", None)
    assert job.problem
    assert (job.problem.code, job.problem.retryable) == ("job-interrupted", True)
    for follower, followed in zip(followers, (running, queued), strict=True):
        output, errors = follower.communicate(timeout=TIMEOUT_S)
        assert follower.returncode == 75
        assert re.search(r"^  state +interrupted$", output, re.MULTILINE)
        assert re.fullmatch(rf"Error: the daemon was stopped .*{followed.id}.*\.\n", errors)
    assert indexer.recorded()["rows"] == []
    assert [path.name for path in indexer.data.rglob(".tmp-*")] == []
    s3.latency(0)
    assert make_whole(indexer)["created"]
    await asyncio.to_thread(check_folder, indexer.data)


def make_whole(indexer: Command) -> dict[str, Any]:
    given = ("s3://many/", "--name", "p/a", "--max-objects", str(MANY), "--json")
    return indexer.process("snapshot", *given).document


async def streams(url: str) -> int:
    """How many follow jobs just now."""
    async with http(url) as session, session.get("/metrics") as response:
        found = re.search(r"^indexer_event_streams (\d+)", await response.text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.usefixtures("slow")
async def test_killed_it_loses_nothing_that_was_committed(
    indexer: Command, s3: SyntheticS3
) -> None:
    s3.latency(0)
    with serving(indexer) as daemon:
        first = snapshot_at(indexer, daemon.url)
        s3.reset_counters("many")
        s3.latency(LATENCY_MS)
        async with connect(daemon.url) as client:
            job = await client.submit(order(name="p/half"))

            async def is_listing() -> bool:
                return s3.counters("many").requests.get("ListObjectsV2", 0) > 1

            await until(is_listing)
        daemon.process.kill()
        daemon.process.communicate(timeout=TIMEOUT_S)
    s3.latency(0)
    with serving(indexer) as daemon:
        async with connect(daemon.url) as client:
            assert (await client.version(parse_reference("p/a:v0"))).digest == first["digest"]
            assert [one.name for one in await client.artifacts("p")] == [parse_name("p/a")]
            with pytest.raises(NoSuchJob):
                await client.job(job.id)
            last = await ended(client, await client.submit(order(name="p/half")))
            assert last.result
            assert (last.result.version, last.result.objects) == ("v0", MANY)
        entries = indexer.process("ls", "p/a:v0", "--json", "--server", daemon.url)
        assert len(entries.documents) == 5
        daemon.stop()
    await asyncio.to_thread(check_folder, indexer.data)


# --- two on one folder ---------------------------------------------------------------------------


async def test_two_on_one_folder_lose_nothing(indexer: Command) -> None:
    with (
        serving(indexer) as one,
        serving(indexer) as other,
        # The folder is for commands, too, while daemons work on it.
        indexer.start("snapshot", "s3://few/", "--name", "p/own", "--json") as process,
    ):
        async with connect(one.url) as client, connect(other.url) as second:
            orders = [order("many", "p/same"), order("others", "p/same"), order("many", "p/x")]
            jobs = [
                (each, await each.submit(wanted)) for wanted in orders for each in (client, second)
            ]
            results = [(await ended(each, job)).result for each, job in jobs]
            for result in results:
                assert result is not None
                version = parse_reference(result.ref)
                # Either knows what the other one made.
                seen = [(await each.version(version)).digest for each in (client, second)]
                assert seen == [result.digest] * 2
            made = [result.created for result in results if result and result.ref == "p/x:v0"]
            assert sorted(made) == [False, True]
            versions = [await each.versions(parse_name("p/same")) for each in (client, second)]
            assert versions[0] == versions[1]
            created = [r.version for r in results if r and r.created and r.ref != "p/x:v0"]
            assert sorted(created) == [f"v{number}" for number in range(len(versions[0]))]
        assert json.loads(process.communicate(timeout=TIMEOUT_S)[0])["ref"] == "p/own:v0"
        one.stop()
        # The other one goes on.
        assert snapshot_at(indexer, other.url)["version"] == "v0"
        other.stop()
    await asyncio.to_thread(check_folder, indexer.data)


# --- logs and secrets ----------------------------------------------------------------------------


async def test_logs_are_json_lines_and_hold_no_secret(indexer: Command, s3: SyntheticS3) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    indexer.environment |= secrets
    with_password = s3.endpoint_url.replace("://", f"://user:{PASSWORD}@")
    body = {"uri": "s3://few/", "name": "p/a"}
    requests: list[tuple[str, str, dict[str, Any] | None, int]] = [
        ("POST", "/api/v1/snapshots", body, 202),
        ("POST", "/api/v1/snapshots", {**body, "endpoint_url": with_password}, 202),
        ("POST", "/api/v1/snapshots", {**body, "uri": f"s3://user:{PASSWORD}@few/"}, 400),
        ("POST", "/api/v1/doctor", {"uri": "s3://few/", "endpoint_url": with_password}, 400),
        ("GET", "/api/v1/jobs", None, 200),
        ("GET", f"/api/v1/jobs?token={PASSWORD}", None, 400),
        ("GET", "/api/v1/jobs/nobody", None, 404),
        ("GET", "/healthz", None, 200),
    ]
    told = ""
    log = indexer.folder / "log"
    given = ("--log-level", "info", "--log-format", "json", "--quiet")
    s3.faults("few", error_first=2, operations=("ListObjectsV2",))
    with log.open("w") as file, serving(indexer, *given, stderr=file) as daemon:
        async with http(daemon.url) as session, connect(daemon.url) as client:
            for number, (method, path, document, status) in enumerate(requests):
                headers = {"X-Request-Id": f"of-a-test-{number}", "Authorization": BEARER}
                async with session.request(method, path, json=document, headers=headers) as answer:
                    assert answer.status == status, path
                    assert answer.headers["X-Request-Id"] == f"of-a-test-{number}"
                    told += await answer.text()
            jobs = [await ended(client, job) for job in (await client.jobs()).results]
            assert sorted(job.state for job in jobs) == ["failed", "succeeded"]
            async with session.get("/healthz") as answer:
                own_id = answer.headers["X-Request-Id"]
        told += "".join(indexer.process("jobs", "ls", "--json", "--server", daemon.url).output)
        daemon.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        assert line.keys() >= {"event", "level", "timestamp"}
    answered = {line["request"]: line for line in lines if line["event"] == "answered"}
    for number, (method, path, _, status) in enumerate(requests):
        line = answered[f"of-a-test-{number}"]
        assert (line["method"], line["path"]) == (method, path.partition("?")[0])
        assert line["status"] == status
        assert line["elapsed_s"] >= 0
    assert answered[own_id]["path"] == "/healthz"
    events = [line["event"] for line in lines]
    assert {"retry", "committed", "job ended"} <= set(events)
    ends = {line["job"]: line["state"] for line in lines if line["event"] == "job ended"}
    assert ends == {job.id: job.state for job in jobs}
    kept = b"".join(path.read_bytes() for path in indexer.data.rglob("*") if path.is_file())
    for secret in (SECRET, TOKEN, PASSWORD, BEARER):
        assert secret not in log.read_text()
        assert secret not in told
        assert secret.encode() not in kept
