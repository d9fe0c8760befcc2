"""What changed between two versions, of which nearly all is the same, beside joins of two listings.

Invariants
  * All compare the same entries: ours two versions in a data folder, the others two Parquet files
    of paths, sizes and ETags. Both are in memory where there is room.
  * Each has to find every change there is. A quarter of them are entries that are gone, a quarter
    are new, and the others have another ETag.
  * Start-up is apart: each program takes the time of its reading and comparing itself. What the
    command takes in all is measured beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.filled import kind_of, quick_folder
from benchmarks.goals import OUR_DIFF
from benchmarks.measure import Counted, RunFailed, Series
from benchmarks.results import Sitting, say
from benchmarks.sizes import Sizes
from benchmarks.tools import OURS, Tool, count_said, indexer_command, neighbour
from indexer.app import open_app
from indexer.content import encode_shard
from indexer.keyspace import RUN_ROWS_MAX, cut_long_run, cut_rows, low_digests
from indexer.manifest import Manifest, ShardRef, SourceRef
from indexer.page import rows_digest
from indexer.protocols import CommitRequest, Tracker
from indexer.references import ArtifactName
from indexer.testing.commits import make_scan
from indexer.testing.keysets import keys

BENCHMARK: Final = "diff"
NAME: Final = ArtifactName("bench", "objects")
BYTES_OF_ENTRY: Final = 300
"""Of two versions and two listings, roughly."""

SCATTERED: Final = "scattered"
TOGETHER: Final = "in one folder"
KINDS_IN_TURN: Final = 4
ENTRY: Final = pa.schema([("path", pa.binary()), ("size", pa.int64()), ("etag_md5", pa.binary(16))])


def measure(sitting: Sitting, sizes: Sizes) -> None:
    """Records both ways of changing so many entries, for each shape."""
    for shape in sizes.diff_shapes:
        with quick_folder(sizes.diff_objects * BYTES_OF_ENTRY, files=2_000) as folder:
            old = _Listing.of(keys(shape, sizes.diff_objects))
            asyncio.run(_fill(folder, old, sizes.diff_changes))
            for place, version in ((TOGETHER, "v1"), (SCATTERED, "v2")):
                workload = {
                    "shape": shape,
                    "place": f"{sizes.diff_changes:,} {place}",
                    "objects": sizes.diff_objects,
                    "kept": kind_of(folder),
                }
                _compare(sitting, sizes, workload, folder, version)


def _compare(
    sitting: Sitting, sizes: Sizes, workload: dict[str, object], folder: Path, version: str
) -> None:
    if missing := [tool.name for tool in TOOLS if not tool.is_installed]:
        say(f"not installed, so left out: {', '.join(missing)}")
    series = {
        tool: Series(tool.command(f"{folder}:{version}", 0), None, _all_found(tool, sizes))
        for tool in TOOLS
        if tool.is_installed
    }
    for _ in range(sizes.repeats):
        for tool, one in list(series.items()):
            try:
                one.run(sizes.diff_objects)
            except RunFailed as error:
                del series[tool]
                sitting.fail(f"{BENCHMARK}, {workload['place']}, {tool.name}", error)
                continue
            wall_s = one.samples()["wall_s"][-1]
            what = f"{workload['shape']}, {workload['place']}"
            say(f"{BENCHMARK:9} {what:28} {tool.name:24} {wall_s:8.3f} s")
    for tool, one in series.items():
        sitting.record(
            BENCHMARK,
            workload,
            tool.name,
            one.figures(),
            samples=one.samples(),
            version=tool.version,
        )


def _all_found(tool: Tool, sizes: Sizes) -> Callable[[str], Counted]:
    """What a tool says, which raises `RunFailed` if it found other changes than there are."""
    objects, changes = sizes.diff_objects, sizes.diff_changes

    def count(output: str) -> Counted:
        said = tool.count(output)
        if said.figures["changes"] != changes:
            raise RunFailed(f"it found {said.figures['changes']:,.0f} of {changes:,} changes")
        return Counted(objects, said.figures)

    return count


def _count_summary(output: str) -> Counted:
    """Of `indexer diff --summary --json`."""
    said = json.loads(output)
    changes = sum(tally["objects"] for tally in said["tallies"].values())
    figures = {name: said[name] for name in ("shards", "shards_read")}
    return Counted(0, {"changes": changes, **figures})


def _our_command(place: str, _objects: int) -> list[str]:
    folder, _, version = place.rpartition(":")
    options = (f"--data={folder}/data", "--summary", "--json")
    return [*indexer_command(), "diff", f"{NAME}:v0", version, *options]


TOOLS: Final = (
    Tool(OUR_DIFF, "compare", OURS.distribution, ("indexer",),
         lambda place, _: [sys.executable, "-m", "benchmarks.macro.our_diff", place],
         count_said, times_itself=True),
    Tool("indexer diff --summary", "compare, in all", OURS.distribution, ("indexer",),
         _our_command, _count_summary),
    Tool("DuckDB, full join", "compare", "duckdb", ("duckdb",),
         neighbour("diff_with_duckdb"), count_said, times_itself=True),
    Tool("pyarrow, full join", "compare", "pyarrow", ("pyarrow",),
         neighbour("diff_with_pyarrow"), count_said, times_itself=True),
    Tool("pandas, outer merge", "compare", "pandas", ("pandas",),
         neighbour("diff_with_pandas"), count_said, times_itself=True),
)  # fmt: skip


# --- what is compared ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Listing:
    """Entries in key order, as columns of Python values."""

    paths: Sequence[bytes]
    etags: Sequence[bytes]

    @classmethod
    def of(cls, paths: Sequence[bytes]) -> _Listing:
        """The entries of these paths."""
        return cls(paths, [_md5(path) for path in paths])

    def changed(self, rows: Sequence[int]) -> _Listing:
        """The entries after something happened to these rows."""
        found: dict[int, list[tuple[bytes, bytes]]] = {}
        for turn, row in enumerate(rows):
            path, etag = self.paths[row], self.etags[row]
            found[row] = [(path, _md5(b"other" + path))]
            if turn % KINDS_IN_TURN == 0:
                found[row] = []
            elif turn % KINDS_IN_TURN == 1:
                found[row] = [(path, etag), (path + b"~", _md5(path + b"~"))]
        pairs = [
            pair
            for row, one in enumerate(zip(self.paths, self.etags, strict=True))
            for pair in found.get(row, [one])
        ]
        pairs.sort()
        return _Listing(*zip(*pairs, strict=True))

    def table(self) -> pa.Table:
        """The entries as Arrow has them."""
        sizes = [1_000 + path[-1] for path in self.paths]
        return pa.table([list(self.paths), sizes, list(self.etags)], schema=ENTRY)

    def shard_rows(self) -> list[int]:
        """How many rows each shard has."""
        ends = [row + 1 for row in cut_rows(self.paths)]
        if not ends or ends[-1] != len(self.paths):
            ends.append(len(self.paths))
        lengths: list[int] = []
        start = 0
        for end in ends:
            is_long = end - start > RUN_ROWS_MAX
            run = self.paths[start:end]
            lengths += cut_long_run(low_digests(run)) if is_long else [end - start]
            start = end
        return lengths


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()  # noqa: S324 - as S3 does


async def _fill(folder: Path, old: _Listing, changes: int) -> None:
    """Makes the versions v0, v1 and v2, and a Parquet file of each."""
    rows = len(old.paths)
    start = rows // 2 // changes * changes
    together = old.changed(range(start, start + changes))
    scattered = old.changed([row * rows // changes for row in range(changes)])
    async with open_app(folder / "data") as app:
        parent: str | None = None
        for number, listing in enumerate((old, together, scattered)):
            table = listing.table()
            pq.write_table(table, folder / f"v{number}.parquet")
            manifest = await _put(app.tracker, table, listing.shard_rows())
            request = CommitRequest(
                request_id=f"v{number}",
                name=NAME,
                type=None,
                manifest=manifest,
                scan=make_scan(),
                expect=parent,
            )
            parent = (await app.tracker.commit(request)).version.digest


async def _put(tracker: Tracker, table: pa.Table, lengths: Sequence[int]) -> Manifest:
    shards: list[ShardRef] = []
    start = 0
    for length in lengths:
        rows = table.slice(start, length).combine_chunks()
        start += length
        sizes = rows.column("size").to_pylist()
        last = rows.column("path")[-1].as_py()
        shards.append(ShardRef(last, rows_digest(rows), length, sum(sizes)))
        if await tracker.missing([shards[-1].digest]):
            await tracker.put_shard(shards[-1].digest, encode_shard(rows))
    return Manifest((SourceRef("s3://bucket/"),), tuple(shards))
