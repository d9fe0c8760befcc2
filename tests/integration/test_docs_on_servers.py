"""The documents on servers: what they show runs, and costs and comes to what they say.

Invariants
  * The README's commands run as they stand, on a real S3 server, in a folder that looks like the
    project's; of `make` only the targets have to exist.
  * The daemon that a document starts is another process, on a port that is free; it is asked by
    what the document shows, and ends well.
  * The code in the description of the format reads what those commands wrote.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.s3_server import S3Server
from indexer.content import decode_shard, encode_shard
from indexer.testing.buckets import fill
from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.wire.problems import PROBLEM_TYPE
from tests.conftest import MakeBucket
from tests.documents import (
    COMMAND,
    FORMAT,
    HTTP,
    LISTING,
    PYTHON,
    README,
    ROOT,
    blocks,
    documents,
    run_code,
    section,
    tables,
)
from tests.integration.commands import Command, Ran, snapshot
from tests.unit.synthetic_s3_client import client_of

COMMAND_TIMEOUT_S = 300
SERVE = "indexer serve\n"
URL = "http://127.0.0.1:8765"

BUCKET = "datasets"
KEYS = [b"images/train/%06d.jpg" % number for number in range(2_000)] + [
    b"images/val/%06d.jpg" % number for number in range(500)
]


@dataclass(frozen=True, slots=True)
class Session:
    """What became of the README: what its commands wrote, and the data folder that they made."""

    output: str
    data: Path


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that looks like the project's, with programs, and an environment that finds S3."""

    folder: Path
    environment: Mapping[str, str]

    def play(self, text: str) -> str:
        """What the commands of a document write, all in one shell, and then its programs.

        The daemon that it starts runs beside them.
        """
        commands = [block.text for block in blocks(text, "sh")]
        with ExitStack() as stack:
            if SERVE in commands:
                serve = [sys.executable, "-m", "indexer", "serve", "--port", "0"]
                url = stack.enter_context(serving(serve, self.folder, self.environment))
                text = text.replace(URL, url.strip())
            lines = [line for block in blocks(text, "sh") for line in block.text.splitlines()]
            lines = [line for line in lines if not line.startswith(("make ", SERVE.strip()))]
            output = run(["bash", "-euxc", "\n".join(lines)], self.folder, self.environment)
            for block in blocks(text, "python"):
                program = [sys.executable, "-c", block.text]
                output += run(program, self.folder, self.environment)
        return output


@pytest.fixture(scope="module")
def project(minio: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project's files, and the bucket that the documents speak of."""
    asyncio.run(load(minio))
    folder = tmp_path_factory.mktemp("project")
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv"):
            (folder / path.name).symlink_to(path)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in (("python", ""), ("indexer", "-m indexer")):
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    environment = {**os.environ, **minio.environment(), "PYTHONPATH": str(ROOT)}
    environment |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "share")}
    return Project(folder, environment)


@pytest.fixture(scope="module")
def session(project: Project) -> Session:
    """All commands and programs of the README, one after the other."""
    text = documents()[README]
    assert re.findall(r"^export PATH=.*", text, re.MULTILINE) == [
        'export PATH="$PWD/.venv/bin:$PATH"'
    ]
    return Session(project.play(text), project.folder / "share" / "indexer")


@contextmanager
def serving(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """What a daemon writes once it listens. It is told to stop in the end, and does so well."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "it ended without a word"
            yield line
        finally:
            process.terminate()
            code = process.wait(COMMAND_TIMEOUT_S)
    assert code == 0


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


async def load(server: S3Server) -> None:
    """Puts the objects of the README's bucket."""
    from aiobotocore.session import get_session

    async with get_session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    ) as client:
        await client.create_bucket(Bucket=BUCKET)
        await fill(client, BUCKET, KEYS, unpacks=True)


