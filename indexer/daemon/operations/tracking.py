"""The tracking API: shards and versions that an indexer elsewhere lists and commits.

Nothing that is sent is trusted: a shard's rows are read and have to be in order and to have its
digest, and a commit's manifest has to be true of its shards. See `protocols.Tracker`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from indexer.daemon.operation import ARTIFACT, VERSION, Answer, Call, Operation, Parts
from indexer.errors import InvalidReference, NoSuchVersion
from indexer.limits import COMMIT_BODY_BYTES_MAX, SHARD_BYTES_MAX
from indexer.manifest import SHARD_DIGEST
from indexer.references import DIGEST_PATTERN
from indexer.remote import API, JSON_TYPE, SHARD_TYPE
from indexer.wire.artifacts import VersionDocument
from indexer.wire.tracking import CommitDocument, CommitOrder, ParentDocument


class ParentQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After which version: `latest`, or the newest partial one."""

    partial: bool = False


async def has_shard(parts: Parts, call: Call) -> Answer:
    """Says whether a shard is there."""
    digest = await _present(parts, call)
    return Answer(headers={"Content-Type": SHARD_TYPE}, tag=f'"{digest}"', immutable=True)


async def get_shard(parts: Parts, call: Call) -> Answer:
    """Gives a shard's Parquet file."""
    digest = await _present(parts, call)
    data = await parts.content.shard_bytes(digest)
    return Answer(data, media_type=SHARD_TYPE, tag=f'"{digest}"', immutable=True)


async def put_shard(parts: Parts, call: Call) -> Answer:
    """Takes a shard's Parquet file."""
    digest = _digest(call)
    await parts.tracker.put_shard(digest, call.body)
    return Answer(status=204)


async def get_manifest(parts: Parts, call: Call) -> Answer:
    """Gives a manifest's root by its digest."""
    digest = call.path["digest"]
    if not DIGEST_PATTERN.fullmatch(digest):
        raise InvalidReference(f"{digest!r} is no digest: write sha256: and 64 hexadecimal digits.")
    root = await parts.workspace.root(digest)
    return Answer(root, tag=f'"{digest}"', immutable=True)


async def get_version_manifest(parts: Parts, call: Call) -> Answer:
    """Gives the root of a version's manifest."""
    version = await parts.workspace.version(call.ref)
    root = (await parts.tracker.manifest(version.digest)).root
    return Answer(root, tag=f'"{version.digest}"')


async def get_parent(parts: Parts, call: Call) -> Answer:
    """Says which version a commit would follow."""
    query: ParentQuery = call.query
    version = await parts.tracker.parent(call.name, partial=query.partial)
    return Answer(ParentDocument(version=VersionDocument.of(version) if version else None))


async def commit_version(parts: Parts, call: Call) -> Answer:
    """Commits a version of shards that were put."""
    order: CommitOrder = call.body
    result = await parts.tracker.commit(order.request(call.name))
    return Answer(CommitDocument.of(result), status=201 if result.created else 200)


async def get_commit(parts: Parts, call: Call) -> Answer:
    """Says what came of a commit."""
    result = await parts.tracker.outcome(call.path["request_id"])
    if result is None:
        raise NoSuchVersion(f"nothing was committed as {call.path['request_id'][:128]!r}.")
    return Answer(CommitDocument.of(result))


async def _present(parts: Parts, call: Call) -> str:
    """The digest of a shard that is there. Raises `NoSuchVersion`."""
    digest = _digest(call)
    if await parts.tracker.missing([digest]):
        raise NoSuchVersion(f"there is no shard {digest} here.")
    return digest


def _digest(call: Call) -> str:
    digest = call.path["shard"]
    if not SHARD_DIGEST.fullmatch(digest):
        raise InvalidReference(f"{digest[:80]!r} names no shard: write 64 hexadecimal digits.")
    return digest


_SHARD: Final = f"{API}/shards/{{shard}}"

TRACKING: Final = (
    Operation("HEAD", _SHARD, "Ask for a shard", has_shard, {200: None}),
    Operation("GET", _SHARD, "Get a shard", get_shard, {200: SHARD_TYPE}, problems=(422,)),
    Operation(
        "PUT", _SHARD, "Put a shard", put_shard, {204: None},
        body=SHARD_TYPE, body_bytes_max=SHARD_BYTES_MAX, problems=(415, 422),
    ),
    Operation(
        "GET", f"{API}/manifests/{{digest}}", "Get a manifest", get_manifest, {200: JSON_TYPE},
        problems=(422,),
    ),
    Operation(
        "GET", f"{VERSION}/manifest", "Get a version's manifest",
        get_version_manifest, {200: JSON_TYPE}, problems=(422,),
    ),
    Operation(
        "GET", f"{ARTIFACT}/parent", "Ask which version a commit would follow", get_parent,
        {200: ParentDocument}, query=ParentQuery,
    ),
    Operation(
        "POST", f"{ARTIFACT}/versions", "Commit a version", commit_version,
        {200: CommitDocument, 201: CommitDocument}, body=CommitOrder,
        body_bytes_max=COMMIT_BODY_BYTES_MAX, problems=(409, 415, 422),
    ),
    Operation(
        "GET", f"{API}/commits/{{request_id}}", "Ask what came of a commit", get_commit,
        {200: CommitDocument},
    ),
)  # fmt: skip
