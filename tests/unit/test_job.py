"""A job whose parent is deleted while the job begins."""

from __future__ import annotations

import pytest

from indexer.errors import CommitConflict, NoSuchVersion
from indexer.limits import COMMIT_ATTEMPTS_MAX
from indexer.manifest import Manifest
from indexer.trackers.memory import MemoryTracker
from tests.unit.job_runs import CLOCK, World, bucket


class Vanishing(MemoryTracker):
    """A tracker whose newest version is deleted, so many times, just after it was named."""

    def __init__(self, times: int) -> None:
        super().__init__(CLOCK)
        self.times = times

    async def manifest(self, digest: str) -> Manifest:
        if self.times:
            self.times -= 1
            raise NoSuchVersion("it went just now")
        return await super().manifest(digest)


@pytest.mark.parametrize("times", [1, COMMIT_ATTEMPTS_MAX - 1, COMMIT_ATTEMPTS_MAX])
async def test_a_parent_that_goes_is_asked_for_again(times: int) -> None:
    tracker = Vanishing(0)
    world = World({"bucket": bucket("a", "b")}, tracker=tracker)
    await world.snapshot("s3://bucket/")
    tracker.times = times
    if times < COMMIT_ATTEMPTS_MAX:
        again = await world.snapshot("s3://bucket/")
        assert (again.result.created, again.shards_new) == (False, 0)
    else:
        with pytest.raises(CommitConflict, match=r"was deleted .* times in a row"):
            await world.snapshot("s3://bucket/")
