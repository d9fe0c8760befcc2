"""From a request to its answer: which operation it is, whether it may, and what faults do to it.

Invariants
  * Deciding is synchronous and does no I/O; waiting and sending come after, elsewhere.
  * Every request that names a bucket is counted for it, refused ones too, and is in flight from
    here until `Answer.done` is called, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import formatdate
from random import Random
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote_to_bytes

from indexer.testing.synthetic_s3 import operations
from indexer.testing.synthetic_s3.errors import S3Error
from indexer.testing.synthetic_s3.faults import (
    LIST_OPERATIONS,
    Asked,
    Delivery,
    Faults,
    Injector,
)
from indexer.testing.synthetic_s3.listing import list_page
from indexer.testing.synthetic_s3.operations import Call, xml_response
from indexer.testing.synthetic_s3.queries import parse_query
from indexer.testing.synthetic_s3.render import DECLARATION, NAMESPACE, error_document
from indexer.testing.synthetic_s3.state import Buckets
from indexer.testing.synthetic_s3.watch import Watch
from indexer.testing.synthetic_s3.wire import Request, Response

KEY_BYTES_MAX = 1024
REGION = "us-east-1"

Handler = Callable[[Buckets, Call], Response]

_CREDENTIAL = re.compile(r"Credential=([^/,]*)/[0-9]{8}/([^/,]*)/")
_BUCKET_OPERATIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("GET", "location"): "GetBucketLocation",
        ("GET", "versioning"): "GetBucketVersioning",
        ("GET", "versions"): "ListObjectVersions",
        ("GET", "list-type"): "ListObjectsV2",
        ("GET", ""): "ListObjects",
        ("PUT", "versioning"): "PutBucketVersioning",
        ("PUT", ""): "CreateBucket",
        ("HEAD", ""): "HeadBucket",
        ("DELETE", ""): "DeleteBucket",
        ("POST", "delete"): "DeleteObjects",
    }
)
_OBJECT_OPERATIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("GET", ""): "GetObject",
        ("HEAD", ""): "HeadObject",
        ("PUT", ""): "PutObject",
        ("DELETE", ""): "DeleteObject",
    }
)
_SUBRESOURCES = frozenset({name for _, name in _BUCKET_OPERATIONS if name}) | {
    *("accelerate", "acl", "analytics", "attributes", "cors", "encryption"),
    *("intelligent-tiering", "inventory", "legal-hold", "lifecycle", "logging", "metrics"),
    *("notification", "object-lock", "ownershipControls", "policy", "policyStatus"),
    *("publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select"),
    *("session", "tagging", "torrent", "uploadId", "uploads", "website"),
}
"""Parameters that make a request another operation; all others are options or mean nothing."""

_HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "ListBuckets": operations.list_buckets,
        "CreateBucket": operations.create_bucket,
        "HeadBucket": operations.head_bucket,
        "DeleteBucket": operations.delete_bucket,
        "GetBucketVersioning": operations.get_bucket_versioning,
        "PutBucketVersioning": operations.put_bucket_versioning,
        "PutObject": operations.put_object,
        "GetObject": operations.get_object,
        "HeadObject": operations.head_object,
        "DeleteObject": operations.delete_object,
        "DeleteObjects": operations.delete_objects,
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, when it is to leave, and how."""

    response: Response
    delay_s: float
    delivery: Delivery
    done: Callable[[], None]
    """To be called once the answer has left or never will."""


class Latency:
    """How long listings take: a fixed time, or log-normal around that median."""

    def __init__(self, median_s: float = 0.0, sigma: float = 0.0, seed: int = 7) -> None:
        assert median_s >= 0
        assert sigma >= 0
        self._median_s = median_s
        self._sigma = sigma
        self._chance = Random(seed)

    def draw_s(self) -> float:
        if self._sigma == 0:
            return self._median_s
        return self._median_s * math.exp(self._chance.gauss(0.0, self._sigma))


