"""The operations on buckets and objects, other than listings: from a request to its answer.

Invariants
  * Nothing is changed by an operation that raises.
  * What S3 has and this server has not (multipart uploads, copies, tags, access lists, ...) is
    refused as NotImplemented, never ignored.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from xml.etree import ElementTree as ET

from indexer.testing.synthetic_s3.errors import S3Error
from indexer.testing.synthetic_s3.render import OWNER_ID, document, element, iso_time
from indexer.testing.synthetic_s3.state import Bucket, Buckets, Version, check_version_id
from indexer.testing.synthetic_s3.wire import Response

DELETE_KEYS_MAX = 1000

_CHECKSUM_HEADER = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)")
_KEPT_HEADER = re.compile(
    r"x-amz-meta-.*|content-type|content-encoding|content-language|content-disposition"
    r"|cache-control|expires"
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_XML_HEADERS = (("Content-Type", "application/xml"),)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to S3, taken apart."""

    operation: str
    bucket: str
    key: bytes
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""

    body: bytes


def list_buckets(buckets: Buckets, call: Call) -> Response:
    """All buckets, by name."""
    rows = b"".join(
        element(
            "Bucket",
            element("Name", bucket.name) + element("CreationDate", iso_time(bucket.created_s)),
        )
        for bucket in buckets.all()
    )
    parts = (element("Owner", element("ID", OWNER_ID)), element("Buckets", rows))
    return xml_response(document(b"ListAllMyBucketsResult", parts))


def create_bucket(buckets: Buckets, call: Call) -> Response:
    """A new bucket, not versioned."""
    bucket = buckets.create(call.bucket)
    return Response(headers=(("Location", f"/{bucket.name}"),))


def head_bucket(buckets: Buckets, call: Call) -> Response:
    """Whether a bucket exists."""
    buckets.get(call.bucket)
    return Response()


def delete_bucket(buckets: Buckets, call: Call) -> Response:
    """Remove a bucket without keys."""
    buckets.remove(call.bucket)
    return Response(204)


def get_bucket_versioning(buckets: Buckets, call: Call) -> Response:
    """Whether versioning is enabled, suspended or was never on."""
    status = buckets.get(call.bucket).versioning
    return xml_response(document(b"VersioningConfiguration", (element("Status", status or None),)))


def put_bucket_versioning(buckets: Buckets, call: Call) -> Response:
    """Enable or suspend versioning."""
    bucket = buckets.get(call.bucket)
    status = _parse_xml(call.body).findtext("{*}Status")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("MalformedXML")
    bucket.versioning = status
    return Response()


def put_object(buckets: Buckets, call: Call) -> Response:
    """Write an object; `If-None-Match: *` keeps one that is there."""
    bucket = buckets.get(call.bucket)
    if "x-amz-copy-source" in call.headers:
        raise S3Error("NotImplemented")
    if call.headers.get("if-none-match") == "*" and _newest(bucket, call.key) is not None:
        raise S3Error("PreconditionFailed", details=(("Condition", "If-None-Match"),))
    stated_md5 = call.headers.get("content-md5")
    if stated_md5 is not None and stated_md5 != _md5_base64(call.body):
        raise S3Error("BadDigest")
    version = bucket.put(
        call.key,
        call.body,
        now_s=buckets.now_s(),
        checksum=_stated_checksum(call.headers),
        headers=tuple(
            (name, value) for name, value in call.headers.items() if _KEPT_HEADER.fullmatch(name)
        ),
    )
    return Response(
        headers=(
            ("ETag", f'"{version.etag}"'),
            *_checksum_headers(version),
            *_version_headers(bucket, version),
        )
    )


def get_object(buckets: Buckets, call: Call) -> Response:
    """Content, or a range of it, of the newest or a named version."""
    bucket, version = _readable(buckets, call)
    headers = _object_headers(bucket, version, call)
    start, stop, is_part = _parse_range(call.headers.get("range"), len(version.content))
    if not is_part:
        return Response(headers=headers, body=[version.content])
    content_range = ("Content-Range", f"bytes {start}-{stop - 1}/{len(version.content)}")
    body: list[bytes | memoryview] = [memoryview(version.content)[start:stop]]
    return Response(206, (*headers, content_range), body)


def head_object(buckets: Buckets, call: Call) -> Response:
    """What GetObject would say before the content."""
    bucket, version = _readable(buckets, call)
    return Response(headers=_object_headers(bucket, version, call), length=len(version.content))


def delete_object(buckets: Buckets, call: Call) -> Response:
    """Delete a key, which a versioned bucket only marks, or one version for good."""
    bucket = buckets.get(call.bucket)
    return Response(204, _delete(buckets, bucket, call.key, call.parameters.get("versionId")))


def delete_objects(buckets: Buckets, call: Call) -> Response:
    """DeleteObject for up to 1,000 keys and versions."""
    bucket = buckets.get(call.bucket)
    root = _parse_xml(call.body)
    is_quiet = root.findtext("{*}Quiet") == "true"
    wanted = [
        (item.findtext("{*}Key") or "", item.findtext("{*}VersionId"))
        for item in root.iterfind("{*}Object")
    ]
    if not 0 < len(wanted) <= DELETE_KEYS_MAX:
        raise S3Error("MalformedXML")
    return xml_response(
        document(b"DeleteResult", _deletions(buckets, bucket, wanted, is_quiet=is_quiet))
    )


