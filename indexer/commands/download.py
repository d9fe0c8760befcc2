"""The command's words for having a version's objects as files: `download`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.commands.session import (
    Session,
    common,
    connection,
    selecting,
    with_session,
)

if TYPE_CHECKING:
    from indexer.artifact.download.download import DownloadResult
    from indexer.console import Console
    from indexer.workspace import Workspace


@click.command(short_help="Download a version's objects.")
@click.argument("ref")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to download into.  [artifacts/ARTIFACT:vN]",
)
@selecting
@click.option("--allow-missing", is_flag=True, help="Overwritten and deleted objects are no error.")
@click.option(
    "--cache",
    type=click.Choice(["copy", "link", "off"]),
    help="How to use the local cache.  [copy]",
)
@click.option("--cache-folder", metavar="DIR", help="Folder of the cache.")
@click.option("--cache-bytes", type=int, metavar="N", help="Most bytes in it.  [10 GiB]")
@click.option("--no-cache", is_flag=True, help="The same as --cache off.")
@click.option("--in-flight", type=int, metavar="N", help="Most requests at once.  [64]")
@click.option("--requests-per-s", type=int, metavar="N", help="Most requests a second.")
@connection
@common
@with_session
def download(
    session: Session,
    ref: str,
    *,
    root: Path | None,
    allow_missing: bool,
    no_cache: bool,
    **selected: Any,
) -> None:
    """Make files of the objects of the version REF, each as it was recorded.

    What is there and right is not fetched again, and what was interrupted is gone on with.
    """
    from indexer.artifact.download.download import (
        DownloadOptions,
        DownloadTally,
        default_root,
    )
    from indexer.artifact.download.download import download as download_version
    from indexer.artifact.entries import Selection
    from indexer.artifact.handle import Handle
    from indexer.places import cache_of
    from indexer.telemetry import Counters

    console, counters, tally = session.console, Counters(), DownloadTally()
    selection = Selection.made(**selected)
    options = DownloadOptions(selection, None if no_cache else cache_of(session.settings))

    async def run(workspace: Workspace) -> DownloadResult:
        handle = await Handle.open(workspace, ref)
        objects, size_bytes = handle.record.objects, handle.record.size_bytes
        figures = tally.figures(0 if selection else objects, size_bytes)
        async with console.progress(counters, ref, figures):
            folder = root or default_root(handle.record)
            return await download_version(handle, folder, options, counters=counters, tally=tally)

    result: DownloadResult = session.run(run)
    _show(console, result)
    error = result.error(allow_missing=allow_missing)
    if error is not None:
        raise error


def _show(console: Console, result: DownloadResult) -> None:
    """What a download came to."""
    from indexer.commands.views import document, finding_document
    from indexer.console import bytes_shown, shown
    from indexer.wire.downloads import DownloadDocument, EscapedDocument

    if console.is_json:
        said = DownloadDocument(
            ref=result.ref,
            root=str(result.root),
            objects=result.objects,
            bytes=result.size_bytes,
            fetched=result.objects_fetched,
            bytes_fetched=result.bytes_fetched,
            cached=result.objects_cached,
            there=result.objects_there,
            folders=result.folders,
            others=result.others,
            failed=result.failed,
            failures=[finding_document(path, finding) for path, finding in result.failures],
            escaped=result.escaped_total,
            escaped_first=[EscapedDocument.of(one.path, one.local) for one in result.escaped],
            escaped_file=None if result.escaped_file is None else str(result.escaped_file),
            requests=result.requests,
            elapsed_s=round(result.elapsed_s, 3),
        )
        console.record(document(said))
        return
    if console.is_quiet:
        console.line(str(result.root))
        return
    for _, finding in result.failures:
        console.line(f"{finding.kind:<12} {shown(finding.sentence)}")
    done = result.objects_fetched + result.objects_cached + result.objects_there
    console.line(
        f"{result.ref}  {done:,} of {result.objects:,} objects in {shown(str(result.root))}"
    )
    rate = bytes_shown(int(result.bytes_fetched / result.elapsed_s)) if result.elapsed_s else "0 B"
    console.line(
        f"  fetched  {result.objects_fetched:,} ({bytes_shown(result.bytes_fetched)}) in "
        f"{result.elapsed_s:.2f} s ({rate} a second, {result.requests:,} requests)"
    )
    for count, word, told in (
        (result.objects_there, "there", "were there and right"),
        (result.objects_cached, "cached", "came from the local cache"),
        (result.folders, "folders", "are empty objects whose paths end in a slash"),
        (result.failed, "failed", "could not be had"),
        (result.escaped_total, "escaped", f"are named otherwise; see {result.escaped_file}"),
        (result.others, "others", "are files that are none of these; they are left as they are"),
    ):
        if count:
            console.line(f"  {word:<8} {count:,} {told}")
