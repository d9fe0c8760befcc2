"""Commands that look at what there is: `ls`, `show`, and `doctor` for what could be."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from indexer.commands.session import (
    Session,
    common,
    connection,
    find_version,
    prefixed,
    show_version,
    with_session,
)
from indexer.errors import InvalidSetting
from indexer.texts import path_bytes

if TYPE_CHECKING:
    from indexer.console import Console
    from indexer.records import ArtifactRecord, ProjectRecord, VersionRecord
    from indexer.references import ArtifactName, VersionRef
    from indexer.workspace import Workspace


@click.command(short_help="List projects, artifacts, versions or entries.")
@click.argument("target", metavar="[PROJECT[/ARTIFACT[:VERSION]]]", required=False)
@prefixed
@click.option("--tag", metavar="T", help="Only versions with the tag T.")
@click.option("--deleted", is_flag=True, help="With versions that were deleted.")
@common
@with_session
def ls(
    session: Session, target: str | None, prefix: str, tag: str | None, *, deleted: bool
) -> None:
    """List projects, a project's artifacts, an artifact's versions, or a version's entries."""
    from indexer.commands import views
    from indexer.references import parse_name, parse_project, parse_reference

    console = session.console
    is_version = target is not None and (":" in target or "@" in target)
    if (tag is not None or deleted) and (target is None or "/" not in target or is_version):
        raise InvalidSetting(
            "--tag and --deleted select versions: name an artifact, as in project/artifact."
        )
    if target is not None and is_version:
        session.run(partial(_list_entries, console, parse_reference(target), prefix))
        return
    if prefix:
        raise InvalidSetting("--prefix selects entries: name a version, as in project/artifact:v3.")
    if target is None:
        views.show_projects(console, session.run(_projects))
    elif "/" in target:
        found = session.run(partial(_versions, parse_name(target), tag, deleted=deleted))
        views.show_versions(console, found)
    else:
        views.show_artifacts(console, session.run(partial(_artifacts, parse_project(target))))


async def _projects(workspace: Workspace) -> list[ProjectRecord]:
    from indexer.workspace import collect

    return await collect(workspace.projects, lambda project: project.name)


async def _artifacts(project: str, workspace: Workspace) -> list[ArtifactRecord]:
    from indexer.workspace import collect

    return await collect(
        partial(workspace.artifacts, project), lambda artifact: artifact.name.artifact
    )


async def _versions(
    name: ArtifactName, tag: str | None, workspace: Workspace, *, deleted: bool
) -> list[VersionRecord]:
    from indexer.workspace import collect

    read = partial(workspace.versions, name, tag=tag, deleted=deleted)
    return await collect(read, lambda one: one.number)


async def _list_entries(
    console: Console, ref: VersionRef, prefix: str, workspace: Workspace
) -> None:
    from indexer.artifact.entries import read_entries
    from indexer.commands.views import show_entry
    from indexer.entries import entries_of

    version = await workspace.version(ref)
    manifest = await workspace.manifest(version.digest)
    wanted = path_bytes(prefix)
    async for rows in read_entries(workspace, manifest, wanted):
        for entry in entries_of(rows, manifest.sources):
            show_entry(console, entry)


@click.command()
@click.argument("ref")
@common
@with_session
def show(session: Session, ref: str) -> None:
    """Show what is known of the version REF."""
    show_version(session, session.run(partial(find_version, ref)))


@click.command(short_help="Check how a source is reached.")
@click.argument("uri")
@connection
@common
@with_session
def doctor(session: Session, uri: str) -> None:
    """Check how URI is reached: endpoint, credentials, versioning, what the server honours."""
    from indexer.console import shown
    from indexer.places import doctor_order_of

    order = doctor_order_of(session.settings, uri)
    report = session.run(lambda workspace: workspace.examine(order), creates=True)
    if session.console.is_json:
        session.console.record(report)
        return
    abilities = report.pop("abilities")
    warnings = report.pop("warnings")
    lines = {**report, **{f"  {name}": value for name, value in abilities.items()}}
    for name, value in lines.items():
        session.console.line(f"{name.replace('_', ' '):<26} {shown(value)}")
    for warning in warnings:
        session.console.note(f"Note: {warning}")
