"""commit: a manifest becomes a version, by compare-and-swap on the version it would follow.

Invariants
  * One request id serves all tries of one commit, so that a try whose answer was lost is not made
    twice.
  * Whoever loses the race reads again and tries again; the tracker finds out whether anything
    changed.
"""

from __future__ import annotations

from dataclasses import replace

from indexer.errors import CommitConflict, CommitUnknown
from indexer.limits import COMMIT_ATTEMPTS_MAX
from indexer.manifest import Manifest
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import CommitRequest, Tracker
from indexer.records import CommitResult, Consistency, ScanRecord


def wanted_of(
    request: SnapshotRequest,
    manifest: Manifest,
    scan: ScanRecord,
    request_id: str,
    parent_digest: str | None,
) -> CommitRequest:
    """The commit of a manifest as what `request` names, after the version with that digest."""
    return CommitRequest(
        request_id=request_id,
        name=request.name,
        type=request.type,
        manifest=manifest,
        scan=scan,
        aliases=request.aliases,
        notes=request.notes,
        expect=parent_digest,
        ttl=request.ttl,
        description=request.description,
        metadata=request.metadata,
        tags=request.tags,
        run=request.run,
    )


async def commit(tracker: Tracker, wanted: CommitRequest) -> CommitResult:
    """Commits, again and again while others are faster.

    Raises `CommitConflict` when they were too often, and what the tracker raises.
    """
    is_partial = wanted.scan.consistency is Consistency.PARTIAL
    for _ in range(COMMIT_ATTEMPTS_MAX):
        try:
            return await tracker.commit(wanted)
        except CommitUnknown:
            if result := await tracker.outcome(wanted.request_id):
                return result
        except CommitConflict:
            parent = await tracker.parent(wanted.name, partial=is_partial)
            wanted = replace(wanted, expect=parent.digest if parent else None)
    raise CommitConflict(
        f"{wanted.name}: others committed first, {COMMIT_ATTEMPTS_MAX} times in a row. Try again."
    )
