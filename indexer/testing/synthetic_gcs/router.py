"""From a request to its answer: which call of the JSON API it is, and what faults do to it.

Invariants
  * Deciding is synchronous and does no I/O; waiting and sending come after, elsewhere.
  * Every request that names a bucket is counted for it, refused ones too, and is in flight from
    here until `Answer.done` is called, once.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from indexer.testing.synthetic_gcs.faults import Faults, Injector
from indexer.testing.synthetic_gcs.listing import Denied, InvalidParameter, list_objects
from indexer.testing.synthetic_gcs.state import Bucket, Generation
from indexer.testing.synthetic_s3.router import Answer, Latency
from indexer.testing.synthetic_s3.watch import Watch
from indexer.testing.synthetic_s3.wire import Request, Response

NAME_BYTES_MAX = 1024

_ROOT = "/storage/v1/b"
_UPLOAD = "/upload/storage/v1/b/"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_JSON = ("Content-Type", "application/json; charset=UTF-8")
_REASONS = {
    400: "invalid", 401: "authError", 403: "forbidden", 404: "notFound", 409: "conflict",
    416: "requestedRangeNotSatisfiable", 429: "rateLimitExceeded",
}  # fmt: skip


class ApiError(Exception):
    """A request is refused."""

    def __init__(self, status: int, message: str = "", *, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason or _REASONS.get(status, "backendError")
        self.message = message or self.reason


@dataclass(frozen=True, slots=True)
class _Call:
    operation: str
    bucket: str
    key: bytes
    parameters: Mapping[str, str]
    request: Request


class Router:
    """Everything about the server that is not the network."""

    def __init__(self, *, latency: Latency) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.latency = latency
        self._watches: dict[str, Watch[Injector]] = {}

    def watch(self, bucket: str) -> Watch[Injector]:
        """What is known of a bucket's name."""
        return self._watches.setdefault(bucket, Watch(Injector(Faults())))

    def answer(self, request: Request) -> Answer:
        """What to answer to a request of the JSON API."""
        watch, operation = Watch(Injector(Faults())), ""
        try:
            call = _parse(request)
            operation = call.operation
            watch = self.watch(call.bucket)
            watch.begin(operation)
            response = self._handle(call, watch.injector)
        except ApiError as error:
            response = _failure(error)
            faults = watch.injector.touching(operation)
            if faults.retry_after:
                response = _with(response, ("Retry-After", faults.retry_after))
            if faults.error_body:
                response = replace(response, body=[faults.error_body.encode()])
        delivery, instead = watch.injector.delivery(operation)
        if instead == "garbage":
            response = Response(200, (("Content-Type", "text/html"),), [b"<html>Welcome</html>"])
        elif instead == "error_body":
            response = replace(_failure(ApiError(503, "try later")), status=200)
        return Answer(
            response=_with(response, ("Date", formatdate(time.time(), usegmt=True))),
            delay_s=self.latency.draw_s() if operation == "list" else 0.0,
            delivery=delivery,
            done=watch.end,
        )

    def _handle(self, call: _Call, injector: Injector) -> Response:
        faults = injector.touching(call.operation)
        if faults.redirect_to:
            return Response(302, (("Location", faults.redirect_to),))
        _refuse(call, faults, injector)
        if call.operation == "insertBucket":
            return self._insert_bucket(call)
        bucket = self.buckets.get(call.bucket)
        if bucket is None:
            raise ApiError(404, "The specified bucket does not exist.")
        if call.operation == "list":
            try:
                body = list_objects(bucket, call.parameters, injector)
            except InvalidParameter as error:
                raise ApiError(400, f"Invalid argument: {error}") from error
            except Denied as error:
                raise ApiError(403, "somebody does not have storage.objects.list access") from error
            return Response(200, (_JSON,), [body])
        return _HANDLERS[call.operation](bucket, call, faults)

    def _insert_bucket(self, call: _Call) -> Response:
        document = json.loads(call.request.body)
        name = document["name"]
        if name in self.buckets:
            raise ApiError(409, "You already own this bucket.")
        versioned = document.get("versioning", {}).get("enabled", False)
        self.buckets[name] = Bucket(name, versioned)
        return _document({"name": name})


