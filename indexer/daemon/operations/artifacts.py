"""What was recorded: projects, artifacts, versions, entries; and what may change of a version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta

from indexer.daemon.dispatch import tag_of
from indexer.daemon.operation import (
    ALIAS_IF_MATCH,
    ALIAS_IF_NONE_MATCH,
    ARTIFACT,
    IF_MATCH,
    VERSION_TAG,
    Answer,
    Call,
    Operation,
    PageQuery,
    Parts,
    number_of_cursor,
    text_of_cursor,
    version_number,
)
from indexer.daemon.problems import Malformed, PreconditionFailed
from indexer.errors import CommitConflict, NoSuchVersion
from indexer.limits import CURSOR_CHARACTERS_MAX, PAGE_RESULTS_DEFAULT, PAGE_RESULTS_MAX
from indexer.protocols import ANYWHERE
from indexer.records import Entry, VersionRecord
from indexer.references import parse_project
from indexer.remote import API, JSON_TYPE
from indexer.wire.artifacts import (
    AliasDocument,
    AliasList,
    AliasOrder,
    ArtifactDocument,
    ArtifactPage,
    EntryDocument,
    EntryPage,
    FolderDocument,
    ProjectDocument,
    ProjectPage,
    ScanPage,
    ScanSummaryDocument,
    VersionDocument,
    VersionPage,
    VersionPatch,
)
from indexer.wire.base import cursor_after, read_cursor

SCAN_ID_PATTERN: Final = re.compile(r"[0-9]{1,18}")


class EntriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entries: those whose paths start with `prefix`, with `delimiter` one level of them."""

    prefix: Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)] = ""
    delimiter: Literal["/"] | None = None
    after: Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)] | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_RESULTS_MAX)] = PAGE_RESULTS_DEFAULT


async def list_projects(parts: Parts, call: Call) -> Answer:
    """Lists projects by name."""
    query: PageQuery = call.query
    found = await parts.workspace.projects(after=text_of_cursor(query.after), limit=query.limit)
    after = cursor_after(found[-1].name) if len(found) == query.limit else None
    return Answer(ProjectPage(results=[ProjectDocument.of(one) for one in found], next=after))


async def list_artifacts(parts: Parts, call: Call) -> Answer:
    """Lists a project's artifacts by name."""
    query: PageQuery = call.query
    found = await parts.workspace.artifacts(
        parse_project(call.path["project"]), after=text_of_cursor(query.after), limit=query.limit
    )
    after = cursor_after(found[-1].name.artifact) if len(found) == query.limit else None
    return Answer(ArtifactPage(results=[ArtifactDocument.of(one) for one in found], next=after))


async def list_versions(parts: Parts, call: Call) -> Answer:
    """Lists an artifact's versions, newest first."""
    query: PageQuery = call.query
    found = await parts.workspace.versions(
        call.name, after=number_of_cursor(query.after), limit=query.limit
    )
    after = cursor_after(str(found[-1].number)) if len(found) == query.limit else None
    return Answer(VersionPage(results=[VersionDocument.of(one) for one in found], next=after))


async def get_version(parts: Parts, call: Call) -> Answer:
    """Looks at a version."""
    return Answer(VersionDocument.of(await parts.workspace.version(call.ref)))


async def change_version(parts: Parts, call: Call) -> Answer:
    """Changes a version's notes."""
    patch: VersionPatch = call.body
    version = await parts.workspace.version(call.ref)
    expect = None
    if wanted := call.headers.get(IF_MATCH.name):
        if wanted not in ("*", _tag_of_version(version)):
            raise PreconditionFailed(
                f"{version.ref} is not as If-Match says any more; look at it again, and repeat."
            )
        expect = version.notes
    if patch.notes is not UNSET:
        with _precondition():
            version = await parts.workspace.set_notes(
                version.name, version.number, patch.notes, expect=expect
            )
    return Answer(VersionDocument.of(version), tag=_tag_of_version(version))


async def list_entries(parts: Parts, call: Call) -> Answer:
    """Lists a version's entries, or what is directly in a folder of it."""
    query: EntriesQuery = call.query
    version = await parts.workspace.version(call.ref)
    prefix = query.prefix.encode("utf-8", "surrogateescape")
    after = read_cursor(query.after)
    read = parts.workspace.children if query.delimiter else parts.workspace.entries
    page = await read(version, prefix, after=after, limit=query.limit)
    results: list[EntryDocument | FolderDocument] = [
        EntryDocument.of(one) if isinstance(one, Entry) else FolderDocument.of(one)
        for one in page.children
    ]
    following = None if page.next is None else cursor_after(page.next)
    return Answer(
        EntryPage(results=results, next=following), immutable=call.ref.selector == version.digest
    )


