"""The settings that functions of the library take as arguments.

Invariants
  * Their names are those of the command's options, and their meaning is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from indexer.errors import InvalidSetting


class ReachSettings(TypedDict, total=False):
    """Settings of how sources are reached, and of what queries may take, that may be given as
    arguments, by the names of the command's options.

    What is left out, or None, comes from the environment, `indexer.toml` and the defaults.
    """

    in_flight: int | None
    requests_per_s: int | None
    profile: str | None
    region: str | None
    endpoint_url: str | None
    no_sign_request: bool | None
    request_payer: Literal["requester"] | None
    user_project: str | None
    symlinks: Literal["skip", "inside", "follow"] | None
    query_timeout_s: int | None
    query_memory_mib: int | None
    query_rows: int | None


class SnapshotSettings(ReachSettings, total=False):
    """… and those of a snapshot."""

    max_objects: int | None
    on_limit: Literal["error", "partial"] | None
    checksum: str | None


def arguments(
    given: ReachSettings | SnapshotSettings,
    known: type[ReachSettings],
    data: str | Path | None = None,
    server: str | None = None,
) -> dict[str, object]:
    """What was given as settings, and where things are kept.

    Raises `InvalidSetting` for a name that is not `known`, which would do nothing.
    """
    if unknown := sorted(given.keys() - known.__annotations__.keys()):
        raise InvalidSetting(
            f"{unknown[0]!r} is no argument here: write one of "
            f"{', '.join(sorted(known.__annotations__))}."
        )
    return {**given, "data": None if data is None else str(data), "server": server}
