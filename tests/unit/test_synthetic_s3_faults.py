"""The faults of the synthetic S3 server: each is seen by a client just as it is described."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from indexer.testing.synthetic_s3 import SyntheticS3
from indexer.testing.synthetic_s3.page_faults import MINIO_MARKER
from tests.unit.synthetic_s3_client import (
    CONFIG,
    PAGINGS,
    Paging,
    by_marker,
    by_start_after,
    by_token,
    by_version,
    client_of,
    fetch,
    keys_on,
    set_versioning,
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


@pytest.fixture
def faulty(server: SyntheticS3, name: str) -> tuple[str, list[bytes]]:
    """A bucket of 250 keys, 83 in each of three directories, and the keys."""
    truth = [b"%b/%04d" % (folder, number) for folder in (b"a", b"b", b"c") for number in range(83)]
    server.load(name, [*truth, b"d"])
    return name, [*truth, b"d"]


Faulty = tuple[str, list[bytes]]


def test_no_fault_is_left_behind(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], deny_versions=True, page_keys_max=10)
    server.faults(faulty[0])
    assert keys_on(by_version(s3, faulty[0])) == faulty[1]
    assert server.counters(faulty[0]).faults == {}


@pytest.mark.parametrize("paging", PAGINGS)
def test_short_pages(server: SyntheticS3, s3: Any, faulty: Faulty, paging: Paging) -> None:
    lengths = []
    for _ in range(2):
        server.faults(faulty[0], short_pages=True, page_keys_max=30, seed=3)
        pages = list(paging(s3, faulty[0]))
        assert keys_on(iter(pages)) == faulty[1]
        lengths.append([len(keys_on(iter([page]))) for page in pages])
    assert len(set(lengths[0])) > 5
    assert max(lengths[0]) <= 30
    assert lengths[0] == lengths[1], "the same seed gives the same pages"
    assert server.counters(faulty[0]).faults == {"short_pages": len(lengths[1])}


@pytest.mark.parametrize("paging", [by_token, by_marker, by_version])
def test_empty_truncated_pages(
    server: SyntheticS3, s3: Any, faulty: Faulty, paging: Paging
) -> None:
    server.faults(faulty[0], empty_page_every=2, page_keys_max=50)
    pages = list(paging(s3, faulty[0]))
    assert keys_on(iter(pages)) == faulty[1]
    empty = [page for page in pages if not keys_on(iter([page]))]
    assert len(empty) == 4
    assert all(page["IsTruncated"] for page in empty)
    marks = [
        page.get("NextContinuationToken") or page.get("NextMarker") or page.get("NextKeyMarker")
        for page in pages[:-1]
    ]
    assert None in marks or len(set(marks)) == len(pages) - 1


def test_shuffled_pages(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], order="shuffle")
    listed = keys_on(by_token(s3, faulty[0], MaxKeys=100))
    assert listed != faulty[1]
    assert [sorted(listed[start : start + 100]) for start in (0, 100, 200)] == [
        faulty[1][start : start + 100] for start in (0, 100, 200)
    ]


@pytest.mark.parametrize("paging", PAGINGS)
def test_keys_swapped_over_a_boundary(
    server: SyntheticS3, s3: Any, faulty: Faulty, paging: Paging
) -> None:
    server.faults(faulty[0], order="swap")
    listed = keys_on(paging(s3, faulty[0], MaxKeys=100))
    expected = list(faulty[1])
    for last in (99, 199):
        expected[last : last + 2] = reversed(expected[last : last + 2])
    assert listed == expected
    assert server.counters(faulty[0]).faults == {"swap": 2}


def test_the_same_page_for_ever(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], repeat_page=True)
    for paging in PAGINGS:
        for page in itertools.islice(paging(s3, faulty[0], MaxKeys=100), 4):
            assert keys_on(iter([page])) == faulty[1][:100]


def test_too_many_keys_on_a_page(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], extra_keys=1)
    pages = list(by_start_after(s3, faulty[0], MaxKeys=100))
    assert [len(page["Contents"]) for page in pages] == [101, 101, 48]
    assert keys_on(iter(pages)) == faulty[1]
    server.load(faulty[0], "flat", 1100)
    _, _, body = fetch(server, f"/{faulty[0]}?list-type=2")
    assert body.count(b"<Contents>") == 1001


def test_a_silent_stop(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], silent_stop_keys=100, operations=["ListObjectVersions"])
    assert keys_on(by_version(s3, faulty[0])) == faulty[1][:100]
    assert keys_on(by_token(s3, faulty[0])) == faulty[1]
    assert server.counters(faulty[0]).faults == {"silent_stop_keys": 1}


def test_start_after_ignored(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], ignore_start_after=True)
    page = s3.list_objects_v2(Bucket=faulty[0], StartAfter="c", MaxKeys=100)
    assert keys_on(iter([page])) == faulty[1][:100]
    page = s3.list_object_versions(Bucket=faulty[0], KeyMarker="c", MaxKeys=100)
    assert keys_on(iter([page])) == faulty[1][:100]
    assert keys_on(by_token(s3, faulty[0], MaxKeys=100)) == faulty[1]
    assert keys_on(by_version(s3, faulty[0], MaxKeys=100)) == faulty[1]


def test_encoding_ignored(server: SyntheticS3, name: str) -> None:
    server.load(name, [b"a b&c"])
    server.faults(name, ignore_encoding=True)
    _, _, body = fetch(server, f"/{name}?list-type=2&encoding-type=url&prefix=a%20b")
    assert b"<Key>a b&amp;c</Key>" in body
    assert b"<Prefix>a b</Prefix>" in body
    assert b"EncodingType" not in body


def test_a_server_without_the_second_listing(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], lack_v2=True)
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.list_objects_v2(Bucket=faulty[0])
    assert keys_on(by_marker(s3, faulty[0], MaxKeys=100)) == faulty[1]
    assert server.counters(faulty[0]).faults == {"lack_v2": 1}


def test_the_second_listing_answered_as_the_first(
    server: SyntheticS3, s3: Any, faulty: Faulty
) -> None:
    server.faults(faulty[0], ignore_list_type=True)
    for asked in ({}, {"StartAfter": "c"}, {"ContinuationToken": "abc"}):
        page = s3.list_objects_v2(Bucket=faulty[0], MaxKeys=100, **asked)
        assert keys_on(iter([page])) == faulty[1][:100]
        assert "KeyCount" not in page
        assert "NextContinuationToken" not in page
    _, _, body = fetch(server, f"/{faulty[0]}?list-type=2")
    assert b"<Marker></Marker>" in body


def test_markers_apart_and_inclusive(server: SyntheticS3, s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    set_versioning(s3, name, "Enabled")
    for key in "abc":
        s3.put_object(Bucket=name, Key=key)
        s3.delete_object(Bucket=name, Key=key)
    server.faults(name, markers_apart=True, inclusive_markers=True)
    _, _, body = fetch(server, f"/{name}?versions")
    assert body.rindex(b"<Version>") < body.index(b"<DeleteMarker>")
    page = s3.list_object_versions(Bucket=name, KeyMarker="b")
    assert [row["Key"] for row in page["Versions"]] == ["b", "c"]
    page = s3.list_object_versions(Bucket=name, MaxKeys=3)
    assert (page["NextKeyMarker"], len(page["Versions"])) == ("b", 1)
    pages = by_version(s3, name, MaxKeys=3)
    assert sorted(keys_on(pages)) == [b"a", b"b", b"c"]


def test_lies_and_disorder_within_a_page(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], key_count_offset=-3, shuffle_elements=True, seed=1)
    page = s3.list_objects_v2(Bucket=faulty[0], MaxKeys=5)
    assert page["KeyCount"] == 2
    assert keys_on(iter([page])) == faulty[1][:5]
    _, _, body = fetch(server, f"/{faulty[0]}?list-type=2&max-keys=20")
    assert 0 < body.count(b"<Contents><Key>") < 20
    assert body.count(b"<ETag>&quot;") == 20


def test_what_is_denied(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], deny_versions=True, deny_anonymous=True)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_object_versions(Bucket=faulty[0])
    assert s3.list_objects_v2(Bucket=faulty[0])["KeyCount"] == 250
    anonymous = client_of(server, config=CONFIG.merge(Config(signature_version=UNSIGNED)))
    with pytest.raises(ClientError, match="AccessDenied"):
        anonymous.list_objects_v2(Bucket=faulty[0])
    server.faults(faulty[0], deny_prefix="b/")
    assert anonymous.list_objects_v2(Bucket=faulty[0], Prefix="a/")["KeyCount"] == 83
    for options in ({"Prefix": "b/0"}, {"StartAfter": "a/0070"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.list_objects_v2(Bucket=faulty[0], **options)
    assert s3.list_objects_v2(Bucket=faulty[0], StartAfter="b/1")["KeyCount"] == 84


def code_of(call: Any, **parameters: Any) -> str:
    """The code that a call is refused with; a HEAD tells the status alone."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_objects_that_are_denied(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], deny_objects="b/")
    denied, allowed = ({"Bucket": faulty[0], "Key": key} for key in ("b/0001", "a/0001"))
    assert code_of(s3.get_object, **denied) == "AccessDenied"
    assert code_of(s3.head_object, **denied) == "403"
    assert s3.head_object(**allowed)["ContentLength"] > 0
    assert keys_on(by_token(s3, faulty[0])) == faulty[1]
    assert server.counters(faulty[0]).faults == {"deny_objects": 2}


