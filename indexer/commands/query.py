"""The commands for what is in versions: SQL, tables, and what changed of them."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from indexer.commands.session import (
    Command,
    Session,
    common,
    connection,
    prefixed,
    query_limits,
    with_session,
)
from indexer.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.artifact.handle import Handle
    from indexer.artifact.query.results import Comparison, Result
    from indexer.workspace import Workspace


def result(command: Command) -> Command:
    """The options of what gives rows: what it may take, how tables are reached, how it writes."""
    csv = click.option("--csv", "is_csv", is_flag=True, help="Write CSV.")
    return csv(query_limits(connection(common(command))))


@click.command()
@click.argument("ref")
@click.argument("sql")
@click.option("--with", "others", multiple=True, metavar="NAME=REF", help="Another version.")
@prefixed
@result
@with_session
def query(
    session: Session, ref: str, sql: str, others: tuple[str, ...], prefix: str, *, is_csv: bool
) -> None:
    """Answer one SELECT over the version REF.

    Its tables are entries, and those that are entries themselves by their paths in double quotes.
    """
    named = dict(_named(text) for text in others)
    bounds = _bounds(session)
    ask = lambda handle: handle.query(sql, versions=named, prefix=prefix, **bounds)  # noqa: E731
    _show(session, session.run(partial(_with_handle, ref, ask)), is_csv=is_csv)


@click.group()
def table() -> None:
    """Tables that are entries of a version."""


@table.command("ls")
@click.argument("ref")
@result
@with_session
def table_ls(session: Session, ref: str, *, is_csv: bool) -> None:
    """List the tables of the version REF."""
    ask = lambda handle: handle.tables()  # noqa: E731
    _show(session, session.run(partial(_with_handle, ref, ask)), is_csv=is_csv)


@table.command("show")
@click.argument("ref")
@click.argument("path")
@click.option("--media", metavar="COLUMN", help="Add the entries that a column names.")
@click.option("--of", metavar="REF", help="… which are those of this version.")
@result
@with_session
def table_show(
    session: Session, ref: str, path: str, media: str | None, of: str | None, *, is_csv: bool
) -> None:
    """Show the rows of the table at PATH in the version REF."""
    if of is not None and media is None:
        raise InvalidSetting("--of names the version whose entries a column names: give --media.")
    ask = lambda handle: handle.table(path, media=media, of=of)  # noqa: E731
    _show(session, session.run(partial(_with_handle, ref, ask)), is_csv=is_csv)


@table.command("diff")
@click.argument("old", metavar="REF")
@click.argument("new", metavar="REF")
@click.argument("path")
@click.option("--key", "key", multiple=True, required=True, metavar="C", help="Column of the key.")
@result
@with_session
def table_diff(
    session: Session, *, old: str, new: str, path: str, key: tuple[str, ...], is_csv: bool
) -> None:
    """Show which rows of the table at PATH changed from one version to another, by key.

    The second REF may be the version alone, such as v3 or latest, if it is of the same artifact.
    """

    async def ask(handle: Handle) -> Comparison:
        return await (await handle.beside(new)).compare_table(path, handle, key=key)

    found: Comparison = session.run(partial(_with_handle, old, ask))
    _show(session, found, is_csv=is_csv)
    for one in found.column_changes:
        session.console.note(
            f"Column {one['column']}: {one['before'] or 'none'} before, {one['after'] or 'none'} "
            f"after."
        )
    session.console.note(", ".join(f"{count:,} {what}" for what, count in found.counts.items()))


async def _with_handle(ref: str, ask: Any, workspace: Workspace) -> Any:
    from indexer.artifact.handle import Handle

    return await ask(await Handle.open(workspace, ref))


def _named(text: str) -> tuple[str, str]:
    name, mark, ref = text.partition("=")
    if not mark:
        raise InvalidSetting(
            f"--with {text!r} should be NAME=REF, as in other=project/artifact:v3."
        )
    return name, ref


def _bounds(session: Session) -> dict[str, Any]:
    """What of a query's bounds somebody set here, which may be less than a daemon's."""
    settings = session.settings
    return {
        "rows_max": settings.given("query_rows"),
        "timeout_s": settings.given("query_timeout_s"),
    }


def _show(session: Session, found: Result, *, is_csv: bool) -> None:
    import msgspec

    console = session.console
    if is_csv and console.is_json:
        raise InvalidSetting("--csv and --json are two ways to write the same: give one of them.")
    if is_csv:
        sys.stdout.write(found.to_csv() or "")
    elif console.is_json:
        for row in found.to_pylist():
            console.record(msgspec.json.decode(msgspec.json.encode(row, enc_hook=str)))
    else:
        console.table(tuple(found.table.column_names), found.cells())
