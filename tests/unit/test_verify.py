"""How references are checked: by which way, at what cost, and what servers that misbehave cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from indexer.artifact.handle import Handle
from indexer.artifact.verify.references import ReferenceReport, Tell
from indexer.errors import AccessDenied, BrokenListing, MissingCredentials, StoreUnavailable
from indexer.keyspace import Key, KeyRange
from indexer.limits import HEADS_AT_ONCE_MAX, LISTING_COST_HEADS, SHARDS_VERIFIED_AT_ONCE
from indexer.manifest import Manifest
from indexer.objects import Head
from indexer.protocols import ListedPage, Reach, SourceOptions
from indexer.stores.memory import MemoryObject, MemoryStore
from tests.unit.job_runs import World, bucket, commit_spy, numbered
from tests.unit.kept_versions import Kept, kept_of
from tests.unit.scripted_store import made


@dataclass
class Calls:
    """What was asked of a store, and what it raises in answer."""

    pages: int = 0
    heads: list[bytes] = field(default_factory=list)
    list_error: Exception | None = None
    head_error: Exception | None = None
    hides: set[bytes] = field(default_factory=set)

    def wrap(self, store: MemoryStore) -> Any:
        return _Watched(store, self)


class _Watched:
    def __init__(self, store: MemoryStore, calls: Calls) -> None:
        self._store = store
        self._calls = calls
        self.properties = store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        self._calls.pages += 1
        if self._calls.list_error is not None:
            raise self._calls.list_error
        page = await self._store.list_page(keys, prefix=prefix, token=token)
        shown = [path not in self._calls.hides for path in page.rows.column("path").to_pylist()]
        return replace(page, rows=page.rows.filter(shown))

    async def head(self, key: Key, **asked: Any) -> Head:
        self._calls.heads.append(key)
        if self._calls.head_error is not None:
            raise self._calls.head_error
        return await self._store.head(key, **asked)


@dataclass
class Checked:
    """A version of a world, to be looked at again; the workspace that keeps it, and its servers."""

    world: World
    kept: Kept
    calls: Calls = field(default_factory=Calls)
    options: SourceOptions = field(default_factory=SourceOptions)

    async def verify(self, tell: Tell | None = None, **selected: Any) -> ReferenceReport:
        self.calls.pages, self.calls.heads = 0, []
        self.world.wrap = self.calls.wrap
        workspace: Any = self
        return await Handle(workspace, self.kept.record).verify(**selected, tell=tell)

    async def manifest(self, _: str) -> Manifest:
        return self.kept.manifest

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Checked]:
        yield self

    def reach(self, *_: Any) -> Reach:
        return self.world.reach()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kept, name)


async def checked(world: World, *sources: str, **asked: Any) -> Checked:
    requests = commit_spy(world)
    done = await world.snapshot(*sources, **asked)
    return Checked(world, kept_of(requests[-1], done.result.version, world.tracker._shards))


def world_of(count: int, **options: Any) -> World:
    return World({"bb": bucket(*numbered(count))}, page_entries=1_000, **options)


async def test_many_entries_are_listed_and_few_are_asked_for() -> None:
    version = await checked(world_of(300), "s3://bb/")
    report = await version.verify()
    assert (report.entries, report.confirmed, report.is_right) == (300, 300, True)
    assert (version.calls.pages, version.calls.heads) == (1, [])
    few = await version.verify(prefix=b"00")
    assert (few.entries, few.confirmed) == (10, 0)
    assert (version.calls.pages, len(version.calls.heads)) == (0, 10)
    # Of as many in a prefix that holds far more, each is asked for.
    sparse = await checked(world_of(900), "s3://bb/", include=["??[0-2]"])
    sparse.kept.tilings[0] = sparse.kept.tilings[0].replace(b'"listed":900', b'"listed":90000')
    await sparse.verify()
    assert (sparse.calls.pages, len(sparse.calls.heads)) == (0, 270)


async def test_a_listing_never_condemns() -> None:
    version = await checked(world_of(300), "s3://bb/")
    version.calls.hides = {b"007", b"150"}
    report = await version.verify()
    assert (report.is_right, report.confirmed) == (True, 298)
    assert version.calls.heads == [b"007", b"150"]
    errors = [BrokenListing("x"), AccessDenied("x"), StoreUnavailable("x")]
    for error in errors:
        version.calls.list_error = error
        report = await version.verify()
        assert (report.is_right, report.confirmed) == (True, 0)
        assert len(version.calls.heads) == 300


async def test_a_prefix_that_has_grown_is_not_listed_to_its_end() -> None:
    world = world_of(300)
    version = await checked(world, "s3://bb/")
    world.buckets["bb"].update({b"099/%05d" % at: made(b"x") for at in range(27_000)})
    report = await version.verify()
    assert report.is_right
    assert version.calls.pages <= 300 / LISTING_COST_HEADS + 1
    assert report.confirmed == 100
    assert len(version.calls.heads) == 200


async def test_what_was_written_anew_with_versions_is_kept_or_gone() -> None:
    objects: dict[bytes, MemoryObject | None] = {
        b"%03d" % at: made(b"x", "v1") for at in range(100)
    }
    properties = replace(World({}).properties, versions=True)
    world = World({"bb": objects}, page_entries=1_000, properties=properties)
    version = await checked(world, "s3://bb/")
    objects[b"050"] = made(b"x", "v2")
    objects[b"051"] = None
    report = await version.verify()
    # This store keeps the newest version alone.
    assert [(path, finding.kind) for path, finding in report.findings] == [
        (b"050", "gone"),
        (b"051", "gone"),
    ]
    assert version.calls.heads == [b"050", b"051"]


async def test_a_server_that_is_not_there_is_not_asked_for_everything() -> None:
    version = await checked(world_of(900), "s3://bb/")
    version.calls.list_error = version.calls.head_error = StoreUnavailable("nobody is there")
    report = await version.verify()
    assert report.kinds == {"unavailable": 900}
    assert len(version.calls.heads) <= 2 * HEADS_AT_ONCE_MAX * SHARDS_VERIFIED_AT_ONCE
    assert len(report.findings) == 20
    version.calls.head_error = MissingCredentials("none were found")
    with pytest.raises(MissingCredentials):
        await version.verify()


async def test_entries_of_many_sources_are_told_in_order() -> None:
    world = World({"bb": bucket(*numbered(100)), "cc": bucket("x", "y")}, page_entries=1_000)
    version = await checked(world, "one=s3://bb/", "two=s3://cc/", "z=s3://cc/x")
    for name, key in (("bb", b"003"), ("bb", b"099"), ("cc", b"x")):
        del world.buckets[name][key]
    told: list[bytes] = []
    report = await version.verify(tell=lambda path, _: told.append(path))
    assert told == [b"one/003", b"one/099", b"two/x", b"z/x"]
    assert (report.entries, report.lost) == (103, 4)
