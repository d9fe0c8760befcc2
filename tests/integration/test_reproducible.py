"""The same content gives the same digest: on any server, at any concurrency, in any pieces.

Pages and shards are made small here, so that a few hundred objects have as many of them as a
million have otherwise.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import AioSession

import indexer
from indexer.app import open_app
from indexer.errors import InvalidReference, LimitExceeded, NoSuchSource, NoSuchVersion
from indexer.manifest import Manifest, SourceRef
from indexer.page import SCHEMA
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import SourceOptions
from indexer.records import Snapshot
from indexer.references import parse_name
from indexer.runner import loop_factory
from indexer.sources import parse_mounted
from indexer.stores.s3 import S3Store
from indexer.stores.s3_lister import S3Lister
from indexer.testing.buckets import body_of, etag_of, fill
from indexer.testing.keysets import keys
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.integration.commands import PYTHON, ROOT, TIMEOUT_S, Command, Server
from tests.unit.rows_model import Cuts, Entry, slow_shards

PAGE_ROWS = 20
CUTS = Cuts(bits=6, run_rows_max=100)
BUCKET = f"same-{uuid4().hex}"
PREFIX = "data/"
ODD = [
    "a b+c%2F#?&.txt", "tab\there", "control\x01\x1f\x7f", "<xml>&amp;\"'", "é/e\u0301",
    "日本/\U0001f600", "dir/sub/file", "z" * 200,
]  # fmt: skip
KEYS = sorted(
    {*keys("tree", 250), *keys("counter_unpadded", 100), *keys("unicode", 80)}
    | {key.encode() for key in ODD}
)
OUTSIDE = [b"data", b"data.txt", b"data2/x"]
URI = f"s3://{BUCKET}/{PREFIX}"


def rows_of(paths: list[bytes]) -> list[Entry]:
    return [
        {
            "path": path,
            "size": len(body_of(PREFIX.encode() + path)),
            "etag_md5": bytes.fromhex(etag_of(PREFIX.encode() + path)),
        }
        for path in paths
    ]


def digest_of(paths: list[bytes]) -> str:
    """What the format says, computed without any of the code that lists."""
    return Manifest((SourceRef(URI),), tuple(slow_shards(rows_of(paths), CUTS))).digest


@pytest.fixture(autouse=True)
def _small_pages_and_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for asks in (S3Lister.list, S3Store._page_and_keys):
        defaults = asks.__kwdefaults__
        assert defaults
        monkeypatch.setitem(defaults, "rows", PAGE_ROWS)
    with CUTS.used():
        yield


@pytest.fixture(scope="module")
def synthetic() -> Iterator[SyntheticS3]:
    with SyntheticS3() as server:
        fill_bucket(server)
        yield server


@pytest.fixture(scope="module", params=["minio", "moto_server", "synthetic"])
def any_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    if request.param != "synthetic":
        fill_bucket(server)
    return server


def fill_bucket(server: Server) -> None:
    """Makes the bucket of all keys, and of some keys beside the prefix."""
    is_minio = getattr(server, "kind", None) == "minio"
    # MinIO keeps no object beside a folder of its name.
    others = OUTSIDE[1:] if is_minio else OUTSIDE
    wanted = [*(PREFIX.encode() + key for key in KEYS), *others]

    async def put_all() -> None:
        async with AioSession().create_client("s3", region_name="us-east-1") as client:
            await client.create_bucket(Bucket=BUCKET)
            await fill(client, BUCKET, wanted, unpacks=is_minio)

    with pytest.MonkeyPatch.context() as patch:
        use(server, patch)
        asyncio.run(put_all())


def use(server: Server, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    patch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)


@pytest.fixture
def on_any_server(any_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(any_server, monkeypatch)


@pytest.fixture
def on_one_server(synthetic: SyntheticS3, monkeypatch: pytest.MonkeyPatch) -> None:
    use(synthetic, monkeypatch)


def take(data: Path, in_flight: int, *, objects_max: int = 10_000, **options: Any) -> Snapshot:
    """A snapshot of everything below the prefix."""

    async def run() -> Snapshot:
        async with open_app(data) as app:
            request = SnapshotRequest(
                (parse_mounted(URI),), parse_name("p/a"), objects_max=objects_max, **options
            )
            return await app.make_snapshot(request, SourceOptions(in_flight=in_flight))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())


# --- the digest ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("on_any_server")
@pytest.mark.parametrize(
    ("in_flight", "options"),
    [(1, {}), (64, {}), (64, {"slice_pages_max": 3})],
    ids=["one by one", "in parallel", "in slices"],
)
def test_the_digest_is_of_the_content_alone(
    in_flight: int, options: dict[str, int], tmp_path: Path
) -> None:
    first = take(tmp_path, in_flight, **options)
    version = first.result.version
    assert version.digest == digest_of(KEYS)
    assert (first.result.created, first.listed, version.objects) == (True, len(KEYS), len(KEYS))
    shards = slow_shards(rows_of(KEYS), CUTS)
    assert (first.shards_new, first.shards_reused) == (len(shards), 0)
    assert first.requests > len(KEYS) / PAGE_ROWS

    second = take(tmp_path, 65 - in_flight, **options)
    assert (second.result.created, second.result.version.number) == (False, 0)
    assert (second.shards_new, second.shards_reused) == (0, len(shards))
    assert sorted(path.name for path in (tmp_path / "shards").rglob("*.parquet")) == sorted(
        f"{shard.digest}.parquet" for shard in shards
    )


@pytest.mark.usefixtures("on_one_server")
@pytest.mark.parametrize("count", [1, PAGE_ROWS, PAGE_ROWS + 1, 200, len(KEYS) - 1])
def test_the_first_objects_are_the_first_in_key_order(count: int, tmp_path: Path) -> None:
    for in_flight in (1, 64):
        done = take(tmp_path, in_flight, objects_max=count, on_limit="partial")
        assert done.result.version.consistency == "partial"
        assert done.result.version.digest == digest_of(KEYS[:count])
        assert done.result.created == (in_flight == 1)
        assert done.listed == count


@pytest.mark.usefixtures("on_one_server")
def test_the_limit_is_exact(tmp_path: Path) -> None:
    for in_flight, options in [(1, {}), (64, {}), (64, {"slice_pages_max": 3})]:
        with pytest.raises(LimitExceeded, match=f"{len(KEYS) - 1:,} objects"):
            take(tmp_path, in_flight, objects_max=len(KEYS) - 1, **options)
        whole = take(tmp_path, in_flight, objects_max=len(KEYS), **options)
        assert whole.result.version.digest == digest_of(KEYS)
    # With room for all of them, the first ones are all of them.
    whole = take(tmp_path, 64, objects_max=len(KEYS), on_limit="partial")
    assert not whole.result.created
    assert whole.result.version.consistency != "partial"


@pytest.mark.usefixtures("on_one_server")
def test_what_changed_between_two_scans_is_all_that_is_new(
    tmp_path: Path, synthetic: SyntheticS3, s3_client: Callable[[Any], Any]
) -> None:
    take(tmp_path, 8)
    changed = (PREFIX.encode() + KEYS[len(KEYS) // 2]).decode()
    s3_client(synthetic).put_object(Bucket=BUCKET, Key=changed, Body=b"changed")
    second = take(tmp_path, 8)
    assert (second.result.version.ref, second.result.created) == ("p/a:v1", True)
    assert second.shards_new == 1
    assert second.shards_reused == len(slow_shards(rows_of(KEYS), CUTS)) - 1
    s3_client(synthetic).put_object(Bucket=BUCKET, Key=changed, Body=body_of(changed.encode()))
    third = take(tmp_path, 8)
    assert (third.result.version.number, third.result.version.digest) == (2, digest_of(KEYS))
    assert third.shards_new == 0


@pytest.mark.usefixtures("on_one_server")
def test_what_waited_for_neighbours_is_gone_from_the_folder(tmp_path: Path) -> None:
    done = take(tmp_path, 8, slice_pages_max=1)
    blobs = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    # What stays is the root and the tiling.
    assert len(blobs) == 2
    assert done.result.version.digest.removeprefix("sha256:") in {path.name for path in blobs}


# --- the library ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("on_one_server")
def test_the_library_does_what_the_command_does(
    tmp_path: Path, synthetic: SyntheticS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEXER_DATA", str(tmp_path / "data"))
    version = indexer.snapshot(URI, name="p/a", aliases=["best"], notes="first", type="model")
    assert isinstance(version, indexer.Version)
    assert (version.ref, version.created, version.digest) == ("p/a:v0", True, digest_of(KEYS))
    record = version.record
    assert (record.aliases, record.notes, record.type) == (("best", "latest"), "first", "model")
    again = indexer.snapshot(URI, name="p/a", in_flight=1)
    assert (again.ref, again.created) == ("p/a:v0", False)
    # Options win over the environment; the data folder is another one.
    elsewhere = tmp_path / "elsewhere"
    first = indexer.snapshot(
        URI, name="p/a", data=elsewhere, max_objects=10, on_limit="partial", region="us-east-1"
    )
    assert (first.digest, first.record.objects) == (digest_of(KEYS[:10]), 10)
    assert indexer.open("p/a:v0", data=elsewhere).digest == first.digest
    told = Command(tmp_path, synthetic)("show", "p/a:best", "--json").document
    assert (told["digest"], told["type"]) == (version.digest, "model")


@pytest.fixture(scope="module")
def library(synthetic: SyntheticS3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one version."""
    data = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch, CUTS.used():
        use(synthetic, patch)
        indexer.snapshot(URI, name="p/a", data=data)
    return data


