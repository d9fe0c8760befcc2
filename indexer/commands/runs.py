"""The command's words for runs, what they use and make, and the lineage of versions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from indexer.commands.session import (
    Session,
    common,
    mapping_of,
    newest,
    show_version,
    with_session,
)
from indexer.limits import LINEAGE_DEPTH_DEFAULT, LINEAGE_DEPTH_MAX

if TYPE_CHECKING:
    from indexer.records import Direction, Lineage, RunLink, RunRecord
    from indexer.workspace import Workspace


@click.group()
def runs() -> None:
    """What was done, with which versions, and which came of it."""


@runs.command("ls")
@click.argument("project")
@click.option("--job-type", metavar="TYPE", help="Only runs of this kind.")
@newest
@common
@with_session
def runs_ls(session: Session, project: str, job_type: str | None, limit: int) -> None:
    """List a project's runs, newest first."""
    from indexer.commands.run_views import show_runs
    from indexer.references import parse_project

    wanted = parse_project(project)
    found = session.run(lambda workspace: workspace.runs(wanted, job_type=job_type, limit=limit))
    show_runs(session.console, found)


@runs.command("show")
@click.argument("run_id", metavar="RUN")
@common
@with_session
def runs_show(session: Session, run_id: str) -> None:
    """Show what is known of a run, what it used, and what it made."""
    from indexer.commands.run_views import show_run_and_links
    from indexer.references import parse_run
    from indexer.workspace import collect

    wanted = parse_run(run_id)

    async def read(workspace: Workspace) -> tuple[RunRecord, list[RunLink], list[RunLink]]:
        return (
            await workspace.run(wanted),
            await collect(partial(workspace.inputs, wanted), lambda link: link.id),
            await collect(partial(workspace.outputs, wanted), lambda link: link.id),
        )

    show_run_and_links(session.console, *session.run(read))


@runs.command("start")
@click.argument("project")
@click.option(
    "--id", "run_id", metavar="RUN", help="Its id; one that is known goes on.  [a new one]"
)
@click.option("--name", metavar="TEXT", help="Its name for people.  [its id]")
@click.option("--job-type", metavar="TYPE", help="What kind of job it is, as train.")
@click.option("--config", metavar="JSON", help="What it is run with, or @FILE of that.")
@click.option("--notes", metavar="TEXT", help="Notes on the run.")
@common
@with_session
def runs_start(
    session: Session, project: str, *, run_id: str | None, config: str | None, **said: Any
) -> None:
    """Start a run in a project. It runs until 'indexer runs finish' ends it."""
    from indexer.commands.run_views import show_run
    from indexer.records import RunRequest

    wanted = None if config is None else mapping_of("config", config)
    request = RunRequest(project=project, id=run_id, config=wanted, **said)
    started = session.run(lambda workspace: workspace.start_run(request), creates=True)
    show_run(session.console, started)


@runs.command("use")
@click.argument("run_id", metavar="RUN")
@click.argument("ref")
@click.option("--as", "use_as", metavar="TEXT", help="As what it is used.")
@common
@with_session
def runs_use(session: Session, run_id: str, ref: str, use_as: str | None) -> None:
    """Record that RUN uses the version REF."""
    from indexer.references import parse_reference, parse_run

    wanted, version = parse_run(run_id), parse_reference(ref)
    show_version(session, session.run(lambda workspace: workspace.use(version, wanted, use_as)))


@runs.command("finish")
@click.argument("run_id", metavar="RUN")
@click.option("--failed", "is_failed", is_flag=True, help="It did not do what it was to do.")
@common
@with_session
def runs_finish(session: Session, run_id: str, *, is_failed: bool) -> None:
    """End a run."""
    from indexer.commands.run_views import show_run
    from indexer.records import RunState
    from indexer.references import parse_run

    wanted = parse_run(run_id)
    state = RunState.FAILED if is_failed else RunState.FINISHED
    show_run(session.console, session.run(lambda workspace: workspace.finish_run(wanted, state)))


@click.command(short_help="Show what a version came from, and what came from it.")
@click.argument("ref")
@click.option("--up", "is_up", is_flag=True, help="Only what it came from.")
@click.option("--down", "is_down", is_flag=True, help="Only what came from it.")
@click.option(
    "--depth",
    type=click.IntRange(0, LINEAGE_DEPTH_MAX),
    default=LINEAGE_DEPTH_DEFAULT,
    metavar="N",
    help="How many runs away.  [10]",
)
@common
@with_session
def lineage(session: Session, ref: str, *, is_up: bool, is_down: bool, depth: int) -> None:
    """Show the versions and runs that the version REF came from, and those that came from it."""
    from indexer.commands.run_views import show_lineage
    from indexer.references import parse_reference

    wanted = parse_reference(ref)
    direction: Direction = "both" if is_up == is_down else "up" if is_up else "down"

    async def read(workspace: Workspace) -> Lineage:
        return await workspace.lineage(wanted, direction=direction, depth=depth)

    show_lineage(session.console, session.run(read))
