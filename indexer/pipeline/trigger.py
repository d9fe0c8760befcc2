"""trigger: what a snapshot is asked to do, checked before anything is touched.

Invariants
  * A request that exists is valid by itself; what depends on the store or the catalog is found out
    by the job.
  * Sources stand in the order of their mounts, which is the order of their entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from indexer.checksums import CHECKSUMS
from indexer.commit_rules import check_name, check_ttl
from indexer.defaults import OnLimit
from indexer.errors import InvalidSetting
from indexer.globs import Filters
from indexer.label_rules import check_change
from indexer.limits import OBJECTS_MAX, OBJECTS_MAX_DEFAULT, SLICE_PAGES_MAX
from indexer.records import LabelChange
from indexer.references import ArtifactName, parse_alias, parse_run
from indexer.sources import Source, check_sources

MOMENT_MIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT_MAX: Final = datetime(2262, 1, 1, tzinfo=UTC)
"""Times of objects are compared as nanoseconds since 1970, in 64 bits."""


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """One snapshot, as it was asked for.

    `objects_max` counts live objects that are listed, over all sources; with `on_limit` "partial"
    the first so many in key order are kept instead of an error. `allow_empty` makes a version of no
    entries. `type` is fixed by an artifact's first version; None takes the artifact's own, or
    `dataset`.

    `checksum` is one of `checksums.CHECKSUMS`; None takes `md5` for files and `none` for all other
    stores. With `heads`, a HEAD is asked for entries whose version the listing does not tell.
    `as_of` asks for the state at that moment, from the store's versions. The version expires `ttl`
    after it is made.

    `run` is the id of the run that the version is to be of; None makes one.

    Raises `InvalidSetting` and `InvalidReference`.
    """

    sources: tuple[Source, ...]
    name: ArtifactName
    type: str | None = None
    aliases: tuple[str, ...] = ()
    notes: str | None = None
    objects_max: int = OBJECTS_MAX_DEFAULT
    on_limit: OnLimit = "error"
    allow_empty: bool = False
    filters: Filters = field(default_factory=Filters)
    checksum: str | None = None
    heads: bool = False
    as_of: datetime | None = None
    ttl: timedelta | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    run: str | None = None
    slice_pages_max: int = SLICE_PAGES_MAX

    def __post_init__(self) -> None:
        check_sources(self.sources)
        ordered = tuple(sorted(self.sources, key=lambda source: source.path_prefix))
        object.__setattr__(self, "sources", ordered)
        if not 1 <= self.objects_max <= OBJECTS_MAX:
            raise InvalidSetting(
                f"{self.objects_max:,} is no limit for objects: give --max-objects a number from 1 "
                f"to {OBJECTS_MAX:,}."
            )
        if self.on_limit not in ("error", "partial"):
            raise InvalidSetting(
                f"{self.on_limit!r} is nothing to do at the limit: write error or partial."
            )
        if self.checksum is not None and self.checksum not in CHECKSUMS:
            raise InvalidSetting(
                f"{self.checksum!r} is no checksum: choose one of {', '.join(CHECKSUMS)}."
            )
        if self.as_of is not None and self.as_of.tzinfo is None:
            raise InvalidSetting(
                f"{self.as_of.isoformat()} has no time zone: write it as in 2026-03-01T12:00:00Z."
            )
        if self.as_of is not None and not MOMENT_MIN <= self.as_of <= MOMENT_MAX:
            raise InvalidSetting(
                f"{self.as_of.isoformat()} is no moment that a store can tell of: write one "
                f"since 1970."
            )
        if self.ttl is not None:
            check_ttl(self.ttl)
        if self.type is not None:
            check_name("type", self.type)
        check_change(LabelChange(self.notes, self.description, self.metadata, add_tags=self.tags))
        if self.run is not None:
            parse_run(self.run)
        for alias in self.aliases:
            parse_alias(alias)
        assert self.slice_pages_max > 0

    @property
    def keeps_first(self) -> bool:
        """Whether the first `objects_max` objects are kept when there are more."""
        return self.on_limit == "partial"

    @property
    def title(self) -> str:
        """The sources in a few words."""
        if len(self.sources) == 1:
            return self.sources[0].shown
        return f"{len(self.sources)} sources ({self.sources[0].shown}, …)"

    def checksum_of(self, source: Source) -> str:
        """The checksum that entries of a source are to have."""
        if self.checksum is not None:
            return self.checksum
        return "md5" if source.uri.scheme == "file" else "none"
