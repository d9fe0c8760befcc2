"""What may be said of versions, artifacts and runs: how long it may be, and what JSON holds.

Invariants
  * What passes is the same after it was written as JSON and read again, wherever that is done.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from indexer.errors import InvalidSetting
from indexer.limits import (
    DESCRIPTION_CHARACTERS_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    NOTES_CHARACTERS_MAX,
    RUN_NAME_CHARACTERS_MAX,
    TAGS_MAX,
)
from indexer.records import LabelChange, RunChange, RunRequest
from indexer.references import parse_project, parse_run, parse_tag

_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1


def words(said: str | Sequence[str]) -> tuple[str, ...]:
    """Several words, or a single one; a text is one, and not its letters."""
    return (said,) if isinstance(said, str) else tuple(said)


def check_notes(notes: str) -> None:
    """Raises `InvalidSetting` for notes that are too long or cannot be written as UTF-8."""
    _check_text("notes", notes, NOTES_CHARACTERS_MAX)


def check_description(description: str) -> None:
    """Raises `InvalidSetting` for a description that is too long or no UTF-8."""
    _check_text("description", description, DESCRIPTION_CHARACTERS_MAX)


def check_change(change: LabelChange) -> None:
    """Raises `InvalidSetting` for labels that cannot be, `InvalidReference` for such tags."""
    if change.notes is not None:
        check_notes(change.notes)
    if change.description is not None:
        check_description(change.description)
    if change.metadata is not None:
        check_metadata("metadata", change.metadata)
    for tags in (change.tags or (), change.add_tags, change.remove_tags):
        check_tags(tags)


def check_tags(tags: Sequence[str]) -> None:
    """Raises `InvalidReference` for what is no tag, `InvalidSetting` for too many of them."""
    for tag in tags:
        parse_tag(tag)
    if len(set(tags)) > TAGS_MAX:
        raise InvalidSetting(
            f"there are {len(set(tags)):,} tags; a version has at most {TAGS_MAX}."
        )


def check_run_request(request: RunRequest) -> None:
    """Raises `InvalidReference` and `InvalidSetting` for a run that cannot be."""
    parse_project(request.project)
    if request.id is not None:
        parse_run(request.id)
    if request.job_type is not None:
        _check_text("job type", request.job_type, RUN_NAME_CHARACTERS_MAX)
    check_run_change(RunChange(request.name, request.config, request.notes))


def check_run_change(change: RunChange) -> None:
    """Raises `InvalidSetting` for what cannot be said of a run."""
    if change.name is not None:
        _check_text("name of the run", change.name, RUN_NAME_CHARACTERS_MAX)
    if change.config is not None:
        check_metadata("config", change.config)
    if change.notes is not None:
        check_notes(change.notes)


def check_use_as(use_as: str) -> None:
    """Raises `InvalidSetting` for what is too long to be said of a use."""
    _check_text("use", use_as, RUN_NAME_CHARACTERS_MAX)


def check_metadata(what: str, value: Mapping[str, Any]) -> None:
    """Raises `InvalidSetting` for what JSON cannot hold, or is too large as JSON."""
    if not isinstance(value, Mapping):
        raise InvalidSetting(f"the {what} is no mapping of names to values.")
    _check_json(what, value, METADATA_DEPTH_MAX)
    size_bytes = len(msgspec.json.encode(value))
    if size_bytes > METADATA_BYTES_MAX:
        raise InvalidSetting(
            f"the {what} is {size_bytes:,} bytes of JSON; at most {METADATA_BYTES_MAX:,} are kept. "
            f"Put what is large into an object, and reference that."
        )


def plain(value: Any, depth_left: int = METADATA_DEPTH_MAX) -> Any:
    """The value in the types that JSON is read as: a number of numpy is one of Python, a tuple a
    list. What has no such type is left as it is, for `check_metadata` to refuse.
    """
    if value is None or isinstance(value, bool) or depth_left == 0:
        return value
    match value:
        case str():
            return str.__str__(value)
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case Mapping():
            return {plain(key): plain(one, depth_left - 1) for key, one in value.items()}
        case list() | tuple():
            return [plain(one, depth_left - 1) for one in value]
        case _:
            return value


def _check_text(what: str, text: str, characters_max: int) -> None:
    are, them, have = ("are", "them", "have") if what == "notes" else ("is", "it", "has")
    if not _is_utf8(text):
        raise InvalidSetting(f"the {what} {are} not UTF-8; write {them} in that encoding.")
    if len(text) > characters_max:
        raise InvalidSetting(
            f"the {what} {have} {len(text):,} characters; at most {characters_max:,} are kept."
        )


def _check_json(what: str, value: Any, depth_left: int) -> None:
    if depth_left == 0:
        raise InvalidSetting(
            f"the {what} has more than {METADATA_DEPTH_MAX} levels of lists and mappings."
        )
    match value:
        case None | bool():
            return
        case str():
            is_right = type(value) is str and _is_utf8(value)
        case int():
            is_right = type(value) is int and _INTEGER_MIN <= value <= _INTEGER_MAX
        case float():
            is_right = type(value) is float and math.isfinite(value)
        case list():
            is_right = True
            for one in value:
                _check_json(what, one, depth_left - 1)
        case dict():
            is_right = all(isinstance(key, str) and _is_utf8(key) for key in value)
            for one in value.values():
                _check_json(what, one, depth_left - 1)
        case _:
            is_right = False
    if not is_right:
        raise InvalidSetting(
            f"the {what} holds {repr(value)[:80]}, which JSON cannot hold: write text, finite "
            f"numbers, true, false, null, lists and mappings of names to them."
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
