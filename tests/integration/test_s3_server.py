"""The script that finds, starts and stops S3 servers: on what it looks, and that nothing is left.

Invariants
  * Where a program is looked for is tried on fakes: small scripts in place of minio, docker and go.
  * That servers end is tried on real ones, MinIO or moto, whichever this machine has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import s3_server
from deploy.s3_server import S3Server, ServerError, find_program
from tests.conftest import MACHINE_ENVIRONMENT, MakeBucket

SCRIPT = Path(s3_server.__file__)
GONE_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 120.0

Client = Callable[[S3Server], Any]
Tool = Callable[[str, str], Path]


@pytest.fixture(params=["minio", "moto_server", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    running: S3Server = request.getfixturevalue(request.param)
    return running


# --- a running server ----------------------------------------------------------------------------


def test_it_answers_and_keeps_objects(
    server: S3Server, bucket: MakeBucket, s3_client: Client
) -> None:
    name = bucket(server, {"a/b": b"12345"})
    (listed,) = s3_client(server).list_objects_v2(Bucket=name)["Contents"]
    assert (listed["Key"], listed["Size"]) == ("a/b", 5)


def test_it_keeps_versions(server: S3Server, bucket: MakeBucket, s3_client: Client) -> None:
    client = s3_client(server)
    name = bucket(server, {"a": b"1"}, versioned=True)
    client.put_object(Bucket=name, Key="a", Body=b"2")
    assert len(client.list_object_versions(Bucket=name)["Versions"]) == 2


def test_its_environment_is_all_a_client_needs(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    assert client.meta.endpoint_url == server.endpoint_url
    assert "Buckets" in client.list_buckets()


def test_it_says_what_it_is(
    server: S3Server, minio: S3Server, moto_server: S3Server, versitygw: S3Server
) -> None:
    kinds = {"minio": minio, "moto": moto_server, "versitygw": versitygw}
    assert kinds[server.kind] is server
    assert server.version
    os.kill(server.pid, 0)


# --- its end -------------------------------------------------------------------------------------


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the servers of a test make their folders."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def script(scratch: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the script with arguments; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env={**MACHINE_ENVIRONMENT, "TMPDIR": str(scratch)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_stopping_leaves_nothing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with S3Server.start(environ=MACHINE_ENVIRONMENT) as server:
        assert list(scratch.iterdir())
    assert_gone(server.pid, scratch)
    server.stop()


def test_a_failure_inside_leaves_nothing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with (
        pytest.raises(ZeroDivisionError),
        S3Server.start(environ=MACHINE_ENVIRONMENT) as server,
    ):
        raise ZeroDivisionError
    assert_gone(server.pid, scratch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_however_its_owner_ends_nothing_is_left(
    script: Callable[..., subprocess.Popen[str]], scratch: Path, number: signal.Signals
) -> None:
    owner = script()
    pid = pid_told_by(owner)
    owner.send_signal(number)
    owner.wait(GONE_TIMEOUT_S)
    assert_gone(pid, scratch)
    assert owner.returncode in {-number, 128 + number}


def test_a_fork_of_its_owner_does_not_keep_it(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    server = S3Server.start("moto", environ=MACHINE_ENVIRONMENT)
    with warnings.catch_warnings():
        # Of threads that the fork lacks; it only waits for its end.
        warnings.simplefilter("ignore", DeprecationWarning)
        fork = os.fork()
    if fork == 0:
        signal.pause()
    try:
        server.stop()
        assert_gone(server.pid, scratch)
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


def test_an_end_of_its_own_is_told(
    script: Callable[..., subprocess.Popen[str]], scratch: Path
) -> None:
    owner = script()
    pid = pid_told_by(owner)
    os.kill(pid, signal.SIGKILL)
    assert owner.wait(GONE_TIMEOUT_S) == 1
    assert owner.stderr is not None
    assert "ended by itself" in owner.stderr.read()
    assert_gone(pid, scratch)


def pid_told_by(owner: subprocess.Popen[str]) -> int:
    """The server's process id, from what the script says on standard error when it is up."""
    assert owner.stderr is not None
    for line in owner.stderr:
        if line.startswith("Process "):
            return int(line.split()[1].rstrip("."))
    pytest.fail(f"the script ended with {owner.wait()}")


def assert_gone(pid: int, scratch: Path) -> None:
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while is_running(pid) or list(scratch.iterdir()):
        assert time.monotonic() < deadline_s, (pid, list(scratch.iterdir()))
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- the command line ----------------------------------------------------------------------------