def test_the_readme_shows_what_its_snapshot_prints(session: Session) -> None:
    (shown,) = blocks(documents()[README], "text")
    assert measured(shown.text) in measured(session.output)


def test_the_readme_shows_what_its_daemon_answers(session: Session) -> None:
    (page,) = re.findall(r'{"results":.*?"next":null}', session.output)
    assert [one["path"] for one in json.loads(page)["results"]] == ["train/", "val/"]
    assert re.search(r"JOB +STATE .*\n(\w{16}  .*\n){2}", session.output)


def measured(text: str) -> str:
    """The text with what is measured taken out."""
    return re.sub(r"in [\d.]+ s \([\d,]+ a second, \d+ requests\)", "in TIME", text)


def test_the_code_of_the_format_reads_what_was_written(session: Session) -> None:
    names = run_code(documents()[FORMAT])
    rows = names["read_version"](session.data, "vision", "images", 0)
    assert [row["path"] for row in rows] == sorted(key.removeprefix(b"images/") for key in KEYS)
    (shown,) = blocks(section(documents()[FORMAT], "The tiling"), "json")
    tiling = json.loads(shown.text)
    tiles = tiling["tiles"]
    paths = [b"train/%04d.jpg" % number for number in range(1, 1501)]
    names["check_tiling"](tiling, [""], paths)
    written = [json.loads(path.read_bytes()) for path in session.data.glob("blobs/*/*")]
    found = [list(document["tiles"][0]) for document in written if "tiles" in document]
    assert found
    assert all(fields == list(tiles[0]) for fields in found)


def test_damage_is_seen_by_the_code_of_the_format(session: Session, tmp_path: Path) -> None:
    shutil.copytree(session.data, tmp_path, dirs_exist_ok=True)
    read_version = run_code(documents()[FORMAT])["read_version"]
    (shard,) = tmp_path.glob("shards/*/*.parquet")
    rows = decode_shard(shard.read_bytes(), shard.stem)
    shard.write_bytes(encode_shard(rows.slice(1)))
    with pytest.raises(AssertionError):
        read_version(tmp_path, "vision", "images", 0)


def test_the_session_with_a_daemon_runs(project: Project, tmp_path: Path) -> None:
    programs = project.folder / ".venv" / "bin"
    environment = {
        **project.environment,
        "PATH": f"{programs}:{project.environment['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "share"),
    }
    output = Project(tmp_path, environment).play(documents()[HTTP])
    assert PROBLEM_TYPE not in output
    events = re.findall(r"^id: (\d+)\nevent: (\w+)\ndata: (.*)$", output, re.MULTILINE)
    assert [name for _, name, _ in events][-2:] == ["end", "end"]
    assert events[-1] == events[-2]
    assert json.loads(events[-1][2])["state"] == "succeeded"
    assert re.search(r"^304$", output, re.MULTILINE)
    pages = [json.loads(page) for page in re.findall(r'{"results":.*?"next":.*?}', output)]
    paths = [[one["path"] for one in page["results"]] for page in pages]
    assert paths == [["train/", "val/"], ["train/000002.jpg", "train/000003.jpg"]]
    for said in ("vision/images:v0  unchanged", "succeeded 2500", "b'train/000009.jpg'"):
        assert said in output


def test_the_verbs_of_python_run(session: Session, project: Project, tmp_path: Path) -> None:
    here, on_a_daemon = blocks(documents()[PYTHON], "python")
    environment = project.environment
    said = run([sys.executable, "-c", here.text], tmp_path, environment)
    assert said == "2000 True False\n"
    serve = [sys.executable, "-m", "indexer", "serve", "--port", "0", "--data", str(session.data)]
    with serving(serve, tmp_path, environment) as url:
        program = on_a_daemon.text.replace(URL, url.strip())
        assert run([sys.executable, "-c", program], tmp_path, environment) == "0\n2000 True 10\n"
    assert len(list((tmp_path / "some" / "train").iterdir())) == 10


