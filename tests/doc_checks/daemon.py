"""Checks of what is said of the daemon."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from indexer import errors
from indexer.daemon import problems
from indexer.daemon.metrics import Metrics
from indexer.daemon.operations import OPERATIONS
from indexer.records import Amount, GarbageKind, GarbageReport
from indexer.telemetry import Totals
from indexer.wire.artifacts import EntryPage
from indexer.wire.diff import DiffDocument
from indexer.wire.jobs import JobDocument
from indexer.wire.problems import Problem, status_of
from indexer.wire.query import QueryDocument
from tests.doc_checks.check import Checks, Complaints, differences
from tests.documents import (
    HTTP,
    Documents,
    blocks,
    codes,
    table,
)


def operations_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "What can be asked")
    said = [(row[0], row[1].strip("`"), row[2]) for row in rows]
    true = [(each.method, each.path, ", ".join(map(str, each.answers))) for each in OPERATIONS]
    yield from differences("operations", sorted(said), sorted(true))


def problems_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "Problems")
    said = [(row[0].strip("`"), int(row[1]), row[2]) for row in rows]
    yield from differences("problems", sorted(said), sorted(set(all_problems())))
    yield from (f"{row[0]} does not say what to do" for row in rows if not row[3])


def all_problems() -> Iterator[tuple[str, int, str]]:
    """Code, status, and whether to try again, of whatever the daemon may answer with."""
    found = [*vars(errors).values(), *vars(problems).values()]
    kinds = [kind for kind in found if inspect.isclass(kind)]
    for kind in kinds:
        if issubclass(kind, errors.IndexerError) and "kind" in vars(kind):
            own = kind.status if issubclass(kind, problems.HttpProblem) else None
            status = own or status_of(errors.error_of(kind.kind, ""))
            yield kind.kind, status, "yes" if kind.is_retryable else ""


def metrics_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "Metrics")
    said = [(row[0].strip("`"), row[1], codes(row[2])) for row in rows]
    yield from differences("metrics", sorted(said), sorted(all_metrics()))


def all_metrics() -> Iterator[tuple[str, str, list[str]]]:
    """Name, type and labels of whatever a daemon counts that has counted one of each."""
    totals = Totals()
    totals.counters.answered("s3", "list", "ok", 0.1)
    totals.ended("succeeded", 1.0)
    service: Any = SimpleNamespace(totals=totals, running=[], waiting=0)
    metrics = Metrics(service)
    metrics.answered("get_job", 200, 0.1)
    deleted: dict[GarbageKind, Amount] = {"shards": Amount(1, 1)}
    metrics.collected(GarbageReport(is_dry_run=False, grace_s=0.0, expired=(), deleted=deleted))
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if not name.endswith("_created"):
            yield name, family.type, sorted(labels)


def documents_are_shown_right(docs: Documents) -> Complaints:
    kinds: list[Any] = [JobDocument, EntryPage, DiffDocument, QueryDocument, Problem]
    shown = blocks(docs[HTTP], "json")
    yield from differences("documents of JSON", len(shown), len(kinds))
    for block, kind in zip(shown, kinds, strict=False):
        try:
            read = msgspec.json.decode(block.text, type=kind)
        except msgspec.ValidationError as error:
            yield f"{HTTP}, line {block.line}: {error}"
            continue
        if isinstance(read, Problem):
            read = Problem.of(read.error(), request_id=read.request_id)
        true = json.loads(msgspec.json.encode(read))
        yield from differences(f"{HTTP}, line {block.line}", json.loads(block.text), true)


CHECKS: Checks = {
    operations_are_documented: [
        (HTTP, "| GET | `/readyz` |", "| POST | `/readyz` |"),
        (HTTP, "`/api/v1/commits/{request_id}` | 200", "`/api/v1/commits/{id}` | 200"),
        (HTTP, "| 200, 201 |", "| 200 |"),
    ],
    problems_are_documented: [
        (HTTP, "| `busy` | 429 | yes |", "| `busy` | 503 | yes |"),
        (HTTP, "| `usage` | 400 | |", "| `usage` | 400 | yes |"),
        (HTTP, "| `no-such-job` |", "| `no-job` |"),
        (HTTP, "| see `/docs` for what there is |", "| |"),
    ],
    metrics_are_documented: [
        (HTTP, "| `indexer_queue_depth` |", "| `indexer_queue` |"),
        (HTTP, "| `indexer_queue_depth` | gauge |", "| `indexer_queue_depth` | counter |"),
        (HTTP, "| counter | `state` |", "| counter | |"),
    ],
    documents_are_shown_right: [
        (HTTP, '"objects_listed": 0', '"objects": 0'),
        (HTTP, '"kind": "folder", ', ""),
        (HTTP, '"etag": "', '"tag": "'),
        (HTTP, '"title": "No such version"', '"title": "Nothing"'),
    ],
}
