"""Structure: proves offline that what is kept of a version is whole, and is what it says it is.

Invariants
  * No store is asked for anything: what is read is the version's root, its shards and its tilings.
  * Each kind of fault has a check of its own name, and each check is in the report, right or wrong;
    one whose means are missing says that it was not made, and the version is then not proven.
  * One shard is in memory at a time, and what a run of shards needs to be cut again: two bytes a
    row.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from indexer.artifact.verify.tiling import TileCount, Tiling, gaps, read_tiling
from indexer.errors import CorruptContent, InvalidSetting
from indexer.globs import Filters
from indexer.keyspace import RUN_ROWS_MAX, cut_long_run, low_digests
from indexer.limits import CATALOG_ROWS_MAX, FAULTS_SHOWN_MAX
from indexer.manifest import Manifest, ShardRef, SourceRef, read_manifest
from indexer.page import paths_of
from indexer.records import Check, Consistency, ScanSummary, StructureReport, VersionRecord
from indexer.references import VersionRef
from indexer.sources import parse_source
from indexer.telemetry import Counters
from indexer.workspace import Workspace

CheckName = Literal[
    "manifest", "totals", "shards", "order", "counts", "sources", "cuts", "tiling", "sums", "tiles",
    "filters",
]  # fmt: skip

CHECKS: Final[dict[CheckName, str]] = {
    "manifest": "the root is canonical, and the version's digest is its digest",
    "totals": "the version says as many objects and bytes as its shards have in all",
    "shards": "each shard is there, its rows ascend by path, and have the digest that names it",
    "order": "shards ascend, and none reaches into the next one",
    "counts": "each shard has the rows, the bytes and the last path that the root says",
    "sources": "each entry stands below the mount of a source, or is the object that one names",
    "cuts": "each shard ends where the rule of cuts says, and nowhere else",
    "tiling": "what each scan listed covers the keys of every source, without gap or overlap",
    "sums": "what each scan listed and kept adds up to what is said of it",
    "tiles": "each range that was listed has the entries that were kept there",
    "filters": "each entry is one that the filters keep",
}
"""What each check proves, in the order in which they are reported."""


async def verify_structure(
    workspace: Workspace, version: VersionRecord, counters: Counters | None = None
) -> StructureReport:
    """What can be proven of a version without asking a store. Raises `NoSuchVersion`."""
    proof = _Proof(workspace, version, counters or Counters())
    await proof.run()
    return StructureReport(
        ref=version.ref,
        checks=tuple(
            Check(name, CHECKS[name], proof.made[name], proof.total[name], tuple(faults))
            for name, faults in proof.faults.items()
        ),
        notices=tuple(proof.notices),
    )


class _Proof:
    """The checks of one version: how much each has looked at, and what it found wrong."""

    def __init__(self, workspace: Workspace, version: VersionRecord, counters: Counters) -> None:
        self._workspace = workspace
        self._version = version
        self._ref = VersionRef(version.name, f"v{version.number}")
        self._counters = counters
        self.made: dict[CheckName, int | None] = dict.fromkeys(CHECKS)
        self.total: dict[CheckName, int] = dict.fromkeys(CHECKS, 0)
        self.faults: dict[CheckName, list[str]] = {name: [] for name in CHECKS}
        self.notices: list[str] = []

    async def run(self) -> None:
        manifest = await self._manifest()
        if manifest is None:
            return
        self._totals(manifest)
        created = await self._scans(manifest)
        await self._shards(manifest, created)

    def _looked_at(self, name: CheckName, count: int = 1) -> None:
        self.made[name] = (self.made[name] or 0) + count

    def _wrong(self, name: CheckName, said: str) -> None:
        self.total[name] += 1
        if len(self.faults[name]) < FAULTS_SHOWN_MAX:
            self.faults[name].append(said)

    # --- the root

    async def _manifest(self) -> Manifest | None:
        digest = self._version.digest
        self._looked_at("manifest")
        try:
            manifest = read_manifest(await self._workspace.root(digest))
        except CorruptContent as error:
            self._wrong("manifest", str(error))
            return None
        if manifest.digest != digest:
            self._wrong("manifest", f"the root has the digest {manifest.digest}, not {digest}")
            return None
        return manifest

    def _totals(self, manifest: Manifest) -> None:
        self._looked_at("totals")
        for what, said, found in (
            ("objects", self._version.objects, manifest.rows),
            ("bytes", self._version.size_bytes, manifest.size_bytes),
        ):
            if said != found:
                self._wrong("totals", f"the version says {said:,} {what}, its root {found:,}")

    # --- what was listed

    async def _scans(self, manifest: Manifest) -> Tiling | None:
        """Checks every scan, and gives what was listed by the one that made the version."""
        created: Tiling | None = None
        after: int | None = None
        while True:
            scans = await self._workspace.scans(self._ref, after=after, limit=CATALOG_ROWS_MAX)
            for scan in scans:
                tiling = await self._scan(manifest, scan)
                created = tiling if scan.created else created
            if len(scans) < CATALOG_ROWS_MAX:
                break
            after = scans[-1].id
        if self._version.consistency is Consistency.PARTIAL:
            self.notices.append(
                f"The version is partial: of its sources the first {self._version.listed:,} "
                f"objects were listed, and what comes after them is not known."
            )
        return created

    async def _scan(self, manifest: Manifest, scan: ScanSummary) -> Tiling | None:
        named = f"scan {scan.id}"
        self._looked_at("tiling")
        try:
            tiling = read_tiling(await self._workspace.tiling(self._ref, scan.id))
        except CorruptContent as error:
            self._wrong("tiling", f"{named}: {error}")
            return None
        is_partial = scan.consistency is Consistency.PARTIAL
        for said in gaps(tiling, manifest.sources, is_partial=is_partial):
            self._wrong("tiling", f"{named}: {said}")
        self._looked_at("sums")
        for said in _sums(tiling, scan, manifest.rows):
            self._wrong("sums", f"{named}: {said}")
        return tiling

    # --- the shards

    async def _shards(self, manifest: Manifest, created: Tiling | None) -> None:
        look = _Look(manifest, created)
        for name in ("shards", *look.names):
            self._looked_at(name, 0)
        for shard in manifest.shards:
            table = await self._shard(shard)
            if table is None:
                look.skip(shard)
                continue
            for name in look.names:
                self._looked_at(name)
            # Some 20 ms of Python for a shard of mean size, beside which a daemon answers others.
            for name, said in await asyncio.to_thread(lambda: list(look.at(shard, table))):  # noqa: B023
                self._wrong(name, said)
        if look.tiles is None:
            self.made["tiles"] = None
        elif created is not None:
            self._tiles(look.tiles, created)

    async def _shard(self, shard: ShardRef) -> pa.Table | None:
        self._looked_at("shards")
        try:
            table = await self._workspace.shard(shard.digest)
        except CorruptContent as error:
            self._wrong("shards", str(error))
            return None
        self._counters.objects_listed += table.num_rows
        return table

    def _tiles(self, tiles: TileCount, created: Tiling) -> None:
        if tiles.outside:
            self._wrong("tiles", f"{tiles.outside:,} entries stand where nothing was listed")
        for said in tiles.differences():
            self._wrong("tiles", said)
        if tiles.missing != created.gone:
            self._wrong(
                "tiles",
                f"{tiles.missing:,} objects were kept that are no entries, and {created.gone:,} "
                f"are known to have been gone",
            )


class _Look:
    """What is looked at in the rows of each shard; they come in order."""

    def __init__(self, manifest: Manifest, created: Tiling | None) -> None:
        self._sources = manifest.sources
        self._last = manifest.shards[-1] if manifest.shards else None
        self._cuts = CutCheck()
        self._before: bytes | None = None
        self._filters = None if created is None else _filters(created)
        self.tiles = None if created is None else TileCount(created, manifest.sources)
        self.names: list[CheckName] = ["order", "counts", "sources", "cuts"]
        if self.tiles is not None:
            self.names.append("tiles")
        if self._filters is not None:
            self.names.append("filters")

    def skip(self, shard: ShardRef) -> None:
        """A shard cannot be read."""
        self._cuts.skip()
        self._before = shard.max_path
        if self.tiles is not None:
            # Which rows are missing is not known, so neither is what their ranges should have.
            self.tiles = None
            self.names.remove("tiles")

    def at(self, shard: ShardRef, table: pa.Table) -> Iterator[tuple[CheckName, str]]:
        """What is wrong with the next shard, by the name of the check."""
        paths = paths_of(table)
        if self._before is not None and paths[0] <= self._before:
            yield "order", f"shard {shard.digest} begins within the one before"
        self._before = paths[-1]
        for said in _counts(shard, table, paths):
            yield "counts", said
        for said in _strangers(self._sources, paths):
            yield "sources", said
        for said in self._cuts.add(shard, paths, is_last=shard == self._last):
            yield "cuts", said
        if self.tiles is not None:
            self.tiles.add(paths)
        if self._filters is not None:
            left_out = table.num_rows - pc.sum(_keeps(self._filters, table)).as_py()
            if left_out:
                yield "filters", f"{left_out:,} rows of shard {shard.digest} are left out by them"


class CutCheck:
    """Whether shards end where the rule of cuts says; they come in order.

    A run is what lies between two cuts of the first level. It is one shard, or cut again if long,
    which is known at its end: so shards are judged when their run has ended.
    """

    def __init__(self) -> None:
        self._digests = array("H")
        self._shards: list[tuple[str, int]] = []
        self._is_known = True

    def skip(self) -> None:
        """A shard is missing: of the run that it belongs to nothing can be said."""
        self._begin(is_known=False)

    def add(self, shard: ShardRef, paths: Sequence[bytes], *, is_last: bool) -> Iterator[str]:
        """Takes the next shard; what is wrong with the run that it ends, in words."""
        digests = low_digests(paths)
        within = next((row for row, low in enumerate(digests[:-1]) if not low), None)
        if within is not None:
            yield (
                f"shard {shard.digest} goes on after {paths[within]!r}, where the rule of cuts "
                f"ends it"
            )
            self._begin(is_known=False)
        self._shards.append((shard.digest, len(digests)))
        if self._is_known:
            self._digests.extend(digests)
        if is_last or not digests[-1]:
            yield from self._end()

    def _end(self) -> Iterator[str]:
        if self._is_known:
            rows = len(self._digests)
            whole = [rows] if rows <= RUN_ROWS_MAX else cut_long_run(self._digests)
            found = [length for _, length in self._shards]
            if found != whole:
                wrong = next(
                    (digest for (digest, length), wanted in zip(self._shards, whole, strict=False)
                     if length != wanted),
                    self._shards[-1][0],
                )  # fmt: skip
                yield (
                    f"shard {wrong} ends where the rule of cuts does not: {rows:,} rows between "
                    f"two cuts are {len(found)} shards, and should be {len(whole)}"
                )
        self._begin(is_known=True)

    def _begin(self, *, is_known: bool) -> None:
        self._digests = array("H")
        self._shards = []
        self._is_known = is_known


def _filters(tiling: Tiling) -> Filters | None:
    try:
        return Filters(tiling.include, tiling.exclude)
    except InvalidSetting:
        return None


def _keeps(filters: Filters, table: pa.Table) -> pa.ChunkedArray:
    selector = filters.selector()
    return pa.chunked_array([selector.keeps(batch) for batch in table.to_batches()], pa.bool_())


def _sums(tiling: Tiling, scan: ScanSummary, rows: int) -> Iterator[str]:
    """In what the sums of a scan's tiles differ from what is said of it, in words."""
    is_partial = scan.consistency is Consistency.PARTIAL
    if (tiling.listed < scan.listed) if is_partial else (tiling.listed != scan.listed):
        yield f"its tiles list {tiling.listed:,} objects, and {scan.listed:,} are said to be listed"
    if tiling.kept != rows:
        yield f"its tiles keep {tiling.kept:,} entries, and the version has {rows:,}"
    is_filtered = bool(tiling.include or tiling.exclude)
    for tile in tiling.tiles:
        if tile.kept > tile.listed or not (is_filtered or is_partial or tile.kept == tile.listed):
            yield (
                f"of {tile.listed:,} objects after {tile.keys.after!r} {tile.kept:,} are said to "
                f"be kept"
            )