PARTS = {"": slice(None), ":-1]": slice(-1), "-1:]": slice(-1, None)}
"""Of what a command prints, the objects that are meant."""

JSON_COMMANDS = {
    "`indexer snapshot`, `indexer artifact put`": [
        "snapshot {uri} --name vision/images --alias other",
        "artifact put {uri} --name vision/images",
    ],
    "`indexer snapshot --dry-run`, `indexer artifact put --dry-run`": [
        "snapshot {uri} --name vision/images --dry-run",
        "artifact put {uri} --name vision/images --dry-run",
    ],
    "`indexer show`, `indexer note`, `indexer metadata`, `indexer describe` of a version, "
    "`indexer tag add`, `indexer tag remove`, `indexer alias set`, `indexer alias remove`, "
    "`indexer alias protect`, `indexer alias unprotect`, `indexer ttl`, `indexer rm`, "
    "`indexer runs use`, and `indexer ls` of an artifact": [
        "show vision/images",
        "note vision/images:v0 seen",
        "metadata vision/images {{}}",
        "describe vision/images:v0 seen",
        "tag add vision/images seen",
        "tag remove vision/images seen",
        "runs use train vision/images",
        "alias set vision/images:v0 reviewed",
        "alias protect vision/images reviewed",
        "alias unprotect vision/images reviewed",
        "alias remove vision/images reviewed",
        "ttl vision/files:v1 30d",
        "rm vision/files:v1",
        "ls vision/images",
    ],
    "`indexer ls` of a version, one object for each entry": ["ls vision/images:v0"],
    "`indexer diff`, one object for each change, and the summary last": [
        "diff vision/images:v0 vision/files:v0 [:-1]"
    ],
    "`indexer diff --folders`, one object for each folder or entry, and the summary last": [
        "diff vision/images:v0 vision/files:v0 --folders [:-1]"
    ],
    "`indexer diff --summary`, and the last line of the others": [
        "diff vision/images:v0 vision/files:v0 --summary",
        "diff vision/images:v0 vision/files:v0 [-1:]",
        "diff vision/images:v0 vision/files:v0 --folders [-1:]",
    ],
    "`indexer ls`": ["ls"],
    "`indexer ls` of a project, and `indexer describe` of an artifact": [
        "ls vision",
        "describe vision/images seen",
    ],
    "`indexer alias ls`": ["alias ls vision/images"],
    "`indexer tag ls`": ["tag ls vision/images"],
    "`indexer runs ls`, `indexer runs start`, `indexer runs finish`": [
        "runs ls vision",
        "runs start vision --id other",
        "runs finish other",
    ],
    "`indexer runs show`": ["runs show train"],
    "`indexer lineage`": ["lineage vision/images"],
    "`indexer gc`": ["gc --dry-run"],
    "`indexer download`": ["download vision/images:v0 --root {root}"],
    "`indexer verify`, first one object for each entry that cannot be fetched, by path": [
        "verify vision/files:v0 [:-1]"
    ],
    "`indexer verify`, and one of all as the last line": [
        "verify vision/files:v0 [-1:]",
        "verify vision/images:v0",
    ],
    "`indexer verify --structure`": ["verify vision/images:v0 --structure"],
    "`indexer urls`, one object for each entry": ["urls vision/images:v0"],
    "`indexer doctor`": ["doctor {uri}"],
    "`indexer serve`, once it listens": [],
    "`indexer jobs ls`, `indexer jobs show`, `indexer jobs cancel`, `indexer jobs follow`": [
        "jobs ls --server {url}",
        "jobs show {job} --server {url}",
        "jobs cancel {job} --server {url}",
        "jobs follow {job} --server {url}",
    ],
}


