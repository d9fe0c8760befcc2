"""Calls that steer the server itself, below `/_control`, a path that no bucket can have.

    PUT    /_control/buckets/NAME            {"keys": [base64, ...], "versioned": false}, or
                                             {"shape": "hex", "count": 1000, "seed": 7, ...}
    PUT    /_control/buckets/NAME/faults     the fields of `Faults`; those left out are off
    GET    /_control/buckets/NAME/counters   {"requests": {"HeadObject": 3, ...},
                                              "max_in_flight": 8, "faults": {"error": 1, ...}}
    DELETE /_control/buckets/NAME/counters   from zero again
    PUT    /_control/latency                 {"latency_ms": 200, "sigma": 0.25, "seed": 7}

Loading renders the listing ahead, which takes some seconds a million keys, during which nothing
else is answered. Answers are JSON; a call that is wrong is told why in `{"error": ...}`, with
status 400.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import msgspec

from indexer.testing.keysets import SEED, keys
from indexer.testing.synthetic_s3.blocks import Style
from indexer.testing.synthetic_s3.errors import ERRORS, S3Error
from indexer.testing.synthetic_s3.faults import Faults, Injector
from indexer.testing.synthetic_s3.render import rows_of
from indexer.testing.synthetic_s3.router import KEY_BYTES_MAX, Answer, Latency, Router
from indexer.testing.synthetic_s3.state import Bucket, Buckets
from indexer.testing.synthetic_s3.wire import Request, Response

PATH = "/_control/"


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generated objects of a bucket: given keys, ascending, or so many of a shape."""

    keys: tuple[bytes, ...] = ()
    shape: str = ""
    count: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: int = SEED
    versioned: bool = False


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket has seen since it was first named or its counters were last reset."""

    requests: dict[str, int]
    """By operation, such as `ListObjectsV2`, refused ones included."""

    max_in_flight: int
    """The most requests that waited for an answer at the same time."""

    faults: dict[str, int]
    """How often each fault struck."""


class LatencySetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long listings take."""

    latency_ms: Annotated[float, msgspec.Meta(ge=0)]
    sigma: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    seed: int = SEED


def answer_of(router: Router, request: Request) -> Answer:
    """What to answer to a request, be it a control call or one to S3."""
    return control(router, request) if request.path.startswith(PATH) else router.answer(request)


def control(router: Router, request: Request) -> Answer:
    """Do what a control call asks."""
    try:
        status, value = 200, _obey(router, request)
    except (ValueError, S3Error) as error:  # msgspec's validation errors are ValueErrors
        status, value = 400, {"error": str(error)}
    headers = (("Content-Type", "application/json"),)
    response = Response(status, headers, [msgspec.json.encode(value)])
    return Answer(response, 0.0, "whole", done=lambda: None)


def load_bucket(buckets: Buckets, name: str, load: Load) -> Bucket:
    """Make a bucket and render the listing that its kind is asked for.

    Raises ValueError for keys that are none or do not ascend, S3Error for the name.
    """
    loaded = keys(load.shape, load.count, load.seed) if load.shape else load.keys
    for key in loaded:
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise ValueError(f"{key!r} is no key: it has {len(key)} bytes")
    if any(later <= earlier for earlier, later in pairwise(loaded)):
        raise ValueError("the keys do not ascend strictly")
    bucket = buckets.load(name, loaded, versioned=load.versioned)
    for number in range(len(bucket.blocks)):
        rows_of(bucket, bucket.blocks[number], Style(versions=load.versioned, url=True))
    return bucket


def _obey(router: Router, request: Request) -> Any:
    """Raises ValueError or S3Error."""
    match (request.method, request.path.removeprefix(PATH).split("/")):
        case ("PUT", ["latency"]):
            setting = msgspec.json.decode(request.body, type=LatencySetting)
            router.latency = Latency(setting.latency_ms / 1000, setting.sigma, setting.seed)
            return {}
        case ("PUT", ["buckets", name]):
            bucket = load_bucket(router.buckets, name, msgspec.json.decode(request.body, type=Load))
            return {"keys": bucket.blocks.key_count()}
        case ("PUT", ["buckets", name, "faults"]):
            faults = msgspec.json.decode(request.body, type=Faults)
            if faults.error_code not in ERRORS:
                raise ValueError(f"{faults.error_code!r} is no error code of this server")
            router.watch(name).injector = Injector(faults)
            return {}
        case ("GET", ["buckets", name, "counters"]):
            watch = router.watch(name)
            return Counters(
                requests=dict(watch.requests),
                max_in_flight=watch.max_in_flight,
                faults=dict(watch.injector.struck),
            )
        case ("DELETE", ["buckets", name, "counters"]):
            router.watch(name).reset()
            return {}
        case _:
            raise ValueError(f"{request.method} {request.path} is no control call")
