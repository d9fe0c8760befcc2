"""What was recorded: projects, artifacts, versions, entries; and what may change of a version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, UnsetType

from indexer.artifact.verify.structure import verify_structure
from indexer.daemon.dispatch import tag_of
from indexer.daemon.operation import (
    ALIAS_IF_MATCH,
    ALIAS_IF_NONE_MATCH,
    ARTIFACT,
    IF_MATCH,
    VERSION,
    VERSION_TAG,
    Answer,
    Call,
    Operation,
    PageQuery,
    Parts,
    ShortText,
    number_of_cursor,
    text_of_cursor,
    version_number,
)
from indexer.daemon.problems import Malformed, PreconditionFailed
from indexer.errors import CommitConflict, NoSuchVersion
from indexer.limits import TAG_CHARACTERS_MAX
from indexer.protocols import ANYWHERE
from indexer.records import Entry, VersionRecord
from indexer.references import parse_project
from indexer.remote import API, JSON_TYPE
from indexer.texts import path_bytes
from indexer.wire.artifacts import (
    AliasDocument,
    AliasList,
    AliasOrder,
    AliasPatch,
    ArtifactDocument,
    ArtifactPage,
    ArtifactPatch,
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
from indexer.wire.verification import StructureDocument

SCAN_ID_PATTERN: Final = re.compile(r"[0-9]{1,18}")


class VersionsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of an artifact's versions.

    With `tag`, of those that have it; with `deleted`, what is kept of deleted ones too.
    """

    tag: Annotated[str, Meta(max_length=TAG_CHARACTERS_MAX)] | None = None
    deleted: bool = False


class EntriesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries: those whose paths start with `prefix`, with `delimiter` one level of them."""

    prefix: ShortText = ""
    delimiter: Literal["/"] | None = None


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
    query: VersionsQuery = call.query
    found = await parts.workspace.versions(
        call.name,
        after=number_of_cursor(query.after),
        limit=query.limit,
        tag=query.tag,
        deleted=query.deleted,
    )
    after = cursor_after(str(found[-1].number)) if len(found) == query.limit else None
    return Answer(VersionPage(results=[VersionDocument.of(one) for one in found], next=after))


async def get_artifact(parts: Parts, call: Call) -> Answer:
    """Looks at an artifact."""
    return Answer(ArtifactDocument.of(await parts.workspace.artifact(call.name)))


async def change_artifact(parts: Parts, call: Call) -> Answer:
    """Changes an artifact's description."""
    patch: ArtifactPatch = call.body
    changed = await parts.workspace.describe_artifact(call.name, patch.description)
    return Answer(ArtifactDocument.of(changed))


async def get_version(parts: Parts, call: Call) -> Answer:
    """Looks at a version."""
    return Answer(VersionDocument.of(await parts.workspace.version(call.ref)))


async def change_version(parts: Parts, call: Call) -> Answer:
    """Changes a version's notes, description, metadata and tags, or when it expires."""
    patch: VersionPatch = call.body
    version = await parts.workspace.version(call.ref)
    expect = None
    if wanted := call.headers.get(IF_MATCH.name):
        _check_tag(version, wanted)
        expect = version
    with _precondition():
        version = await parts.workspace.change_version(
            version.name, version.number, patch.change(), expect=expect
        )
    if not isinstance(patch.expires_at, UnsetType):
        version = await parts.workspace.set_expiry(version.name, version.number, patch.expires_at)
    return Answer(VersionDocument.of(version), tag=_tag_of_version(version))


async def remove_version(parts: Parts, call: Call) -> Answer:
    """Deletes a version; what is kept of it is the answer."""
    version = await parts.workspace.version(call.ref)
    if wanted := call.headers.get(IF_MATCH.name):
        _check_tag(version, wanted)
    removed = await parts.workspace.remove_version(version.name, version.number)
    return Answer(VersionDocument.of(removed))