def test_credentials_that_expire(server: SyntheticS3, faulty: Faulty) -> None:
    server.faults(faulty[0], expired_key="old")
    asked = {"Bucket": faulty[0], "Key": "d"}
    assert code_of(client_of(server, access_key="old").get_object, **asked) == "ExpiredToken"
    assert client_of(server, access_key="new").get_object(**asked)["ContentLength"] > 0
    assert server.counters(faulty[0]).faults == {"expired_key": 1}


def test_a_clock_that_is_ahead(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    asked = {"Bucket": faulty[0], "Key": "d"}
    server.faults(faulty[0], clock_ahead_s=600)
    dates = [s3.head_object(**asked)["ResponseMetadata"]["HTTPHeaders"]["date"]]
    server.faults(faulty[0], clock_ahead_s=-3600)
    assert code_of(s3.get_object, **asked) == "RequestTimeTooSkewed"
    dates.append(fetch(server, f"/{faulty[0]}/d")[1]["date"])
    ahead, behind = map(parsedate_to_datetime, dates)
    assert 4150 < (ahead - behind).total_seconds() < 4250
    assert server.counters(faulty[0]).faults == {"clock": 1}


def test_an_answer_that_drips(server: SyntheticS3, faulty: Faulty) -> None:
    server.faults(faulty[0], drip_every=2)
    address = urlsplit(server.endpoint_url)
    fetch(server, f"/{faulty[0]}/d")
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as raw:
        raw.sendall(f"GET /{faulty[0]}/d HTTP/1.1\r\n\r\n".encode())
        pieces = [raw.recv(100) for _ in range(10)]
    assert b"".join(pieces).startswith(b"HTTP/1.1 ")
    assert len(b"".join(pieces)) < 20
    assert server.counters(faulty[0]).faults == {"drip": 1}


def test_errors_first_and_by_chance(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], error_first=2, retry_after_s=1)
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            s3.list_objects_v2(Bucket=faulty[0])
        response = caught.value.response
        assert response["Error"]["Code"] == "SlowDown"
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert s3.list_objects_v2(Bucket=faulty[0])["KeyCount"] == 250
    runs = []
    for _ in range(2):
        server.faults(faulty[0], error_probability=0.5, error_code="TooManyRequests", seed=5)
        runs.append([fetch(server, f"/{faulty[0]}?max-keys=1")[0] for _ in range(20)])
    assert set(runs[0]) == {200, 429}
    assert runs[0] == runs[1], "the same seed strikes the same requests"


