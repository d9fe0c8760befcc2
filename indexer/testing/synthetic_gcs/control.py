"""Calls that steer the server itself, in the words of `synthetic_s3.control`.

    PUT    /_control/buckets/NAME            its `Load`
    PUT    /_control/buckets/NAME/faults     the fields of `Faults`; those left out are off
    GET    /_control/buckets/NAME/counters   its `Counters`, by operation: list, get, media, bucket
    DELETE /_control/buckets/NAME/counters   from zero again
    PUT    /_control/latency                 its `LatencySetting`

Invariants
  * Answers are JSON; a call that is wrong is told why in `{"error": ...}`, with status 400.
"""

from __future__ import annotations

from typing import Any

import msgspec

from indexer.testing.keysets import keys
from indexer.testing.synthetic_gcs.faults import Faults, Injector
from indexer.testing.synthetic_gcs.router import Router
from indexer.testing.synthetic_gcs.state import Bucket
from indexer.testing.synthetic_s3.control import PATH, Counters, LatencySetting, Load
from indexer.testing.synthetic_s3.router import Answer, Latency
from indexer.testing.synthetic_s3.wire import Request, Response


def answer_of(router: Router, request: Request) -> Answer:
    """What to answer to a request, be it a control call or one of the JSON API."""
    if not request.path.startswith(PATH):
        return router.answer(request)
    try:
        status, value = 200, _obey(router, request)
    except ValueError as error:  # msgspec's validation errors are some
        status, value = 400, {"error": str(error)}
    headers = (("Content-Type", "application/json"),)
    response = Response(status, headers, [msgspec.json.encode(value)])
    return Answer(response, 0.0, "whole", done=lambda: None)


def load_bucket(router: Router, name: str, load: Load) -> None:
    """Makes a bucket of generated objects. Raises ValueError for keys that do not ascend."""
    loaded = keys(load.shape, load.count, load.seed) if load.shape else load.keys
    if sorted(set(loaded)) != list(loaded):
        raise ValueError("the keys do not ascend strictly")
    router.buckets[name] = Bucket.of_keys(name, loaded, versioned=load.versioned)


def _obey(router: Router, request: Request) -> Any:
    match (request.method, request.path.removeprefix(PATH).split("/")):
        case ("PUT", ["latency"]):
            setting = msgspec.json.decode(request.body, type=LatencySetting)
            router.latency = Latency(setting.latency_ms / 1000, setting.sigma, setting.seed)
            return {}
        case ("PUT", ["buckets", name]):
            load_bucket(router, name, msgspec.json.decode(request.body, type=Load))
            return {}
        case ("PUT", ["buckets", name, "faults"]):
            faults = msgspec.json.decode(request.body, type=Faults)
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
    raise ValueError(f"{request.method} {request.path} is no control call")