async def list_scans(parts: Parts, call: Call) -> Answer:
    """Lists the scans that created a version and confirmed it."""
    query: PageQuery = call.query
    found = await parts.workspace.scans(
        call.ref, after=number_of_cursor(query.after), limit=query.limit
    )
    after = cursor_after(str(found[-1].id)) if len(found) == query.limit else None
    return Answer(ScanPage(results=[ScanSummaryDocument.of(one) for one in found], next=after))


async def get_tiling(parts: Parts, call: Call) -> Answer:
    """Gives what a scan listed, range by range."""
    scan_id = call.path["scan"]
    if not SCAN_ID_PATTERN.fullmatch(scan_id):
        raise NoSuchVersion(f"{scan_id[:40]!r} is no id of a scan; they are listed at /scans.")
    return Answer(await parts.workspace.tiling(call.ref, int(scan_id)), immutable=True)


async def list_aliases(parts: Parts, call: Call) -> Answer:
    """Lists an artifact's aliases by name."""
    found = await parts.workspace.aliases(call.name)
    results = [
        AliasDocument(alias=alias, ref=f"{call.name}:v{number}") for alias, number in found.items()
    ]
    return Answer(AliasList(results=results))


async def set_alias(parts: Parts, call: Call) -> Answer:
    """Lets an alias mean a version."""
    order: AliasOrder = call.body
    with _precondition():
        version = await parts.workspace.set_alias(
            call.name, call.path["alias"], version_number(order.version), expect=_expected(call)
        )
    return Answer(VersionDocument.of(version), tag=f'"{order.version}"')


async def remove_alias(parts: Parts, call: Call) -> Answer:
    """Takes an alias away."""
    with _precondition():
        version = await parts.workspace.remove_alias(
            call.name, call.path["alias"], expect=_expected(call)
        )
    return Answer(VersionDocument.of(version))


@contextmanager
def _precondition() -> Iterator[None]:
    """Raises what was moved meanwhile as a condition of the request that does not hold."""
    try:
        yield
    except CommitConflict as error:
        raise PreconditionFailed(str(error)) from error


def _expected(call: Call) -> int | None:
    """Where the caller saw the alias: the ETag of an alias is the version that it means."""
    if call.headers.get(ALIAS_IF_NONE_MATCH.name) == "*":
        return None
    wanted = call.headers.get(ALIAS_IF_MATCH.name)
    if wanted is None:
        return ANYWHERE
    if match := VERSION_TAG.fullmatch(wanted):
        return version_number(match[1])
    raise Malformed(
        "If-Match of an alias is the version that it should mean now, in quotes, as in "
        '"v3"; If-None-Match: * is for one that should not be there.'
    )


def _tag_of_version(version: VersionRecord) -> str:
    return tag_of(msgspec.json.encode(VersionDocument.of(version)))


_VERSION: Final = f"{ARTIFACT}/versions/{{ref}}"
_ALIAS: Final = f"{ARTIFACT}/aliases/{{alias}}"

ARTIFACTS: Final = (
    Operation(
        "GET", f"{API}/projects", "List projects", list_projects,
        {200: ProjectPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{API}/projects/{{project}}/artifacts", "List a project's artifacts",
        list_artifacts, {200: ArtifactPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{ARTIFACT}/versions", "List an artifact's versions", list_versions,
        {200: VersionPage}, query=PageQuery,
    ),
    Operation("GET", _VERSION, "Look at a version", get_version, {200: VersionDocument}),
    Operation(
        "PATCH", _VERSION, "Change a version's notes", change_version,
        {200: VersionDocument}, body=VersionPatch, problems=(412, 415), headers=(IF_MATCH,),
    ),
    Operation(
        "GET", f"{_VERSION}/entries", "List entries, or what is in a folder", list_entries,
        {200: EntryPage}, query=EntriesQuery, problems=(422,),
    ),
    Operation(
        "GET", f"{_VERSION}/scans", "List a version's scans", list_scans,
        {200: ScanPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{_VERSION}/scans/{{scan}}/tiling", "Get what a scan listed", get_tiling,
        {200: JSON_TYPE}, problems=(422,),
    ),
    Operation(
        "GET", f"{ARTIFACT}/aliases", "List an artifact's aliases", list_aliases,
        {200: AliasList},
    ),
    Operation(
        "PUT", _ALIAS, "Let an alias mean a version", set_alias, {200: VersionDocument},
        body=AliasOrder, problems=(412, 415), headers=(ALIAS_IF_MATCH, ALIAS_IF_NONE_MATCH),
    ),
    Operation(
        "DELETE", _ALIAS, "Take an alias away", remove_alias, {200: VersionDocument},
        problems=(412,), headers=(ALIAS_IF_MATCH,),
    ),
)  # fmt: skip
