"""commit: a manifest becomes a version, by compare-and-swap on the version it would follow.

Invariants
  * One request id serves all tries of one commit, so that a try whose answer was lost is not made
    twice.
  * Whoever loses the race reads again and tries again; the tracker finds out whether anything
    changed.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from indexer.errors import CommitConflict, CommitUnknown
from indexer.limits import COMMIT_ATTEMPTS_MAX
from indexer.manifest import Manifest
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import CommitRequest, CommitResult, Consistency, ScanRecord, Tracker


async def commit(
    tracker: Tracker,
    request: SnapshotRequest,
    manifest: Manifest,
    scan: ScanRecord,
    parent_digest: str | None,
) -> CommitResult:
    """Commits a manifest as what `request` names.

    Raises `CommitConflict` when others were faster too often, and what the tracker raises.
    """
    wanted = CommitRequest(
        request_id=uuid4().hex,
        name=request.name,
        type=request.type,
        manifest=manifest,
        scan=scan,
        aliases=request.aliases,
        notes=request.notes,
        expect=parent_digest,
    )
    is_partial = scan.consistency is Consistency.PARTIAL
    for _ in range(COMMIT_ATTEMPTS_MAX):
        try:
            return await tracker.commit(wanted)
        except CommitUnknown:
            if result := await tracker.outcome(wanted.request_id):
                return result
        except CommitConflict:
            parent = await tracker.parent(request.name, partial=is_partial)
            wanted = replace(wanted, expect=parent.digest if parent else None)
    raise CommitConflict(
        f"{request.name}: others committed first, {COMMIT_ATTEMPTS_MAX} times in a row. Try again."
    )
