"""Garbage: deletes the files that no version needs, while others write beside it.

References are read first, then each file that nobody refers to is looked at, in batches. A batch is
one transaction that could write: nobody commits meanwhile. In it, what was committed since is read,
and each file is looked at again.

Invariants
  * Whatever a version names that is there stays. A commit looks for its files within its own
    transaction, and a file is deleted within one: one comes after the other.
  * What a running job of this machine has put, or was told is there, stays: it is newer than the
    job's lease. What is told by other machines stays for the grace.
  * Only files of the names that the indexer gives are looked at, where it keeps them.
  * After a kill at any moment nothing is missing; what was set aside is removed like every file
    that was being written.
  * If it cannot be told what is referred to, nothing is deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, select

from indexer.catalog.database import Database
from indexer.catalog.folder import TEMPORARY, FolderBlobStore, usable
from indexer.catalog.leases import Leases
from indexer.catalog.retention import Retention
from indexer.catalog.schema import artifacts, projects, scans, versions
from indexer.errors import CorruptContent
from indexer.limits import CLOCK_SLACK_S, GARBAGE_BATCH_FILES
from indexer.manifest import read_manifest
from indexer.records import Amount, GarbageKind, GarbageReport
from workers.threads import Threads

_NS_PER_S: Final = 1_000_000_000
_SHELF: Final = re.compile(r"[0-9a-f]{2}")
_NAMES: Final[Mapping[str, re.Pattern[str]]] = {
    "shards": re.compile(r"([0-9a-f]{64})\.parquet"),
    "blobs": re.compile(r"([0-9a-f]{64})"),
    "folders": re.compile(r"([0-9a-f]{64})\.db"),
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was found; `place` is the folder of its kind, `name` what names its content."""

    place: str
    name: str
    path: Path
    size_bytes: int
    modified_ns: int


