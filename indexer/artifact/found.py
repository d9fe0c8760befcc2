"""found: what a store says of an object now, beside what a version recorded of it.

Invariants
  * It compares values and asks nobody: the same record and the same answer give the same finding.
  * What was not recorded, or is not told, is not held against an object; but a store that told an
    ETag or a time and tells none any more has something else there.
  * A finding names the object, what was recorded and what was found, in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from indexer.artifact.originals import Original
from indexer.errors import (
    AccessDenied,
    IndexerError,
    NoSuchSource,
    NotFound,
    ObjectChanged,
    Temporary,
)
from indexer.objects import Checksum, Head

FindingKind = Literal["changed", "gone", "denied", "unavailable", "failed"]
"""`changed`: another state is there. `gone`: nothing is, or the recorded version is not kept any
more. `denied`: the store says no. `unavailable`: it could not be asked, and may be later. `failed`:
whatever else went wrong."""

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """In what an object is not what was recorded of it. `found` is None where nothing was told."""

    kind: FindingKind
    uri: str
    recorded: str
    found: str | None
    sentence: str


def what_is_found(original: Original, said: Head | IndexerError, uri: str) -> Finding | None:
    """In what an object differs from its record; None if it is as it was recorded.

    `said` is what the store told of the recorded version or, where none was recorded, of what is
    there now, or the error that asking ran into. `uri` names the object to people.
    """
    if isinstance(said, Head):
        return None if is_as_recorded(original, said) else _changed(original, said, uri)
    if isinstance(said, NoSuchSource):
        return _finding("gone", original, uri, None, _bare(said, uri))
    if isinstance(said, NotFound):
        return _gone(original, uri)
    if isinstance(said, ObjectChanged):
        # Noticed while it was read, by what cannot be told any more.
        return _finding("changed", original, uri, None, _bare(said, uri))
    kind: FindingKind = "failed"
    if isinstance(said, AccessDenied):
        kind = "denied"
    elif isinstance(said, Temporary):
        kind = "unavailable"
    return _finding(kind, original, uri, None, _bare(said, uri))


def is_as_recorded(original: Original, head: Head) -> bool:
    """Whether what a store says of an object does not contradict what was recorded of it."""
    pin = original.pin
    if head.size != pin.size or _have_other_checksums(original.checksum, head.checksum):
        return False
    if pin.version_id not in (None, "null") and head.version_id is not None:
        # A version's bytes are pinned by its id, whatever else became of it.
        return head.version_id == pin.version_id
    if pin.etag is not None:
        return head.etag is not None and _opaque(head.etag) == _opaque(pin.etag)
    if pin.mtime_ns is None:
        return True
    if head.mtime_ns is not None:
        return head.mtime_ns == pin.mtime_ns
    # Told to the second: a web server's, of an object that has got an ETag since.
    modified = head.last_modified
    return modified is not None and int(modified.timestamp()) == pin.mtime_ns // _NS_PER_S


def recorded_identity(original: Original) -> str:
    """What a version recorded of an object, for people."""
    pin = original.pin
    return _words(pin.size, pin.etag, pin.version_id, pin.mtime_ns, original.checksum)


def found_identity(head: Head) -> str:
    """What a store says of an object, for people."""
    mtime_ns = head.mtime_ns
    if head.etag is None and mtime_ns is None and head.last_modified is not None:
        mtime_ns = int(head.last_modified.timestamp()) * _NS_PER_S
    return _words(head.size, head.etag, head.version_id, mtime_ns, head.checksum)


def _changed(original: Original, head: Head, uri: str) -> Finding:
    found = found_identity(head)
    said = (
        f"the object was overwritten: {recorded_identity(original)} was recorded, and {found} is "
        f"there now"
    )
    return _finding("changed", original, uri, found, said)


def _gone(original: Original, uri: str) -> Finding:
    version_id = original.pin.version_id
    if version_id is None:
        said = f"the object is gone: {recorded_identity(original)} was recorded"
    else:
        said = (
            f"the recorded version is not kept any more, as it was deleted or has expired: "
            f"{recorded_identity(original)} was recorded"
        )
    return _finding("gone", original, uri, None, said)


def _finding(
    kind: FindingKind, original: Original, uri: str, found: str | None, said: str
) -> Finding:
    sentence = f"{uri}: {said.rstrip('.')}."
    return Finding(kind, uri, recorded_identity(original), found, sentence)


def _bare(error: IndexerError, uri: str) -> str:
    """What an error says, without the object's name in front of it."""
    return str(error).removeprefix(uri).removeprefix(":").strip()


def _have_other_checksums(recorded: Checksum | None, found: Checksum | None) -> bool:
    if recorded is None or found is None:
        return False
    if (recorded.algorithm, recorded.type) != (found.algorithm, found.type):
        return False
    return recorded.value != found.value


def _opaque(etag: str) -> str:
    """What two ETags have in common if they are of one state, be one of them weak."""
    return etag[3:-1] if etag.startswith('W/"') and etag.endswith('"') else etag


def _words(
    size: int,
    etag: str | None,
    version_id: str | None,
    mtime_ns: int | None,
    checksum: Checksum | None,
) -> str:
    words = [f"{size:,} bytes"]
    if etag is not None:
        words.append(f"ETag {etag}")
    if version_id is not None:
        words.append(f"version {version_id}")
    if checksum is not None:
        words.append(f"{checksum.algorithm} {checksum.value.hex()}")
    if mtime_ns is not None:
        words.append(f"modified {_moment(mtime_ns)}")
    return ", ".join(words)


def _moment(time_ns: int) -> str:
    """A time as text, to the nanosecond where it has them."""
    seconds, rest_ns = divmod(time_ns, _NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{rest_ns:09d}Z" if rest_ns else f"{moment}Z"