def _parse(request: Request) -> _Call:
    try:
        parameters = dict(parse_qsl(request.query, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as error:
        raise ApiError(400, "the query is not UTF-8") from error

    def call(operation: str, bucket: str = "", key: bytes = b"") -> _Call:
        if len(key) > NAME_BYTES_MAX:
            raise ApiError(400, "The maximum object length is 1024 characters.")
        return _Call(operation, unquote_to_bytes(bucket).decode(), key, parameters, request)

    method = request.method
    if method == "POST" and request.path.startswith(_UPLOAD):
        bucket = request.path.removeprefix(_UPLOAD).partition("/")[0]
        return call("insert", bucket, parameters.get("name", "").encode())
    match method, request.path.removeprefix(_ROOT).split("/")[1:]:
        case "POST", []:
            return call("insertBucket")
        case (("GET" | "PATCH"), [bucket]):
            return call("bucket" if method == "GET" else "patchBucket", bucket)
        case "GET", [bucket, "o"]:
            return call("list", bucket)
        case "GET", [bucket, "o", key]:
            is_media = parameters.get("alt") == "media"
            return call("media" if is_media else "get", bucket, unquote_to_bytes(key))
        case "DELETE", [bucket, "o", key]:
            return call("delete", bucket, unquote_to_bytes(key))
        case "POST", [bucket, "o", key, "compose"]:
            return call("compose", bucket, unquote_to_bytes(key))
    raise ApiError(404, f"{method} {request.path} is no call that is known here")


def _refuse(call: _Call, faults: Faults, injector: Injector) -> None:
    """Raises ApiError if the request is to be refused before it is served."""
    number = injector.count()
    given = call.request.headers.get("authorization", "")
    if faults.token and given != f"Bearer {faults.token}":
        injector.struck["token"] += 1
        raise ApiError(401, "Invalid Credentials")
    if faults.unauthorized_after and number > faults.unauthorized_after:
        injector.struck["unauthorized"] += 1
        raise ApiError(401, "Invalid Credentials")
    if number <= faults.error_first:
        injector.struck["error"] += 1
        raise ApiError(faults.error_status, "not now", reason=faults.error_reason)
    denied_key = faults.deny_prefix and call.key.startswith(faults.deny_prefix.encode())
    if call.operation in faults.deny or denied_key:
        injector.struck["deny"] += 1
        raise ApiError(403, f"somebody does not have storage.{call.operation} access")
    if faults.requester_pays and not call.parameters.get("userProject"):
        message = "Bucket is a requester pays bucket but no user project provided."
        raise ApiError(400, message, reason="required")


def _get_bucket(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    return _document(
        {
            "kind": "storage#bucket",
            "name": bucket.name,
            "location": "SYNTHETIC1",
            "versioning": {"enabled": bucket.versioned},
        }
    )


def _patch_bucket(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    bucket.versioned = json.loads(call.request.body)["versioning"]["enabled"]
    return _get_bucket(bucket, call, faults)


def _insert(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    if not call.key or call.key in (b".", b"..") or b"\n" in call.key or b"\r" in call.key:
        raise ApiError(400, f"Disallowed unicode characters or name {call.key!r}")
    encoding = call.parameters.get("contentEncoding", "")
    made = bucket.put(call.key, call.request.body, _now_ms(), encoding=encoding)
    return _document(made.document(bucket.name, call.key))


def _compose(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    names = [one["name"].encode() for one in json.loads(call.request.body)["sourceObjects"]]
    parts = [_found(bucket, name, None).content for name in names]
    made = bucket.put(call.key, b"".join(parts), _now_ms(), is_composite=True)
    return _document(made.document(bucket.name, call.key))


def _delete(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    _found(bucket, call.key, None)
    bucket.delete(call.key, _now_ms())
    return Response(204)


def _get(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    found = _found(bucket, call.key, call.parameters.get("generation"))
    return _document(found.document(bucket.name, call.key))


def _media(bucket: Bucket, call: _Call, faults: Faults) -> Response:
    found = _found(bucket, call.key, call.parameters.get("generation"))
    headers = call.request.headers
    takes_gzip = "gzip" in headers.get("accept-encoding", "")
    body, is_unpacked = found.sent(takes_gzip=takes_gzip)
    told = [
        ("X-Goog-Generation", str(found.number)),
        ("X-Goog-Stored-Content-Length", str(len(found.content))),
        ("X-Goog-Stored-Content-Encoding", found.encoding or "identity"),
    ]
    if found.encoding and not is_unpacked:
        told.append(("Content-Encoding", found.encoding))
    if faults.pack_for_the_way and takes_gzip and not found.encoding:
        return Response(200, (*told, ("Content-Encoding", "gzip")), [gzip.compress(body)])
    match = _RANGE.fullmatch(headers.get("range", ""))
    if not match or is_unpacked or faults.ignore_range:
        return Response(200, tuple(told), [body])
    start, size = int(match[1]), len(body)
    if start >= size:
        raise ApiError(416, "The requested range cannot be satisfied.")
    end = min(int(match[2] or size), size - 1)
    told.append(("Content-Range", f"bytes {start}-{end}/{size}"))
    return Response(206, tuple(told), [body[start : end + 1]])


def _found(bucket: Bucket, key: bytes, generation: str | None) -> Generation:
    if generation is None:
        found = bucket.live(key)
    else:
        found = next((g for g in bucket.generations(key) if str(g.number) == generation), None)
    if found is None:
        raise ApiError(404, f"No such object: {bucket.name}/{key.decode('utf-8', 'replace')}")
    return found


_HANDLERS: Mapping[str, Callable[[Bucket, _Call, Faults], Response]] = {
    "bucket": _get_bucket,
    "patchBucket": _patch_bucket,
    "insert": _insert,
    "compose": _compose,
    "delete": _delete,
    "get": _get,
    "media": _media,
}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _document(document: dict[str, Any]) -> Response:
    return Response(200, (_JSON,), [json.dumps(document).encode()])


def _failure(error: ApiError) -> Response:
    detail = {"message": error.message, "domain": "global", "reason": error.reason}
    document = {"error": {"code": error.status, "message": error.message, "errors": [detail]}}
    return replace(_document(document), status=error.status)


def _with(response: Response, *headers: tuple[str, str]) -> Response:
    return replace(response, headers=(*response.headers, *headers))
