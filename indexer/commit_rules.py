"""What every tracker asks of a commit, and what it makes of it: pure decisions over values.

Invariants
  * Nothing here reads or writes; a tracker calls these inside of its own transaction.
  * A tracker that follows them, and makes what they decided at once or not at all, is correct.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import CommitConflict, CorruptContent, InvalidReference, InvalidSetting
from indexer.limits import DURATION_S_MAX, NOTES_CHARACTERS_MAX, REQUEST_ID_CHARACTERS_MAX
from indexer.manifest import ShardRef
from indexer.protocols import CommitRequest
from indexer.records import CommitResult, Consistency, ScanRecord, VersionRecord
from indexer.references import NAME_PATTERN, ArtifactName, parse_alias

TYPE_DEFAULT: Final = "dataset"
"""An artifact's type where its first commit names none."""

LATEST: Final = "latest"
"""The alias of the newest complete version; it moves by itself."""


def check_request(request: CommitRequest) -> None:
    """Checks what a commit names, before anything is done for it.

    Raises `InvalidReference` for a name or alias that cannot be, `InvalidSetting` for notes that
    are too long.
    """
    assert 0 < len(request.request_id) <= REQUEST_ID_CHARACTERS_MAX
    check_name("project", request.name.project)
    check_name("artifact", request.name.artifact)
    if request.type is not None:
        check_name("type", request.type)
    for alias in request.aliases:
        parse_alias(alias)
    if request.notes is not None:
        check_notes(request.notes)
    if request.ttl is not None:
        check_ttl(request.ttl)


def check_name(kind: str, text: str) -> None:
    """Raises `InvalidReference` unless `text` can name a project, an artifact or a type."""
    if not NAME_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text!r} cannot be the name of a {kind}: use 1 to 128 letters, digits, '.', '_' "
            f"or '-'."
        )


def check_notes(notes: str) -> None:
    """Raises `InvalidSetting` for notes that are too long or cannot be written as UTF-8."""
    try:
        notes.encode()
    except UnicodeEncodeError:
        raise InvalidSetting("the notes are not UTF-8; write them in that encoding.") from None
    if len(notes) > NOTES_CHARACTERS_MAX:
        raise InvalidSetting(
            f"the notes have {len(notes):,} characters; at most {NOTES_CHARACTERS_MAX:,} are kept."
        )


def check_ttl(ttl: timedelta) -> None:
    """Raises `InvalidSetting` for a time to live that is none, or that no calendar has."""
    if not timedelta(0) < ttl <= timedelta(seconds=DURATION_S_MAX):
        raise InvalidSetting(
            f"{ttl} is no time to live: give one of some seconds up to 100 years, or none at all."
        )


def is_unchanged(request: CommitRequest, newest: str | None) -> bool:
    """Whether the commit confirms the newest version instead of making one.

    `newest` is the digest of the version that the commit would follow, None when there is none.
    Raises `CommitConflict` when the content changed and the caller knew of another newest one.
    """
    if newest == request.manifest.digest:
        return True
    if newest != request.expect:
        raise CommitConflict(
            f"{request.name} has another newest version by now ({newest or 'none'}) than this "
            f"commit was made for ({request.expect or 'none'}); read it and commit again."
        )
    return False


def is_of_the_past(scan: ScanRecord, newest: VersionRecord | None) -> bool:
    """Whether the scan is of a moment that `latest` knows more than.

    Such a commit makes a version beside the newest one, or confirms the newest complete one that is
    the same, and `latest` stays where it is.
    """
    if scan.as_of is None or newest is None or scan.consistency is Consistency.PARTIAL:
        return False
    return scan.as_of <= newest.seen_at


def check_repeated(request: CommitRequest, first: CommitResult) -> None:
    """Checks that a request which was committed before asked for the same then.

    Raises `InvalidSetting`.
    """
    then = (first.version.name, first.version.digest)
    if then != (request.name, request.manifest.digest):
        raise InvalidSetting(
            f"the request {request.request_id!r} was committed before, as {first.version.ref} with "
            f"other content; choose a new id for a new commit."
        )


def type_of(name: ArtifactName, fixed: str | None, asked: str | None) -> str:
    """The artifact's type: what its first version fixed, else what is asked for.

    Raises `InvalidSetting` when the two differ.
    """
    if fixed is None:
        return asked or TYPE_DEFAULT
    if asked not in (None, fixed):
        raise InvalidSetting(
            f"{name} is of the type {fixed!r}, which its first version fixed; it cannot take a "
            f"version of the type {asked!r}. Choose another name, or leave the type out."
        )
    return fixed


def check_shard(shard: ShardRef, rows: pa.Table, previous: ShardRef | None) -> None:
    """Checks what a manifest says of a shard, and that it follows the `previous` one.

    Raises `CorruptContent`.
    """
    paths = rows.column("path")
    facts = (
        rows.num_rows == shard.rows > 0
        and paths[-1].as_py() == shard.max_path
        and pc.sum(rows.column("size")).as_py() == shard.size_bytes
        and (previous is None or paths[0].as_py() > previous.max_path)
    )
    if not facts:
        raise CorruptContent(f"shard {shard.digest} is not what the manifest says of it")
