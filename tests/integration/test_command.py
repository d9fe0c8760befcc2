"""The command on a real MinIO: what it says, what it leaves behind, and how it fails."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.s3_server import S3Server
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.conftest import MakeBucket
from tests.integration.commands import Command, failed, snapshot

OBJECTS = {
    "README.md": b"readme",
    "data/1": b"1",
    "data/2": b"22",
    "data/\u65e5\u672c \U0001f600.png": b"png",
    "data/a\nb\x1b[31m\u202e": b"odd",
    "data/empty": b"",
    "data2/3": b"333",
}
BELOW_DATA = sorted(key.removeprefix("data/") for key in OBJECTS if key.startswith("data/"))

SNAPSHOT_FIELDS = {
    "ref", "version", "created", "digest", "wandb_digest", "objects", "listed", "bytes",
    "shards_new", "shards_reused", "requests", "elapsed_s", "consistency",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(minio: S3Server, bucket: MakeBucket) -> str:
    """A bucket of `OBJECTS`, which no test changes."""
    return bucket(minio, OBJECTS)


@pytest.fixture
def indexer(tmp_path: Path, minio: S3Server) -> Command:
    return Command(tmp_path, minio)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, minio: S3Server, source: str) -> Command:
    """A data folder with a version, of which tests may ask but which they must not change."""
    command = Command(tmp_path_factory.mktemp("filled"), minio)
    snapshot(command, f"s3://{source}/data/", "--name", "project/artifact", "--notes", "first")
    return command


@pytest.fixture(scope="module")
def synthetic() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        yield server


# --- the main job --------------------------------------------------------------------------------


def test_a_snapshot_in_a_process_of_its_own(indexer: Command, source: str) -> None:
    ran = indexer.process("snapshot", f"s3://{source}/data", "--name", "project/artifact")
    assert (ran.code, ran.errors) == (0, "")
    lines = ran.output.splitlines()
    assert lines[0] == "project/artifact:v0  created"
    assert re.fullmatch(r"  digest   sha256:[0-9a-f]{64}", lines[1])
    assert lines[2:4] == ["  objects  5 (9 B)", "  shards   1 new, 0 reused"]
    assert re.fullmatch(
        r"  listed   5 objects in \d+\.\d\d s \([\d,]+ a second, \d+ requests\)", lines[4]
    )
    again = indexer.process("snapshot", f"s3://{source}/data", "--name", "project/artifact", "-q")
    assert (again.code, again.output, again.errors) == (0, "project/artifact:v0\n", "")


def test_what_did_not_change_makes_no_version(
    indexer: Command, minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any]
) -> None:
    name = bucket(minio, {"a": b"1", "b": b"2"})
    first = snapshot(indexer, f"s3://{name}", "--name", "p/a", "--alias", "best", "--type", "model")
    assert first.keys() >= SNAPSHOT_FIELDS
    assert first | {"digest": "", "wandb_digest": "", "requests": 0, "elapsed_s": 0} == {
        "ref": "p/a:v0", "version": "v0", "created": True, "digest": "", "wandb_digest": "",
        "wandb_reason": None, "objects": 2, "listed": 2, "bytes": 2, "shards_new": 1,
        "shards_reused": 0, "requests": 0, "elapsed_s": 0, "consistency": "instant", "warnings": [],
    }  # fmt: skip
    assert re.fullmatch("sha256:[0-9a-f]{64}", first["digest"])
    etags = {key: hashlib.md5(body).hexdigest() for key, body in [("a", b"1"), ("b", b"2")]}  # noqa: S324
    lines = "".join(f"{key}:{etag}\n" for key, etag in etags.items())
    wandb = hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()  # noqa: S324
    assert first["wandb_digest"] == wandb

    second = snapshot(indexer, f"s3://{name}/", "--name", "entity/p/a", "--alias", "better")
    assert (second["ref"], second["created"], second["digest"]) == (
        "p/a:v0",
        False,
        first["digest"],
    )
    assert (second["shards_new"], second["shards_reused"]) == (0, 1)

    s3_client(minio).put_object(Bucket=name, Key="c", Body=b"3")
    third = snapshot(indexer, f"s3://{name}", "--name", "p/a", "--alias", "best")
    assert (third["version"], third["created"], third["objects"]) == ("v1", True, 3)
    s3_client(minio).delete_object(Bucket=name, Key="c")
    fourth = snapshot(indexer, f"s3://{name}", "--name", "p/a")
    assert (fourth["version"], fourth["created"]) == ("v2", True)
    assert fourth["digest"] == first["digest"]

    versions = indexer("ls", "p/a", "--json").documents
    assert [(v["version"], v["aliases"]) for v in versions] == [
        ("v2", ["latest"]), ("v1", ["best"]), ("v0", ["better"]),
    ]  # fmt: skip
    found = indexer("show", f"p/a@{first['digest']}", "--json").document
    assert (found["version"], found["type"]) == ("v2", "model")
    assert len({version["run"] for version in versions}) == 3


def test_a_versioned_bucket_gives_version_ids(
    indexer: Command, minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any]
) -> None:
    name = bucket(minio, {"a": b"1"}, versioned=True)
    ids = [s3_client(minio).put_object(Bucket=name, Key=k, Body=b"2")["VersionId"] for k in "ab"]
    s3_client(minio).put_object(Bucket=name, Key="c", Body=b"3")
    s3_client(minio).delete_object(Bucket=name, Key="c")
    first = snapshot(indexer, f"s3://{name}", "--name", "p/a")
    assert (first["objects"], first["listed"]) == (2, 2)
    entries = indexer("ls", "p/a:latest", "--json").documents
    assert [(entry["path"], entry["version_id"]) for entry in entries] == [
        ("a", ids[0]),
        ("b", ids[1]),
    ]
    s3_client(minio).put_object(Bucket=name, Key="a", Body=b"2")
    assert snapshot(indexer, f"s3://{name}", "--name", "p/a")["version"] == "v1"


def test_a_limit_is_a_contract(indexer: Command, source: str) -> None:
    uri = f"s3://{source}/data/"
    ran = indexer("snapshot", uri, "--name", "p/a", "--max-objects", "4")
    sentence = failed(ran, 4)
    assert " 4 objects" in sentence
    assert "--max-objects" in sentence
    assert indexer("ls", "--json").output == ""
    assert snapshot(indexer, uri, "--name", "p/a", "--max-objects", "5")["objects"] == 5
    ran = indexer("snapshot", uri, "--name", "p/a", "--max-objects", "2", "--on-limit", "partial")
    assert (
        ran.output.splitlines()[-1]
        == "  partial  there are more objects; this version is not 'latest'"
    )
    (partial, whole) = indexer("ls", "p/a", "--json").documents
    assert (partial["consistency"], partial["aliases"], partial["objects"]) == ("partial", [], 2)
    assert whole["aliases"] == ["latest"]
    entries = indexer("ls", "p/a:v1", "--json").documents
    assert [entry["path"] for entry in entries] == BELOW_DATA[:2]


def test_an_artifact_is_put_in_other_words(indexer: Command, source: str) -> None:
    arguments = ("--name", "p/a", "--type", "model", f"s3://{source}/data/", "--json")
    assert indexer("artifact", "put", *arguments).document["objects"] == 5
    assert indexer("show", "p/a:v0", "--json").document["type"] == "model"
    (indexer.folder / "local").mkdir()
    (indexer.folder / "local" / "file").write_text("a")
    for local, path in (("local/", "file"), ("./local/file", "file"), ("local", "file")):
        put = ("artifact", "put", "--name", "p/files", "--type", "t", local)
        assert indexer(*put, "--json").document["objects"] == 1
        assert indexer("ls", "p/files:latest", "--json").document["path"] == path


# --- what a URI means ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "paths"),
    [
        ("", sorted(OBJECTS)),
        ("data", BELOW_DATA),
        ("data/", BELOW_DATA),
        ("data2", ["3"]),
        ("data/1", ["1"]),
        ("data/a\nb\x1b[31m\u202e", ["a\nb\x1b[31m\u202e"]),
    ],
)
def test_a_uri_names_an_object_or_a_folder(
    key: str, paths: list[str], indexer: Command, source: str
) -> None:
    done = snapshot(indexer, f"s3://{source}/{key}", "--name", "p/a")
    assert (done["objects"], done["listed"]) == (len(paths), len(paths))
    entries = indexer("ls", "p/a:v0", "--json").documents
    assert [entry["path"] for entry in entries] == paths
    prefix = f"s3://{source}/" + key.removesuffix(paths[0]).removesuffix("/")
    folder = prefix if prefix.endswith("/") else prefix + "/"
    assert [entry["uri"] for entry in entries] == [folder + path for path in paths]


def test_with_and_without_its_slash_a_folder_is_the_same(indexer: Command, source: str) -> None:
    first = snapshot(indexer, f"s3://{source}/data", "--name", "p/a")
    second = snapshot(indexer, f"s3://{source}/data/", "--name", "p/a")
    assert (second["created"], second["digest"]) == (False, first["digest"])


def test_an_object_beside_a_folder_of_its_name_is_an_error(
    indexer: Command, synthetic: SyntheticS3
) -> None:
    # MinIO keeps no object beside a folder of its name.
    keys = [b"both", b"both/x", b"folder/", b"folder/x"]
    synthetic.load("both", keys)
    indexer = Command(indexer.folder, synthetic)
    sentence = failed(indexer("snapshot", "s3://both/both", "--name", "p/a"), 3)
    assert "s3://both/both " in sentence
    assert "s3://both/both/" in sentence
    assert indexer.recorded()["rows"] == []
    assert snapshot(indexer, "s3://both/both/", "--name", "p/a")["objects"] == 1
    # An object whose key equals the prefix has the empty path.
    assert snapshot(indexer, "s3://both/folder/", "--name", "p/b")["objects"] == 2
    entries = indexer("ls", "p/b:latest", "--json").documents
    assert [(e["path"], e["uri"]) for e in entries] == [
        ("", "s3://both/folder/"), ("x", "s3://both/folder/x"),
    ]  # fmt: skip


def test_nothing_is_recorded_only_when_asked_for(indexer: Command, source: str) -> None:
    for key in ("nothing/", "nothing", "dat"):
        sentence = failed(indexer("snapshot", f"s3://{source}/{key}", "--name", "p/a"), 3)
        assert f"s3://{source}/{key}" in sentence
        assert "--allow-empty" in sentence
    assert indexer.recorded() == {"files": {}, "rows": []}
    done = snapshot(indexer, f"s3://{source}/nothing/", "--name", "p/a", "--allow-empty")
    assert (done["objects"], done["bytes"], done["shards_new"], done["created"]) == (0, 0, 0, True)
    assert not snapshot(indexer, f"s3://{source}/nothing/", "--name", "p/a", "--allow-empty")[
        "created"
    ]
    assert indexer("ls", "p/a:v0").output == ""


# --- what was recorded ---------------------------------------------------------------------------


def test_every_level_is_listed(filled: Command, source: str) -> None:
    (project,) = filled("ls", "--json").documents
    assert (project["project"], project["artifacts"], project["versions"]) == ("project", 1, 1)
    (artifact,) = filled("ls", "project", "--json").documents
    assert (artifact["artifact"], artifact["type"]) == ("project/artifact", "dataset")
    (version,) = filled("ls", "project/artifact", "--json").documents
    assert artifact["latest"] == version == filled("show", "project/artifact", "--json").document
    (entry, *_) = filled("ls", "project/artifact:v0", "--json").documents
    assert entry | {"last_modified": None} == {
        "kind": "object",
        "path": "1",
        "size": 1,
        "uri": f"s3://{source}/data/1",
        "etag": "c4ca4238a0b923820dcc509a6f75849b",
        "version_id": None,
        "last_modified": None,
        "storage_class": "STANDARD",
        "checksum": None,
        "checksum_algorithm": None,
        "checksum_type": None,
        "mtime_ns": None,
    }
    assert entry["last_modified"].endswith("Z")


def test_every_level_is_listed_for_people(filled: Command) -> None:
    levels = [(), ("project",), ("project/artifact",)]
    tables = [filled("ls", *level).output.splitlines() for level in levels]
    heads = [table[0].split() for table in tables]
    assert heads == [
        ["PROJECT", "ARTIFACTS", "VERSIONS", "UPDATED"],
        ["ARTIFACT", "TYPE", "VERSIONS", "LATEST", "OBJECTS", "SIZE", "UPDATED"],
        ["VERSION", "OBJECTS", "SIZE", "ALIASES", "TAGS", "CREATED", "DIGEST", "NOTES"],
    ]
    assert [table[1].split()[0] for table in tables] == [
        "project", "project/artifact", "project/artifact:v0",
    ]  # fmt: skip
    entries = filled("ls", "project/artifact:latest").output.splitlines()
    shown = [r"1", r"2", r"a\nb\x1b[31m\u202e", r"empty", "\u65e5\u672c \U0001f600.png"]
    assert [line[37:] for line in entries] == shown
    assert [int(line[:14]) for line in entries] == [1, 2, 3, 0, 3]


@pytest.mark.parametrize(
    ("prefix", "count"), [("", 5), ("a\n", 1), ("\u65e5", 1), ("e", 1), ("empty/", 0), ("x", 0)]
)
def test_entries_below_a_prefix_are_listed(prefix: str, count: int, filled: Command) -> None:
    entries = filled("ls", "project/artifact:v0", "--prefix", prefix, "--json").documents
    assert len(entries) == count
    assert all(entry["path"].startswith(prefix) for entry in entries)


def test_a_prefix_without_a_version_is_an_error(filled: Command) -> None:
    for target in ((), ("project",), ("project/artifact",)):
        failed(filled("ls", *target, "--prefix", "a"), 2)


def test_a_version_is_shown(filled: Command) -> None:
    lines = filled("show", "project/artifact").output.splitlines()
    assert lines[0] == "project/artifact:v0"
    shown = {line[2:14].strip(): line[15:] for line in lines[1:]}
    assert (shown["objects"], shown["aliases"], shown["notes"]) == ("5 (9 B)", "latest", "first")
    document = filled("show", "project/artifact:v0", "--json").document
    assert shown["digest"] == document["digest"]
    assert shown["W&B digest"] == document["wandb_digest"]


def test_notes_and_aliases_are_all_that_changes(indexer: Command, source: str) -> None:
    for key in ("data", "data2"):
        snapshot(indexer, f"s3://{source}/{key}", "--name", "p/a")
    before = indexer.recorded()["files"]
    noted = indexer("note", "p/a:v0", "two\nlines \U0001f600", "--json").document
    assert (noted["version"], noted["notes"]) == ("v0", "two\nlines \U0001f600")
    assert r"two\nlines" in indexer("show", "p/a:v0").output
    assert indexer("alias", "set", "p/a:v0", "best", "--json").document["aliases"] == ["best"]
    assert indexer("alias", "set", "p/a", "best", "--json").document["aliases"] == [
        "best",
        "latest",
    ]
    assert indexer("alias", "ls", "p/a", "--json").documents == [
        {"alias": "best", "ref": "p/a:v1", "protected": False},
        {"alias": "latest", "ref": "p/a:v1", "protected": False},
    ]
    assert indexer("alias", "ls", "p/a").output.splitlines() == [
        "ALIAS   VERSION  PROTECTED",
        "best    p/a:v1   no",
        "latest  p/a:v1   no",
    ]
    assert indexer("show", "p/a:best", "--json").document["version"] == "v1"
    assert indexer("alias", "remove", "p/a", "best", "--json").document["aliases"] == ["latest"]
    failed(indexer("show", "p/a:best"), 3)
    assert indexer.recorded()["files"] == before


def test_doctor_says_how_a_source_is_reached(
    indexer: Command, minio: S3Server, source: str
) -> None:
    report = indexer("doctor", f"s3://{source}/data", "--json").document
    assert report["source"] == f"s3://{source}/data/"
    assert (report["endpoint"], report["endpoint_from"]) == (minio.endpoint_url, "AWS_ENDPOINT_URL")
    assert (report["server"], report["versioning"], report["credentials"]) == (
        "MinIO",
        "off",
        "env",
    )
    assert report["objects_on_first_page"] == 5
    given = ("--endpoint-url", minio.endpoint_url)
    told = indexer("doctor", f"s3://{source}/data", *given, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert re.search(r"^endpoint from +--endpoint-url$", told.output, re.MULTILINE)
    assert indexer("ls").output.splitlines()[1:] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_command(shell: str, indexer: Command) -> None:
    script = indexer("completion", shell)
    assert (script.code, script.errors) == (0, "")
    assert "_INDEXER_COMPLETE" in script.output
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script.output, text=True, check=False)
        assert checked.returncode == 0
    if shell == "bash":
        asked = {"COMP_WORDS": "indexer sn", "COMP_CWORD": "1"}
        told = indexer.process(_INDEXER_COMPLETE="bash_complete", **asked)
        assert told.output == "plain,snapshot\n"


# --- what cannot be done -------------------------------------------------------------------------


BAD_SNAPSHOTS: list[tuple[int, list[str], str]] = [
    (3, ["bucket/prefix"], "s3://bucket/prefix/"),
    (2, ["s3:/bucket"], "'s3:/bucket'"),
    (2, ["s3://"], "s3://bucket/prefix/"),
    (2, ["s3://b!/"], "'s3://b!/'"),
    (2, ["s3://BUCKET/" + "k" * 1025], "1,025 bytes"),
    (2, ["gs://bucket/"], "GOOGLE_APPLICATION_CREDENTIALS"),
    (2, ["ftp://host/file"], "'ftp'"),
    (3, ["s3://no-such-bucket-at-all/"], "no such bucket"),
    (2, ["s3://SOURCE/", "--name", "artifact"], "project/artifact"),
    (2, ["s3://SOURCE/", "--name", "p/a:v1"], "'p/a:v1'"),
    (2, ["s3://SOURCE/", "--name", "p/" + "a" * 129], "128"),
    (2, ["s3://SOURCE/", "--type", "two words"], "'two words'"),
    (2, ["s3://SOURCE/", "--alias", "latest"], "'latest'"),
    (2, ["s3://SOURCE/", "--alias", "v7"], "'v7'"),
    (2, ["s3://SOURCE/", "--alias", "a/b"], "'a/b'"),
    (2, ["s3://SOURCE/", "--notes", "\udcff"], "UTF-8"),
    (2, ["s3://SOURCE/", "--notes", "n" * 100_001], "100,001"),
    (2, ["s3://SOURCE/", "--max-objects", "0"], "from 1 to"),
    (2, ["s3://SOURCE/", "--max-objects", "-1"], "from 1 to"),
    (2, ["s3://SOURCE/", "--max-objects", "1e5"], "'1e5'"),
    (2, ["s3://SOURCE/", "--max-objects", "9" * 30], "from 1 to"),
    (2, ["s3://SOURCE/", "--in-flight", "0"], "from 1 to"),
    (2, ["s3://SOURCE/", "--in-flight", "1000000"], "from 1 to"),
    (2, ["s3://SOURCE/", "--on-limit", "ignore"], "'error'"),
    (2, ["s3://SOURCE/", "--profile", "nobody"], "nobody"),
    (2, ["s3://SOURCE/", "--endpoint-url", "no url"], "no url"),
    (2, ["s3://SOURCE/", "--endpoint-url", "localhost:9000"], "localhost:9000"),
    (2, ["s3://SOURCE/", "--colour"], "--colour"),
    (2, ["s3://SOURCE/", "s3://SOURCE/data2/"], "NAME=s3://SOURCE/"),
    (2, [], "URI"),
]


@pytest.mark.parametrize(("code", "arguments", "words"), BAD_SNAPSHOTS)
def test_a_snapshot_that_cannot_be_made_says_why_and_changes_nothing(
    code: int, arguments: list[str], words: str, filled: Command, source: str
) -> None:
    before = filled.recorded()
    given = [argument.replace("SOURCE", source) for argument in arguments]
    name = [] if "--name" in given else ["--name", "project/artifact"]
    assert words.replace("SOURCE", source) in failed(filled("snapshot", *given, *name), code)
    assert filled.recorded() == before


@pytest.mark.parametrize(
    ("code", "environment", "words"),
    [
        (3, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "does not accept these credentials"),
        (3, {"AWS_ACCESS_KEY_ID": "wrong"}, "does not accept these credentials"),
        (2, {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "--no-sign-request"),
        (2, {"AWS_SECRET_ACCESS_KEY": None}, "AWS_SECRET_ACCESS_KEY"),
        (3, {"INDEXER_NO_SIGN_REQUEST": "1"}, "denied"),
        (75, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "127.0.0.1:1"),
        (75, {"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "no-such-host.invalid"),
        (2, {"INDEXER_MAX_OBJECTS": "many"}, "INDEXER_MAX_OBJECTS"),
        (2, {"INDEXER_CONFIG": "nowhere.toml"}, "nowhere.toml"),
        (2, {"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_a_server_that_cannot_be_used_is_named_and_nothing_changes(
    code: int, environment: dict[str, str | None], words: str, filled: Command, source: str
) -> None:
    before = filled.recorded()
    ran = filled("snapshot", f"s3://{source}/", "--name", "project/new", **environment)
    assert words in failed(ran, code)
    assert filled.recorded() == before


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (3, ["ls", "nowhere"], "project"),
        (3, ["ls", "project/nothing"], "artifact"),
        (3, ["show", "project/artifact:v9"], "v0"),
        (3, ["show", "project/artifact:best"], "latest"),
        (3, ["show", "project/artifact@sha256:" + "0" * 64], "sha256"),
        (3, ["ls", "project/nothing:v0"], "artifact"),
        (3, ["note", "project/artifact:v9", "text"], "v0"),
        (3, ["alias", "set", "project/artifact:v9", "best"], "v0"),
        (3, ["alias", "remove", "project/artifact", "best"], "best"),
        (2, ["alias", "set", "project/artifact:v0", "latest"], "latest"),
        (2, ["alias", "remove", "project/artifact", "v0"], "v0"),
        (2, ["show", "artifact"], "project/artifact"),
        (2, ["show", "project/artifact:a b"], "a b"),
        (2, ["note", "project/artifact:v0", "\udcff"], "UTF-8"),
        (2, ["ls", "two words"], "two words"),
        (2, ["completion", "tcsh"], "tcsh"),
        (2, ["nothing"], "nothing"),
        (2, ["ls", "a", "b"], "b"),
        (2, ["doctor", "ftp://host/"], "ftp"),
        (3, ["doctor", "s3://no-such-bucket-at-all"], "no such bucket"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(
    code: int, arguments: list[str], words: str, filled: Command
) -> None:
    before = filled.recorded()
    assert words in failed(filled(*arguments), code)
    assert filled.recorded() == before
