"""preview: what a snapshot would keep, found out by listing alone.

Invariants
  * Nothing is recorded, and no object is looked at or read.
  * Paths are shown in their order, whichever way the listing came by them.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace
from functools import partial

import pyarrow.compute as pc

from indexer.errors import LimitExceeded
from indexer.keyspace import KeyRange
from indexer.limits import OBJECTS_MAX, PREVIEW_PATHS_MAX
from indexer.objects import SIZE_UNKNOWN
from indexer.page import Page, paths_of
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import Reach
from indexer.records import Preview, SourcePreview
from indexer.scan import SourceScan
from indexer.slice import SliceTools
from indexer.sources import Source


async def run_preview(request: SnapshotRequest, reach: Reach, tools: SliceTools) -> Preview:
    """Lists what a request names. Raises what a snapshot of it would, while it lists; more objects
    than its limit are an error also where a snapshot would keep the first of them.
    """
    counted = replace(request, on_limit="error", slice_pages_max=OBJECTS_MAX)
    looks: list[_Look] = []
    for source in request.sources:
        scan = SourceScan(counted, source, KeyRange(), reach=reach, tools=tools, before=None)
        new_look = partial(_Look, request, source)
        try:
            looks.append(await scan.look(new_look, sum(look.listed for look in looks)))
        except LimitExceeded as error:
            if request.keeps_first:
                raise LimitExceeded(request.objects_max, request.title, is_preview=True) from error
            raise
    return Preview(
        sources=tuple(look.summary for look in looks),
        kept=_first([path for look in looks for path in look.kept_paths]),
        left_out=_first([path for look in looks for path in look.left_out_paths]),
    )


def _first(paths: list[bytes]) -> tuple[bytes, ...]:
    return tuple(paths[:PREVIEW_PATHS_MAX])


class _Look:
    """The counts of one source, and its first paths."""

    def __init__(self, request: SnapshotRequest, source: Source) -> None:
        self._source = source
        self._selector = request.filters.selector(source.path_prefix)
        self.listed = 0
        self._kept = 0
        self._size_bytes = 0
        self.kept_paths: list[bytes] = []
        self.left_out_paths: list[bytes] = []

    def take(self, page: Page) -> None:
        """See `scan.Look`."""
        self.listed += page.num_rows
        if not page.num_rows:
            return
        kept = self._selector.keeps(page)
        sizes = page.column("size").filter(kept)
        known = sizes.filter(pc.not_equal(sizes, SIZE_UNKNOWN))
        self._kept += len(sizes)
        self._size_bytes += pc.sum(known).as_py() or 0
        self._note(self.kept_paths, page.filter(kept))
        self._note(self.left_out_paths, page.filter(pc.invert(kept)))

    def _note(self, noted: list[bytes], page: Page) -> None:
        for path in paths_of(page.slice(0, PREVIEW_PATHS_MAX)):
            insort(noted, self._source.path_prefix + path)
        del noted[PREVIEW_PATHS_MAX:]

    @property
    def summary(self) -> SourcePreview:
        """What is said of the source."""
        return SourcePreview(str(self._source), self.listed, self._kept, self._size_bytes)
