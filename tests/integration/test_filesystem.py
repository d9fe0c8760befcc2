"""Versions as a file system: what fsspec, pandas and pyarrow read are the recorded objects."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import pickle
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import indexer
from deploy.s3_server import S3Server
from indexer.errors import InvalidSetting
from indexer.filesystem import IndexerFileSystem
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.conftest import MakeBucket
from tests.daemon.daemons import running_daemon
from tests.documents import FILESYSTEM, VERIFY, documents, run_code
from tests.integration.commands import ROOT

ODD = ("a//b", "dir/", "dir/é #?%2F+", "dir/[x]*", "dir0", "empty", "same", "same/inner")


@pytest.fixture(autouse=True)
def _protocol() -> None:
    fsspec.register_implementation("indexer", IndexerFileSystem, clobber=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def local(tmp_path: Path, data: Path) -> IndexerFileSystem:
    """A version of files in folders, `p/a:v0`."""
    root = tmp_path / "files"
    for name in ("x.csv", "sub/y.csv", "sub/deep/z.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"name\n{name}\n")
    indexer.snapshot(f"{root}/", name="p/a", data=data)
    return IndexerFileSystem(data=data)


def parquet(start: int) -> bytes:
    sink = pa.BufferOutputStream()
    rows = pa.table({"id": range(start, start + 1_000), "text": ["x" * 50] * 1_000})
    pq.write_table(rows, sink, row_group_size=100)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def test_the_entry_point_names_the_class() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (name, home), *others = project["entry-points"]["fsspec.specs"].items()
    module, _, attribute = home.partition(":")
    assert (name, others) == (IndexerFileSystem.protocol, [])
    assert getattr(import_module(module), attribute) is IndexerFileSystem


def test_the_tree_is_that_of_the_version(local: IndexerFileSystem) -> None:
    assert local.ls("", detail=False) == ["p"]
    assert local.ls("p", detail=False) == ["p/a"]
    assert local.ls("indexer://p/a/", detail=False) == ["p/a/sub", "p/a/x.csv"]
    root = "p/a:v0"
    assert local.find(root) == [f"{root}/{n}" for n in ("sub/deep/z.csv", "sub/y.csv", "x.csv")]
    assert local.find(root, maxdepth=2, withdirs=True) == [
        root, f"{root}/sub", f"{root}/sub/deep", f"{root}/sub/y.csv", f"{root}/x.csv",
    ]  # fmt: skip
    assert local.find(root, withdirs=True) == sorted(
        [*local.find(root), root, f"{root}/sub", f"{root}/sub/deep"]
    )
    assert local.glob(f"{root}/*.csv") == [f"{root}/x.csv"]
    assert local.glob(f"{root}/**/*.csv") == local.find(root)
    assert local.glob(f"{root}/s*/y*") == [f"{root}/sub/y.csv"]
    assert [(path, dirs, files) for path, dirs, files in local.walk(f"{root}/sub")] == [
        (f"{root}/sub", ["deep"], ["y.csv"]),
        (f"{root}/sub/deep", [], ["z.csv"]),
    ]
    info = local.info(f"{root}/sub/y.csv")
    assert (info["type"], info["size"], info["checksum_algorithm"]) == ("file", 15, "md5")
    assert local.created(f"{root}/sub/y.csv") == info["last_modified"]
    assert local.info(f"{root}/sub") == {"name": f"{root}/sub", "size": 0, "type": "directory"}
    assert local.exists(f"{root}/sub/deep/z.csv")
    assert not local.exists(f"{root}/su")
    assert not local.exists("p/none/x")
    assert local.isdir("p/a")
    assert local.du(root) == sum(local.sizes(local.find(root)))
    for missing in (f"{root}/none", "p/none", "none/at/all"):
        with pytest.raises(FileNotFoundError, match="no"):
            local.ls(missing)


def test_options_are_settings(local: IndexerFileSystem, data: Path, tmp_path: Path) -> None:
    assert IndexerFileSystem(data=data, in_flight=2, region="eu-west-1").exists("p/a/x.csv")
    for wrong in ({"in_flight": 0}, {"endpoint": "http://127.0.0.1"}):
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            IndexerFileSystem(data=data, **wrong)
    nowhere = IndexerFileSystem(data=tmp_path / "later")
    with pytest.raises(FileNotFoundError, match="no data folder"):
        nowhere.ls("")
    indexer.snapshot(f"{tmp_path}/files/", name="p/a", data=tmp_path / "later")
    assert nowhere.ls("", detail=False) == ["p"]


def test_bytes_and_parts_of_them(local: IndexerFileSystem, tmp_path: Path) -> None:
    path = "p/a:v0/sub/y.csv"
    body = b"name\nsub/y.csv\n"
    assert local.cat(path) == body
    for start, end in ((5, 8), (None, -3), (-4, None), (5, 10_000), (9, 3), (20, 30)):
        assert local.cat_file(path, start, end) == body[start:end]
    assert local.cat_ranges([path, path], [0, 5], [4, 8]) == [body[:4], body[5:8]]
    assert set(local.cat("p/a:v0/sub", recursive=True, on_error="omit").values()) == {
        body,
        b"name\nsub/deep/z.csv\n",
    }
    with local.open(path) as file:
        file.seek(5)
        assert file.read(3) == b"sub"
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"csv\n"
    with local.open(path, "r") as text:
        assert text.readlines() == ["name\n", "sub/y.csv\n"]
    local.get("p/a:v0/sub", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/deep/z.csv").read_text() == "name\nsub/deep/z.csv\n"
    assert sorted(each.name for each in (tmp_path / "got").iterdir()) == ["deep", "y.csv"]


def test_nothing_can_be_written(local: IndexerFileSystem, tmp_path: Path) -> None:
    path = "p/a:v0/x.csv"
    calls: list[Callable[[], Any]] = [
        lambda: local.open(path, "wb"),
        lambda: local.pipe(path, b""),
        lambda: local.rm(path),
        lambda: local.cp_file(path, path + "2"),
        lambda: local.mkdir("p/a:v0/new"),
        lambda: local.makedirs("p/a:v0/new"),
        lambda: local.put_file(__file__, path),
    ]
    for call in calls:
        with pytest.raises(OSError, match="read-only") as raised:
            call()
        assert raised.value.errno == errno.EROFS
    assert local.exists(path)


def test_an_alias_means_one_version_for_as_long_as_the_file_system_lives(
    local: IndexerFileSystem, tmp_path: Path, data: Path
) -> None:
    assert local.exists("p/a:latest/x.csv")
    (tmp_path / "files/x.csv").unlink()
    indexer.snapshot(f"{tmp_path}/files/", name="p/a", data=data)
    copy = pickle.loads(pickle.dumps(local))  # noqa: S301
    assert copy.exists("p/a:latest/x.csv")
    assert local.exists("p/a:latest/x.csv")
    assert not IndexerFileSystem(data=data).exists("p/a:latest/x.csv")
    with pytest.raises(FileNotFoundError, match=r"x\.csv.* is gone"):
        copy.cat("p/a:latest/x.csv")


def test_odd_keys(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SyntheticS3() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        server.load("odd", sorted(key.encode() for key in ODD))
        version = indexer.snapshot("s3://odd/", name="p/odd", data=data)
        files = version.filesystem()
        listed = {key for key in ODD if not key.endswith("/")}
        assert set(files.find("")) == listed
        assert set(files.find("", withdirs=True)) == {*listed, "", "a", "dir", "same"}
        for key in listed:
            assert len(files.cat_file(key)) == files.size(key)
        assert files.cat_file("same") != files.cat_file("same/inner")
        assert set(files.ls("dir", detail=False)) == {"dir/é #?%2F+", "dir/[x]*"}
        assert files.ls("a", detail=False) == []
        assert set(files.ls("", detail=False)) == {"a", "dir", "dir0", "empty", "same"}
        assert (files.isfile("same"), files.isdir("same")) == (True, False)
        assert [name for name, _, _ in files.walk("")] == ["", "a", "dir", "same"]
        copy = pickle.loads(pickle.dumps(files))  # noqa: S301
        assert copy.cat_file("dir0") == files.cat_file("dir0")


def test_what_the_documents_show(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEXER_DATA", str(data))
    root = tmp_path / "files"
    (root / "train").mkdir(parents=True)
    (root / "index.csv").write_text("a,b\n1,2\n")
    (root / "train/part-0.parquet").write_bytes(parquet(0))
    for number in range(4):
        (root / "number").write_text(str(number))
        for name in ("vision/images", "vision/tables"):
            indexer.snapshot(f"{root}/", name=name)
    shown = run_code(documents()[FILESYSTEM])
    assert shown["magic"].endswith(b"PAR1")
    assert shown["train"].count_rows() == len(shown["frame"]) == 1_000
    assert shown["link"].url == f"file://{root}/train/part-0.parquet"
    assert run_code(documents()[VERIFY])["report"].entries == 1


def test_pandas_and_pyarrow_read_what_was_recorded(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], data: Path
) -> None:
    parts = {f"t/part={number}/x.parquet": parquet(number * 1_000) for number in range(4)}
    name = bucket(on_minio, {**parts, "index.csv": b"a,b\n1,2\n"}, versioned=True)
    version = indexer.snapshot(f"s3://{name}/", name="p/t", data=data)
    client = s3_client(on_minio)
    for key in (*parts, "index.csv"):
        client.put_object(Bucket=name, Key=key, Body=b"overwritten")
    table = ds.dataset(
        "t", filesystem=version.filesystem(), format="parquet", partitioning="hive"
    ).to_table(filter=(ds.field("part") > 0) & (ds.field("id") < 2_500), columns=["id"])
    assert sorted(table.column("id").to_pylist()) == list(range(1_000, 2_500))
    options = {"data": str(data)}
    frame = pd.read_parquet("indexer://p/t:v0/t/part=1/x.parquet", storage_options=options)
    assert frame["id"].sum() == sum(range(1_000, 2_000))
    frame = pd.read_csv("indexer://p/t/index.csv", storage_options=options)
    assert frame.to_dict("list") == {"a": [1], "b": [2]}
    with ThreadPoolExecutor(8) as pool:
        files = version.filesystem()
        assert list(pool.map(files.cat_file, parts)) == list(parts.values())


def test_without_versions_an_overwritten_object_is_an_error(
    on_minio: S3Server, bucket: MakeBucket, s3_client: Callable[[S3Server], Any], data: Path
) -> None:
    body = os.urandom(100_000)
    name = bucket(on_minio, {"a": body, "b": b"b"})
    files = indexer.snapshot(f"s3://{name}/", name="p/c", data=data).filesystem()
    with files.open("a", block_size=1_000, cache_type="none") as file:
        assert file.read(10) == body[:10]
        s3_client(on_minio).put_object(Bucket=name, Key="a", Body=body[::-1])
        s3_client(on_minio).delete_object(Bucket=name, Key="b")
        with pytest.raises(OSError, match=r"overwritten.*recorded.*is there now") as raised:
            file.read(10)
    assert raised.value.errno == errno.ESTALE
    with pytest.raises(FileNotFoundError, match=f"s3://{name}/b.* is gone"):
        files.cat_file("b")


async def test_where_a_loop_runs_and_on_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a")
    async with running_daemon(tmp_path / "data") as (url, _):

        def read() -> Any:
            version = indexer.snapshot(f"{tmp_path}/files/", name="p/a", server=url)
            return version.filesystem().cat("a"), version.filesystem().ls("")[0]["size"]

        assert await asyncio.to_thread(read) == (b"a", 1)
        files = IndexerFileSystem(server=url, asynchronous=True)
        assert await files._cat_file("p/a:v0/a") == b"a"
        assert await files._find("p/a") == ["p/a/a"]
    local = IndexerFileSystem(data=tmp_path / "data")
    # A notebook: its cell is called while its own loop runs.
    assert local.cat("p/a:v0/a") == b"a"


def _read(files: Any) -> bytes:
    data: bytes = files.cat("p/a:v0/x.csv")
    return data


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_other_processes(method: str, local: IndexerFileSystem) -> None:
    expected = _read(local)
    context: Any = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        assert pool.apply(_read, (local,)) == expected
    if method == "fork":
        queue = context.SimpleQueue()
        child = context.Process(target=lambda: queue.put(_read(local)))
        child.start()
        assert queue.get() == expected
        child.join()
        assert child.exitcode == 0
    assert _read(local) == expected
