"""Views: what the command says of snapshots, versions and entries, as JSON and for people.

Invariants
  * JSON holds every value exactly; names in it are those of the HTTP interface and never change.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from indexer.console import Console, bytes_shown, shown
from indexer.records import (
    ArtifactRecord,
    Entry,
    GarbageReport,
    Preview,
    ProjectRecord,
    Snapshot,
    VersionRecord,
)
from indexer.wire.artifacts import ArtifactDocument, EntryDocument, ProjectDocument, VersionDocument
from indexer.wire.base import Answer
from indexer.wire.jobs import JobDocument, PreviewDocument
from indexer.wire.verification import FindingDocument

if TYPE_CHECKING:
    from indexer.artifact.found import Finding


def document(answer: Answer) -> dict[str, Any]:
    """A document as the JSON object that is printed of it."""
    return msgspec.to_builtins(answer)  # type: ignore[no-any-return]


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


def show_preview(console: Console, preview: Preview) -> None:
    """What a snapshot would record: as one document, or the paths first and the counts last."""
    if console.is_json:
        console.record(document(PreviewDocument.of(preview)))
        return
    for sign, paths in (("+", preview.kept), ("-", preview.left_out)):
        for path in paths:
            console.line(f"{sign} {shown(path)}")
    for source in preview.sources:
        console.line(
            f"{source.source}: {source.kept:,} of {source.listed:,} objects would be kept "
            f"({bytes_shown(source.size_bytes)})"
        )


def show_version(console: Console, version: VersionRecord) -> None:
    """A version, for people."""
    wandb = version.wandb_digest or f"none: {version.wandb_reason}"
    lines = {
        "type": version.type,
        "digest": version.digest,
        "W&B digest": wandb,
        "objects": f"{version.objects:,} ({bytes_shown(version.size_bytes)})",
        "consistency": _consistency_of(version),
        "checksum": version.checksum or "-",
        "aliases": ", ".join(_alias_shown(version, alias) for alias in version.aliases) or "-",
        "run": version.run_id,
        "created": shown(version.created_at),
        "confirmed": shown(version.confirmed_at),
        "expires": shown(version.expires_at),
        "description": version.description or "-",
        "tags": ", ".join(version.tags) or "-",
        "metadata": json.dumps(version.metadata, ensure_ascii=False) if version.metadata else "-",
        "notes": version.notes or "-",
    }
    if version.deleted_at is not None:
        lines["deleted"] = f"{shown(version.deleted_at)}, {version.deleted_because}"
    console.line(version.ref)
    for name, value in lines.items():
        console.line(f"  {name:<12} {shown(value)}")
    for notice in version.notices:
        console.line(f"  note         {shown(notice)}")


def _alias_shown(version: VersionRecord, alias: str) -> str:
    return f"{alias} (protected)" if alias in version.protected else alias


def _consistency_of(version: VersionRecord) -> str:
    if version.as_of is not None:
        return f"{version.consistency}, as of {shown(version.as_of)}"
    if version.consistency != "window":
        return str(version.consistency)
    touched = "an unknown number" if version.touched is None else f"{version.touched:,}"
    return f"window, {touched} of the objects written meanwhile"


def show_projects(console: Console, projects: list[ProjectRecord]) -> None:
    """Projects, one a line."""
    if console.is_json:
        for project in projects:
            console.record(document(ProjectDocument.of(project)))
        return
    rows = ((p.name, p.artifacts, p.versions, p.updated_at) for p in projects)
    console.table(("PROJECT", "ARTIFACTS", "VERSIONS", "UPDATED"), rows)


def show_artifacts(console: Console, artifacts: list[ArtifactRecord]) -> None:
    """Artifacts of a project, one a line."""
    if console.is_json:
        for artifact in artifacts:
            console.record(document(ArtifactDocument.of(artifact)))
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
            console.record(document(VersionDocument.of(version)))
        return
    rows = (
        (
            version.ref,
            version.objects,
            bytes_shown(version.size_bytes),
            ", ".join(version.aliases) or version.deleted_because,
            ", ".join(version.tags) or None,
            version.created_at,
            version.digest.removeprefix("sha256:")[:12],
            version.notes.partition("\n")[0] or None,
        )
        for version in versions
    )
    heads = ("VERSION", "OBJECTS", "SIZE", "ALIASES", "TAGS", "CREATED", "DIGEST", "NOTES")
    console.table(heads, rows)


def show_garbage(console: Console, report: GarbageReport) -> None:
    """What a collection of garbage came to, for people."""
    would = "would be " if report.is_dry_run else ""
    for ref in report.expired:
        console.line(f"{ref}  {would}deleted: it expired")
    amounts = [*report.deleted.items(), ("in all", report.total), ("kept", report.kept)]
    rows = ((what, amount.files, bytes_shown(amount.size_bytes)) for what, amount in amounts)
    console.table((f"{would}deleted".upper(), "FILES", "SIZE"), rows)


def finding_document(path: bytes, finding: Finding) -> FindingDocument:
    """What is wrong with the object of the entry at `path`."""
    return FindingDocument.of(
        path,
        finding.uri,
        finding.kind,
        recorded=finding.recorded,
        found=finding.found,
        said=finding.sentence,
    )


def show_entry(console: Console, entry: Entry) -> None:
    """An entry, as one line."""
    if console.is_json:
        console.record(document(EntryDocument.of(entry)))
        return
    console.line(f"{entry.size:>14,}  {shown(entry.last_modified)}  {shown(entry.path)}")


def show_jobs(console: Console, jobs: list[JobDocument]) -> None:
    """Jobs, one a line."""
    if console.is_json:
        for job in jobs:
            console.record(document(job))
        return
    rows = (
        (
            job.id,
            job.state,
            job.name,
            ", ".join(job.sources),
            job.progress.objects_listed,
            job.created_at,
        )
        for job in jobs
    )
    console.table(("JOB", "STATE", "ARTIFACT", "SOURCE", "OBJECTS", "ASKED"), rows)


def show_job(console: Console, job: JobDocument) -> None:
    """A job, for people."""
    if console.is_json:
        console.record(document(job))
        return
    lines = {
        "state": job.state,
        "source": ", ".join(job.sources),
        "artifact": job.name,
        "objects": job.progress.objects_listed,
        "requests": job.progress.requests,
        "asked": job.created_at,
        "started": job.started_at,
        "ended": job.finished_at,
        "version": job.result.ref if job.result else None,
        "problem": job.problem.detail if job.problem else None,
    }
    console.line(job.id)
    for name, value in lines.items():
        console.line(f"  {name:<12} {shown(value)}")