def run_script(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**MACHINE_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def test_a_command_gets_the_environment_and_its_exit_code_is_passed_on() -> None:
    ran = run_script(
        "--",
        "sh",
        "-c",
        "echo $AWS_ENDPOINT_URL $AWS_SESSION_TOKEN; exit 7",
        AWS_SESSION_TOKEN="left over",
    )
    assert ran.returncode == 7
    assert ran.stdout.startswith("http://127.0.0.1:")
    assert "left over" not in ran.stdout


def test_a_command_that_is_missing_is_told() -> None:
    ran = run_script("--kind", "moto", "--", "no-such-command")
    assert ran.returncode == 1
    assert "no-such-command cannot be run" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_environment_is_printed_for_a_shell(
    script: Callable[..., subprocess.Popen[str]],
) -> None:
    owner = script("--kind", "moto")
    pid_told_by(owner)
    owner.terminate()
    printed, _ = owner.communicate()
    shell = subprocess.run(
        ["sh", "-c", f"{printed}\necho $AWS_ACCESS_KEY_ID $AWS_ENDPOINT_URL"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.startswith("local-server http://127.0.0.1:")


def test_named_data_is_kept(tmp_path: Path, s3_client: Client) -> None:
    data = tmp_path / "deep" / "data"
    with S3Server.start(data=data, environ=MACHINE_ENVIRONMENT) as server:
        if server.kind != "minio":
            pytest.skip("moto keeps nothing on disk")
        s3_client(server).create_bucket(Bucket="kept")
    assert (data / "kept").is_dir()
    with S3Server.start(data=data, environ=MACHINE_ENVIRONMENT) as server:
        (kept,) = s3_client(server).list_buckets()["Buckets"]
    assert kept["Name"] == "kept"


@pytest.mark.parametrize("kind", ["auto", "moto"])
def test_a_port_in_use_is_told(moto_server: S3Server, kind: str) -> None:
    ran = run_script("--kind", kind, "--port", str(moto_server.port))
    assert ran.returncode == 1
    assert f"Port {moto_server.port} cannot be used" in ran.stderr


# --- where it looks ------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a shell and nothing else."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "cat", "chmod", "sleep"):
        program = shutil.which(name)
        assert program
        (tools / name).symlink_to(program)
    return {"HOME": str(tmp_path), "PATH": str(tools)}


@pytest.fixture
def tool(machine: dict[str, str]) -> Tool:
    """Puts a shell script on the machine's PATH."""

    def make(name: str, body: str) -> Path:
        return script_at(Path(machine["PATH"], name), body)

    return make


def script_at(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


MINIO_VERSION = 'echo "minio version RELEASE.1 (commit-id=1)"'
GO_INSTALL = f"""
[ "$1" = install ] || exit 2
echo "$2" >> "$HOME/builds"
sleep 0.3
mkdir -p "$GOBIN"
echo '#!/bin/sh' > "$GOBIN/minio"
echo '{MINIO_VERSION}' >> "$GOBIN/minio"
chmod +x "$GOBIN/minio"
"""


def test_what_is_given_comes_first(machine: dict[str, str], tool: Tool, tmp_path: Path) -> None:
    tool("minio", MINIO_VERSION)
    given = script_at(tmp_path / "given", MINIO_VERSION)
    program = find_program("auto", None, {**machine, "MINIO_BIN": str(given)})
    assert (program.kind, program.origin, program.version) == ("minio", "MINIO_BIN", "RELEASE.1")
    assert program.command(1, tmp_path)[0] == str(given)


@pytest.mark.parametrize("body", [None, "exit 1", "echo another program"])
def test_what_is_given_must_be_minio(
    machine: dict[str, str], tool: Tool, tmp_path: Path, body: str | None
) -> None:
    tool("minio", MINIO_VERSION)
    given = tmp_path / "given"
    if body:
        script_at(given, body)
    with pytest.raises(ServerError, match=r"^MINIO_BIN is .*given, which is missing, [^\n]*\.$"):
        find_program("auto", None, {**machine, "MINIO_BIN": str(given)})


def test_path_comes_before_docker_and_go(machine: dict[str, str], tool: Tool) -> None:
    for name in ("docker", "go"):
        tool(name, "exit 0")
    tool("minio", MINIO_VERSION)
    assert find_program("auto", None, machine).origin == "PATH"


def test_a_broken_one_on_path_is_passed_over(machine: dict[str, str], tool: Tool) -> None:
    tool("minio", "exit 1")
    tool("docker", "exit 0")
    assert find_program("auto", None, machine).origin == "Docker"


def test_docker_publishes_on_loopback_and_is_cleared_up(
    machine: dict[str, str], tool: Tool, tmp_path: Path
) -> None:
    docker = tool("docker", "exit 0")
    program = find_program("minio", None, machine)
    command = program.command(4321, tmp_path)
    assert command[:3] == [str(docker), "run", "--rm"]
    assert "--publish=127.0.0.1:4321:9000" in command
    assert not [word for word in command if word.startswith("--volume")]
    name = next(word.removeprefix("--name=") for word in command if word.startswith("--name="))
    assert program.clear_up == (str(docker), "rm", "--force", name)

    named = find_program("minio", tmp_path, machine).command(4321, tmp_path)
    assert f"--volume={tmp_path}:/data" in named
    assert f"--user={os.getuid()}:{os.getgid()}" in named


def test_docker_is_fetched_from_when_the_image_is_missing(
    machine: dict[str, str], tool: Tool, capfd: pytest.CaptureFixture[str]
) -> None:
    tool("docker", '[ "$1" != image ]')
    assert find_program("auto", None, machine).origin == "Docker"
    assert "Fetching minio/minio" in capfd.readouterr().err


@pytest.mark.parametrize("docker", ['[ "$1" != info ]', '[ "$1" = info ]'], ids=["off", "offline"])
def test_go_builds_what_docker_has_not(machine: dict[str, str], tool: Tool, docker: str) -> None:
    tool("docker", docker)
    tool("go", GO_INSTALL)
    program = find_program("auto", None, machine)
    assert (program.origin, program.version) == ("the cache folder", s3_server.MINIO_MODULE_VERSION)
    built = Path(machine["HOME"], "builds").read_text().split()
    assert built == [f"{s3_server.MINIO_MODULE}@{s3_server.MINIO_MODULE_VERSION}"]


def test_what_was_built_is_kept(machine: dict[str, str], tool: Tool, tmp_path: Path) -> None:
    machine["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    go = tool("go", GO_INSTALL)
    find_program("auto", None, machine)
    go.unlink()
    assert find_program("auto", None, machine).origin == "the cache folder"
    assert not list(tmp_path.glob("cache/bucket-indexer/*.building"))


def test_two_at_once_build_one(machine: dict[str, str], tool: Tool) -> None:
    tool("go", GO_INSTALL)
    program = f"""
import json, sys
sys.path.insert(0, {str(SCRIPT.parent.parent)!r})
from deploy.s3_server import find_program
print(find_program("minio", None, json.load(sys.stdin)).origin)
"""
    finders = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(3)
    ]
    for finder in finders:
        assert finder.stdin is not None
        finder.stdin.write(json.dumps(machine))
        finder.stdin.close()
    for finder in finders:
        assert finder.stdout is not None
        with finder.stdout as said:
            assert said.read() == "the cache folder\n"
        assert finder.wait(COMMAND_TIMEOUT_S) == 0
    assert len(Path(machine["HOME"], "builds").read_text().split()) == 1


def test_moto_takes_its_place_and_it_is_said(
    machine: dict[str, str], tool: Tool, capfd: pytest.CaptureFixture[str]
) -> None:
    tool("go", "echo no route to anywhere >&2; exit 1")
    assert find_program("auto", None, machine).kind == "moto"
    said = capfd.readouterr().err
    assert "no route to anywhere" in said
    assert "moto's server takes its place" in said


@pytest.mark.parametrize("ci", ["true", "1"])
def test_nothing_takes_its_place_under_ci(machine: dict[str, str], ci: str) -> None:
    with pytest.raises(ServerError, match=r"^No MinIO can be had here"):
        find_program("auto", None, {**machine, "CI": ci})


@pytest.mark.parametrize("variable", ["", "VERSITYGW_BIN"])
def test_versitygw_is_run_from_where_it_is(
    machine: dict[str, str], tool: Tool, tmp_path: Path, variable: str
) -> None:
    path = tool("versitygw", "exit 1")
    named = {variable: str(script_at(tmp_path / "given", "exit 1"))} if variable else {}
    program = find_program("versitygw", None, {**machine, **named})
    assert (program.kind, program.origin) == ("versitygw", variable or "PATH")
    assert program.command(1, tmp_path)[0] == named.get(variable, str(path))


def test_versitygw_is_built_and_kept(machine: dict[str, str], tool: Tool) -> None:
    tool("go", GO_INSTALL.replace("/minio", "/versitygw"))
    for _ in range(2):
        program = find_program("versitygw", None, machine)
        assert program.origin == "the cache folder"
        assert program.version == s3_server.VERSITYGW.version
    built = Path(machine["HOME"], "builds").read_text().split()
    assert built == [f"{s3_server.VERSITYGW.package}@{s3_server.VERSITYGW.version}"]


@pytest.mark.parametrize("given", ["", "nothing-there"])
def test_no_versitygw_is_told(machine: dict[str, str], given: str) -> None:
    with pytest.raises(ServerError, match=r"(?s)^[^\n]*VERSITYGW_BIN is [^\n]*\.$"):
        find_program("versitygw", None, {**machine, "VERSITYGW_BIN": given})


def test_nothing_takes_its_place_where_minio_is_asked_for(machine: dict[str, str]) -> None:
    with pytest.raises(ServerError, match=r"^No MinIO can be had here"):
        find_program("minio", None, machine)


def test_a_server_that_ends_at_once_is_told(machine: dict[str, str], tool: Tool) -> None:
    tool("minio", f'[ "$1" = server ] || exec {MINIO_VERSION}\necho the drive is full; exit 1')
    with pytest.raises(ServerError, match="ended at once:\nthe drive is full"):
        S3Server.start(environ=machine)