class Garbage:
    """Collects the garbage of the data folder at `root`."""

    def __init__(
        self,
        root: Path,
        database: Database,
        files: FolderBlobStore,
        leases: Leases,
        retention: Retention,
        *,
        threads: Threads,
    ) -> None:
        self._root = root
        self._database = database
        self._files = files
        self._leases = leases
        self._retention = retention
        self._threads = threads

    async def collect(self, grace_s: float, *, is_dry_run: bool = False) -> GarbageReport:
        """Lets expired versions go, then deletes what nobody refers to and is older than that.

        A dry run says what would be, and changes nothing. Raises `CorruptContent` when the manifest
        of a version cannot be read; then no file was deleted. Raises `Temporary` when another
        process holds the catalog too long, and `UnusableDataFolder`; what was deleted until then
        is gone, and the next collection goes on.
        """
        if is_dry_run:
            expired = await self._retention.expired()
        else:
            await self._threads.run(self._leases.remove_dead)
            expired = await self._retention.expire()
        references = await self.references(without=(gone.version_id for gone in expired))
        tally = Tally()
        for place, shelf in await self._threads.run(_shelves, self._root):
            for old in await self._threads.run(
                self._old_files, place, shelf, references, grace_s, tally
            ):
                if is_dry_run:
                    for file in old:
                        tally.delete(references.kind_of(file), file)
                else:
                    await self._database.write(self._delete, old, references, grace_s, tally)
        return tally.report([gone.ref for gone in expired], grace_s, is_dry_run=is_dry_run)

    async def references(self, *, without: Iterable[int] = ()) -> References:
        """What all versions refer to, but for those with the ids `without`."""
        references = References()
        found = await self._database.read(_find_committed, references, frozenset(without))
        for digest, ref in found.refs.items():
            await self._threads.run(self._add_manifest, references, digest, ref)
        references.add(found)
        return references

    def _delete(
        self,
        connection: Connection,
        old: Iterable[File],
        references: References,
        grace_s: float,
        tally: Tally,
    ) -> None:
        """Deletes those of the files that are still old and that nobody refers to by now.

        Within a transaction that nobody can write beside.
        """
        found = _find_committed(connection, references)
        for digest, ref in found.refs.items():
            self._add_manifest(references, digest, ref)
        references.add(found)
        kept_from_ns = self._kept_from_ns(grace_s)
        for file in old:
            if references.has(file):
                continue
            with usable(self._root):
                was_old = take_away(file.path, kept_from_ns)
            if was_old is None:
                continue
            if was_old:
                tally.delete(references.kind_of(file), file)
            else:
                tally.keep(file)

    def _kept_from_ns(self, grace_s: float) -> int:
        """From what time on files are kept: that of the grace, or the oldest running job's.

        What is asked first is the time: a job that begins after that needs only newer files.
        """
        kept_from_ns = self._leases.now_ns() - int(grace_s * _NS_PER_S)
        oldest_ns = self._leases.oldest_ns()
        if oldest_ns is None:
            return kept_from_ns
        return min(kept_from_ns, oldest_ns - int(CLOCK_SLACK_S * _NS_PER_S))

    def _old_files(
        self, place: str, shelf: Path, references: References, grace_s: float, tally: Tally
    ) -> list[tuple[File, ...]]:
        """The old files of a folder that nobody refers to, in batches."""
        kept_from_ns = self._kept_from_ns(grace_s)
        old: list[File] = []
        for file in _files(place, shelf):
            if references.has(file):
                continue
            if file.modified_ns >= kept_from_ns:
                tally.keep(file)
            else:
                old.append(file)
        starts = range(0, len(old), GARBAGE_BATCH_FILES)
        return [tuple(old[start : start + GARBAGE_BATCH_FILES]) for start in starts]

    def _add_manifest(self, references: References, digest: str, ref: str) -> None:
        name = digest.removeprefix("sha256:")
        try:
            root = self._files.path_of(f"blobs/{name}").read_bytes()
            manifest = read_manifest(root)
        except (OSError, CorruptContent) as error:
            raise _undecided(ref, str(error)) from error
        if manifest.digest != digest:
            raise _undecided(ref, "the stored one has another digest")
        shards = manifest.shards
        references.names["shards"].update(shard.digest for shard in shards)
        references.names["blobs"].add(name)
        references.names["folders"].add(name)


@dataclass(slots=True)
class References:
    """The names that versions refer to, by place, of rows up to the ids `version_id`, `scan_id`.

    `kinds` tells what blobs are that are, or were, of a version. A billion entries are 61,000
    shards, whose names take some 10 MB; versions mostly share them.
    """

    names: dict[str, set[str]] = field(default_factory=lambda: {place: set() for place in _NAMES})
    kinds: dict[str, GarbageKind] = field(default_factory=dict)
    version_id: int = 0
    scan_id: int = 0

    def has(self, file: File) -> bool:
        """Whether somebody refers to the file."""
        return file.name in self.names[file.place]

    def kind_of(self, file: File) -> GarbageKind:
        """What the file is."""
        if file.place == "shards":
            return "shards"
        if file.place == "folders":
            return "folders"
        return self.kinds.get(file.name, "leftovers")

    def add(self, found: _Committed) -> None:
        """Takes in what was found, but for what is in manifests."""
        self.names["blobs"].update(found.tilings)
        self.kinds.update(found.kinds)
        self.version_id, self.scan_id = found.version_id, found.scan_id


@dataclass(slots=True)
class Tally:
    """What was deleted until now, by kind, and what was kept as it is too new."""

    deleted: dict[GarbageKind, Amount] = field(default_factory=dict)
    kept: Amount = field(default_factory=Amount)

    def delete(self, kind: GarbageKind, file: File) -> None:
        """Counts a file that was deleted."""
        self.deleted[kind] = self.deleted.get(kind, Amount()) + Amount(1, file.size_bytes)

    def keep(self, file: File) -> None:
        """Counts a file that was kept although nobody refers to it."""
        self.kept += Amount(1, file.size_bytes)

    def report(self, expired: list[str], grace_s: float, *, is_dry_run: bool) -> GarbageReport:
        """All of it."""
        return GarbageReport(
            is_dry_run=is_dry_run,
            grace_s=grace_s,
            expired=tuple(expired),
            deleted=dict(sorted(self.deleted.items())),
            kept=self.kept,
        )


