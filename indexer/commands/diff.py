"""The command's word for what changed between two versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import click

from indexer.commands.session import Session, common, prefixed, with_session
from indexer.errors import InvalidSetting, Mismatch
from indexer.texts import path_bytes

if TYPE_CHECKING:
    from indexer.changes import Change, ChangedFolder, DiffSummary
    from indexer.console import Console
    from indexer.records import Entry, VersionRecord
    from indexer.workspace import Workspace

LETTERS: Final = {"added": "A", "removed": "D", "content": "M", "identity": "I", "renamed": "R"}
"""As in `git diff --name-status`; an entry whose bytes are the same and nothing else is an `I`."""

EVIDENCE: Final = (
    ("version_id", "version"),
    ("etag", "ETag"),
    ("checksum", "checksum"),
    ("mtime_ns", "time"),
    ("uri", "URI"),
)
"""What of an entry may be another one while its bytes are the same, and in what words."""


@click.command(short_help="Show what changed between two versions.")
@click.argument("old", metavar="REF")
@click.argument("new", metavar="REF")
@prefixed
@click.option("--kind", type=click.Choice(list(LETTERS)), help="Only changes of this kind.")
@click.option("--summary", "is_summary", is_flag=True, help="Only how much changed.")
@click.option("--folders", "is_folders", is_flag=True, help="How much changed in each folder.")
@click.option("--exit-code", "has_exit_code", is_flag=True, help="Exit with 5 if they differ.")
@common
@with_session
def diff(
    session: Session,
    *,
    old: str,
    new: str,
    prefix: str,
    kind: str | None,
    is_summary: bool,
    is_folders: bool,
    has_exit_code: bool,
) -> None:
    """Show what changed from one version to another.

    The second REF may be the version alone, such as v3 or latest, if it is of the same artifact.
    A is added, D removed, M changed, I the same bytes with another identity, R renamed.
    """
    from indexer.references import parse_beside, parse_reference

    if (is_summary or is_folders) and kind:
        raise InvalidSetting("--kind selects changes: leave out --summary and --folders.")
    if is_summary and is_folders:
        raise InvalidSetting("--summary and --folders are two views: choose one of them.")
    wanted = path_bytes(prefix)
    old_ref = parse_reference(old)
    new_ref = parse_beside(new, old_ref.name)

    async def run(workspace: Workspace) -> DiffSummary:
        before, after = await workspace.version(old_ref), await workspace.version(new_ref)
        shown = _Shown(session.console, workspace, before, after, wanted)
        if is_summary:
            return await shown.summary()
        if is_folders:
            return await shown.folders()
        return await shown.changes(kind)

    summary: DiffSummary = session.run(run)
    if has_exit_code and summary.changes:
        raise click.exceptions.Exit(Mismatch.exit_code)


class _Shown:
    """A diff on its way to the console."""

    def __init__(
        self,
        console: Console,
        workspace: Workspace,
        old: VersionRecord,
        new: VersionRecord,
        prefix: bytes,
    ) -> None:
        self._console = console
        self._workspace = workspace
        self._old = old
        self._new = new
        self._prefix = prefix

    async def summary(self) -> DiffSummary:
        """Shows how much changed."""
        page = await self._workspace.diff(self._old, self._new, self._prefix, limit=1)
        self._end(page.summary, always=True)
        return page.summary

    async def changes(self, kind: str | None) -> DiffSummary:
        """Shows changes, one a line, and how much changed."""
        from indexer.changes import ChangeKind
        from indexer.limits import PAGE_RESULTS_MAX

        after: bytes | None = None
        while True:
            page = await self._workspace.diff(
                self._old,
                self._new,
                self._prefix,
                kind=None if kind is None else ChangeKind(kind),
                after=after,
                limit=PAGE_RESULTS_MAX,
            )
            for change in page.changes:
                self._change(change)
            after = page.next
            if after is None:
                self._end(page.summary)
                return page.summary

    async def folders(self) -> DiffSummary:
        """Shows how much changed in each folder, and in all."""
        summary: DiffSummary | None = None
        rows: list[ChangedFolder] = []
        async for found, folders in self._folder_pages():
            summary = found
            if self._console.is_json:
                self._folder_records(folders)
            else:
                rows += folders
        if rows:
            self._folder_table(rows)
        assert summary is not None
        self._end(summary)
        return summary

    async def _folder_pages(self) -> AsyncIterator[tuple[DiffSummary, tuple[ChangedFolder, ...]]]:
        from indexer.limits import PAGE_RESULTS_MAX

        after: bytes | None = None
        while True:
            page = await self._workspace.diff_folders(
                self._old, self._new, self._prefix, after=after, limit=PAGE_RESULTS_MAX
            )
            yield page.summary, page.folders
            after = page.next
            if after is None:
                return

    def _folder_records(self, folders: tuple[ChangedFolder, ...]) -> None:
        from indexer.commands.views import document
        from indexer.wire.diff import ChangedFolderDocument

        for folder in folders:
            self._console.record(document(ChangedFolderDocument.of(folder)))

    def _folder_table(self, folders: list[ChangedFolder]) -> None:
        from indexer.changes import Tally
        from indexer.console import bytes_shown

        def row(folder: ChangedFolder) -> tuple[object, ...]:
            total = sum(folder.tallies.values(), Tally())
            counts = (tally.objects or None for tally in folder.tallies.values())
            return (
                folder.path,
                *counts,
                bytes_shown(total.bytes_before),
                bytes_shown(total.bytes_after),
            )

        heads = ("FOLDER", *(kind.upper() for kind in LETTERS), "BEFORE", "AFTER")
        self._console.table(heads, map(row, folders))

    def _change(self, change: Change) -> None:
        if self._console.is_json:
            from indexer.commands.views import document
            from indexer.wire.diff import ChangeDocument

            self._console.record(document(ChangeDocument.of(change)))
            return
        self._console.line(f"{LETTERS[change.kind]}  {_line_of(change)}")

    def _end(self, summary: DiffSummary, *, always: bool = False) -> None:
        """What comes last: a document, or lines unless they are not wanted."""
        from indexer.commands.views import document
        from indexer.wire.diff import DiffSummaryDocument

        if self._console.is_json:
            self._console.record(document(DiffSummaryDocument.of(summary)))
        elif always or not self._console.is_quiet:
            for line in _summary_lines(self._old, self._new, summary):
                self._console.line(line)


def _line_of(change: Change) -> str:
    from indexer.console import bytes_shown, shown

    before, after = change.before, change.after
    if before is None or after is None:
        one = before or after
        assert one is not None
        return f"{shown(one.path)}  {bytes_shown(one.size)}"
    if change.kind == "renamed":
        return f"{shown(before.path)} → {shown(after.path)}  {bytes_shown(after.size)}"
    if change.kind == "identity":
        return f"{shown(after.path)}  {_what_is_new(before, after)}"
    if before.size == after.size:
        return f"{shown(after.path)}  {bytes_shown(after.size)}"
    return f"{shown(after.path)}  {bytes_shown(before.size)} → {bytes_shown(after.size)}"


def _what_is_new(before: Entry, after: Entry) -> str:
    """In what two entries with the same bytes differ."""
    found = [said for name, said in EVIDENCE if getattr(before, name) != getattr(after, name)]
    return ", ".join(found) or "checksum"


def _summary_lines(old: VersionRecord, new: VersionRecord, summary: DiffSummary) -> list[str]:
    from indexer.console import bytes_shown

    lines = [f"{old.ref} → {new.ref}"]
    for kind, tally in summary.tallies.items():
        if not tally.objects:
            continue
        sizes = {
            "added": bytes_shown(tally.bytes_after),
            "removed": bytes_shown(tally.bytes_before),
            "content": f"{bytes_shown(tally.bytes_before)} → {bytes_shown(tally.bytes_after)}",
        }.get(kind, bytes_shown(tally.bytes_after))
        lines.append(f"  {kind:<9} {tally.objects:,} ({sizes})")
    if not summary.changes:
        lines.append("  no changes")
    if not summary.has_renames:
        lines.append("  renames were not looked for: too much was added and removed")
    lines.append(f"  read      {summary.shards_read:,} of {summary.shards:,} shards")
    return lines
