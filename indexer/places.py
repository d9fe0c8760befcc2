"""Places: where things are kept, a data folder or a daemon, and what the settings say of them.

Invariants
  * The command and the library find the same place, and ask it for the same, by the same settings.
  * What nobody set is left to the place: an order to a daemon has the daemon's own defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from indexer.artifact.download.cache import CacheOptions
from indexer.config import Settings, load_settings
from indexer.defaults import Defaults, QueryLimits
from indexer.errors import InvalidSetting
from indexer.limits import DURATION_S_MAX
from indexer.protocols import FileOptions, GCSOptions, S3Options, SourceOptions
from indexer.references import parse_server
from indexer.sources import check_sources, located, parse_mounted
from indexer.wire.jobs import DoctorOrder, SnapshotOrder, SourceOrder
from indexer.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are kept, a data folder or the daemon at `server`, and what holds for what is
    done from here where nobody says otherwise.
    """

    data: Path
    server: str | None = None
    defaults: Defaults = field(default_factory=Defaults)


def place_of(settings: Settings) -> Place:
    """Where things are kept under these settings. Raises `InvalidSetting`."""
    return Place(settings.data, settings.server, defaults_of(settings))


@asynccontextmanager
async def open_workspace(
    place: Place,
    *,
    to: str | None = None,
    log: Any = None,
    creates: bool = True,
) -> AsyncIterator[Workspace]:
    """What is at a place; see `app.open_app` for what else is given.

    Raises `InvalidReference` for a server that is no URL, and `InvalidSetting` for a daemon that
    is to tell versions to another one.
    """
    if place.server is None:
        target = None if to is None else parse_server(to)
        from indexer.app import open_app

        async with open_app(
            place.data, defaults=place.defaults, to=target, log=log, creates=creates
        ) as app:
            yield app
        return
    if to is not None:
        raise InvalidSetting(
            "--to tells versions that are listed here to a daemon, and with --server nothing is "
            "listed here: give one of them."
        )
    from indexer.client import connect

    async with connect(place.server, options=place.defaults.options, log=log) as client:
        yield client


def settings_of(options: dict[str, object]) -> Settings:
    """All settings, of which `options` were given here."""
    return load_settings(options, os.environ, Path.cwd())


def defaults_of(settings: Settings) -> Defaults:
    """What these settings say where orders leave it open."""
    return Defaults(
        objects_max=settings["max_objects"],
        on_limit=settings["on_limit"],
        checksum=settings["checksum"],
        options=_options_of(settings),
        query=QueryLimits(
            settings["query_timeout_s"], settings["query_memory_mib"], settings["query_rows"]
        ),
    )


def _options_of(settings: Settings) -> SourceOptions:
    """How these settings have sources reached."""
    return SourceOptions(
        s3=S3Options(**{name: settings[name] for name in S3Options.__slots__}),
        gcs=GCSOptions(
            anonymous=settings["no_sign_request"], user_project=settings["user_project"]
        ),
        file=FileOptions(symlinks=settings["symlinks"]),
        in_flight=settings["in_flight"],
        requests_per_s=settings["requests_per_s"] or None,
    )


def cache_of(settings: Settings) -> CacheOptions:
    """How these settings have downloads use the local cache."""
    folder = Path(settings["cache_folder"]).expanduser()
    return CacheOptions(folder, settings["cache"], settings["cache_bytes"])


REACH_SETTINGS: Final = (*S3Options.__slots__, "user_project", "symlinks")
"""Settings that say how any source is reached; those below are about snapshots alone."""

SNAPSHOT_SETTINGS: Final = (
    "max_objects", "on_limit", "in_flight", "requests_per_s", "checksum", *REACH_SETTINGS,
)  # fmt: skip


def order_of(settings: Settings, sources: Sequence[str], **fields: Any) -> SnapshotOrder:
    """An order of these sources and fields, and of those settings that somebody set.

    Sources are URIs, paths on this machine, or `MOUNT=URI` of one of them. Raises
    `InvalidReference`.
    """
    fields |= {name: settings.given(name) for name in SNAPSHOT_SETTINGS}
    fields["requests_per_s"] = fields["requests_per_s"] or None
    parsed = tuple(parse_mounted(located(text)) for text in sources)
    check_sources(parsed)
    if len(parsed) == 1 and not parsed[0].mount:
        return SnapshotOrder(uri=str(parsed[0].uri), **fields)
    mounted = [SourceOrder(uri=str(one.uri), mount=one.mount) for one in parsed]
    return SnapshotOrder(sources=mounted, **fields)


def doctor_order_of(settings: Settings, uri: str) -> DoctorOrder:
    """An order to look at a source, with those settings that somebody set."""
    own = {name: settings.given(name) for name in REACH_SETTINGS}
    return DoctorOrder(uri=located(uri), **own)


def duration_of(text: str) -> timedelta:
    """The time that a user writes as a number and a unit: 90s, 45m, 12h, 30d, 2w.

    Raises `InvalidSetting`.
    """
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) * _UNITS_S[match[2]] > DURATION_S_MAX:
        raise InvalidSetting(
            f"{text!r} is no time: write a number and s, m, h, d or w, as in 30d; 100 years at "
            f"most."
        )
    return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])


_DURATION: Final = re.compile(r"([0-9]{1,10})([smhdw])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment_of(text: str) -> datetime:
    """The moment that a user writes as in RFC 3339. Raises `InvalidSetting`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidSetting(
            f"{text!r} is no moment: write date, time and zone, as in 2026-03-01T12:00:00Z."
        )
    return moment
