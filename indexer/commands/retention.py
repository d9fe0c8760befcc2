"""The command's words for what goes: times to live, protected aliases, removals, garbage."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from indexer.commands.session import Session, common, find_version, show_version, with_session
from indexer.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.records import VersionRecord
    from indexer.workspace import Workspace


@click.command(short_help="Let a version expire, or not.")
@click.argument("ref")
@click.argument("time", metavar="TIME|none")
@common
@with_session
def ttl(session: Session, ref: str, time: str) -> None:
    """Let the version REF expire after TIME from now, such as 30d or 12h, or never."""
    from indexer.places import duration_of

    expires_at = None if time == "none" else datetime.now(UTC) + duration_of(time)

    async def change(workspace: Workspace) -> VersionRecord:
        version = await find_version(ref, workspace)
        return await workspace.set_expiry(version.name, version.number, expires_at)

    show_version(session, session.run(change))


@click.command(short_help="Delete a version.")
@click.argument("ref")
@common
@with_session
def rm(session: Session, ref: str) -> None:
    """Delete the version REF. Its number is not given again; its files go with 'indexer gc'.

    REF names a version: a name alone, which elsewhere means the latest one, is refused.
    """
    if ":" not in ref and "@" not in ref:
        raise InvalidSetting(f"{ref!r} names no version; write which one is to go, as in {ref}:v3.")

    async def remove(workspace: Workspace) -> VersionRecord:
        version = await find_version(ref, workspace)
        return await workspace.remove_version(version.name, version.number)

    show_version(session, session.run(remove))


@click.command(short_help="Delete what expired and what nobody needs.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Say what would be deleted.")
@click.option("--grace", default="24h", metavar="TIME", help="Leave what is newer.  [24h]")
@common
@with_session
def gc(session: Session, *, is_dry_run: bool, grace: str) -> None:
    """Let expired versions go, and delete the files that no version needs.

    It may run at any time, beside snapshots and readers in any number of processes.
    """
    from indexer.commands.views import document, show_garbage
    from indexer.places import duration_of
    from indexer.wire.retention import GarbageDocument, GarbageOrder

    order = GarbageOrder(grace_s=duration_of(grace).total_seconds(), dry_run=is_dry_run)
    report = session.run(lambda workspace: workspace.collect_garbage(order))
    if session.console.is_json:
        session.console.record(document(GarbageDocument.of(report)))
    else:
        show_garbage(session.console, report)


@click.command("protect")
@click.argument("artifact", metavar="PROJECT/ARTIFACT")
@click.argument("name")
@common
@with_session
def protect(session: Session, artifact: str, name: str) -> None:
    """Let the alias NAME stay where it is, and its version with it."""
    show_version(session, session.run(partial(_protect, artifact, name, protected=True)))


@click.command("unprotect")
@click.argument("artifact", metavar="PROJECT/ARTIFACT")
@click.argument("name")
@common
@with_session
def unprotect(session: Session, artifact: str, name: str) -> None:
    """Let the alias NAME move again."""
    show_version(session, session.run(partial(_protect, artifact, name, protected=False)))


async def _protect(
    artifact: str, name: str, workspace: Workspace, *, protected: bool
) -> VersionRecord:
    from indexer.references import parse_alias, parse_name

    return await workspace.protect_alias(
        parse_name(artifact), parse_alias(name), protected=protected
    )
