"""What is garbage, what is not, and what becomes of versions that go."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from indexer.catalog.catalog import Catalog
from indexer.catalog.garbage import take_away
from indexer.errors import CorruptContent, InvalidReference, NoSuchVersion, Protected
from indexer.limits import EXPIRED_BATCH_VERSIONS
from indexer.records import Amount, VersionRecord
from indexer.testing.commits import (
    FIRST,
    NAME,
    PARTIAL,
    SECOND,
    THIRD,
    make_request,
    manifest_of,
    of_moment,
    put_and_commit,
)

DAY = timedelta(days=1)
START = datetime(2026, 1, 2, tzinfo=UTC)


class SetClock:
    """A clock that shows what it was set to."""

    def __init__(self) -> None:
        self.time = START

    def monotonic(self) -> float:
        return self.time.timestamp()

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest_asyncio.fixture
async def catalog(tmp_path: Path, clock: SetClock) -> AsyncIterator[Catalog]:
    async with Catalog.open(tmp_path / "data", clock) as catalog:
        yield catalog


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(root: Path) -> set[str]:
    """The files of content, by place and name."""
    places = [root / place for place in ("shards", "blobs", "folders")]
    return {
        f"{place.name}/{path.name.partition('.')[0]}"
        for place in places
        for path in place.rglob("*")
        if path.is_file()
    }


def shard_file(root: Path, digest: str) -> Path:
    return root / "shards" / digest[:2] / f"{digest}.parquet"


def grow_old(root: Path) -> None:
    """Makes every file look as if nobody had asked for it since 1970."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))


def needed(version: VersionRecord, *shards: str) -> set[str]:
    stem = version.digest.removeprefix("sha256:")
    return {f"blobs/{stem}", f"folders/{stem}", *(f"shards/{shard}" for shard in shards)}


# --- what goes


async def test_files_go_with_the_last_version_that_needs_them(catalog: Catalog, root: Path) -> None:
    first = (await put_and_commit(catalog.tracker, FIRST, THIRD)).version
    second = (await put_and_commit(catalog.tracker, SECOND, THIRD)).version
    before = files(root)
    await catalog.retention.remove(NAME, first.number)
    grow_old(root)
    report = await catalog.garbage.collect(0.0)
    (scan,) = await catalog.reader.scans(NAME, "v1")
    shards = SECOND.ref.digest, THIRD.ref.digest
    assert files(root) == needed(second, *shards) | {f"blobs/{scan.tiling}"}
    # Both scans have the same tiling, so that only v0's own files go.
    assert before - files(root) == needed(first, FIRST.ref.digest)
    assert {kind: amount.files for kind, amount in report.deleted.items()} == {
        "folders": 1,
        "manifests": 1,
        "shards": 1,
    }
    assert report.deleted["shards"] == Amount(1, len(FIRST.data))
    assert report.kept == Amount()
    assert (await catalog.tracker.shard(THIRD.ref.digest)).num_rows == 1
    assert (await catalog.garbage.collect(0.0)).total == Amount()


async def test_a_dry_run_says_the_same_and_changes_nothing(
    catalog: Catalog, root: Path, clock: SetClock
) -> None:
    await put_and_commit(catalog.tracker, FIRST, ttl=DAY)
    await put_and_commit(catalog.tracker, SECOND)
    await catalog.content.put(b"spilled by a job that was killed")
    grow_old(root)
    await catalog.content.put(b"just put")
    clock.time += DAY

    def seen() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith("catalog.db")
        }

    before = seen()
    foretold = await catalog.garbage.collect(60.0, is_dry_run=True)
    assert seen() == before
    assert (await catalog.reader.version(NAME, "v0")).deleted_at is None
    done = await catalog.garbage.collect(60.0)
    assert (foretold.is_dry_run, done.is_dry_run) == (True, False)
    assert foretold.expired == done.expired == (f"{NAME}:v0",)
    assert foretold.deleted == done.deleted
    assert foretold.kept == done.kept == Amount(1, len(b"just put"))
    assert set(done.deleted) == {"folders", "leftovers", "manifests", "shards"}


