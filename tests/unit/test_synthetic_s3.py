"""The synthetic S3 server: it lists and stores as S3 does, and misbehaves just as it is told."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from indexer.testing.keysets import keys
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.unit.synthetic_s3_client import (
    PAGINGS,
    Paging,
    by_marker,
    by_token,
    by_version,
    client_of,
    fetch,
    keys_on,
    set_versioning,
)

HOSTILE = sorted(
    text.encode()
    for text in (
        *("a b", "a+b", "a%20b", "a%b", "a//b", "/lead", "//", "dir/", "dir/x", "dir/y/z"),
        *("x\x01y", "x\x1fy", "x\x7fy", "tab\t", "line\n", "return\r", "\U0001f600", "\uffff"),
        *("<&>\"'", "]]>", "é", "e\u0301", "~tilde*", "k=v?q#f", "data/1", "data2/1", "key"),
        "n" * 1024,
    )
)


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticS3]:
    with SyntheticS3() as running:
        yield running


@pytest.fixture(scope="module")
def s3(server: SyntheticS3) -> Any:
    return client_of(server)


@pytest.fixture
def name(names: Iterator[str]) -> str:
    """A bucket name that no other test has."""
    return next(names)


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    return (f"bucket-{number}" for number in itertools.count())


def md5_of(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


# --- listings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("prefix", ["", "a", "data/", "dir/", "x", "nothing"])
def test_hostile_keys_are_listed_exactly(
    server: SyntheticS3, s3: Any, paging: Paging, prefix: str
) -> None:
    server.load("hostile", HOSTILE)
    expected = [key for key in HOSTILE if key.startswith(prefix.encode())]
    for size in (1, 4, 1000):
        assert keys_on(paging(s3, "hostile", Prefix=prefix, MaxKeys=size)) == expected


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_generated_bucket_is_listed_in_full_pages(
    server: SyntheticS3, s3: Any, name: str, paging: Paging
) -> None:
    truth = keys("zipf_dirs", 2200)
    server.load(name, "zipf_dirs", 2200)
    pages = list(paging(s3, name))
    assert keys_on(iter(pages)) == truth
    assert [len(keys_on(iter([page]))) for page in pages] == [1000, 1000, 200]


@pytest.mark.parametrize("paging", [by_token, by_marker, by_version])
def test_a_delimiter_rolls_up(s3: Any, name: str, paging: Paging) -> None:
    s3.create_bucket(Bucket=name)
    for key in ("a", "b/1", "b/2", "b/c/3", "c//1", "d/"):
        s3.put_object(Bucket=name, Key=key)
    for size in (1, 2, 1000):
        pages = list(paging(s3, name, Delimiter="/", MaxKeys=size))
        prefixes = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
        assert (keys_on(iter(pages)), prefixes) == ([b"a"], ["b/", "c/", "d/"])
        assert all(
            len(keys_on(iter([page]))) + len(page.get("CommonPrefixes", [])) <= size
            for page in pages
        )
    below = list(paging(s3, name, Delimiter="/", Prefix="b/"))
    assert keys_on(iter(below)) == [b"b/1", b"b/2"]
    assert [one["Prefix"] for one in below[0]["CommonPrefixes"]] == ["b/c/"]


def test_a_token_wins_and_belongs_to_its_parameters(
    server: SyntheticS3, s3: Any, name: str
) -> None:
    server.load(name, "flat", 30)
    token = s3.list_objects_v2(Bucket=name, MaxKeys=10)["NextContinuationToken"]
    page = s3.list_objects_v2(Bucket=name, ContinuationToken=token, StartAfter="zzz")
    assert page["KeyCount"] == 20
    for options in ({"Prefix": "flat/"}, {"Delimiter": "/"}):
        with pytest.raises(ClientError, match="InvalidArgument"):
            s3.list_objects_v2(Bucket=name, ContinuationToken=token, **options)
    for bad in ("", "flat/object_0000000001.bin", "AAAA"):
        status, _, _ = fetch(server, f"/{name}?list-type=2&continuation-token={quote(bad)}")
        assert status == 400


@pytest.mark.parametrize(
    "query",
    [
        *("max-keys=-1", "max-keys=x", "encoding-type=base64", "list-type=3"),
        *("versions&version-id-marker=null", "versions&key-marker=a&version-id-marker=what"),
    ],
)
def test_bad_parameters_are_refused(server: SyntheticS3, query: str) -> None:
    server.load("hostile", HOSTILE)
    status, _, body = fetch(server, f"/hostile?{query}")
    assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True)


def test_a_document_is_written_as_aws_writes_it(server: SyntheticS3, name: str) -> None:
    server.load(name, [b"a b+c~*/\xc3\xa9", b"z"], versioned=True)
    content = (b"a b+c~*/\xc3\xa9" * 500)[:500]
    _, headers, body = fetch(server, f"/{name}?list-type=2&encoding-type=url&max-keys=1&prefix=a+b")
    start, _, rest = body.partition(b"<LastModified>")
    assert start == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Name>%b</Name><Prefix>a+b</Prefix><KeyCount>1</KeyCount><MaxKeys>1</MaxKeys>"
        b"<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
        b"<Contents><Key>a+b%%2Bc%%7E*/%%C3%%A9</Key>" % name.encode()
    )
    size = int(rest.partition(b"<Size>")[2].partition(b"<")[0])
    etag = md5_of(content[:size]).encode()
    assert rest.partition(b"<ETag>")[2] == (
        b"&quot;%b&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        b"<ChecksumType>FULL_OBJECT</ChecksumType><Size>%d</Size>"
        b"<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>" % (etag, size)
    )
    assert headers["server"] == "SyntheticS3"
    assert headers["content-type"] == "application/xml"
    assert headers["content-length"] == str(len(body))
    assert len(headers["x-amz-request-id"]) == 16

    _, _, versions = fetch(server, f"/{name}?versions&max-keys=1")
    assert b"<Key>a b+c~*/\xc3\xa9</Key><VersionId>" in versions
    assert b"</VersionId><IsLatest>true</IsLatest><LastModified>2024-01-01T" in versions
    assert b"<NextKeyMarker>a b+c~*/\xc3\xa9</NextKeyMarker><NextVersionIdMarker>" in versions


def test_raw_keys_are_escaped_for_xml(server: SyntheticS3) -> None:
    server.load("hostile", HOSTILE)
    _, _, body = fetch(server, "/hostile?list-type=2")
    assert b"EncodingType" not in body
    for written in (b"&lt;&amp;&gt;&quot;'", b"x&#x1;y", b"x&#x1f;y", b"return&#xd;", b"a%20b"):
        assert b"<Key>%b</Key>" % written in body


# --- objects -------------------------------------------------------------------------------------


def test_an_object_comes_back(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    put = s3.put_object(
        Bucket=name, Key="a b/ü+%", Body=b"0123456789", ContentType="text/x", Metadata={"k": "v"}
    )
    etag = f'"{md5_of(b"0123456789")}"'
    assert put["ETag"] == etag
    assert "VersionId" not in put
    got = s3.get_object(Bucket=name, Key="a b/ü+%", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"0123456789"
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("text/x", {"k": "v"}, etag)
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
    head = s3.head_object(Bucket=name, Key="a b/ü+%", IfMatch=etag)
    assert (head["ContentLength"], head["ETag"]) == (10, etag)
    for wanted, expected in (("2-4", b"234"), ("7-", b"789"), ("-3", b"789"), ("8-99", b"89")):
        part = s3.get_object(Bucket=name, Key="a b/ü+%", Range=f"bytes={wanted}")
        assert (part["Body"].read(), part["ContentRange"][-3:]) == (expected, "/10")
    listed = s3.list_objects_v2(Bucket=name)["Contents"]
    assert [(row["Key"], row["Size"], row["ETag"]) for row in listed] == [("a b/ü+%", 10, etag)]


def test_what_is_not_there_is_an_error(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("NoSuchBucket", lambda: s3.list_objects_v2(Bucket="no-such-bucket")),
        ("NoSuchBucket", lambda: s3.put_object(Bucket="no-such-bucket", Key="k")),
        ("NoSuchKey", lambda: s3.get_object(Bucket=name, Key="missing")),
        ("404", lambda: s3.head_object(Bucket=name, Key="missing")),
        ("404", lambda: s3.head_bucket(Bucket="no-such-bucket")),
        ("NoSuchVersion", lambda: s3.get_object(Bucket=name, Key="k", VersionId="0" * 32)),
        ("InvalidArgument", lambda: s3.get_object(Bucket=name, Key="k", VersionId="what")),
        ("PreconditionFailed", lambda: s3.get_object(Bucket=name, Key="k", IfMatch='"0"')),
        ("PreconditionFailed", lambda: s3.put_object(Bucket=name, Key="k", IfNoneMatch="*")),
        ("InvalidRange", lambda: s3.get_object(Bucket=name, Key="k", Range="bytes=5-")),
        ("BadDigest", lambda: s3.put_object(Bucket=name, Key="k", Body=b"y", ContentMD5="AAAA")),
        ("KeyTooLongError", lambda: s3.put_object(Bucket=name, Key="k" * 1025)),
        ("BucketAlreadyOwnedByYou", lambda: s3.create_bucket(Bucket=name)),
        ("InvalidBucketName", lambda: s3.create_bucket(Bucket="no.")),
        ("BucketNotEmpty", lambda: s3.delete_bucket(Bucket=name)),
        ("NotImplemented", lambda: s3.get_bucket_acl(Bucket=name)),
        ("NotImplemented", lambda: s3.create_multipart_upload(Bucket=name, Key="k")),
        ("NotImplemented", lambda: s3.copy_object(Bucket=name, Key="l", CopySource=f"{name}/k")),
    ]
    for code, call in refused:
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code


def test_buckets_come_and_go(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    assert name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    s3.put_object(Bucket=name, Key="k")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_object(Bucket=name, Key="never was")
    s3.delete_bucket(Bucket=name)
    assert name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_versions_and_delete_markers(server: SyntheticS3, s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"before")
    set_versioning(s3, name, "Enabled")
    first = s3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    gone = s3.delete_object(Bucket=name, Key="k")
    assert gone["DeleteMarker"] is True
    assert keys_on(by_token(s3, name)) == []
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=name, Key="k")
    with pytest.raises(ClientError, match="MethodNotAllowed"):
        s3.get_object(Bucket=name, Key="k", VersionId=gone["VersionId"])
    second = s3.put_object(Bucket=name, Key="k", Body=b"22")["VersionId"]
    s3.put_object(Bucket=name, Key="l", Body=b"l")

    _, _, body = fetch(server, f"/{name}?versions&prefix=k")
    places = [
        body.index(f"<VersionId>{one}</VersionId>".encode())
        for one in (second, gone["VersionId"], first, "null")
    ]
    assert places == sorted(places)
    assert body.count(b"<Version>") == 3
    assert body.count(b"<DeleteMarker>") == 1
    assert body.count(b"<IsLatest>true") == 1
    assert [page["IsTruncated"] for page in by_version(s3, name, MaxKeys=1)] == [True] * 4 + [False]
    assert s3.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1"
    assert s3.get_object(Bucket=name, Key="k", VersionId="null")["Body"].read() == b"before"
    assert s3.head_object(Bucket=name, Key="k")["VersionId"] == second

    s3.delete_object(Bucket=name, Key="k", VersionId=second)
    assert keys_on(by_token(s3, name)) == [b"l"]
    removed = s3.delete_object(Bucket=name, Key="k", VersionId=gone["VersionId"])
    assert removed["DeleteMarker"] is True
    assert s3.get_object(Bucket=name, Key="k")["VersionId"] == first

    set_versioning(s3, name, "Suspended")
    assert s3.put_object(Bucket=name, Key="k", Body=b"after")["VersionId"] == "null"
    versions = s3.list_object_versions(Bucket=name, Prefix="k")["Versions"]
    assert [(one["VersionId"], one["Size"]) for one in versions] == [("null", 5), (first, 1)]
    assert s3.delete_object(Bucket=name, Key="k")["VersionId"] == "null"
    listing = s3.list_object_versions(Bucket=name, Prefix="k")
    assert [one["VersionId"] for one in listing["Versions"]] == [first]
    assert [one["VersionId"] for one in listing["DeleteMarkers"]] == ["null"]


def test_deleting_many(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    set_versioning(s3, name, "Enabled")
    ids = {key: s3.put_object(Bucket=name, Key=key)["VersionId"] for key in ("a", "b&b", "c")}
    wanted = [{"Key": "a"}, {"Key": "b&b", "VersionId": ids["b&b"]}, {"Key": "c", "VersionId": "?"}]
    result = s3.delete_objects(Bucket=name, Delete={"Objects": wanted})
    assert [one["Key"] for one in result["Deleted"]] == ["a", "b&b"]
    assert result["Deleted"][0]["DeleteMarker"] is True
    assert [(one["Key"], one["Code"]) for one in result["Errors"]] == [("c", "InvalidArgument")]
    assert keys_on(by_token(s3, name)) == [b"c"]


def test_streamed_uploads_arrive_whole(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    body = bytes(range(256)) * 2000
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 2000)"],
        stdout=subprocess.PIPE,
    ) as producer:
        s3.upload_fileobj(producer.stdout, name, "piped")
    assert s3.get_object(Bucket=name, Key="piped")["Body"].read() == body
    assert "ContentEncoding" not in s3.head_object(Bucket=name, Key="piped")


@pytest.mark.parametrize("versioned", [False, True])
def test_a_generated_bucket_takes_edits(
    server: SyntheticS3, s3: Any, name: str, *, versioned: bool
) -> None:
    truth = keys("hex", 1200)
    server.load(name, "hex", 1200, versioned=versioned)
    list(by_token(s3, name))
    for key in truth[100:110]:
        s3.delete_object(Bucket=name, Key=key.decode())
    s3.put_object(Bucket=name, Key="000", Body=b"new")
    s3.put_object(Bucket=name, Key=truth[500].decode(), Body=b"changed")
    expected = [b"000", *truth[:100], *truth[110:]]
    listed = [row for page in by_token(s3, name) for row in page["Contents"]]
    assert [row["Key"].encode() for row in listed] == expected
    sizes = {row["Key"].encode(): row["Size"] for row in listed}
    assert (sizes[b"000"], sizes[truth[500]]) == (3, 7)
    pages = list(by_version(s3, name))
    markers = [one["Key"].encode() for page in pages for one in page.get("DeleteMarkers", [])]
    assert markers == (truth[100:110] if versioned else [])
    versions = keys_on(iter(pages))
    assert len(versions) == (1202 if versioned else 1191)
    untouched = s3.get_object(Bucket=name, Key=truth[0].decode(), ChecksumMode="ENABLED")
    content = untouched["Body"].read()  # botocore checks it against the checksum
    assert untouched["ETag"].strip('"') == md5_of(content)
    assert "ChecksumCRC32" in untouched
    assert len(content) == sizes[truth[0]]


# --- the process ---------------------------------------------------------------------------------


def test_requests_are_counted_and_take_their_time(server: SyntheticS3, name: str) -> None:
    server.load(name, "hex", 10)
    server.reset_counters(name)
    server.latency(300)
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda _: fetch(server, f"/{name}?list-type=2")[0], range(4))
        assert list(statuses) == [200] * 4
    assert time.monotonic() - started >= 0.3
    server.latency(0)
    fetch(server, f"/{name}/missing", "HEAD")
    fetch(server, f"/{name}?versions")
    counters = server.counters(name)
    assert counters.requests == {"ListObjectsV2": 4, "HeadObject": 1, "ListObjectVersions": 1}
    assert counters.max_in_flight == 4
    server.reset_counters(name)
    assert server.counters(name).requests == {}


def test_the_command_line_and_its_end() -> None:
    options = {"buckets": {"big": "runs:1200", "empty": ""}, "versioned": ["big", "kept"]}
    with SyntheticS3(access_key="right", **options) as server:  # type: ignore[arg-type]
        s3 = client_of(server)
        assert keys_on(by_version(s3, "big")) == keys("runs", 1200)
        assert keys_on(by_token(s3, "empty")) == []
        assert s3.get_bucket_versioning(Bucket="kept")["Status"] == "Enabled"
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            client_of(server, access_key="wrong").list_objects_v2(Bucket="big")
        pid = server.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("how", ["stdin", signal.SIGTERM, signal.SIGINT])
def test_it_stops(how: str | signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "indexer.testing.synthetic_s3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert b"endpoint_url" in process.stdout.readline()
        if isinstance(how, signal.Signals):
            process.send_signal(how)
        else:
            process.stdin.close()
        assert process.wait(5) == 0


def test_it_stops_when_its_parent_is_gone() -> None:
    parent = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'indexer.testing.synthetic_s3'],"
        " stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "sys.stdout.write(str(child.pid)); sys.stdout.flush()\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, check=True)
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(int(done.stdout), 0)
            time.sleep(0.05)
