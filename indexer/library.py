"""The library: the command's verbs for scripts and notebooks.

Invariants
  * Every function may be called where an event loop runs (a notebook) and where none does.
  * A `Version` is a value: what it says was true when it was read; what it holds never changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.app import App, SourceOptions, open_app
from indexer.artifact.entries import shards_below, within
from indexer.config import Settings, load_settings
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import VersionRecord
from indexer.references import parse_name, parse_reference, parse_source
from indexer.runner import Portal
from indexer.stores.s3_client import S3Options
from indexer.telemetry import new_logger

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an artifact: `record` says what is known of it, `data` where it is kept."""

    record: VersionRecord
    data: Path
    created: bool = False

    @property
    def ref(self) -> str:
        """The version's reference, such as `project/artifact:v3`."""
        return self.record.ref

    @property
    def digest(self) -> str:
        """The version's identity, `sha256:` and 64 hexadecimal digits."""
        return self.record.digest

    def entries(self, prefix: str | bytes = b"") -> Iterator[pa.Table]:
        """The entries whose paths start with `prefix`, in key order, as Arrow tables.

        A table is read, and verified, when it is asked for; columns are those of `page.SCHEMA`
        that have a value. Raises `CorruptContent`.
        """
        wanted = prefix.encode() if isinstance(prefix, str) else prefix
        with Portal(open_app(self.data, creates=False)) as portal:
            manifest = portal.run(lambda app: app.catalog.tracker.manifest(self.digest))
            for shard in shards_below(manifest, wanted):
                table = portal.run(partial(_read_shard, shard.digest))
                if (kept := within(table, wanted)).num_rows:
                    yield kept


def snapshot(
    uri: str,
    *,
    name: str,
    type: str | None = None,  # noqa: A002 - W&B's word, which users know
    aliases: Sequence[str] = (),
    notes: str | None = None,
    max_objects: int | None = None,
    on_limit: str | None = None,
    allow_empty: bool = False,
    data: str | Path | None = None,
    in_flight: int | None = None,
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    no_sign_request: bool | None = None,
    request_payer: str | None = None,
) -> Version:
    """References everything below `uri` as a version of the artifact `name` (`project/artifact`).

    No object is read. When nothing changed since the newest version, that one is returned, with
    `created` false. Options that are not given come from the environment, `indexer.toml` and the
    defaults, as with the command. Raises what `indexer.errors` draws; then nothing was recorded.
    """
    settings = settings_of(
        {
            "data": None if data is None else str(data),
            "max_objects": max_objects,
            "on_limit": on_limit,
            "in_flight": in_flight,
            "profile": profile,
            "region": region,
            "endpoint_url": endpoint_url,
            "no_sign_request": no_sign_request,
            "request_payer": request_payer,
        }
    )
    request = SnapshotRequest(
        uri=parse_source(uri),
        name=parse_name(name),
        type=type,
        aliases=tuple(aliases),
        notes=notes,
        objects_max=settings["max_objects"],
        on_limit=settings["on_limit"],
        allow_empty=allow_empty,
    )
    log = new_logger(settings["log_level"], settings["log_format"])
    with Portal(open_app(settings.data, log=log)) as portal:
        done = portal.run(lambda app: app.snapshot(request, source_options(settings)))
    return Version(done.result.version, settings.data, done.result.created)


def open(ref: str, *, data: str | Path | None = None) -> Version:  # noqa: A001 - as in `io.open`
    """The version that `ref` names: `project/artifact:v3`, `:latest`, an alias, `@sha256:…`.

    Raises `InvalidReference` and `NoSuchVersion`.
    """
    wanted = parse_reference(ref)
    folder = settings_of({"data": None if data is None else str(data)}).data
    with Portal(open_app(folder, creates=False)) as portal:
        record = portal.run(lambda app: app.catalog.reader.version(wanted.name, wanted.selector))
    return Version(record, folder)


def settings_of(options: dict[str, object]) -> Settings:
    """All settings, of which `options` were given here."""
    return load_settings(options, os.environ, Path.cwd())


def source_options(settings: Settings) -> SourceOptions:
    """How sources are reached under these settings."""
    return SourceOptions(
        s3=S3Options(
            profile=settings["profile"],
            region=settings["region"],
            endpoint_url=settings["endpoint_url"],
            no_sign_request=settings["no_sign_request"],
            request_payer=settings["request_payer"],
        ),
        in_flight=settings["in_flight"],
    )


async def _read_shard(digest: str, app: App) -> pa.Table:
    return await app.catalog.content.shard(digest)
