"""What goes: expired versions, and the files that no version needs."""

from __future__ import annotations

from typing import Final

from indexer.daemon.operation import Answer, Call, Operation, Parts
from indexer.remote import API
from indexer.wire.retention import GarbageDocument, GarbageOrder


async def collect_garbage(parts: Parts, call: Call) -> Answer:
    """Lets expired versions go, and deletes what no version needs."""
    order: GarbageOrder = call.body
    report = await parts.workspace.collect_garbage(order)
    if not report.is_dry_run:
        parts.metrics.collected(report)
    return Answer(GarbageDocument.of(report))


RETENTION: Final = (
    Operation(
        "POST", f"{API}/gc", "Collect garbage", collect_garbage, {200: GarbageDocument},
        body=GarbageOrder, problems=(415, 422),
    ),
)  # fmt: skip
