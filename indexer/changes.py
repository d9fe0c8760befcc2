"""Changes between two versions, as values: what became of entries, and how many there are.

Invariants
  * A change stands at one path: that of the newer entry or, where there is none, of the older one.
  * Of one path there is one change at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from indexer.records import Entry


class ChangeKind(StrEnum):
    """What became of an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    """Its bytes are others, or nothing proves that they are the same."""
    IDENTITY = "identity"
    """Its bytes are the same; what is recorded of them is not."""
    RENAMED = "renamed"
    """Its bytes are the same; its path is not."""


@dataclass(frozen=True, slots=True)
class Tally:
    """So many entries, and the bytes of their objects in the older and in the newer version."""

    objects: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.objects + other.objects,
            self.bytes_before + other.bytes_before,
            self.bytes_after + other.bytes_after,
        )


Tallies = Mapping[ChangeKind, Tally]
"""By kind; every kind is there."""


def no_tallies() -> dict[ChangeKind, Tally]:
    """Nothing of any kind."""
    return dict.fromkeys(ChangeKind, Tally())


@dataclass(frozen=True, slots=True)
class DiffSummary:
    """How much changed between two manifests, by their digests, and how much was read for it.

    `has_renames` is false where more was added and removed than can be held while renames are
    looked for; then nothing is `renamed`. `shards` are those of both versions.
    """

    before: str
    after: str
    tallies: Tallies
    has_renames: bool
    shards: int
    shards_read: int

    @property
    def changes(self) -> int:
        """How many entries changed, in whatever way."""
        return sum(tally.objects for tally in self.tallies.values())


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one entry; `before` is None where it is new, `after` where it is gone."""

    kind: ChangeKind
    before: Entry | None
    after: Entry | None

    @property
    def path(self) -> bytes:
        """Where it stands."""
        entry = self.after or self.before
        assert entry is not None
        return entry.path


@dataclass(frozen=True, slots=True)
class DiffPage:
    """Changes in key order; `next` is the path to go on after, None at the end.

    It may be shorter than was asked for, and empty, and not be the last one.
    """

    summary: DiffSummary
    changes: tuple[Change, ...]
    next: bytes | None


@dataclass(frozen=True, slots=True)
class ChangedFolder:
    """What changed in a folder, whose path ends in a slash, or of a single entry at `path`."""

    path: bytes
    tallies: Tallies


@dataclass(frozen=True, slots=True)
class ChangedFolderPage:
    """What changed one level below a prefix, in key order; `next` is as that of `DiffPage`."""

    summary: DiffSummary
    folders: tuple[ChangedFolder, ...]
    next: bytes | None
