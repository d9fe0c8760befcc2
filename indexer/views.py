"""Views: what the command says of snapshots, versions and entries, as JSON and for people.

Invariants
  * JSON holds every value exactly; names in it are those of the HTTP interface and never change.
"""

from __future__ import annotations

import base64
from typing import Any

from indexer.artifact.entries import Entry
from indexer.catalog.reader import ArtifactRecord, ProjectRecord
from indexer.console import Console, shown
from indexer.job import Snapshot
from indexer.protocols import VersionRecord


def bytes_shown(size_bytes: int) -> str:
    """A number of bytes with a binary unit."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(0, size_bytes.bit_length() - 1) // 10, len(units) - 1)
    return f"{size_bytes / 1024**power:,.{1 if power else 0}f} {units[power]}"


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """What a snapshot came to, as its one JSON object."""
    version = snapshot.result.version
    return {
        "ref": version.ref,
        "version": f"v{version.number}",
        "created": snapshot.result.created,
        "digest": version.digest,
        "wandb_digest": version.wandb_digest,
        "wandb_reason": version.wandb_reason,
        "objects": version.objects,
        "listed": snapshot.listed,
        "bytes": version.size_bytes,
        "shards_new": snapshot.shards_new,
        "shards_reused": snapshot.shards_reused,
        "requests": snapshot.requests,
        "elapsed_s": round(snapshot.elapsed_s, 3),
        "consistency": str(version.consistency),
        "warnings": list(snapshot.warnings),
    }


def show_snapshot(console: Console, snapshot: Snapshot) -> None:
    """What a snapshot came to, for people."""
    version = snapshot.result.version
    state = "created" if snapshot.result.created else "unchanged, no new version"
    rate = snapshot.listed / snapshot.elapsed_s if snapshot.elapsed_s else 0
    console.line(f"{version.ref}  {state}")
    console.line(f"  digest   {version.digest}")
    console.line(f"  objects  {version.objects:,} ({bytes_shown(version.size_bytes)})")
    console.line(f"  shards   {snapshot.shards_new:,} new, {snapshot.shards_reused:,} reused")
    console.line(
        f"  listed   {snapshot.listed:,} objects in {snapshot.elapsed_s:.2f} s "
        f"({rate:,.0f} a second, {snapshot.requests:,} requests)"
    )
    if version.consistency == "partial":
        console.line("  partial  there are more objects; this version is not 'latest'")


def version_document(version: VersionRecord) -> dict[str, Any]:
    """A version as a JSON object."""
    return {
        "ref": version.ref,
        "project": version.name.project,
        "artifact": version.name.artifact,
        "version": f"v{version.number}",
        "type": version.type,
        "digest": version.digest,
        "wandb_digest": version.wandb_digest,
        "wandb_reason": version.wandb_reason,
        "objects": version.objects,
        "bytes": version.size_bytes,
        "listed": version.listed,
        "consistency": str(version.consistency),
        "aliases": list(version.aliases),
        "notes": version.notes,
        "run": version.run_id,
        "created_at": version.created_at,
        "confirmed_at": version.confirmed_at,
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as a JSON object; a path that is no UTF-8 is given in base64."""
    document: dict[str, Any] = {
        "size": entry.size,
        "uri": entry.uri,
        "etag": entry.etag,
        "version_id": entry.version_id,
        "last_modified": entry.last_modified,
        "storage_class": entry.storage_class,
    }
    try:
        return {"path": entry.path.decode(), **document}
    except UnicodeDecodeError:
        return {"path_base64": base64.b64encode(entry.path).decode(), **document}


def show_version(console: Console, version: VersionRecord) -> None:
    """A version, for people."""
    wandb = version.wandb_digest or f"none: {version.wandb_reason}"
    lines = {
        "type": version.type,
        "digest": version.digest,
        "W&B digest": wandb,
        "objects": f"{version.objects:,} ({bytes_shown(version.size_bytes)})",
        "consistency": str(version.consistency),
        "aliases": ", ".join(version.aliases) or "-",
        "run": version.run_id,
        "created": shown(version.created_at),
        "confirmed": shown(version.confirmed_at),
        "notes": version.notes or "-",
    }
    console.line(version.ref)
    for name, value in lines.items():
        console.line(f"  {name:<12} {shown(value)}")


def show_projects(console: Console, projects: list[ProjectRecord]) -> None:
    """Projects, one a line."""
    if console.is_json:
        for project in projects:
            console.record(
                {
                    "project": project.name,
                    "artifacts": project.artifacts,
                    "versions": project.versions,
                    "updated_at": project.updated_at,
                }
            )
        return
    rows = ((p.name, p.artifacts, p.versions, p.updated_at) for p in projects)
    console.table(("PROJECT", "ARTIFACTS", "VERSIONS", "UPDATED"), rows)


def show_artifacts(console: Console, artifacts: list[ArtifactRecord]) -> None:
    """Artifacts of a project, one a line."""
    if console.is_json:
        for artifact in artifacts:
            latest = version_document(artifact.latest) if artifact.latest else None
            console.record(
                {
                    "artifact": str(artifact.name),
                    "type": artifact.type,
                    "versions": artifact.versions,
                    "latest": latest,
                    "updated_at": artifact.updated_at,
                }
            )
        return
    rows = (
        (
            artifact.name,
            artifact.type,
            artifact.versions,
            f"v{artifact.latest.number}" if artifact.latest else None,
            artifact.latest.objects if artifact.latest else None,
            bytes_shown(artifact.latest.size_bytes) if artifact.latest else None,
            artifact.updated_at,
        )
        for artifact in artifacts
    )
    heads = ("ARTIFACT", "TYPE", "VERSIONS", "LATEST", "OBJECTS", "SIZE", "UPDATED")
    console.table(heads, rows)


def show_versions(console: Console, versions: list[VersionRecord]) -> None:
    """Versions of an artifact, one a line."""
    if console.is_json:
        for version in versions:
            console.record(version_document(version))
        return
    rows = (
        (
            version.ref,
            version.objects,
            bytes_shown(version.size_bytes),
            ", ".join(version.aliases) or None,
            version.created_at,
            version.digest.removeprefix("sha256:")[:12],
            version.notes.partition("\n")[0] or None,
        )
        for version in versions
    )
    heads = ("VERSION", "OBJECTS", "SIZE", "ALIASES", "CREATED", "DIGEST", "NOTES")
    console.table(heads, rows)


def show_entry(console: Console, entry: Entry) -> None:
    """An entry, as one line."""
    if console.is_json:
        console.record(entry_document(entry))
        return
    console.line(f"{entry.size:>14,}  {shown(entry.last_modified)}  {shown(entry.path)}")