def _undecided(ref: str, why: str) -> CorruptContent:
    return CorruptContent(
        f"the manifest of {ref} cannot be read ({why}), so what it needs is not known, and its "
        f"files may be no garbage. Restore it, or remove the version with 'indexer rm {ref}'."
    )


def take_away(path: Path, kept_from_ns: int) -> bool | None:
    """Deletes a file that was modified before that, and says whether it was; None if it is gone.

    Others may renew it at the same time (`FolderBlobStore.keep`). They look for it again after
    that, so one of the two is true: the file is found to be new here, after it was set aside, and
    is put back; or they find it gone, and put it anew. Blocks.
    """
    aside = path.parent.parent / f"{TEMPORARY}{uuid4().hex}"
    try:
        if path.lstat().st_mtime_ns >= kept_from_ns:
            return False
        path.rename(aside)
        if aside.lstat().st_mtime_ns >= kept_from_ns:
            aside.rename(path)
            return False
        aside.unlink()
    except FileNotFoundError:
        return None
    return True


@dataclass(frozen=True, slots=True)
class _Committed:
    """Manifests by digest, each with a version that has it; tilings; up to which rows."""

    refs: dict[str, str]
    tilings: list[str]
    kinds: dict[str, GarbageKind]
    version_id: int
    scan_id: int


def _find_committed(
    connection: Connection, known: References, without: frozenset[int] = frozenset()
) -> _Committed:
    """What was committed after what is known, and was not deleted since."""
    version_rows = connection.execute(
        select(
            versions.c.id,
            versions.c.manifest_digest,
            versions.c.number,
            versions.c.deleted_at,
            artifacts.c.name.label("artifact"),
            projects.c.name.label("project"),
        )
        .join_from(versions, artifacts, versions.c.artifact_id == artifacts.c.id)
        .join(projects, artifacts.c.project_id == projects.c.id)
        .where(versions.c.id > known.version_id)
    ).all()
    scan_rows = connection.execute(
        select(scans.c.id, scans.c.tiling, scans.c.version_id, versions.c.deleted_at)
        .join_from(scans, versions, scans.c.version_id == versions.c.id)
        .where(scans.c.id > known.scan_id)
    ).all()
    kinds: dict[str, GarbageKind] = {row.tiling: "tilings" for row in scan_rows}
    kinds |= {row.manifest_digest.removeprefix("sha256:"): "manifests" for row in version_rows}
    return _Committed(
        refs={
            row.manifest_digest: f"{row.project}/{row.artifact}:v{row.number}"
            for row in version_rows
            if row.deleted_at is None and row.id not in without
        },
        tilings=[
            row.tiling
            for row in scan_rows
            if row.deleted_at is None and row.version_id not in without
        ],
        kinds=kinds,
        version_id=max((row.id for row in version_rows), default=known.version_id),
        scan_id=max((row.id for row in scan_rows), default=known.scan_id),
    )


def _shelves(root: Path) -> list[tuple[str, Path]]:
    """The folders that files lie in, each with its place."""
    return [
        (place, shelf)
        for place in _NAMES
        if (root / place).is_dir()
        for shelf in sorted((root / place).iterdir())
        if _SHELF.fullmatch(shelf.name) and shelf.is_dir()
    ]


def _files(place: str, shelf: Path) -> Iterator[File]:
    """The files of a folder that have the names of content and lie where it would."""
    with os.scandir(shelf) as entries:
        for entry in entries:
            match = _NAMES[place].fullmatch(entry.name)
            if match and match[1].startswith(shelf.name) and entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = shelf / entry.name
                yield File(place, match[1], path, status.st_size, status.st_mtime_ns)
