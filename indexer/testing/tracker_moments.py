"""What trackers make of scans of earlier moments: a part of `TrackerSuite`.

Invariants
  * Every test here needs the fixture `tracker` and nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.errors import CommitConflict
from indexer.protocols import Tracker
from indexer.records import Consistency
from indexer.testing.commits import (
    FIRST,
    HOUR,
    MOMENT,
    NAME,
    PARTIAL,
    SECOND,
    THIRD,
    make_request,
    make_scan,
    manifest_of,
    of_moment,
    put_and_commit,
    started,
)


class MomentsSuite:
    """What every tracker does with moments."""

    async def test_what_was_seen_is_kept(self, tracker: Tracker) -> None:
        scan = replace(
            make_scan(),
            as_of=MOMENT,
            checksum="sha256",
            touched=7,
            notices=("Seven were written.", "Ä: é"),
        )
        version = (await put_and_commit(tracker, FIRST, scan=scan)).version
        assert (version.as_of, version.seen_at) == (MOMENT, MOMENT)
        assert (version.checksum, version.touched) == ("sha256", 7)
        assert version.notices == ("Seven were written.", "Ä: é")
        assert await tracker.parent(NAME) == version
        other = replace(scan, checksum="md5", touched=None, notices=())
        again = (await put_and_commit(tracker, FIRST, scan=other)).version
        assert replace(again, confirmed_at=version.confirmed_at) == version

    async def test_what_was_not_told_is_nothing(self, tracker: Tracker) -> None:
        version = (await put_and_commit(tracker, FIRST)).version
        assert (version.as_of, version.checksum, version.touched) == (None, None, None)
        assert version.notices == ()
        assert version.seen_at == make_scan().started_at

    async def test_a_confirmation_moves_when_it_was_seen_but_never_back(
        self, tracker: Tracker
    ) -> None:
        await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        later = await put_and_commit(tracker, FIRST, scan=started(MOMENT + HOUR))
        assert (later.created, later.version.seen_at) == (False, MOMENT + HOUR)
        earlier = await put_and_commit(tracker, FIRST, scan=started(MOMENT - HOUR))
        assert (earlier.created, earlier.version.seen_at) == (False, MOMENT + HOUR)

    async def test_an_older_moment_makes_a_version_beside_the_latest(
        self, tracker: Tracker
    ) -> None:
        latest = await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        older = await put_and_commit(
            tracker, SECOND, scan=of_moment(MOMENT - HOUR), aliases=["then"], expect=None
        )
        assert (older.created, older.version.number) == (True, 1)
        assert older.version.aliases == ("then",)
        assert await tracker.parent(NAME) == latest.version

    async def test_an_older_moment_that_is_known_is_confirmed(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        older = await put_and_commit(tracker, SECOND, scan=of_moment(MOMENT - HOUR))
        again = await put_and_commit(
            tracker, SECOND, scan=of_moment(MOMENT - HOUR), notes="again", aliases=["then"]
        )
        assert (again.created, again.version.number) == (False, 1)
        assert (again.version.notes, again.version.aliases) == ("again", ("then",))
        assert again.version.seen_at == older.version.seen_at == MOMENT - HOUR
        same = await put_and_commit(tracker, FIRST, scan=of_moment(MOMENT - HOUR))
        assert (same.created, same.version.number) == (False, 0)
        assert same.version.seen_at == MOMENT

    async def test_the_very_moment_of_the_latest_is_of_the_past(self, tracker: Tracker) -> None:
        latest = await put_and_commit(tracker, FIRST, scan=of_moment(MOMENT))
        again = await put_and_commit(tracker, FIRST, scan=of_moment(MOMENT))
        assert (again.created, again.version.number) == (False, 0)
        other = await put_and_commit(tracker, SECOND, scan=of_moment(MOMENT))
        assert (other.created, other.version.aliases) == (True, ())
        parent = await tracker.parent(NAME)
        assert parent == again.version
        assert parent.digest == latest.version.digest

    async def test_the_newest_of_equal_versions_is_confirmed(self, tracker: Tracker) -> None:
        for number, shard in enumerate((FIRST, SECOND, FIRST, THIRD)):
            await put_and_commit(tracker, shard, scan=started(MOMENT + number * HOUR))
        again = await put_and_commit(tracker, FIRST, scan=of_moment(MOMENT))
        assert (again.created, again.version.number) == (False, 2)

    async def test_a_newer_moment_moves_the_latest(self, tracker: Tracker) -> None:
        first = await put_and_commit(tracker, FIRST, scan=of_moment(MOMENT))
        assert first.version.aliases == ("latest",)
        newer = await put_and_commit(tracker, SECOND, scan=of_moment(MOMENT + HOUR))
        assert (newer.created, newer.version.aliases) == (True, ("latest",))
        with pytest.raises(CommitConflict):
            await put_and_commit(
                tracker, THIRD, scan=of_moment(MOMENT + 2 * HOUR), expect=first.version.digest
            )
        now = await put_and_commit(tracker, THIRD, scan=started(MOMENT + 3 * HOUR))
        assert now.version.aliases == ("latest",)

    async def test_an_older_moment_is_never_a_partial_version(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        partial = await put_and_commit(tracker, SECOND, scan=PARTIAL)
        older = await put_and_commit(tracker, SECOND, scan=of_moment(MOMENT - HOUR))
        assert (older.created, older.version.number) == (True, 2)
        assert older.version.consistency is Consistency.INSTANT
        assert older.version.digest == partial.version.digest

    async def test_a_partial_scan_of_the_past_follows_partial_ones(self, tracker: Tracker) -> None:
        scan = replace(PARTIAL, as_of=MOMENT - HOUR)
        await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        first = await put_and_commit(tracker, SECOND, scan=scan)
        assert (first.created, first.version.number) == (True, 1)
        assert not (await put_and_commit(tracker, SECOND, scan=scan)).created
        with pytest.raises(CommitConflict):
            await put_and_commit(tracker, THIRD, scan=scan, expect=None)

    async def test_a_repeated_request_of_the_past_gives_its_first_result(
        self, tracker: Tracker
    ) -> None:
        await put_and_commit(tracker, FIRST, scan=started(MOMENT))
        await tracker.put_shard(SECOND.ref.digest, SECOND.data)
        request = make_request(manifest_of(SECOND), scan=of_moment(MOMENT - HOUR))
        first = await tracker.commit(request)
        assert await tracker.commit(request) == first
        assert await tracker.outcome(request.request_id) == first
