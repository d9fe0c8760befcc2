"""What changed between two versions."""

from __future__ import annotations

from typing import Final

from indexer.changes import ChangeKind
from indexer.daemon.operation import VERSION, Answer, Call, Operation, PageQuery, Parts, ShortText
from indexer.records import VersionRecord
from indexer.references import parse_beside
from indexer.texts import path_bytes
from indexer.wire.base import read_cursor
from indexer.wire.diff import DiffDocument, DiffFoldersDocument


class DiffFoldersQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With which version (`v3`, an alias, a digest, or a reference), and below what prefix."""

    to: ShortText
    prefix: ShortText = ""


class DiffQuery(DiffFoldersQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """… and changes of which kind."""

    kind: ChangeKind | None = None


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


_DIFF: Final = f"{VERSION}/diff"

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