def test_bodies_cut_short_and_errors_in_disguise(server: SyntheticS3, faulty: Faulty) -> None:
    path = f"/{faulty[0]}?list-type=2"
    whole = fetch(server, path)[2]
    server.faults(faulty[0], truncate_body_every=2, error_body_every=3)
    assert fetch(server, path)[2] == whole
    status, headers, body = fetch(server, path)
    assert (status, body) == (200, whole[: len(whole) // 2])
    assert headers["content-length"] == str(len(body))
    status, _, body = fetch(server, path)
    assert status == 200
    assert b"<Error><Code>InternalError</Code>" in body
    assert server.counters(faulty[0]).faults == {"truncate_body": 1, "error_body": 1}


def test_a_reset_and_a_stall(server: SyntheticS3, faulty: Faulty) -> None:
    request = f"GET /{faulty[0]}?list-type=2 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    address = urlsplit(server.endpoint_url)
    server.faults(faulty[0], reset_every=1)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(request)
        received = 0
        with pytest.raises(ConnectionResetError):
            while data := connection.recv(1 << 20):
                received += len(data)
    assert received > 30_000
    server.faults(faulty[0], stall_every=1)
    with socket.create_connection((address.hostname, address.port), timeout=0.3) as connection:
        connection.sendall(request)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_versions_oldest_first(server: SyntheticS3, s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name)
    set_versioning(s3, name, "Enabled")
    ids = [s3.put_object(Bucket=name, Key="k")["VersionId"] for _ in range(5)]
    s3.put_object(Bucket=name, Key="l")
    for oldest_first, expected in ((False, ids[::-1]), (True, ids)):
        server.faults(name, versions_oldest_first=oldest_first)
        for size in (2, 1000):
            pages = list(by_version(s3, name, MaxKeys=size))
            versions = [one for page in pages for one in page["Versions"]]
            assert [one["VersionId"] for one in versions[:-1]] == expected
            assert next(one["VersionId"] for one in versions if one["IsLatest"]) == ids[-1]


def test_markers_like_minio(server: SyntheticS3, s3: Any, faulty: Faulty) -> None:
    server.faults(faulty[0], minio_markers=True)
    pages = list(by_version(s3, faulty[0], MaxKeys=100))
    assert pages[0]["NextKeyMarker"].encode() == faulty[1][99] + MINIO_MARKER
    assert keys_on(iter(pages)) == faulty[1]
    after_last = s3.list_object_versions(Bucket=faulty[0], KeyMarker=faulty[1][-2].decode())
    assert keys_on(iter([after_last])) == faulty[1][-1:]


@pytest.mark.parametrize(
    ("status", "code"),
    [(301, "PermanentRedirect"), (307, "TemporaryRedirect"), (400, "AuthorizationHeaderMalformed")],
)
def test_a_bucket_of_another_region(
    server: SyntheticS3, faulty: Faulty, status: int, code: str
) -> None:
    server.faults(faulty[0], redirect_region="eu-west-3", redirect_status=status)
    at_home = client_of(server, region="eu-west-3")
    assert at_home.list_objects_v2(Bucket=faulty[0])["KeyCount"] == 250
    assert at_home.get_bucket_location(Bucket=faulty[0])["LocationConstraint"] == "eu-west-3"
    assert server.counters(faulty[0]).faults == {}
    signed = "AWS4-HMAC-SHA256 Credential=k/20250101/us-east-1/s3/aws4_request, Signature=0"
    answer = fetch(server, f"/{faulty[0]}?list-type=2", authorization=signed)
    assert (answer[0], answer[1]["x-amz-bucket-region"]) == (status, "eu-west-3")
    assert f"<Error><Code>{code}</Code>".encode() in answer[2]
    assert b"<Region>eu-west-3</Region>" in answer[2]
    assert server.counters(faulty[0]).faults == {"redirect": 1}
    stranger = client_of(server)
    assert stranger.list_objects_v2(Bucket=faulty[0])["KeyCount"] == 250, "botocore follows"


def test_faults_that_do_not_exist(server: SyntheticS3, faulty: Faulty) -> None:
    with pytest.raises(TypeError):
        server.faults(faulty[0], no_such_fault=1)
    for options in ({"error_probability": 2.0}, {"empty_page_every": 1}, {"error_code": "What"}):
        with pytest.raises(ValueError, match=r"error_prob|empty_page|What"):
            server.faults(faulty[0], **options)
    for bad in ([b"b", b"a"], [b"a", b"a"], [b""], [b"k" * 1025]):
        with pytest.raises(ValueError, match=r"ascend|no key"):
            server.load(faulty[0], bad)
