"""What was proven of a version, and which of its references still hold, as documents."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from indexer.protocols import LinkAccess
from indexer.records import Check, StructureReport
from indexer.texts import printable
from indexer.wire.artifacts import path_fields
from indexer.wire.base import Answer


class CheckDocument(Answer, frozen=True, kw_only=True):
    """One check of a version's structure. `looked_at` is null where it could not be made."""

    name: str
    said: str
    right: bool
    looked_at: int | None
    wrong: int
    faults: list[str]

    @classmethod
    def of(cls, check: Check) -> CheckDocument:
        """The document of a record."""
        return cls(
            name=check.name,
            said=check.said,
            right=check.is_right,
            looked_at=check.looked_at,
            wrong=check.wrong,
            faults=list(check.faults),
        )

    def record(self) -> Check:
        """The record of the document."""
        return Check(self.name, self.said, self.looked_at, self.wrong, tuple(self.faults))


class StructureDocument(Answer, frozen=True, kw_only=True):
    """What was proven of a version without asking a store."""

    ref: str
    right: bool
    checks: list[CheckDocument]
    notices: list[str]

    @classmethod
    def of(cls, report: StructureReport) -> StructureDocument:
        """The document of a record."""
        return cls(
            ref=report.ref,
            right=report.is_right,
            checks=[CheckDocument.of(check) for check in report.checks],
            notices=list(report.notices),
        )

    def record(self) -> StructureReport:
        """The record of the document."""
        checks = tuple(check.record() for check in self.checks)
        return StructureReport(self.ref, checks, tuple(self.notices))


class FindingDocument(Answer, frozen=True, kw_only=True):
    """An entry that cannot be fetched; `path_base64` stands in place of a `path` that is no UTF-8.

    `found` is null where nothing was told.
    """

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    uri: str
    why: str
    recorded: str
    found: str | None
    said: str

    @classmethod
    def of(
        cls, path: bytes, uri: str, why: str, *, recorded: str, found: str | None, said: str
    ) -> FindingDocument:
        """The document of what was found of the entry at `path`."""
        return cls(
            **path_fields(path),
            uri=printable(uri),
            why=why,
            recorded=recorded,
            found=found,
            said=said,
        )


class ReferencesDocument(Answer, frozen=True, kw_only=True):
    """How many entries can be fetched, and how many cannot, by why."""

    ref: str
    right: bool
    entries: int
    fetchable: int
    lost: dict[str, int]
    listed: int
    superseded: int
    by_size: int
    archived: int
    requests: int


class EntryLinkDocument(Answer, frozen=True, kw_only=True):
    """Where an entry's bytes are fetched from; `path_base64` stands in place of a `path` that is no
    UTF-8.
    """

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    url: str
    size: int
    pinned: bool
    access: LinkAccess

    @classmethod
    def of(
        cls, path: bytes, url: str, size: int, *, is_pinned: bool, access: LinkAccess
    ) -> EntryLinkDocument:
        """The document of an entry's link."""
        return cls(**path_fields(path), url=url, size=size, pinned=is_pinned, access=access)