def xml_response(body: list[bytes | memoryview]) -> Response:
    """A document as an answer."""
    return Response(headers=_XML_HEADERS, body=body)


def _deletions(
    buckets: Buckets, bucket: Bucket, wanted: list[tuple[str, str | None]], *, is_quiet: bool
) -> Iterator[bytes]:
    for key, wanted_id in wanted:
        named = element("Key", key) + element("VersionId", wanted_id)
        try:
            headers = dict(_delete(buckets, bucket, key.encode(), wanted_id))
        except S3Error as error:
            said = element("Code", error.code) + element("Message", error.message)
            yield element("Error", named + said)
            continue
        if is_quiet:
            continue
        marker = element("DeleteMarker", headers.get("x-amz-delete-marker"))
        marker_id = headers.get("x-amz-version-id") if marker else None
        yield element("Deleted", named + marker + element("DeleteMarkerVersionId", marker_id))


def _delete(
    buckets: Buckets, bucket: Bucket, key: bytes, wanted_id: str | None
) -> tuple[tuple[str, str], ...]:
    """Delete a key or one version; the headers that tell what became of it."""
    if wanted_id is None:
        marker = bucket.delete(key, now_s=buckets.now_s())
        return _version_headers(bucket, marker) if marker is not None else ()
    gone = bucket.delete_version(key, wanted_id)
    marked = gone is not None and gone.is_delete_marker
    return (
        ("x-amz-version-id", wanted_id),
        *((("x-amz-delete-marker", "true"),) if marked else ()),
    )


def _readable(buckets: Buckets, call: Call) -> tuple[Bucket, Version]:
    """The version that a GET or HEAD asks for, its conditions met."""
    bucket = buckets.get(call.bucket)
    named = (("Key", call.key.decode()),)
    wanted_id = call.parameters.get("versionId")
    if wanted_id is None:
        versions = bucket.versions(call.key)
        if not versions:
            raise S3Error("NoSuchKey", details=named)
        version = versions[0]
        if version.is_delete_marker:
            raise S3Error("NoSuchKey", headers=_version_headers(bucket, version), details=named)
    else:
        check_version_id(wanted_id)
        matching = [one for one in bucket.versions(call.key) if one.version_id == wanted_id]
        if not matching:
            raise S3Error("NoSuchVersion", details=(*named, ("VersionId", wanted_id)))
        version = matching[0]
        if version.is_delete_marker:
            headers = (*_version_headers(bucket, version), ("Allow", "DELETE"))
            raise S3Error("MethodNotAllowed", headers=headers, details=(("Method", "GET"),))
    if not _matches(call.headers.get("if-match", "*"), version):
        raise S3Error("PreconditionFailed", details=(("Condition", "If-Match"),))
    return bucket, version


def _newest(bucket: Bucket, key: bytes) -> Version | None:
    """What a plain GET would see."""
    versions = bucket.versions(key)
    return versions[0] if versions and not versions[0].is_delete_marker else None


def _matches(condition: str, version: Version) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in condition.split(",")}
    return bool(tags & {"*", version.etag})


def _object_headers(bucket: Bucket, version: Version, call: Call) -> tuple[tuple[str, str], ...]:
    kept = version.headers
    if not any(name == "content-type" for name, _ in kept):
        kept = (*kept, ("Content-Type", "binary/octet-stream"))
    # The checksum is of the whole object, so a part of it comes without.
    is_checked = call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    wants_checksum = is_checked and "range" not in call.headers
    return (
        ("Last-Modified", formatdate(version.modified_s, usegmt=True)),
        ("ETag", f'"{version.etag}"'),
        ("Accept-Ranges", "bytes"),
        *(_checksum_headers(version) if wants_checksum else ()),
        *_version_headers(bucket, version),
        *kept,
    )


def _version_headers(bucket: Bucket, version: Version) -> tuple[tuple[str, str], ...]:
    marked = (("x-amz-delete-marker", "true"),) if version.is_delete_marker else ()
    return (*marked, ("x-amz-version-id", version.version_id)) if bucket.versioning else marked


def _checksum_headers(version: Version) -> tuple[tuple[str, str], ...]:
    if version.checksum is None:
        return ()
    algorithm, value = version.checksum
    return (
        (f"x-amz-checksum-{algorithm.lower()}", value),
        ("x-amz-checksum-type", "FULL_OBJECT"),
    )


def _stated_checksum(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The checksum that the uploader sent along, believed as it is."""
    for name, value in headers.items():
        match = _CHECKSUM_HEADER.fullmatch(name)
        if match is not None:
            return match[1].upper(), value
    return None


def _parse_range(text: str | None, size: int) -> tuple[int, int, bool]:
    """First byte, the one after the last, and whether a part was asked for."""
    match = _RANGE.fullmatch(text or "")
    if match is None or match[0] == "bytes=-":  # as AWS: what is no range asks for everything
        return 0, size, False
    first, last = match[1], match[2]
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size or (first and last and int(last) < start):
        headers = (("Content-Range", f"bytes */{size}"),)
        raise S3Error("InvalidRange", headers=headers, details=(("ActualObjectSize", str(size)),))
    return start, stop, True


def _parse_xml(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError as error:
        raise S3Error("MalformedXML") from error


def _md5_base64(body: bytes) -> str:
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