def test_the_fields_of_json_are_documented(
    minio: S3Server, bucket: MakeBucket, tmp_path: Path
) -> None:
    command = Command(tmp_path, minio)
    uri = f"s3://{bucket(minio, {'a': b'1'})}/"
    text = section(documents()[COMMAND], "JSON")
    titles = re.findall(r"^(`indexer [^|]*?):\n\n(?=\|)", text, re.MULTILINE | re.DOTALL)
    assert [" ".join(title.split()) for title in titles] == list(JSON_COMMANDS)
    serve = [sys.executable, "-m", "indexer", "serve", "--port", "0", "--json"]
    with serving(serve, tmp_path, command.environment) as said:
        found = {"serve": [json.loads(said)]}
        url = found["serve"][0]["url"]
        snapshot(command, uri, "--name", "vision/images", "--server", url)
        job = command("jobs", "ls", "--server", url, "--json").document["id"]
        assert command("runs", "start", "vision", "--id", "train").code == 0
        assert command("tag", "add", "vision/images", "kept").code == 0
        # Beside the image a file that was overwritten, and a version that may go.
        (tmp_path / "files").mkdir()
        for body in ("first", "overwritten"):
            (tmp_path / "files" / "b").write_text(body)
            snapshot(command, str(tmp_path / "files"), "--name", "vision/files")
        places = {"uri": uri, "url": url, "job": job, "root": tmp_path / "root"}
        for line in (line for lines in JSON_COMMANDS.values() for line in lines):
            asked, _, part = line.partition(" [")
            ran = command(*shlex.split(asked.format(**places)), "--json")
            assert ran.documents, ran.errors
            found[line] = ran.documents[PARTS[part]]
            assert found[line], line
    for rows, lines in zip(tables(text), JSON_COMMANDS.values(), strict=True):
        for line in lines or ["serve"]:
            for document in found[line]:
                assert (line, [f"`{name}`" for name in document]) == (line, [r[0] for r in rows])


def test_requests_are_as_many_as_documented(
    minio: S3Server, bucket: MakeBucket, tmp_path: Path
) -> None:
    command = Command(tmp_path, minio)
    objects = {f"folder/{number}": b"" for number in range(29)} | {"folder/object": b""}
    name = bucket(minio, objects)
    rows = tables(section(documents()[LISTING], "What a server is asked"))[1]
    assert {row[0] for row in rows} == {"MinIO"}
    for number, (_, code, count, requests) in enumerate(rows):
        uri = code.strip("`").replace("s3://bucket/", f"s3://{name}/")
        done = snapshot(command, uri, "--name", f"requests/n{number}")
        assert (uri, done["objects"], done["requests"]) == (uri, int(count), int(requests))


def test_faults_come_to_what_is_documented(tmp_path: Path) -> None:
    rows = tables(section(documents()[LISTING], "What is checked"))[0]
    with SyntheticS3() as server:
        command = Command(tmp_path, server)
        server.load("plain", KEYS[::2])
        server.load("versions", KEYS[::2], versioned=True)
        client_of(server).put_object(Bucket="versions", Key=KEYS[0].decode(), Body=b"newer")
        well = {name: listed(command, name) for name in ("plain", "versions")}
        for number, (_, code, said) in enumerate(rows):
            fault, _, value = code.strip("`").partition("=")
            setting = int(value) if value.isdigit() else value or True
            name = "versions" if "versions" in fault else "plain"
            server.faults(name, **{fault: setting})
            ran = listed(command, name, f"faults/n{number}")
            server.faults(name)
            assert (code, words_for(ran, well[name])) == (code, said.partition(":")[0])


def listed(command: Command, name: str, artifact: str = "faults/none") -> Ran:
    uri = f"s3://{name}/images/"
    return command("snapshot", uri, "--name", artifact, "--json")


def words_for(ran: Ran, well: Ran) -> str:
    """What came of a snapshot, beside one of a server that was well."""
    if ran.code:
        return "an error"
    is_same = ran.document["digest"] == well.document["digest"]
    words = "the same version" if is_same else "another version"
    return f"{words}, with a warning" if ran.document["warnings"] else words