def paths_of(version: indexer.Version, prefix: str | bytes = b"") -> list[bytes]:
    return [path for t in version.entries(prefix) for path in t.column("path").to_pylist()]


def test_entries_come_lazily_in_key_order(library: Path) -> None:
    version = indexer.open("p/a", data=library)
    assert paths_of(version) == KEYS
    for prefix in ("tree/000000/01/", "é", b"\xe6\x97\xa5", "d", "nothing"):
        wanted = prefix.encode() if isinstance(prefix, str) else prefix
        assert paths_of(version, prefix) == [key for key in KEYS if key.startswith(wanted)]
    tables = version.entries()
    first = next(tables)
    assert set(first.schema.names) <= set(SCHEMA.names)
    assert first.column("path").to_pylist() == KEYS[: first.num_rows]


def test_the_library_works_where_a_loop_runs(library: Path) -> None:
    async def notebook() -> list[bytes]:
        return paths_of(indexer.open("p/a:latest", data=library))

    assert asyncio.run(notebook()) == KEYS


def test_a_version_is_opened_by_any_of_its_names(library: Path) -> None:
    digest = digest_of(KEYS)
    for ref in ("p/a", "p/a:latest", "p/a:v0", "entity/p/a:v0", f"p/a@{digest}"):
        assert indexer.open(ref, data=library).digest == digest


@pytest.mark.usefixtures("on_one_server")
def test_the_librarys_errors_are_the_commands(library: Path, tmp_path: Path) -> None:
    for ref, error in [("p/a:v1", NoSuchVersion), ("p", InvalidReference)]:
        with pytest.raises(error):
            indexer.open(ref, data=library)
    for uri, error_ in [(f"s3://{BUCKET}/none/", NoSuchSource), ("gs://b/", InvalidReference)]:
        with pytest.raises(error_):
            indexer.snapshot(uri, name="p/b", data=tmp_path)
    with pytest.raises(NoSuchVersion):
        indexer.open("p/b", data=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_script_may_end_in_the_middle_of_entries(library: Path) -> None:
    script = (
        "import indexer, sys\n"
        "tables = indexer.open('p/a', data=sys.argv[1]).entries()\n"
        "print(next(tables).num_rows)\n"
    )
    done = subprocess.run(
        [*PYTHON, "-c", script, str(library)],
        env={"PYTHONPATH": str(ROOT), "HOME": str(library)},
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert int(done.stdout) > 0
