"""The command: arguments in, results on standard output, one sentence and an exit code on errors.

    indexer snapshot | artifact put | ls | show | doctor | completion
            diff                                                            (cli_diff)
            download                                                        (cli_download)
            query | table                                                   (cli_query)
            alias | tag | note | describe | metadata                        (cli_labels)
            runs | lineage                                                  (cli_runs)
            ttl | rm | gc | alias protect | alias unprotect                 (cli_retention)
            verify | urls                                                   (cli_verify)
            serve | jobs                                                    (cli_daemon)

Invariants
  * Standard output is data; progress, logs and errors go to standard error.
  * Exit codes: 0 ok, 1 unexpected, 2 usage or configuration, 3 not found, empty or access denied,
    4 more objects than the limit, 5 mismatch, 75 temporary, 130 interrupted.
  * What a command needs is imported by that command, so that help and completion are quick.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final

import click

from indexer import __version__
from indexer.checksums import CHECKSUMS
from indexer.cli_daemon import jobs, serve
from indexer.cli_diff import diff
from indexer.cli_download import download
from indexer.cli_labels import alias, describe, metadata, note, tag
from indexer.cli_query import query, table
from indexer.cli_retention import gc, protect, rm, ttl, unprotect
from indexer.cli_runs import lineage, runs
from indexer.cli_session import (
    Command,
    NobodyReads,
    Session,
    common,
    connection,
    find_version,
    mapping_of,
    show_version,
    with_session,
)
from indexer.cli_verify import urls, verify
from indexer.errors import IndexerError, InvalidSetting

if TYPE_CHECKING:
    from indexer.console import Console
    from indexer.records import ArtifactRecord, Preview, ProjectRecord, Snapshot, VersionRecord
    from indexer.references import ArtifactName, VersionRef
    from indexer.workspace import Workspace

EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main() -> None:
    """Runs the command and exits with its code."""
    if isinstance(sys.stdout, TextIOWrapper):
        # Names and notes are any Unicode, and what reads them may take ASCII alone.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # What a command returns is the code that it left with, if it left early.
        code = cli.main(prog_name="indexer", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = EXIT_USAGE
    except click.UsageError as error:
        asked = error.ctx.command_path if error.ctx else "indexer"
        _say(f"Error: {error.format_message()} See {asked} --help.")
        code = EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted; what 'indexer ls' does not show was not recorded.")
        code = EXIT_INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        # Whoever read the output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except IndexerError as error:
        _say(f"Error: {error}")
        code = error.exit_code
    except Exception as error:
        _say(f"Unexpected error: {error!r}. Run again with --log-level debug to see where.")
        if "debug" in (*sys.argv, os.environ.get("INDEXER_LOG_LEVEL")):
            raise
        code = EXIT_UNEXPECTED
    _leave_nothing_unwritten()
    sys.exit(code)


def _leave_nothing_unwritten() -> None:
    """Forgets what nobody reads any more: Python would end with a code of its own over it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str) -> None:
    from indexer.console import shown
    from indexer.telemetry import without_credentials

    with suppress(OSError):  # where nobody listens, the exit code says it
        sys.stderr.write(shown(without_credentials(text)) + "\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="indexer")
def cli() -> None:
    """Reference large object-store prefixes as versioned artifacts, without copying a byte."""


for each in (query, table, diff, download, alias, tag, note, describe, metadata, runs, lineage):
    cli.add_command(each)
for each in (verify, urls):
    cli.add_command(each)
for each in (ttl, rm, gc, serve, jobs):
    cli.add_command(each)
for each in (protect, unprotect):
    alias.add_command(each)


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


@cli.command("snapshot")
@click.argument("sources", nargs=-1, required=True, metavar="[MOUNT=]URI...")
@snapshot_options
@with_session
def snapshot(session: Session, sources: tuple[str, ...], **options: Any) -> None:
    """Record what is below URI as a version of an artifact.

    A source is an s3://, gs://, http(s):// or file:// URI, or a path on this machine; several each
    have a mount, the name below which their entries stand.
    """
    _snapshot(session, sources, **options)


@cli.group()
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
    from indexer.places import duration_of, moment_of, order_of
    from indexer.telemetry import Counters
    from indexer.views import document, show_preview, show_snapshot
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


@cli.command(short_help="List projects, artifacts, versions or entries.")
@click.argument("target", metavar="[PROJECT[/ARTIFACT[:VERSION]]]", required=False)
@click.option("--prefix", metavar="P", default="", help="Only entries whose paths start with P.")
@click.option("--tag", metavar="T", help="Only versions with the tag T.")
@click.option("--deleted", is_flag=True, help="With versions that were deleted.")
@common
@with_session
def ls(
    session: Session, target: str | None, prefix: str, tag: str | None, *, deleted: bool
) -> None:
    """List projects, a project's artifacts, an artifact's versions, or a version's entries."""
    from indexer import views
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
    from indexer.entries import entries_of
    from indexer.views import show_entry

    version = await workspace.version(ref)
    manifest = await workspace.manifest(version.digest)
    wanted = prefix.encode("utf-8", "surrogateescape")
    async for rows in read_entries(workspace, manifest, wanted):
        for entry in entries_of(rows, manifest.sources):
            show_entry(console, entry)


@cli.command()
@click.argument("ref")
@common
@with_session
def show(session: Session, ref: str) -> None:
    """Show what is known of the version REF."""
    show_version(session, session.run(partial(find_version, ref)))


@cli.command(short_help="Check how a source is reached.")
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


@cli.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command: eval "$(indexer completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "indexer", "_INDEXER_COMPLETE").source())
