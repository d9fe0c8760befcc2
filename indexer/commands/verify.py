"""The command's words for whether a version still holds: verify it, and link to its objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from indexer.commands.session import (
    Session,
    common,
    connection,
    selecting,
    with_session,
)
from indexer.errors import Mismatch

if TYPE_CHECKING:
    from indexer.artifact.found import Finding
    from indexer.artifact.verify.references import ReferenceReport
    from indexer.records import StructureReport
    from indexer.workspace import Workspace


@click.command(short_help="Check that a version still holds.")
@click.argument("ref")
@click.option("--structure", is_flag=True, help="Prove what is kept of it; ask no store.")
@selecting
@connection
@common
@with_session
def verify(session: Session, ref: str, structure: bool, **selected: Any) -> None:
    """Check whether the objects of the version REF can still be fetched, without reading them."""
    from indexer.errors import InvalidSetting

    if not structure:
        _verify_references(session, ref, selected)
        return
    if any(selected.values()):
        raise InvalidSetting("--structure proves all of a version: leave --prefix and globs out.")
    _verify_structure(session, ref)


def _verify_structure(session: Session, ref: str) -> None:
    from indexer.artifact.handle import Handle
    from indexer.commands.views import document
    from indexer.telemetry import Counters
    from indexer.wire.verification import StructureDocument

    counters, console = Counters(), session.console

    async def run(workspace: Workspace) -> StructureReport:
        async with console.progress(counters, ref):
            return await (await Handle.open(workspace, ref)).verify_structure(counters)

    report: StructureReport = session.run(run)
    if console.is_json:
        console.record(document(StructureDocument.of(report)))
    else:
        _show_structure(session, report)
    if not report.is_right:
        wrong = [check.name for check in report.checks if not check.is_right]
        raise Mismatch(
            f"{report.ref} is not proven: {', '.join(wrong)}. Restore the data folder from a copy, "
            f"or snapshot the source again."
        )


def _show_structure(session: Session, report: StructureReport) -> None:
    from indexer.console import shown

    console = session.console
    for check in report.checks:
        state = "ok" if check.is_right else "not made" if check.looked_at is None else "WRONG"
        looked_at = "-" if check.looked_at is None else f"{check.looked_at:,}"
        console.line(f"{state:<9} {check.name:<9} {looked_at:>9}  {check.said}")
        for fault in check.faults:
            console.line(f"          {shown(fault)}")
        if len(check.faults) < check.wrong:
            console.line(f"          and {check.wrong - len(check.faults):,} more")
    for notice in report.notices:
        console.note(f"Note: {notice}")


def _verify_references(session: Session, ref: str, selected: Mapping[str, Any]) -> None:
    from indexer.artifact.handle import Handle
    from indexer.commands.views import document, finding_document
    from indexer.telemetry import Counters
    from indexer.wire.verification import ReferencesDocument

    counters, console = Counters(), session.console

    def tell(path: bytes, finding: Finding) -> None:
        console.record(document(finding_document(path, finding)))

    async def run(workspace: Workspace) -> ReferenceReport:
        async with console.progress(counters, ref):
            handle = await Handle.open(workspace, ref)
            return await handle.verify(
                **selected, tell=tell if console.is_json else None, counters=counters
            )

    report: ReferenceReport = session.run(run)
    if console.is_json:
        said = ReferencesDocument(
            ref=report.ref,
            right=report.is_right,
            entries=report.entries,
            fetchable=report.entries - report.lost,
            lost=dict(report.kinds),
            listed=report.confirmed,
            superseded=report.superseded,
            by_size=report.by_size,
            archived=report.archived,
            requests=counters.requests,
        )
        console.record(document(said))
    else:
        _show_references(session, report, counters.requests)
    if not report.is_right:
        raise Mismatch(
            f"{report.lost:,} of {report.entries:,} entries of {report.ref} cannot be fetched as "
            f"they were recorded. Snapshot the source again for what is there now."
        )


def _show_references(session: Session, report: ReferenceReport, requests: int) -> None:
    from indexer.console import shown

    console = session.console
    for _, finding in report.findings:
        console.line(f"{finding.kind:<12} {shown(finding.sentence)}")
    if len(report.findings) < report.lost:
        console.line(f"… and {report.lost - len(report.findings):,} more; --json tells all of them")
    console.line(f"{report.ref}  {report.entries - report.lost:,} of {report.entries:,} fetchable")
    for kind, count in report.kinds.items():
        console.line(f"  {kind:<12} {count:,}")
    for count, said in (
        (report.superseded, "were overwritten or deleted, and are kept by version id"),
        (report.by_size, "have nothing but a size to compare without reading them"),
        (report.archived, "are archived, and have to be restored before they can be read"),
    ):
        if count:
            console.line(f"  {count:,} {said}")
    console.line(f"  {report.confirmed:,} were found in listings; {requests:,} requests")


@click.command(short_help="Print where entries are fetched from.")
@click.argument("ref")
@click.option("--expires", metavar="TIME", default="1h", help="How long signed links hold.  [1h]")
@selecting
@connection
@common
@with_session
def urls(session: Session, ref: str, expires: str, **selected: Any) -> None:
    """Print where the bytes of each entry of the version REF are fetched from, one URL a line."""
    from collections import Counter
    from contextlib import aclosing

    from indexer.artifact.handle import Handle
    from indexer.artifact.links import parse_expiry
    from indexer.commands.views import document
    from indexer.wire.verification import EntryLinkDocument

    console, expires_s = session.console, parse_expiry(expires)

    async def run(workspace: Workspace) -> Counter[str]:
        found: Counter[str] = Counter()
        handle = await Handle.open(workspace, ref)
        async with aclosing(handle.urls(**selected, expires=expires_s)) as links:
            async for link in links:
                found["credentials"] += link.access == "credentials"
                found["moving"] += not link.is_pinned
                if console.is_json:
                    said = EntryLinkDocument.of(
                        link.path,
                        link.url,
                        link.size,
                        is_pinned=link.is_pinned,
                        access=link.access,
                    )
                    console.record(document(said))
                else:
                    console.line(link.url)
        return found

    found: Counter[str] = session.run(run)
    if found["moving"]:
        console.note(
            f"Note: {found['moving']:,} of these give whatever is there when they are fetched, as "
            f"no version is recorded; 'indexer verify' tells whether that is still the same."
        )
    if found["credentials"]:
        console.note(
            f"Note: {found['credentials']:,} have to be fetched with credentials, as those "
            f"in use cannot sign; the key of a service account can."
        )
