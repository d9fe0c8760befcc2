"""trigger: what a snapshot is asked to do, checked before anything is touched.

Invariants
  * A request that exists is valid by itself; what depends on the store or the catalog is found out
    by the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexer.commit_rules import check_name, check_notes
from indexer.errors import InvalidSetting
from indexer.limits import OBJECTS_MAX, OBJECTS_MAX_DEFAULT, SLICE_PAGES_MAX
from indexer.references import ArtifactName, parse_alias
from indexer.sources import SourceUri

OnLimit = Literal["error", "partial"]


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """One snapshot, as it was asked for.

    `objects_max` counts live objects that are listed; with `on_limit` "partial" the first so many
    in key order are kept instead of an error. `allow_empty` makes a version of no entries. `type`
    is fixed by an artifact's first version; None takes the artifact's own, or `dataset`.

    Raises `InvalidSetting` and `InvalidReference`.
    """

    uri: SourceUri
    name: ArtifactName
    type: str | None = None
    aliases: tuple[str, ...] = ()
    notes: str | None = None
    objects_max: int = OBJECTS_MAX_DEFAULT
    on_limit: OnLimit = "error"
    allow_empty: bool = False
    slice_pages_max: int = SLICE_PAGES_MAX

    def __post_init__(self) -> None:
        if not 1 <= self.objects_max <= OBJECTS_MAX:
            raise InvalidSetting(
                f"{self.objects_max:,} is no limit for objects: give --max-objects a number from 1 "
                f"to {OBJECTS_MAX:,}."
            )
        if self.on_limit not in ("error", "partial"):
            raise InvalidSetting(
                f"{self.on_limit!r} is nothing to do at the limit: write error or partial."
            )
        if self.type is not None:
            check_name("type", self.type)
        if self.notes is not None:
            check_notes(self.notes)
        for alias in self.aliases:
            parse_alias(alias)
        assert self.slice_pages_max > 0

    @property
    def keeps_first(self) -> bool:
        """Whether the first `objects_max` objects are kept when there are more."""
        return self.on_limit == "partial"
