"""What changed between two versions."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from indexer.changes import ChangeKind
from indexer.daemon.operation import ARTIFACT, Answer, Call, Operation, Parts
from indexer.limits import CURSOR_CHARACTERS_MAX, PAGE_RESULTS_DEFAULT, PAGE_RESULTS_MAX
from indexer.records import VersionRecord
from indexer.references import parse_beside
from indexer.texts import path_bytes
from indexer.wire.base import read_cursor
from indexer.wire.diff import DiffDocument, DiffFoldersDocument

_Text = Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)]
_Limit = Annotated[int, Meta(ge=1, le=PAGE_RESULTS_MAX)]


class DiffFoldersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With which version (`v3`, an alias, a digest, or a reference), and below what prefix."""

    to: _Text
    prefix: _Text = ""
    after: _Text | None = None
    limit: _Limit = PAGE_RESULTS_DEFAULT


class DiffQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """… and changes of which kind."""

    to: _Text
    prefix: _Text = ""
    kind: ChangeKind | None = None
    after: _Text | None = None
    limit: _Limit = PAGE_RESULTS_DEFAULT


async def diff_versions(parts: Parts, call: Call) -> Answer:
    """Lists what changed from a version to another one, with a summary of all of it."""
    query: DiffQuery = call.query
    old, new, is_immutable = await _versions(parts, call, query.to)
    page = await parts.workspace.diff(
        old,
        new,
        path_bytes(query.prefix),
        kind=query.kind,
        after=read_cursor(query.after),
        limit=query.limit,
    )
    return Answer(DiffDocument.of(page), immutable=is_immutable)


async def diff_folders(parts: Parts, call: Call) -> Answer:
    """Counts what changed from a version to another one in each folder below a prefix."""
    query: DiffFoldersQuery = call.query
    old, new, is_immutable = await _versions(parts, call, query.to)
    page = await parts.workspace.diff_folders(
        old,
        new,
        path_bytes(query.prefix),
        after=read_cursor(query.after),
        limit=query.limit,
    )
    return Answer(DiffFoldersDocument.of(page), immutable=is_immutable)


async def _versions(parts: Parts, call: Call, to: str) -> tuple[VersionRecord, VersionRecord, bool]:
    """Both versions, and whether both were named by their digests."""
    refs = call.ref, parse_beside(to, call.name)
    old, new = [await parts.workspace.version(ref) for ref in refs]
    return (
        old,
        new,
        all(ref.selector == one.digest for ref, one in zip(refs, (old, new), strict=True)),
    )


_DIFF: Final = f"{ARTIFACT}/versions/{{ref}}/diff"

DIFFS: Final = (
    Operation(
        "GET", _DIFF, "List what changed between two versions", diff_versions,
        {200: DiffDocument}, query=DiffQuery, problems=(422,),
    ),
    Operation(
        "GET", f"{_DIFF}/folders", "Count what changed in each folder", diff_folders,
        {200: DiffFoldersDocument}, query=DiffFoldersQuery, problems=(422,),
    ),
)  # fmt: skip
