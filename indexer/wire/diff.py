"""What changed between two versions, as documents."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from indexer.changes import (
    Change,
    ChangedFolder,
    ChangedFolderPage,
    ChangeKind,
    DiffPage,
    DiffSummary,
    Tallies,
    Tally,
)
from indexer.wire.artifacts import EntryDocument, path_fields, path_of
from indexer.wire.base import Answer, Digest, cursor_after, read_cursor


class TallyDocument(Answer, frozen=True, kw_only=True):
    """So many entries, and the bytes of their objects in the older and in the newer version."""

    objects: int
    bytes_before: int
    bytes_after: int

    @classmethod
    def of(cls, tally: Tally) -> TallyDocument:
        """The document of a tally."""
        return cls(
            objects=tally.objects, bytes_before=tally.bytes_before, bytes_after=tally.bytes_after
        )

    def record(self) -> Tally:
        """The tally of the document."""
        return Tally(self.objects, self.bytes_before, self.bytes_after)


class TalliesDocument(Answer, frozen=True, kw_only=True):
    """How many entries changed, by what became of them."""

    added: TallyDocument
    removed: TallyDocument
    content: TallyDocument
    identity: TallyDocument
    renamed: TallyDocument

    @classmethod
    def of(cls, tallies: Tallies) -> TalliesDocument:
        """The document of tallies."""
        return cls(**{str(kind): TallyDocument.of(tally) for kind, tally in tallies.items()})

    def record(self) -> Tallies:
        """The tallies of the document."""
        return {kind: getattr(self, kind).record() for kind in ChangeKind}


class DiffSummaryDocument(Answer, frozen=True, kw_only=True, tag_field="kind", tag="summary"):
    """How much changed between two versions, by digest, and how many shards were read for it.

    Where `renames` is false, too much was added and removed to look for renames.
    """

    before: Digest
    after: Digest
    tallies: TalliesDocument
    renames: bool
    shards: int
    shards_read: int

    @classmethod
    def of(cls, summary: DiffSummary) -> DiffSummaryDocument:
        """The document of a summary."""
        return cls(
            before=summary.before,
            after=summary.after,
            tallies=TalliesDocument.of(summary.tallies),
            renames=summary.has_renames,
            shards=summary.shards,
            shards_read=summary.shards_read,
        )

    def record(self) -> DiffSummary:
        """The summary of the document."""
        return DiffSummary(
            before=self.before,
            after=self.after,
            tallies=self.tallies.record(),
            has_renames=self.renames,
            shards=self.shards,
            shards_read=self.shards_read,
        )


class ChangeDocument(Answer, frozen=True, kw_only=True):
    """What became of an entry; `path_base64` stands in place of a `path` that is no UTF-8.

    The path is that of the newer entry or, where there is none, of the older one.
    """

    kind: ChangeKind
    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    before: EntryDocument | None
    after: EntryDocument | None

    @classmethod
    def of(cls, change: Change) -> ChangeDocument:
        """The document of a change."""
        return cls(
            kind=change.kind,
            **path_fields(change.path),
            before=EntryDocument.of(change.before) if change.before else None,
            after=EntryDocument.of(change.after) if change.after else None,
        )

    def record(self) -> Change:
        """The change of the document."""
        return Change(
            self.kind,
            self.before.record() if self.before else None,
            self.after.record() if self.after else None,
        )


class ChangedFolderDocument(Answer, frozen=True, kw_only=True, tag_field="kind", tag="folder"):
    """How much changed in a folder, whose path ends in a slash, or of the one entry at the path."""

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    tallies: TalliesDocument

    @classmethod
    def of(cls, folder: ChangedFolder) -> ChangedFolderDocument:
        """The document of a folder."""
        return cls(**path_fields(folder.path), tallies=TalliesDocument.of(folder.tallies))

    def record(self) -> ChangedFolder:
        """The folder of the document."""
        return ChangedFolder(path_of(self), self.tallies.record())


class DiffDocument(Answer, frozen=True, kw_only=True):
    """What changed, by path; `next` continues after it.

    A page may be shorter than was asked for; only a `next` of null is the end.
    """

    summary: DiffSummaryDocument
    results: list[ChangeDocument]
    next: str | None

    @classmethod
    def of(cls, page: DiffPage) -> DiffDocument:
        """The document of a page."""
        return cls(
            summary=DiffSummaryDocument.of(page.summary),
            results=[ChangeDocument.of(change) for change in page.changes],
            next=None if page.next is None else cursor_after(page.next),
        )

    def record(self) -> DiffPage:
        """The page of the document."""
        changes = tuple(change.record() for change in self.results)
        return DiffPage(self.summary.record(), changes, read_cursor(self.next))


class DiffFoldersDocument(Answer, frozen=True, kw_only=True):
    """How much changed one level below the prefix, by path; `next` continues after it."""

    summary: DiffSummaryDocument
    results: list[ChangedFolderDocument]
    next: str | None

    @classmethod
    def of(cls, page: ChangedFolderPage) -> DiffFoldersDocument:
        """The document of a page."""
        return cls(
            summary=DiffSummaryDocument.of(page.summary),
            results=[ChangedFolderDocument.of(folder) for folder in page.folders],
            next=None if page.next is None else cursor_after(page.next),
        )

    def record(self) -> ChangedFolderPage:
        """The page of the document."""
        folders = tuple(folder.record() for folder in self.results)
        return ChangedFolderPage(self.summary.record(), folders, read_cursor(self.next))
