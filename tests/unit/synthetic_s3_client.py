"""A plain client of the synthetic S3 server for its tests: fetches, and every way of paging."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from indexer.testing.synthetic_s3 import SyntheticS3

CONFIG = Config(retries={"total_max_attempts": 1}, read_timeout=5, connect_timeout=5)


def client_of(server: SyntheticS3, **options: Any) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=options.pop("access_key", server.access_key),
        aws_secret_access_key=server.secret_key,
        region_name=options.pop("region", server.region),
    )
    options.setdefault("config", CONFIG)
    return session.client("s3", endpoint_url=server.endpoint_url, **options)


def fetch(
    server: SyntheticS3, path: str, method: str = "GET", *, authorization: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with names in lower case, and body of a plain request."""
    address = urlsplit(server.endpoint_url)
    assert address.hostname
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    try:
        headers = {"Authorization": authorization} if authorization else {}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return response.status, received, response.read()
    finally:
        connection.close()


def set_versioning(s3: Any, bucket: str, status: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def by_token(s3: Any, bucket: str, **options: Any) -> Iterator[dict[str, Any]]:
    page = s3.list_objects_v2(Bucket=bucket, **options)
    yield page
    while page["IsTruncated"]:
        token = page["NextContinuationToken"]
        page = s3.list_objects_v2(Bucket=bucket, ContinuationToken=token, **options)
        yield page


def by_start_after(s3: Any, bucket: str, **options: Any) -> Iterator[dict[str, Any]]:
    page = s3.list_objects_v2(Bucket=bucket, **options)
    yield page
    while page["IsTruncated"]:
        last = page["Contents"][-1]["Key"]
        page = s3.list_objects_v2(Bucket=bucket, StartAfter=last, **options)
        yield page


def by_marker(s3: Any, bucket: str, **options: Any) -> Iterator[dict[str, Any]]:
    page = s3.list_objects(Bucket=bucket, **options)
    yield page
    while page["IsTruncated"]:
        last = page.get("NextMarker") or page["Contents"][-1]["Key"]
        page = s3.list_objects(Bucket=bucket, Marker=last, **options)
        yield page


def by_version(s3: Any, bucket: str, **options: Any) -> Iterator[dict[str, Any]]:
    page = s3.list_object_versions(Bucket=bucket, **options)
    yield page
    while page["IsTruncated"]:
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if "NextVersionIdMarker" in page:
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]
        page = s3.list_object_versions(Bucket=bucket, **markers, **options)
        yield page


def keys_on(pages: Iterator[dict[str, Any]]) -> list[bytes]:
    return [
        row["Key"].encode()
        for page in pages
        for row in page.get("Contents", []) + page.get("Versions", [])
    ]


Paging = Callable[..., Iterator[dict[str, Any]]]
PAGINGS = [by_token, by_start_after, by_marker, by_version]