def _counts(shard: ShardRef, table: pa.Table, paths: Sequence[bytes]) -> Iterator[str]:
    size_bytes = pc.sum(table.column("size")).as_py()
    for what, said, found in (
        ("rows", shard.rows, table.num_rows),
        ("bytes", shard.size_bytes, size_bytes),
    ):
        if said != found:
            yield f"shard {shard.digest} has {found:,} {what}, and {said:,} are said"
    if paths[-1] != shard.max_path:
        yield f"shard {shard.digest} ends with {paths[-1]!r}, and {shard.max_path!r} is said"


def _strangers(sources: Sequence[SourceRef], paths: Sequence[bytes]) -> Iterator[str]:
    """Paths that no source can have, the first of a shard."""
    prefixes = tuple(source.path_prefix for source in sources)
    objects = {
        source.path_prefix: source.path_prefix + parse_source(source.uri).last_component
        for source in sources
        if not source.uri.endswith("/") and not parse_source(source.uri).is_list
    }
    for path in paths:
        if not path.startswith(prefixes):
            yield f"{path!r} stands below the mount of no source"
            return
    for prefix, name in objects.items():
        stranger = next((p for p in paths if p.startswith(prefix) and p != name), None)
        if stranger is not None:
            yield f"{stranger!r} is not the object {name!r} that the source names"
