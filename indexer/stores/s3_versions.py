"""Which of a key's versions a listing of versions shows: its newest one, or that of a moment.

Invariants
  * A key's versions come newest first, its marks of deletion among them, each in its place. A
    listing that contradicts that raises; what it ought to have said is never guessed.
  * A key is shown once all that decides on it was seen. Where a page ends before that, the key is
    not on it: the page's last key is the one before.
  * Servers that tell versions and marks of deletion apart, each in order, are understood where it
    does not matter which of two came first: they name a key's newest version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, groupby, pairwise
from operator import gt, ne
from typing import Final, Literal

from indexer.errors import BrokenListing

DISORDER_NS_MAX: Final = 2 * 10**9
"""So much later than the version after it may an older one seem: times are told to the second, and
by the clocks of several machines."""

PART_COUNT: Final = b"-"
"""In the ETag of an object that was uploaded in parts, before their number."""

VersionOrder = Literal["newest first", "markers apart", "out of order"]


@dataclass(frozen=True, slots=True)
class VersionRows:
    """The rows of a page of versions, in the order of the document.

    `markers` says which are marks of deletion, `latest` which the server calls the newest of their
    key. `times_ns` and `etags` are there where a moment is asked for.
    """

    keys: Sequence[bytes]
    markers: Sequence[bool]
    latest: Sequence[bool]
    times_ns: Sequence[int] = ()
    etags: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page of versions shows: `live` are the rows that are shown, None where all are.

    `first` and `last` are the first and last key that the page decides on. `first_is_latest` says
    whether it begins with a key's newest version.
    """

    live: list[bool] | None
    first: bytes | None
    last: bytes | None
    first_is_latest: bool


def order_of(rows: VersionRows) -> VersionOrder | None:
    """In which order a server lists versions; None where the rows do not tell."""
    try:
        order = interleaved(rows)
    except BrokenListing:
        return "out of order"
    keys, latest = rows.keys, rows.latest
    if order is not None:
        keys, latest = [keys[row] for row in order], [latest[row] for row in order]
    firsts = _firsts(keys)
    if list(latest) != firsts:
        return "out of order"
    if order is not None:
        return "markers apart"
    is_mixed = any(rows.markers) and not all(rows.markers)
    return "newest first" if is_mixed and not all(firsts) else None


def interleaved(rows: VersionRows) -> list[int] | None:
    """The order in which the rows of a server that tells them apart are one listing.

    None where they are one already. A key's newest version is its first row then, but of its others
    nothing is said. Raises `BrokenListing` when more than the marks of deletion is out of order.
    """
    is_one = not _descends(rows.keys)
    if is_one and not any(map(gt, rows.latest, _firsts(rows.keys))):
        return None
    are_versions = [not is_marker for is_marker in rows.markers]
    kinds = [list(compress(rows.keys, kind)) for kind in (rows.markers, are_versions)]
    changes = sum(map(ne, rows.markers, rows.markers[1:]))
    if changes != 1 or any(map(_descends, kinds)):
        raise BrokenListing(
            "the server does not list versions in key order, the newest of a key first",
            do_without="versions",
        )
    return sorted(range(len(rows.keys)), key=lambda row: (rows.keys[row], not rows.latest[row]))


def newest(rows: VersionRows) -> Shown:
    """Shows the newest version of each key, if that is an object.

    Raises `BrokenListing` when a key's first version is not its latest one (some servers list the
    oldest first), but for the page's first key, which may go on from the page before.
    """
    _check_latest_first(rows)
    live = [
        is_latest and not is_marker
        for is_latest, is_marker in zip(rows.latest, rows.markers, strict=True)
    ]
    first, last = (rows.keys[0], rows.keys[-1]) if rows.keys else (None, None)
    return Shown(None if all(live) else live, first, last, first_is_latest=_begins_new(rows))


def at(moment_ns: int, rows: VersionRows, *, more: bool) -> Shown:
    """Shows the newest version of each key that is not later than a moment, if that is an object.

    With `more`, the last key is left to the next page unless it is decided. Raises `BrokenListing`
    when versions are not listed newest first. That an older version is later says as much, unless
    the newer one was uploaded in parts: its time may be the one at which its upload began.
    """
    _check_latest_first(rows)
    live: list[bool] = []
    decided: list[bytes] = []
    for key, group in groupby(range(len(rows.keys)), key=rows.keys.__getitem__):
        run = list(group)
        for newer, older in pairwise(run):
            later_by_ns = rows.times_ns[older] - rows.times_ns[newer]
            if later_by_ns > DISORDER_NS_MAX and PART_COUNT not in rows.etags[newer]:
                raise BrokenListing("the server does not list a key's newest version first")
        chosen = next((row for row in run if rows.times_ns[row] <= moment_ns), None)
        live += [row == chosen and not rows.markers[row] for row in run]
        if chosen is not None or not more or key != rows.keys[-1]:
            decided.append(key)
    first, last = (decided[0], decided[-1]) if decided else (None, None)
    return Shown(live, first, last, first_is_latest=_begins_new(rows))


def _check_latest_first(rows: VersionRows) -> None:
    is_new_key = map(ne, rows.keys, rows.keys[1:])
    if not all(compress(rows.latest[1:], is_new_key)):
        raise BrokenListing(
            "the server does not list the newest version of a key first", do_without="versions"
        )


def _begins_new(rows: VersionRows) -> bool:
    return rows.latest[0] if rows.latest else True


def _firsts(keys: Sequence[bytes]) -> list[bool]:
    """Which rows are the first ones of their keys."""
    return [True, *map(ne, keys, keys[1:])][: len(keys)]


def _descends(keys: Sequence[bytes]) -> bool:
    return any(map(gt, keys, keys[1:]))