async def test_what_is_newer_than_the_grace_stays(catalog: Catalog, root: Path) -> None:
    await catalog.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    report = await catalog.garbage.collect(3600.0)
    assert (report.total, report.kept) == (Amount(), Amount(1, len(FIRST.data)))
    assert files(root) == {f"shards/{FIRST.ref.digest}"}


async def test_files_of_others_are_left_alone(catalog: Catalog, root: Path) -> None:
    name = "ab" + "0" * 62
    others = [
        root / "notes.txt",
        root / "shards" / "README",
        root / "shards" / "ab" / "mine.parquet",
        root / "shards" / "cd" / f"{name}.parquet",
        root / "blobs" / "ab" / f"{name}.bak",
        root / "other" / "ab" / name,
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    link = root / "blobs" / "ab" / name
    link.symlink_to(others[0])
    grow_old(root)
    report = await catalog.garbage.collect(0.0)
    assert report.total == Amount()
    assert all(path.read_text() == "mine" for path in [*others, link])


async def test_nothing_is_deleted_when_a_manifest_cannot_be_read(
    catalog: Catalog, root: Path
) -> None:
    version = (await put_and_commit(catalog.tracker, FIRST)).version
    await catalog.tracker.put_shard(SECOND.ref.digest, SECOND.data)
    stem = version.digest.removeprefix("sha256:")
    (root / "blobs" / stem[:2] / stem).write_bytes(b"{}")
    grow_old(root)
    before = files(root)
    with pytest.raises(CorruptContent, match=r"the manifest of project/artifact:v0 .*indexer rm"):
        await catalog.garbage.collect(0.0)
    assert files(root) == before
    await catalog.retention.remove(NAME, 0)
    await catalog.garbage.collect(0.0)
    assert files(root) == set()


# --- beside writers


async def test_what_a_running_job_was_told_stays(catalog: Catalog, root: Path) -> None:
    for shard in (FIRST, SECOND):
        await catalog.tracker.put_shard(shard.ref.digest, shard.data)
    grow_old(root)
    with catalog.leases.hold():
        assert await catalog.tracker.missing([FIRST.ref.digest]) == set()
        report = await catalog.garbage.collect(0.0)
        assert (report.total.files, report.kept.files) == (1, 1)
        assert files(root) == {f"shards/{FIRST.ref.digest}"}
        result = await catalog.tracker.commit(make_request(manifest_of(FIRST)))
        assert result.created
    assert list((root / "leases").iterdir()) == []


async def test_a_jobs_parent_may_go_and_its_shards_stay(catalog: Catalog, root: Path) -> None:
    await put_and_commit(catalog.tracker, FIRST)
    grow_old(root)
    with catalog.leases.hold():
        parent = await catalog.tracker.parent(NAME)
        assert parent is not None
        await catalog.retention.remove(NAME, 0)
        await catalog.garbage.collect(0.0)
        assert (await catalog.tracker.shard(FIRST.ref.digest)).num_rows == FIRST.ref.rows
        # The shard is not put again, as a job believes that its parent has it.
        result = await catalog.tracker.commit(make_request(manifest_of(FIRST)))
        assert (result.created, result.version.number) == (True, 1)
    assert await catalog.tracker.shard(FIRST.ref.digest) is not None


async def test_a_commit_whose_shard_was_deleted_says_what_to_do(
    catalog: Catalog, root: Path
) -> None:
    await catalog.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    grow_old(root)
    await catalog.garbage.collect(0.0)
    with pytest.raises(CorruptContent, match=r"Nothing was recorded; snapshot the source again"):
        await catalog.tracker.commit(make_request(manifest_of(FIRST)))
    assert await catalog.tracker.parent(NAME) is None


async def test_what_is_committed_after_references_were_read_stays(
    catalog: Catalog, root: Path
) -> None:
    """A batch looks for new versions itself."""
    collect, references = catalog.garbage.collect, await catalog.garbage.references()
    version = (await put_and_commit(catalog.tracker, FIRST)).version
    grow_old(root)

    async def outdated(**_: object) -> object:
        return references

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog.garbage, "references", outdated)
        assert (await collect(0.0)).total == Amount()
    assert needed(version, FIRST.ref.digest) < files(root)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_file_that_is_renewed_as_it_is_taken_is_there_or_said_to_be_gone(
    catalog: Catalog, root: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    await catalog.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    grow_old(root)
    path = shard_file(root, FIRST.ref.digest)
    rename, told = Path.rename, list[bool]()

    def keep() -> None:
        digest = FIRST.ref.digest
        told.append(path.exists() and not _keep_now(catalog, digest))

    def watched(self: Path, target: Path) -> Path:
        if self != path:
            return rename(self, target)
        if moment == "before":
            keep()
        renamed = rename(self, target)
        if moment == "after":
            keep()
        return renamed

    monkeypatch.setattr(Path, "rename", watched)
    was_old = take_away(path, kept_from_ns=10**12)
    assert told == [path.exists()] == [not was_old] == [moment == "before"]
    assert files(root) == ({f"shards/{FIRST.ref.digest}"} if moment == "before" else set())


def _keep_now(catalog: Catalog, digest: str) -> set[str]:
    keep: Callable[[list[str]], set[str]] = catalog.tracker._files.keep_now
    return keep([f"shards/{digest}"])


async def test_a_lease_of_a_dead_process_holds_nothing(catalog: Catalog, root: Path) -> None:
    (root / "leases").mkdir()
    lease = root / "leases" / ("0" * 32)
    lease.touch()
    await catalog.content.put(b"left behind")
    grow_old(root)
    assert catalog.leases.oldest_ns() is None
    assert (await catalog.garbage.collect(0.0)).total.files == 1
    assert not lease.exists()


# --- versions that go


async def test_a_version_expires_when_its_time_has_come(catalog: Catalog, clock: SetClock) -> None:
    first = (await put_and_commit(catalog.tracker, FIRST, ttl=DAY, aliases=["old"])).version
    assert first.expires_at == START + DAY
    await put_and_commit(catalog.tracker, SECOND)
    clock.time += DAY - timedelta(seconds=1)
    assert await catalog.retention.expire() == []
    clock.time += timedelta(seconds=1)
    assert [gone.ref for gone in await catalog.retention.expire()] == [first.ref]
    with pytest.raises(NoSuchVersion) as raised:
        await catalog.reader.version(NAME, "v0")
    assert str(raised.value) == (
        "project/artifact:v0 expired, and was deleted at 2026-01-03 00:00 UTC; it has v1 alone and "
        "the aliases latest."
    )
    for selector in (first.digest, "old"):
        with pytest.raises(NoSuchVersion):
            await catalog.reader.version(NAME, selector)
    with pytest.raises(NoSuchVersion, match=r"v0 expired, and was deleted at"):
        await catalog.tracker.manifest(first.digest)
    assert [version.number for version in await catalog.reader.versions(NAME)] == [1]
    _, gone = await catalog.reader.versions(NAME, deleted=True)
    assert (gone.number, gone.deleted_at, gone.deleted_because) == (0, clock.time, "expired")
    assert gone.aliases == ()
    assert [move.number for move in await catalog.reader.alias_moves(NAME, "old")] == [None, 0]
    (project,) = await catalog.reader.projects()
    (artifact,) = await catalog.reader.artifacts("project")
    assert project.versions == artifact.versions == 1


async def test_the_latest_and_the_protected_do_not_expire(
    catalog: Catalog, clock: SetClock
) -> None:
    for shard in (FIRST, SECOND, THIRD):
        await put_and_commit(catalog.tracker, shard, ttl=DAY)
    await catalog.labels.set_alias(NAME, "best", 0)
    await catalog.labels.set_alias(NAME, "other", 1)
    protected = await catalog.retention.protect_alias(NAME, "best", protected=True)
    assert (protected.aliases, protected.protected) == (("best",), ("best",))
    assert await catalog.reader.protected_aliases(NAME) == {"best"}
    clock.time += 2 * DAY
    assert [gone.ref for gone in await catalog.retention.expire()] == [f"{NAME}:v1"]
    await catalog.retention.protect_alias(NAME, "best", protected=False)
    assert [gone.ref for gone in await catalog.retention.expire()] == [f"{NAME}:v0"]
    assert [version.number for version in await catalog.reader.versions(NAME)] == [2]


async def test_a_protected_alias_stays_where_it_is(catalog: Catalog) -> None:
    await put_and_commit(catalog.tracker, FIRST, aliases=["best"])
    await catalog.retention.protect_alias(NAME, "best", protected=True)
    await put_and_commit(catalog.tracker, SECOND)
    with pytest.raises(Protected, match=r"stays at v0.*alias unprotect project/artifact best"):
        await catalog.labels.set_alias(NAME, "best", 1)
    with pytest.raises(Protected):
        await catalog.labels.remove_alias(NAME, "best")
    with pytest.raises(Protected):
        await put_and_commit(catalog.tracker, THIRD, aliases=["best"])
    with pytest.raises(Protected, match="kept by the protected alias 'best'"):
        await catalog.retention.remove(NAME, 0)
    assert await catalog.reader.aliases(NAME) == {"best": 0, "latest": 1}
    assert (await catalog.labels.set_alias(NAME, "best", 0)).protected == ("best",)
    with pytest.raises(InvalidReference):
        await catalog.retention.protect_alias(NAME, "latest", protected=True)
    with pytest.raises(NoSuchVersion):
        await catalog.retention.protect_alias(NAME, "none", protected=True)


async def test_latest_moves_on_when_its_version_is_removed(catalog: Catalog) -> None:
    await put_and_commit(catalog.tracker, FIRST)
    await put_and_commit(catalog.tracker, SECOND)
    await put_and_commit(catalog.tracker, THIRD, scan=PARTIAL)
    late = of_moment(datetime(2020, 1, 1, tzinfo=UTC))
    await put_and_commit(catalog.tracker, FIRST, THIRD, scan=late)
    removed = await catalog.retention.remove(NAME, 1)
    assert (removed.deleted_because, removed.aliases) == ("removed", ())
    # Neither the partial one nor the one of long ago is the newest that is complete.
    assert await catalog.reader.aliases(NAME) == {"latest": 0}
    await catalog.retention.remove(NAME, 0)
    assert await catalog.reader.aliases(NAME) == {"latest": 3}
    await catalog.retention.remove(NAME, 3)
    assert await catalog.reader.aliases(NAME) == {}
    await catalog.retention.remove(NAME, 2)
    with pytest.raises(NoSuchVersion, match=r"was removed at .*no version is left of it"):
        await catalog.reader.version(NAME, "v3")
    again = await put_and_commit(catalog.tracker, FIRST)
    assert (again.created, again.version.number, again.version.aliases) == (True, 4, ("latest",))


async def test_a_time_to_live_is_moved_and_taken_away(catalog: Catalog, clock: SetClock) -> None:
    first = (await put_and_commit(catalog.tracker, FIRST, ttl=DAY)).version
    confirmed = await put_and_commit(catalog.tracker, FIRST, ttl=3 * DAY)
    assert (confirmed.created, confirmed.version.expires_at) == (False, START + 3 * DAY)
    for ttl in (DAY, None):
        confirmed = await put_and_commit(catalog.tracker, FIRST, ttl=ttl)
        assert confirmed.version.expires_at == START + 3 * DAY
    never = await catalog.retention.set_expiry(NAME, first.number, None)
    assert never.expires_at is None
    confirmed = await put_and_commit(catalog.tracker, FIRST, ttl=DAY)
    assert confirmed.version.expires_at is None
    soon = await catalog.retention.set_expiry(NAME, 0, clock.time)
    assert soon.expires_at == clock.time


async def test_many_expire_in_several_transactions(catalog: Catalog, clock: SetClock) -> None:
    scan = PARTIAL
    await catalog.tracker.put_shard(FIRST.ref.digest, FIRST.data)
    await catalog.tracker.put_shard(SECOND.ref.digest, SECOND.data)
    count = 5
    for number in range(count):
        shard = (FIRST, SECOND)[number % 2]
        await put_and_commit(catalog.tracker, shard, scan=scan, ttl=DAY)
    clock.time += DAY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.catalog.retention.EXPIRED_BATCH_VERSIONS", 2)
        assert len(await catalog.retention.expire()) == count < EXPIRED_BATCH_VERSIONS
    assert await catalog.reader.versions(NAME) == []
