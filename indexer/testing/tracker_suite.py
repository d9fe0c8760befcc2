"""The contract of `Tracker` as tests: inherit `TrackerSuite` and say how your tracker is opened.

    class TestMyTracker(TrackerSuite):
        @pytest.fixture
        def trackers(self, tmp_path: Path) -> OpenTracker:
            return lambda: MyTracker.open(tmp_path)

Invariants
  * `trackers()` opens a tracker on one and the same state each time, empty when a test begins: two
    that are open at once are two clients, and one opened later finds what an earlier one was told.
  * The suite knows trackers through `Tracker` alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import pytest_asyncio

from indexer.errors import (
    CommitConflict,
    CorruptContent,
    InvalidReference,
    NoSuchVersion,
    UsageError,
)
from indexer.limits import NOTES_CHARACTERS_MAX
from indexer.protocols import CommitRequest, Tracker
from indexer.records import CommitResult, Consistency, VersionRecord
from indexer.references import ArtifactName
from indexer.testing.commits import (
    FIRST,
    NAME,
    PARTIAL,
    SECOND,
    THIRD,
    Shard,
    make_request,
    make_shard,
    manifest_of,
    put_and_commit,
    shard_of,
)
from indexer.testing.tracker_moments import MomentsSuite
from indexer.testing.tracker_runs import RunsSuite

OpenTracker = Callable[[], AbstractAsyncContextManager[Tracker]]


@pytest.mark.asyncio
class TrackerSuite(MomentsSuite, RunsSuite):
    """What every tracker does."""

    @pytest.fixture
    def trackers(self) -> OpenTracker:
        """Opens the tracker under test; for whoever inherits to replace."""
        pytest.fail("a suite that inherits gives the fixture `trackers`")

    @pytest_asyncio.fixture
    async def tracker(self, trackers: OpenTracker) -> AsyncIterator[Tracker]:
        """The tracker under test, opened once."""
        async with trackers() as tracker:
            yield tracker

    # --- shards

    async def test_a_shard_is_missing_until_it_was_put(self, tracker: Tracker) -> None:
        digests = [FIRST.ref.digest, SECOND.ref.digest]
        assert await tracker.missing(digests) == set(digests)
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        assert await tracker.missing(digests) == {SECOND.ref.digest}
        assert await tracker.missing([]) == set()

    @pytest.mark.parametrize(
        "data",
        [b"", b"no parquet", FIRST.data[: len(FIRST.data) // 2], SECOND.data],
        ids=["empty", "another file", "cut off", "other rows"],
    )
    async def test_a_corrupt_shard_is_refused(self, tracker: Tracker, data: bytes) -> None:
        with pytest.raises(CorruptContent):
            await tracker.put_shard(FIRST.ref.digest, data)
        assert await tracker.missing([FIRST.ref.digest]) == {FIRST.ref.digest}

    @pytest.mark.parametrize("paths", [[b"b", b"a"], [b"a", b"a"]], ids=["falling", "twice"])
    async def test_an_unsorted_shard_is_refused(self, tracker: Tracker, paths: list[bytes]) -> None:
        shard = shard_of({"path": pa.array(paths, pa.binary()), "size": pa.array([1, 2])})
        with pytest.raises(CorruptContent):
            await tracker.put_shard(shard.ref.digest, shard.data)
        assert await tracker.missing([shard.ref.digest]) == {shard.ref.digest}

    # --- what a commit makes

    async def test_a_commit_makes_the_first_version(self, tracker: Tracker) -> None:
        assert await tracker.parent(NAME) is None
        manifest = manifest_of(FIRST, THIRD)
        result = await put_and_commit(
            tracker, FIRST, THIRD, type="images", aliases=["best"], notes="as it came"
        )
        version = result.version
        assert result.created
        assert (version.ref, version.type) == ("project/artifact:v0", "images")
        assert version.digest == manifest.digest
        assert (version.objects, version.size_bytes, version.listed) == (3, 7, 3)
        assert version.consistency is Consistency.WINDOW
        assert (version.aliases, version.notes) == (("best", "latest"), "as it came")
        assert version.created_at.tzinfo is not None
        assert version.run_id
        assert await tracker.parent(NAME) == version
        assert await tracker.manifest(version.digest) == manifest

    async def test_a_version_has_the_digest_of_wandb(self, tracker: Tracker) -> None:
        result = await put_and_commit(tracker, FIRST, THIRD)
        lines = [
            f"{path}:{hashlib.md5(path.encode()).hexdigest()}\n"  # noqa: S324
            for path in ("a", "b", "d")
        ]
        text = "wandb-artifact-manifest-v1\n" + "".join(lines)
        expected = hashlib.md5(text.encode()).hexdigest()  # noqa: S324
        assert (result.version.wandb_digest, result.version.wandb_reason) == (expected, None)

    async def test_what_wandb_cannot_hold_has_a_reason(self, tracker: Tracker) -> None:
        result = await put_and_commit(tracker, make_shard({"a//b": 1}), THIRD)
        assert result.version.wandb_digest is None
        assert "a//b" in str(result.version.wandb_reason)

    async def test_an_empty_manifest_is_a_version(self, tracker: Tracker) -> None:
        result = await put_and_commit(tracker)
        assert (result.version.objects, result.version.size_bytes) == (0, 0)
        assert await tracker.manifest(result.version.digest) == manifest_of()

    async def test_a_manifest_without_a_version_is_not_known(self, tracker: Tracker) -> None:
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        with pytest.raises(NoSuchVersion):
            await tracker.manifest(manifest_of(FIRST).digest)

    async def test_the_type_is_dataset_where_none_is_named(self, tracker: Tracker) -> None:
        assert (await put_and_commit(tracker, FIRST)).version.type == "dataset"

    async def test_the_first_version_fixes_the_type(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST, type="model")
        assert (await put_and_commit(tracker, SECOND)).version.type == "model"
        with pytest.raises(UsageError, match=r"(?s)model.*dataset"):
            await put_and_commit(tracker, THIRD, type="dataset")
        parent = await tracker.parent(NAME)
        assert parent is not None
        assert parent.number == 1

    async def test_artifacts_do_not_mix(self, tracker: Tracker) -> None:
        names = [NAME, ArtifactName("project", "other"), ArtifactName("else", "artifact")]
        for name in names:
            result = await put_and_commit(tracker, FIRST, name=name, type=f"of-{name.artifact}")
            assert (result.version.number, result.created) == (0, True)
        assert await tracker.parent(ArtifactName("else", "other")) is None

    # --- what a commit refuses

    async def test_a_commit_of_a_missing_shard_is_refused(self, tracker: Tracker) -> None:
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        with pytest.raises(CorruptContent):
            await tracker.commit(make_request(manifest_of(FIRST, THIRD)))
        assert await tracker.parent(NAME) is None

    @pytest.mark.parametrize(
        "lie",
        [
            {"rows": 3},
            {"size_bytes": 4},
            {"max_path": b"c"},
        ],
        ids=str,
    )
    async def test_a_manifest_that_is_wrong_about_a_shard_is_refused(
        self, tracker: Tracker, lie: dict[str, Any]
    ) -> None:
        with pytest.raises(CorruptContent):
            await put_and_commit(tracker, replace(FIRST, ref=replace(FIRST.ref, **lie)))
        assert await tracker.parent(NAME) is None

    async def test_shards_that_overlap_are_refused(self, tracker: Tracker) -> None:
        with pytest.raises(CorruptContent):
            await put_and_commit(tracker, FIRST, SECOND)
        assert await tracker.parent(NAME) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": ArtifactName("pro/ject", "artifact")},
            {"name": ArtifactName("project", "")},
            {"name": ArtifactName("project", "a" * 129)},
            {"type": "two words"},
            {"aliases": ["latest"]},
            {"aliases": ["good", "v7"]},
            {"aliases": [""]},
        ],
        ids=str,
    )
    async def test_a_name_that_cannot_be_is_refused(
        self, tracker: Tracker, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidReference):
            await put_and_commit(tracker, FIRST, expect=None, **changes)
        assert await tracker.parent(NAME) is None

    async def test_notes_without_end_are_refused(self, tracker: Tracker) -> None:
        with pytest.raises(UsageError):
            await put_and_commit(tracker, FIRST, notes="x" * (NOTES_CHARACTERS_MAX + 1))
        assert await tracker.parent(NAME) is None

    # --- what is unchanged

    async def test_unchanged_content_makes_no_version(self, tracker: Tracker) -> None:
        first = await put_and_commit(tracker, FIRST, notes="first")
        again = await put_and_commit(tracker, FIRST)
        assert not again.created
        assert again.version.confirmed_at >= first.version.confirmed_at
        assert replace(again.version, confirmed_at=first.version.confirmed_at) == first.version

    async def test_unchanged_content_needs_no_right_guess_of_the_newest(
        self, tracker: Tracker
    ) -> None:
        await put_and_commit(tracker, FIRST)
        again = await tracker.commit(make_request(manifest_of(FIRST), expect="sha256:" + "0" * 64))
        assert not again.created

    async def test_aliases_and_notes_move_in_either_case(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST, aliases=["best"], notes="first")
        second = await put_and_commit(tracker, SECOND, aliases=["best"])
        assert (second.created, second.version.aliases) == (True, ("best", "latest"))
        again = await put_and_commit(tracker, SECOND, aliases=["worst"], notes="looked at")
        assert not again.created
        assert again.version.aliases == ("best", "latest", "worst")
        assert again.version.notes == "looked at"

    async def test_content_that_comes_back_makes_a_version(self, tracker: Tracker) -> None:
        first = await put_and_commit(tracker, FIRST)
        await put_and_commit(tracker, SECOND)
        third = await put_and_commit(tracker, FIRST)
        assert (third.created, third.version.number) == (True, 2)
        assert third.version.digest == first.version.digest
        assert third.version.wandb_digest == first.version.wandb_digest
        assert third.version.aliases == ("latest",)

    # --- partial scans

    async def test_a_partial_version_is_never_the_latest(self, tracker: Tracker) -> None:
        partial = await put_and_commit(tracker, FIRST, scan=PARTIAL, aliases=["some"])
        assert partial.version.consistency is Consistency.PARTIAL
        assert partial.version.aliases == ("some",)
        assert await tracker.parent(NAME) is None
        whole = await put_and_commit(tracker, SECOND)
        await put_and_commit(tracker, THIRD, scan=PARTIAL)
        assert await tracker.parent(NAME) == whole.version

    async def test_a_partial_scan_follows_the_newest_partial_version(
        self, tracker: Tracker
    ) -> None:
        await put_and_commit(tracker, FIRST, scan=PARTIAL)
        await put_and_commit(tracker, FIRST)
        again = await put_and_commit(tracker, FIRST, scan=PARTIAL)
        assert (again.created, again.version.number) == (False, 0)
        other = await put_and_commit(tracker, SECOND, scan=PARTIAL)
        assert (other.created, other.version.number) == (True, 2)
        parent = await tracker.parent(NAME, partial=True)
        assert parent == other.version
        assert not (await put_and_commit(tracker, FIRST)).created

    # --- who is first

    async def test_a_commit_after_another_version_conflicts(self, tracker: Tracker) -> None:
        first = await put_and_commit(tracker, FIRST)
        with pytest.raises(CommitConflict):
            await put_and_commit(tracker, SECOND, expect=None)
        with pytest.raises(CommitConflict):
            await put_and_commit(tracker, SECOND, expect="sha256:" + "0" * 64)
        assert await tracker.parent(NAME) == first.version

    async def test_a_commit_after_a_version_that_is_not_there_conflicts(
        self, tracker: Tracker
    ) -> None:
        with pytest.raises(CommitConflict):
            await put_and_commit(tracker, FIRST, expect=manifest_of(SECOND).digest)
        assert await tracker.parent(NAME) is None

    @pytest.mark.parametrize("winner", [0, 1])
    async def test_the_slower_of_two_committers_goes_on(
        self, trackers: OpenTracker, winner: int
    ) -> None:
        async with trackers() as one, trackers() as two:
            base = await put_and_commit(one, FIRST)
            faster, slower = (one, two) if winner == 0 else (two, one)
            await put_and_commit(faster, SECOND, expect=base.version.digest)
            with pytest.raises(CommitConflict):
                await put_and_commit(slower, THIRD, expect=base.version.digest)
            same = await put_and_commit(slower, SECOND, expect=base.version.digest)
            assert (same.created, same.version.number) == (False, 1)
            other = await put_and_commit(slower, THIRD)
            assert (other.created, other.version.number) == (True, 2)

    async def test_two_committers_at_once_make_one_version_or_two(
        self, trackers: OpenTracker
    ) -> None:
        async with trackers() as one, trackers() as two:
            base = (await put_and_commit(one, FIRST)).version.digest
            same = await self._race([one, two], [SECOND, SECOND], base)
            assert sorted(result.created for result in same if result) == [False, True]
            base = manifest_of(SECOND).digest
            other = await self._race([one, two], [THIRD, FIRST], base)
            assert sorted(result is not None for result in other) == [False, True]

    async def _race(
        self, trackers: Sequence[Tracker], shards: Sequence[Shard], expect: str
    ) -> list[CommitResult | None]:
        """What each one's commit came to, None for a conflict."""

        async def commit(tracker: Tracker, shard: Shard) -> CommitResult | None:
            try:
                return await put_and_commit(tracker, shard, expect=expect)
            except CommitConflict:
                return None

        async with asyncio.TaskGroup() as group:
            pairs = zip(trackers, shards, strict=True)
            tasks = [group.create_task(commit(*pair)) for pair in pairs]
        return [task.result() for task in tasks]

    async def test_twenty_committers_leave_no_gap(self, tracker: Tracker) -> None:
        shards = [make_shard({f"path-{number}": number}) for number in range(20)]

        async def commit(shard: Shard) -> CommitResult:
            while True:
                try:
                    return await put_and_commit(tracker, shard)
                except CommitConflict:
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(commit(shard)) for shard in shards]
        results = [task.result() for task in tasks]
        assert sorted(result.version.number for result in results) == list(range(20))
        assert len({result.version.run_id for result in results}) == 20
        for shard, result in zip(shards, results, strict=True):
            assert await tracker.manifest(result.version.digest) == manifest_of(shard)
        parent = await tracker.parent(NAME)
        assert parent is not None
        assert parent.number == 19

    # --- what is lost and repeated

    async def test_a_repeated_request_gives_its_first_result(self, tracker: Tracker) -> None:
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        request = make_request(manifest_of(FIRST))
        first = await tracker.commit(request)
        assert await tracker.commit(request) == first
        assert await tracker.outcome(request.request_id) == first
        await put_and_commit(tracker, SECOND)
        late = await tracker.commit(request)
        assert (late.created, late.version.number) == (True, 0)
        parent = await tracker.parent(NAME)
        assert parent is not None
        assert parent.number == 1

    async def test_a_confirmation_is_repeated_too(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST)
        request = make_request(manifest_of(FIRST))
        first = await tracker.commit(request)
        assert not first.created
        assert await tracker.commit(request) == first
        assert await tracker.outcome(request.request_id) == first

    async def test_a_request_id_is_for_one_commit(self, tracker: Tracker) -> None:
        await put_and_commit(tracker, FIRST, request_id="once")
        with pytest.raises(UsageError):
            await put_and_commit(tracker, SECOND, request_id="once")

    async def test_a_request_that_conflicted_may_be_made_again(self, tracker: Tracker) -> None:
        base = await put_and_commit(tracker, FIRST)
        request = make_request(manifest_of(SECOND), expect=None)
        await tracker.put_shard(SECOND.ref.digest, SECOND.data)
        with pytest.raises(CommitConflict):
            await tracker.commit(request)
        assert await tracker.outcome(request.request_id) is None
        result = await tracker.commit(replace(request, expect=base.version.digest))
        assert (result.created, result.version.number) == (True, 1)

    async def test_what_was_never_asked_has_no_outcome(self, tracker: Tracker) -> None:
        assert await tracker.outcome("never") is None

    async def test_a_crash_before_the_commit_leaves_nothing_but_shards(
        self, trackers: OpenTracker
    ) -> None:
        async with trackers() as tracker:
            await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        async with trackers() as tracker:
            assert await tracker.parent(NAME) is None
            assert await tracker.missing([FIRST.ref.digest]) == set()
            result = await tracker.commit(make_request(manifest_of(FIRST)))
            assert (result.created, result.version.number) == (True, 0)

    async def test_a_version_outlives_its_tracker(self, trackers: OpenTracker) -> None:
        async with trackers() as tracker:
            request = make_request(manifest_of(FIRST, THIRD), aliases=["best"], notes="kept")
            for shard in (FIRST, THIRD):
                await tracker.put_shard(shard.ref.digest, shard.data)
            result = await tracker.commit(request)
        async with trackers() as tracker:
            assert await tracker.parent(NAME) == result.version
            assert await tracker.outcome(request.request_id) == result
            assert await tracker.manifest(result.version.digest) == request.manifest

    @pytest.mark.parametrize("delay_ms", [0, 1, 2, 5, 10, 20, 50, 100])
    async def test_a_cancelled_commit_happens_or_does_not(
        self, tracker: Tracker, delay_ms: int
    ) -> None:
        await tracker.put_shard(FIRST.ref.digest, FIRST.data)
        request = make_request(manifest_of(FIRST))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(tracker.commit(request))
            await asyncio.sleep(delay_ms / 1_000)
            task.cancel()
        outcome, parent = await self._settled(tracker, request)
        assert parent == (outcome.version if outcome else None)
        result = await tracker.commit(request)
        assert outcome in (None, result)
        assert (result.created, result.version.number) == (True, 0)

    async def _settled(
        self, tracker: Tracker, request: CommitRequest
    ) -> tuple[CommitResult | None, VersionRecord | None]:
        """The outcome of a request and the newest version, of one moment.

        A commit that was cancelled here may still be under way where it is made.
        """
        while True:
            before = await tracker.outcome(request.request_id)
            parent = await tracker.parent(NAME)
            if await tracker.outcome(request.request_id) == before:
                return before, parent
