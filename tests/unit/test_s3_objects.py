"""What headers tell of an object, and bodies that come drop by drop."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from deploy.s3_server import S3Server
from indexer.errors import StoreUnavailable
from indexer.keyspace import Key
from indexer.objects import Checksum, Head, Pin
from indexer.protocols import S3Options
from indexer.sources import parse_source
from indexer.stores import s3_objects
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import connect
from indexer.stores.s3_objects import CHECKSUMS, checksum_of, head_of
from indexer.telemetry import Counters
from indexer.testing.store_suite import Bytes
from tests.conftest import MakeBucket

ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
LEAST = {"ETag": ETAG, "Content-Length": "7"}


def told(**headers: str) -> Head:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return head_of(CIMultiDict({**LEAST, **named}), checksum=True)


# --- headers -------------------------------------------------------------------------------------


def test_what_is_not_told_is_not_made_up() -> None:
    assert head_of(CIMultiDict(LEAST)) == Head(
        size=7, etag="d41d8cd98f00b204e9800998ecf8427e", storage_class="STANDARD"
    )


def test_everything_that_is_told() -> None:
    head = told(
        ETag='W/"weak"',
        Last_Modified="Wed, 21 Oct 2015 07:28:00 GMT",
        x_amz_version_id="3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
        x_amz_storage_class="GLACIER",
    )
    assert head.etag == 'W/"weak"'
    assert head.last_modified == datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert head.version_id == "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"
    assert head.storage_class == "GLACIER"


def test_the_version_called_null_is_no_version() -> None:
    assert told(x_amz_version_id="null").version_id is None


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_an_answer_that_tells_nothing(missing: str) -> None:
    with pytest.raises(ValueError):
        head_of(CIMultiDict({name: text for name, text in LEAST.items() if name != missing}))


@given(st.dictionaries(
    st.sampled_from([
        "ETag", "Content-Length", "Last-Modified", "x-amz-version-id", "x-amz-storage-class",
        "x-amz-checksum-type", *(f"x-amz-checksum-{name}" for name in CHECKSUMS),
    ]),
    st.text(max_size=40) | st.sampled_from(["12", "YWJj-3", "Wed, 21 Oct 2015 07:28:00 GMT"]),
))  # fmt: skip
def test_any_headers_give_a_head_or_are_refused(headers: Mapping[str, str]) -> None:
    try:
        head = head_of(CIMultiDict(headers), checksum=True)
    except ValueError:
        return
    assert head.etag is not None
    assert head.size == int(headers["Content-Length"]) >= 0
    assert head.version_id != "null"


# --- checksums -----------------------------------------------------------------------------------


def test_the_strongest_checksum_of_the_whole_object_is_told() -> None:
    texts = {f"x-amz-checksum-{name}": b64encode(name.encode()).decode() for name in CHECKSUMS}
    for name in CHECKSUMS:
        assert checksum_of(CIMultiDict(texts)) == Checksum(name, name.encode())
        del texts[f"x-amz-checksum-{name}"]
    assert checksum_of(CIMultiDict(texts)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-sha256": "YWJj-3"},
        {"x-amz-checksum-sha256": "YWJj-12", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-sha256": "YWJj", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-sha256": "YWJj-3", "x-amz-checksum-crc32": "eHl6-3"},
    ],
)
def test_a_checksum_of_parts_says_so(headers: dict[str, str]) -> None:
    assert checksum_of(CIMultiDict(headers)) == Checksum("sha256", b"abc", "composite")


def test_one_of_the_whole_comes_before_a_stronger_one_of_parts() -> None:
    headers = {"x-amz-checksum-sha256": "YWJj-3", "x-amz-checksum-crc64nvme": "eHl6"}
    assert checksum_of(CIMultiDict(headers)) == Checksum("crc64nvme", b"xyz")


def test_a_checksum_is_told_only_when_asked_for() -> None:
    headers = CIMultiDict({**LEAST, "x-amz-checksum-crc32": "AAAAAA=="})
    assert head_of(headers).checksum is None
    assert head_of(headers, checksum=True).checksum == Checksum("crc32", b"\0\0\0\0")


async def test_checksums_of_minio(
    minio: S3Server,
    bucket: MakeBucket,
    s3_client: Callable[[S3Server], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, client, body = bucket(minio), s3_client(minio), b"some bytes"
    client.put_object(Bucket=name, Key="crc", Body=body, ChecksumAlgorithm="CRC32")
    client.put_object(Bucket=name, Key="sha", Body=body, ChecksumAlgorithm="SHA256")
    client.put_object(Bucket=name, Key="none", Body=body)
    upload = client.create_multipart_upload(
        Bucket=name, Key="parts", ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE"
    )["UploadId"]
    of_upload = {"Bucket": name, "Key": "parts", "UploadId": upload}
    part = client.upload_part(**of_upload, PartNumber=1, Body=body, ChecksumAlgorithm="SHA256")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    client.complete_multipart_upload(**of_upload, MultipartUpload={"Parts": parts})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    options = S3Options(endpoint_url=minio.endpoint_url, region=minio.region)
    async with connect(options, MemoryFacts(), Counters()) as connection:
        store = (await connection.open(parse_source(f"s3://{name}"))).store

        async def checksum(key: bytes) -> Checksum | None:
            return (await store.head(Key(key), checksum=True)).checksum

        digest = hashlib.sha256(body).digest()
        assert await checksum(b"sha") == Checksum("sha256", digest)
        assert await checksum(b"crc") == Checksum("crc32", zlib.crc32(body).to_bytes(4, "big"))
        of_parts = hashlib.sha256(digest).digest()
        assert await checksum(b"parts") == Checksum("sha256", of_parts, "composite")
        assert (await store.head(Key(b"sha"))).checksum is None


# --- bodies --------------------------------------------------------------------------------------


async def test_a_body_that_only_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_objects, "REQUEST_TIMEOUT_S", 0.2)
    head = f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: 5000\r\n\r\n".encode()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = S3Options(endpoint_url=f"http://127.0.0.1:{port}", no_sign_request=True)
        async with connect(options, MemoryFacts(), Counters()) as connection:
            objects = s3_objects.S3Objects(connection._caller, "bucket", "")
            sink = Bytes()
            with pytest.raises(StoreUnavailable, match=r"s3://bucket/key: the server sent \d+ byt"):
                await asyncio.wait_for(
                    objects.read(Key(b"key"), Pin(5_000, ETAG.strip('"')), sink), 10
                )
    assert 0 < len(sink.data) < 1_000