async def list_entries(parts: Parts, call: Call) -> Answer:
    """Lists a version's entries, or what is directly in a folder of it."""
    query: EntriesQuery = call.query
    version = await parts.workspace.version(call.ref)
    prefix = path_bytes(query.prefix)
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


async def verify_version(parts: Parts, call: Call) -> Answer:
    """Proves that what is kept of a version is whole; no store is asked."""
    version = await parts.workspace.version(call.ref)
    return Answer(StructureDocument.of(await verify_structure(parts.workspace, version)))


async def list_aliases(parts: Parts, call: Call) -> Answer:
    """Lists an artifact's aliases by name."""
    found = await parts.workspace.aliases(call.name)
    protected = await parts.workspace.protected_aliases(call.name)
    results = [
        AliasDocument(alias=alias, ref=f"{call.name}:v{number}", protected=alias in protected)
        for alias, number in found.items()
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


async def change_alias(parts: Parts, call: Call) -> Answer:
    """Protects an alias, or does so no more."""
    patch: AliasPatch = call.body
    version = await parts.workspace.protect_alias(
        call.name, call.path["alias"], protected=patch.protected
    )
    return Answer(VersionDocument.of(version))


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


def _check_tag(version: VersionRecord, wanted: str) -> None:
    if wanted not in ("*", _tag_of_version(version)):
        raise PreconditionFailed(
            f"{version.ref} is not as If-Match says any more; look at it again, and repeat."
        )


def _tag_of_version(version: VersionRecord) -> str:
    return tag_of(msgspec.json.encode(VersionDocument.of(version)))


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
        {200: VersionPage}, query=VersionsQuery,
    ),
    Operation("GET", ARTIFACT, "Look at an artifact", get_artifact, {200: ArtifactDocument}),
    Operation(
        "PATCH", ARTIFACT, "Describe an artifact", change_artifact,
        {200: ArtifactDocument}, body=ArtifactPatch, problems=(415,),
    ),
    Operation("GET", VERSION, "Look at a version", get_version, {200: VersionDocument}),
    Operation(
        "PATCH", VERSION, "Change what is said of a version, or when it expires", change_version,
        {200: VersionDocument}, body=VersionPatch, problems=(412, 415), headers=(IF_MATCH,),
    ),
    Operation(
        "DELETE", VERSION, "Delete a version", remove_version, {200: VersionDocument},
        problems=(409, 412), headers=(IF_MATCH,),
    ),
    Operation(
        "GET", f"{VERSION}/entries", "List entries, or what is in a folder", list_entries,
        {200: EntryPage}, query=EntriesQuery, problems=(422,),
    ),
    Operation(
        "GET", f"{VERSION}/scans", "List a version's scans", list_scans,
        {200: ScanPage}, query=PageQuery,
    ),
    Operation(
        "GET", f"{VERSION}/scans/{{scan}}/tiling", "Get what a scan listed", get_tiling,
        {200: JSON_TYPE}, problems=(422,),
    ),
    Operation(
        "GET", f"{VERSION}/verify", "Prove that what is kept of a version is whole",
        verify_version, {200: StructureDocument},
    ),
    Operation(
        "GET", f"{ARTIFACT}/aliases", "List an artifact's aliases", list_aliases,
        {200: AliasList},
    ),
    Operation(
        "PUT", _ALIAS, "Let an alias mean a version", set_alias, {200: VersionDocument},
        body=AliasOrder, problems=(409, 412, 415), headers=(ALIAS_IF_MATCH, ALIAS_IF_NONE_MATCH),
    ),
    Operation(
        "PATCH", _ALIAS, "Protect an alias, or do so no more", change_alias,
        {200: VersionDocument}, body=AliasPatch, problems=(415,),
    ),
    Operation(
        "DELETE", _ALIAS, "Take an alias away", remove_alias, {200: VersionDocument},
        problems=(409, 412), headers=(ALIAS_IF_MATCH,),
    ),
)  # fmt: skip
