"""The command's words for daemons: run one, and see to the jobs of one."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from indexer.commands.session import Session, common, connection, newest, query_limits, with_session
from indexer.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.client import Client
    from indexer.wire.jobs import JobDocument


@click.command(short_help="Run a daemon.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=int, metavar="N", help="Port to listen on, 0 for any.  [8765]")
@click.option("--jobs", type=int, metavar="N", help="Most snapshots at once.  [4]")
@click.option("--max-objects", type=int, metavar="N", help="Most objects of one.  [10000]")
@query_limits
@connection
@common
@with_session
def serve(session: Session) -> None:
    """Run a daemon that makes snapshots, and answers, over HTTP, until it is told to stop.

    The options for reaching S3 hold for snapshots whose orders leave them open.
    """
    import asyncio

    from indexer.places import defaults_of
    from indexer.runner import run_command

    settings, console = session.settings, session.console
    if settings.origins["server"] == "--server":
        raise InvalidSetting("A daemon works on a data folder: name one with --data, no --server.")

    async def run() -> None:
        from indexer.app import open_app, open_daemon
        from indexer.runner import collect_garbage, collect_garbage_seldom

        log = session.new_logger()
        async with (
            open_app(settings.data, defaults=defaults_of(settings), log=log) as app,
            open_daemon(
                app,
                host=settings["host"],
                port=settings["port"],
                running_max=settings["jobs"],
                log=log,
                on_idle=collect_garbage,
            ) as daemon,
        ):
            collect_garbage_seldom()
            if console.is_json:
                console.record({"url": daemon.url})
            else:
                console.line(daemon.url)
            sys.stdout.flush()
            console.note(f"Listening; {daemon.url}/docs tells what can be asked. Ctrl-C ends it.")
            # Whoever tells a daemon to stop means no failure by it.
            with suppress(asyncio.CancelledError):
                await daemon.until_cancelled()
            console.note("Stopping.")

    run_command(run())


@click.group()
def jobs() -> None:
    """Snapshots that a daemon makes."""


@jobs.command("ls")
@newest
@common
@with_session
def jobs_ls(session: Session, limit: int) -> None:
    """List a daemon's jobs, newest first."""
    from indexer.commands.views import show_jobs

    page = session.run_on_daemon(lambda client: client.jobs(limit=limit))
    show_jobs(session.console, page.results)


@jobs.command("show")
@click.argument("job_id", metavar="JOB")
@common
@with_session
def jobs_show(session: Session, job_id: str) -> None:
    """Show what is known of a job."""
    from indexer.commands.views import show_job

    show_job(session.console, session.run_on_daemon(lambda client: client.job(job_id)))


@jobs.command("cancel")
@click.argument("job_id", metavar="JOB")
@common
@with_session
def jobs_cancel(session: Session, job_id: str) -> None:
    """Tell a job to end; what it committed before that stays."""
    from indexer.commands.views import show_job

    show_job(session.console, session.run_on_daemon(lambda client: client.cancel(job_id)))


@jobs.command("follow")
@click.argument("job_id", metavar="JOB")
@common
@with_session
def jobs_follow(session: Session, job_id: str) -> None:
    """Follow a job until it ends, and end as it does. Leaving off does not end the job."""
    from indexer.commands.views import show_job
    from indexer.telemetry import Counters

    console, counters = session.console, Counters()

    async def follow(client: Client) -> JobDocument:
        job = await client.job(job_id)
        async with console.progress(counters, job.sources[0]):
            async for changed in client.follow(job_id):
                job = changed
                job.progress.copy_to(counters)
        return job

    job: JobDocument = session.run_on_daemon(follow)
    show_job(console, job)
    if job.problem is not None:
        raise job.problem.error()
