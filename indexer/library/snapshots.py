"""Versions for scripts and notebooks: made of what lies at a URI, or opened by their reference.

Invariants
  * A snapshot is the order that the command would make of the same arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Unpack

from indexer.commit_rules import check_ttl
from indexer.label_rules import plain, words
from indexer.library.portals import console_for
from indexer.library.settings import ReachSettings, SnapshotSettings, arguments
from indexer.library.version import Version
from indexer.places import open_workspace, order_of, place_of, settings_of
from indexer.records import Snapshot
from indexer.references import parse_reference
from indexer.runner import Portal
from indexer.sources import located, parse_source
from indexer.telemetry import Counters, new_logger
from indexer.workspace import Workspace


def snapshot(
    uri: str | Path | Mapping[str, str | Path],
    *,
    name: str,
    type: str | None = None,  # noqa: A002 - W&B's word, which users know
    aliases: Sequence[str] = (),
    notes: str | None = None,
    allow_empty: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    heads: bool = False,
    as_of: datetime | None = None,
    ttl: timedelta | None = None,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    run: str | None = None,
    data: str | Path | None = None,
    server: str | None = None,
    to: str | None = None,
    progress: bool | None = None,
    **given: Unpack[SnapshotSettings],
) -> Version:
    """References everything below `uri` as a version of the artifact `name` (`project/artifact`).

    `uri` is a URI or a path; several sources are a mapping of mounts to them. Objects are read only
    for a `checksum` that was asked for, of files for their MD5 unless that is `none`. When nothing
    changed since the newest version, that one is returned, with `created` false. It is of the run
    with the id `run`, or of one of its own. A new one expires `ttl` after that. `data` or `server`
    say where it is made; `to` is the URL of a daemon that is told of what is listed here. How far
    it has come is shown on a terminal and in a notebook, unless `progress` says otherwise. Raises
    what `indexer.errors` draws; then nothing was recorded.
    """
    if ttl is not None:
        check_ttl(ttl)
    settings = settings_of(arguments(given, SnapshotSettings, data, server))
    order = order_of(
        settings,
        [str(uri)] if isinstance(uri, (str, Path)) else [_mounted(*pair) for pair in uri.items()],
        name=name,
        type=type,
        aliases=list(words(aliases)),
        notes=notes,
        allow_empty=allow_empty,
        include=list(words(include)),
        exclude=list(words(exclude)),
        heads=heads,
        as_of=as_of,
        ttl_s=None if ttl is None else math.ceil(ttl.total_seconds()),
        description=description,
        metadata=None if metadata is None else plain(metadata),
        tags=list(words(tags)),
        run=run,
    )
    place = place_of(settings)
    log = new_logger(settings["log_level"], settings["log_format"])
    console, counters = console_for(progress), Counters()

    async def make(workspace: Workspace) -> Snapshot:
        async with console.progress(counters, name):
            return await workspace.snapshot(order, counters)

    with Portal(open_workspace(place, to=to, log=log)) as portal:
        done = portal.run(make)
    return Version(
        done.result.version,
        place if to is None else replace(place, server=to),
        done.result.created,
    )


def open(  # noqa: A001 - as in `io.open`
    ref: str,
    *,
    data: str | Path | None = None,
    server: str | None = None,
    **given: Unpack[ReachSettings],
) -> Version:
    """The version that `ref` names: `project/artifact:v3`, `:latest`, an alias, `@sha256:…`.

    The settings say how its objects are reached when they are read; what they leave open is as it
    was when the version was made. Raises `InvalidReference` and `NoSuchVersion`.
    """
    wanted = parse_reference(ref)
    place = place_of(settings_of(arguments(given, ReachSettings, data, server)))
    with Portal(open_workspace(place, creates=False)) as portal:
        record = portal.run(lambda workspace: workspace.version(wanted))
    return Version(record, place)


def _mounted(mount: str, source: str | Path) -> str:
    # A path needs its scheme: without one, the whole of it would be a path with `=` in it.
    return f"{mount}={parse_source(located(str(source)))}"
