"""The command's words for what is said of versions and artifacts: aliases, tags, notes and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from indexer.commands.session import (
    Session,
    common,
    find_version,
    mapping_of,
    show_version,
    with_session,
)
from indexer.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.records import LabelChange, VersionRecord
    from indexer.workspace import Workspace

EXPECT = click.option(
    "--expect",
    metavar="VERSION",
    help="Only while it means this version: v3, or none.  [whatever it means]",
)


# --- aliases


@click.group()
def alias() -> None:
    """Names that move from version to version."""


@alias.command("set")
@click.argument("ref")
@click.argument("name")
@EXPECT
@common
@with_session
def alias_set(session: Session, ref: str, name: str, expect: str | None) -> None:
    """Let the alias NAME mean the version REF."""
    from indexer.references import parse_alias

    wanted, expected = parse_alias(name), _expected(expect)

    async def move(workspace: Workspace) -> VersionRecord:
        version = await find_version(ref, workspace)
        return await workspace.set_alias(version.name, wanted, version.number, expect=expected)

    show_version(session, session.run(move))


@alias.command("remove")
@click.argument("artifact", metavar="PROJECT/ARTIFACT")
@click.argument("name")
@EXPECT
@common
@with_session
def alias_remove(session: Session, artifact: str, name: str, expect: str | None) -> None:
    """Take the alias NAME away from an artifact."""
    from indexer.references import parse_alias, parse_name

    owner, wanted, expected = parse_name(artifact), parse_alias(name), _expected(expect)
    show_version(
        session,
        session.run(lambda workspace: workspace.remove_alias(owner, wanted, expect=expected)),
    )


@alias.command("ls")
@click.argument("artifact", metavar="PROJECT/ARTIFACT")
@common
@with_session
def alias_ls(session: Session, artifact: str) -> None:
    """List an artifact's aliases and the versions that they mean."""
    from indexer.commands.views import document
    from indexer.references import parse_name
    from indexer.wire.artifacts import AliasDocument

    owner = parse_name(artifact)

    async def read(workspace: Workspace) -> tuple[dict[str, int], frozenset[str]]:
        return await workspace.aliases(owner), await workspace.protected_aliases(owner)

    found, protected = session.run(read)
    rows = [(name, f"{owner}:v{number}", name in protected) for name, number in found.items()]
    if session.console.is_json:
        for name, ref, is_protected in rows:
            session.console.record(
                document(AliasDocument(alias=name, ref=ref, protected=is_protected))
            )
    else:
        session.console.table(("ALIAS", "VERSION", "PROTECTED"), rows)


def _expected(text: str | None) -> int | None:
    """The number of the version that an alias is expected at. Raises `InvalidSetting`."""
    from indexer.protocols import ANYWHERE
    from indexer.references import VERSION_PATTERN

    if text is None:
        return ANYWHERE
    if text == "none":
        return None
    match = VERSION_PATTERN.fullmatch(text)
    if match is None:
        raise InvalidSetting(f"{text!r} is no version to expect: write v3, or none.")
    return int(match[1])


# --- tags


@click.group()
def tag() -> None:
    """Words that any number of versions may have."""


@tag.command("add")
@click.argument("ref")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@common
@with_session
def tag_add(session: Session, ref: str, tags: tuple[str, ...]) -> None:
    """Add tags to the version REF."""
    from indexer.records import LabelChange

    _change(session, ref, LabelChange(add_tags=tags))


@tag.command("remove")
@click.argument("ref")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@common
@with_session
def tag_remove(session: Session, ref: str, tags: tuple[str, ...]) -> None:
    """Take tags away from the version REF."""
    from indexer.records import LabelChange

    _change(session, ref, LabelChange(remove_tags=tags))


@tag.command("ls")
@click.argument("artifact", metavar="PROJECT/ARTIFACT")
@common
@with_session
def tag_ls(session: Session, artifact: str) -> None:
    """List an artifact's tags and the versions that have them, newest first."""
    from functools import partial

    from indexer.commands.views import document
    from indexer.references import parse_name
    from indexer.wire.artifacts import TagDocument
    from indexer.workspace import collect

    owner = parse_name(artifact)

    async def read(workspace: Workspace) -> list[VersionRecord]:
        return await collect(partial(workspace.versions, owner), lambda one: one.number)

    versions: list[VersionRecord] = session.run(read)
    pairs = [(name, version.ref) for version in versions for name in version.tags]
    pairs.sort(key=lambda pair: pair[0])
    if session.console.is_json:
        for name, ref in pairs:
            session.console.record(document(TagDocument(tag=name, ref=ref)))
    else:
        session.console.table(("TAG", "VERSION"), pairs)


# --- texts


@click.command()
@click.argument("ref")
@click.argument("text")
@common
@with_session
def note(session: Session, ref: str, text: str) -> None:
    """Replace the notes on the version REF."""
    from indexer.records import LabelChange

    _change(session, ref, LabelChange(notes=text))


@click.command(short_help="Describe an artifact or a version.")
@click.argument("target", metavar="PROJECT/ARTIFACT[:VERSION]")
@click.argument("text")
@common
@with_session
def describe(session: Session, target: str, text: str) -> None:
    """Replace the description of an artifact, or of a version of it."""
    from indexer.commands.views import show_artifacts
    from indexer.records import LabelChange
    from indexer.references import parse_name

    if ":" in target or "@" in target:
        _change(session, target, LabelChange(description=text))
        return
    name = parse_name(target)
    changed = session.run(lambda workspace: workspace.describe_artifact(name, text))
    show_artifacts(session.console, [changed])


@click.command()
@click.argument("ref")
@click.argument("text", metavar="JSON")
@common
@with_session
def metadata(session: Session, ref: str, text: str) -> None:
    """Replace the metadata of the version REF by a JSON object, or by that in @FILE."""
    from indexer.records import LabelChange

    _change(session, ref, LabelChange(metadata=mapping_of("metadata", text)))


def _change(session: Session, ref: str, change: LabelChange) -> None:
    async def write(workspace: Workspace) -> VersionRecord:
        version = await find_version(ref, workspace)
        return await workspace.change_version(version.name, version.number, change)

    show_version(session, session.run(write))