class Router:
    """Everything about the server that is not the network."""

    def __init__(self, buckets: Buckets, *, latency: Latency, access_key: str | None) -> None:
        """`access_key`: the only one that is accepted; None accepts all."""
        self.buckets = buckets
        self.latency = latency
        self._access_key = access_key
        self._watches: dict[str, Watch[Injector]] = {}
        self._request_number = 0

    def watch(self, bucket_name: str) -> Watch[Injector]:
        return self._watches.setdefault(bucket_name, Watch(Injector(Faults())))

    def answer(self, request: Request) -> Answer:
        """What to answer to a request to S3."""
        self._request_number += 1
        request_id = f"{self._request_number:016X}"
        # For requests that name no bucket, or nothing that can be understood.
        watch = Watch(Injector(Faults()))
        operation = ""
        try:
            call = _parse(request)
            operation = call.operation
            watch = self.watch(call.bucket) if call.bucket else watch
            watch.begin(operation)
            response = self._handle(call, watch.injector)
        except S3Error as error:
            response = _error_response(request, error, request_id)
        delivery = watch.injector.delivery(operation)
        if delivery == "error_body":
            internal = S3Error("InternalError")
            response = replace(_error_response(request, internal, request_id), status=200)
        return Answer(
            response=self._finished(request, response, request_id, watch.injector),
            delay_s=self.latency.draw_s() if operation in LIST_OPERATIONS else 0.0,
            delivery=delivery,
            done=watch.end,
        )

    def _handle(self, call: Call, injector: Injector) -> Response:
        """Raises S3Error."""
        access_key, region = _credential(call)
        if self._access_key is not None and access_key not in (None, self._access_key):
            raise S3Error("InvalidAccessKeyId", details=(("AWSAccessKeyId", access_key or ""),))
        injector.refuse(
            Asked(
                operation=call.operation,
                key=call.key,
                prefix=call.parameters.get("prefix", ""),
                access_key=access_key,
                region=region,
                ahead_s=_ahead_s(call, self.buckets.now_s()),
            )
        )
        home = injector.touching(call.operation).redirect_region
        if call.operation in LIST_OPERATIONS:
            bucket = self.buckets.get(call.bucket)
            query = parse_query(self._answered(call, injector), call.bucket, call.parameters)
            response = xml_response(list_page(bucket, query, injector))
        elif call.operation == "GetBucketLocation":
            self.buckets.get(call.bucket)
            tag = b"<LocationConstraint %b>%b</LocationConstraint>"
            response = xml_response([DECLARATION, tag % (NAMESPACE, home.encode())])
        else:
            response = _HANDLERS[call.operation](self.buckets, call)
        if call.operation in LIST_OPERATIONS or call.operation == "HeadBucket":
            region_header = ("x-amz-bucket-region", home or REGION)
            response = replace(response, headers=(*response.headers, region_header))
        return response

    @staticmethod
    def _answered(call: Call, injector: Injector) -> str:
        """The listing that is answered, which may be an older one."""
        is_v2 = call.operation == "ListObjectsV2"
        if is_v2 and injector.touching(call.operation).ignore_list_type:
            injector.struck["ignore_list_type"] += 1
            return "ListObjects"
        return call.operation

    def _finished(
        self, request: Request, response: Response, request_id: str, injector: Injector
    ) -> Response:
        """The response with the headers that every one has, and without a body for HEAD."""
        now_s = self.buckets.now_s() + injector.faults.clock_ahead_s
        headers = (
            ("x-amz-id-2", "synthetic"),
            ("x-amz-request-id", request_id),
            ("Date", formatdate(now_s, usegmt=True)),
            *response.headers,
            ("Server", "SyntheticS3"),
        )
        if request.method == "HEAD":
            return Response(response.status, headers, [], response.length or 0)
        return Response(response.status, headers, response.body)


def _parse(request: Request) -> Call:
    """Take a request apart. Raises S3Error."""
    bucket, _, encoded_key = request.path[1:].partition("/")
    key = unquote_to_bytes(encoded_key)
    try:
        key.decode()
        parameters = dict(parse_qsl(request.query, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI") from error
    if len(key) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", details=(("MaxSizeAllowed", str(KEY_BYTES_MAX)),))
    operation = _operation(request.method, bucket, key, parameters)
    return Call(operation, bucket, key, parameters, request.headers, request.body)


def _operation(method: str, bucket: str, key: bytes, parameters: Mapping[str, str]) -> str:
    """The name of the operation. Raises S3Error."""
    if not bucket:
        if method != "GET" or key:
            raise S3Error("MethodNotAllowed")
        return "ListBuckets"
    asked = [name for name in parameters if name in _SUBRESOURCES]
    known = _OBJECT_OPERATIONS if key else _BUCKET_OPERATIONS
    operation = known.get((method, asked[0] if asked else ""))
    if operation is None or len(asked) > 1:
        raise S3Error("NotImplemented" if asked else "MethodNotAllowed")
    if operation == "ListObjectsV2" and parameters["list-type"] != "2":
        raise S3Error("InvalidArgument", details=(("ArgumentName", "list-type"),))
    return operation


def _credential(call: Call) -> tuple[str | None, str | None]:
    """Access key and region that the request is signed with; None and None if it is not."""
    match = _CREDENTIAL.search(call.headers.get("authorization", ""))
    if match is not None:
        return match[1], match[2]
    match call.parameters.get("X-Amz-Credential", "").split("/"):
        case [access_key, _, region, _, _]:
            return access_key, region
        case _:
            return None, None


def _ahead_s(call: Call, now_s: float) -> float | None:
    """How far the time of a signature is ahead, None if there is none to be read."""
    try:
        signed_at = datetime.strptime(call.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%S%z")
    except ValueError:
        return None
    return signed_at.timestamp() - now_s


def _error_response(request: Request, error: S3Error, request_id: str) -> Response:
    document = error_document(error, resource=request.path, request_id=request_id)
    headers = (*error.headers, ("Content-Type", "application/xml"))
    return Response(error.status, headers, [document])
