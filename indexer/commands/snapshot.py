"""Commands that record versions: `snapshot`, and `artifact put`, the same in W&B's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from indexer.checksums import CHECKSUMS
from indexer.commands.session import Command, Session, common, connection, mapping_of, with_session

if TYPE_CHECKING:
    from indexer.records import Preview, Snapshot
    from indexer.workspace import Workspace


def snapshot_options(command: Command) -> Command:
    """The options of a snapshot, whichever command makes it."""
    command = connection(common(command))
    for option in reversed(
        (
            click.option("--name", required=True, metavar="PROJECT/ARTIFACT", help="Its name."),
            click.option("--type", "type_", metavar="TYPE", help="Kind of artifact.  [dataset]"),
            click.option("--alias", "aliases", multiple=True, metavar="A", help="Alias to move."),
            click.option("--max-objects", type=int, metavar="N", help="Most objects.  [10000]"),
            click.option("--on-limit", type=click.Choice(["error", "partial"]),
                         help="With more objects: fail, or keep the first N.  [error]"),
            click.option("--allow-empty", is_flag=True, help="Record a version without entries."),
            click.option("--notes", metavar="TEXT", help="Notes on the version."),
            click.option("--description", metavar="TEXT", help="What the version is."),
            click.option("--metadata", metavar="JSON", help="What else it has, or @FILE of that."),
            click.option("--tag", "tags", multiple=True, metavar="T", help="Tag of the version."),
            click.option("--run", metavar="RUN", help="Run that makes it.  [one of its own]"),
            click.option("--include", multiple=True, metavar="GLOB", help="Keep what matches."),
            click.option("--exclude", multiple=True, metavar="GLOB", help="Leave that out."),
            click.option("--checksum", type=click.Choice(CHECKSUMS),
                         help="What to record of objects' bytes.  [none; md5 of files]"),
            click.option("--heads", is_flag=True, help="Ask each object for its version id."),
            click.option("--as-of", metavar="TIME", help="Record the state at that moment."),
            click.option("--ttl", metavar="TIME", help="Let it expire after that, such as 30d."),
            click.option("--dry-run", "is_dry_run", is_flag=True, help="Show what would be kept."),
            click.option("--in-flight", type=int, metavar="N", help="Most requests at once.  [64]"),
            click.option("--requests-per-s", type=int, metavar="N", help="Most requests a second."),
            click.option("--to", metavar="URL", help="Daemon to tell of what is listed here."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("snapshot")
@click.argument("sources", nargs=-1, required=True, metavar="[MOUNT=]URI...")
@snapshot_options
@with_session
def snapshot(session: Session, sources: tuple[str, ...], **options: Any) -> None:
    """Record what is below URI as a version of an artifact.

    A source is an s3://, gs://, http(s):// or file:// URI, or a path on this machine; several each
    have a mount, the name below which their entries stand.
    """
    _snapshot(session, sources, **options)


@click.group()
def artifact() -> None:
    """The same in W&B's words."""


@artifact.command()
@click.argument("sources", nargs=-1, required=True, metavar="PATH_OR_URI...")
@snapshot_options
@with_session
def put(session: Session, sources: tuple[str, ...], **options: Any) -> None:
    """Record what is below a path or URI. It is referenced, never uploaded."""
    _snapshot(session, sources, **options)


def _snapshot(
    session: Session,
    sources: tuple[str, ...],
    *,
    type_: str | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    metadata: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    as_of: str | None,
    ttl: str | None,
    to: str | None,
    is_dry_run: bool,
    **fields: Any,
) -> None:
    from indexer.commands.views import document, show_preview, show_snapshot
    from indexer.places import duration_of, moment_of, order_of
    from indexer.telemetry import Counters
    from indexer.wire.jobs import SnapshotDocument

    settings, console = session.settings, session.console
    order = order_of(
        settings,
        sources,
        type=type_,
        aliases=list(aliases),
        tags=list(tags),
        metadata=None if metadata is None else mapping_of("metadata", metadata),
        include=list(include),
        exclude=list(exclude),
        as_of=None if as_of is None else moment_of(as_of),
        ttl_s=None if ttl is None else round(duration_of(ttl).total_seconds()),
        **fields,
    )
    counters = Counters()
    title = ", ".join(source.shown for source in order.read_sources()[:2])

    async def run(workspace: Workspace) -> Snapshot | Preview:
        async with console.progress(counters, title):
            if is_dry_run:
                return await workspace.preview(order, counters)
            return await workspace.snapshot(order, counters)

    done = session.run(run, creates=True, to=to)
    if is_dry_run:
        show_preview(console, done)
        return
    for warning in done.warnings:
        console.note(f"Note: {warning}")
    if console.is_json:
        console.record(document(SnapshotDocument.of(done)))
    elif console.is_quiet:
        console.line(done.result.version.ref)
    else:
        show_snapshot(console, done)
