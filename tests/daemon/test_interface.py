"""The interface as it is documented: complete, readable, and true of what the daemon answers.

Schemathesis makes requests of the OpenAPI document, right and wrong ones, and holds each answer
against it: its status is documented, its body is of the documented form, no answer is a failure of
the daemon, and what the document forbids is refused.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from openapi_spec_validator import validate
from schemathesis import Case

from indexer.daemon.openapi import PARAMETERS, document_of
from indexer.daemon.operations import OPERATIONS
from indexer.daemon.pages import docs_page
from indexer.remote import SHARD_TYPE
from indexer.testing.commits import FIRST, SECOND, make_request, manifest_of
from indexer.testing.synthetic_s3 import SyntheticS3
from tests.conftest import IS_CI
from tests.daemon.daemons import running_daemon

DOCUMENT: dict[str, Any] = json.loads(document_of(OPERATIONS))
EXAMPLES = 40 if IS_CI else 10

STREAMS = {operation.path for operation in OPERATIONS if operation.is_stream}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon with an artifact of two versions, on a loop of its own in another thread."""
    started: Future[str] = Future()
    stop = threading.Event()

    async def run(s3: SyntheticS3, data: Path) -> None:
        async with running_daemon(data, s3) as (found, app):
            for shard in (FIRST, SECOND):
                await app.tracker.put_shard(shard.ref.digest, shard.data)
            await app.tracker.commit(make_request(manifest_of(FIRST), aliases=["best"]))
            expect = manifest_of(FIRST).digest
            await app.tracker.commit(make_request(manifest_of(SECOND), expect=expect))
            started.set_result(found)
            while not stop.is_set():
                await asyncio.sleep(0.05)

    with SyntheticS3() as s3:
        data = tmp_path_factory.mktemp("interface") / "data"
        thread = threading.Thread(target=lambda: asyncio.run(run(s3, data)))
        thread.start()
        try:
            yield started.result(timeout=30)
        finally:
            stop.set()
            thread.join()


CHECKS = {
    # What no form tells (the rules for names of buckets, where an alias is) is refused all the
    # same; `test_requests` looks at that.
    "positive_data_acceptance": {"enabled": False},
    # What is too long may be too large first.
    "negative_data_rejection": {
        "expected-statuses": ["400", "404", "405", "409", "412", "413", "415", "422"]
    },
}

schemathesis.serializer.alias(SHARD_TYPE, "application/octet-stream")

schema = schemathesis.openapi.from_dict(
    DOCUMENT, config=schemathesis.Config.from_dict({"checks": CHECKS})
)


@schema.exclude(path=sorted(STREAMS)).parametrize()
@hypothesis.settings(max_examples=EXAMPLES, deadline=None)
def test_answers_are_as_documented(case: Case[Any], url: str) -> None:
    case.call_and_validate(base_url=url)


# --- the document


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_operation_is_documented() -> None:
    said = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert said == {(operation.method, operation.path) for operation in OPERATIONS}
    names = [each["operationId"] for ms in DOCUMENT["paths"].values() for each in ms.values()]
    assert len(names) == len(set(names))


def test_every_parameter_is_used() -> None:
    assert set(PARAMETERS) == {name for one in OPERATIONS for name in one.parameters}


def test_the_page_shows_everything_and_needs_nothing() -> None:
    page = docs_page(document_of(OPERATIONS)).decode()
    for operation in OPERATIONS:
        assert f"<code>{operation.method} {operation.path}</code>" in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f"id='schema-{name}'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "src=" not in page
