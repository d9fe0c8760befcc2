"""Messages: what a query's process and the one that started it say to each other.

    task ->                         what is to be answered, once
    <- need, reply ->               a shard or a table, as often as it is needed
    <- outcome                      the result's bytes or an error, once

Invariants
  * A frame is a header and a body: the lengths of both (`HEAD`), a msgpack document, bytes.
  * Whoever reads a frame says how many bytes it may have; a longer one is an error, not memory.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, Literal, TypeVar

import msgspec

from indexer.limits import MIB

HEAD: Final = struct.Struct(">IQ")

EXIT_LATE: Final = 3
"""What a query's process ends with when its time is up and it cannot say so."""

HEADER_BYTES_MAX: Final = 256 * MIB
"""A task of a version of 10^9 entries names 61,000 shards, 4 MB."""


class Bounds(msgspec.Struct, frozen=True):
    """What a query may take, and how much it may give."""

    timeout_s: float
    memory_bytes: int
    rows: int
    result_bytes: int


class View(msgspec.Struct, frozen=True):
    """A version that SQL sees: below `name` as a schema, an empty one for the version asked.

    `shards` are the digests of those that can hold paths which start with `prefix`, and `rows` how
    many entries they have.
    """

    name: str
    ref: str
    sources: tuple[tuple[str, str], ...]
    shards: tuple[str, ...]
    rows: int
    prefix: bytes


class TableStates(msgspec.Struct, frozen=True):
    """Two states of the table at `path`, of the first view and of the second, by these columns."""

    path: str
    key: tuple[str, ...]


class Task(msgspec.Struct, frozen=True):
    """What is to be answered: the rows of an SQL statement, or what changed of a table."""

    bounds: Bounds
    views: tuple[View, ...]
    what: str | TableStates
    format: Literal["arrow", "json"] = "arrow"


class Need(msgspec.Struct, frozen=True, tag="need"):
    """A shard of a view, by its number there, or the bytes of the table at a path."""

    view: int
    shard: int | None = None
    table: bytes | None = None


class Reply(msgspec.Struct, frozen=True):
    """What was needed is the body; or why it cannot be had, by the kind of an error."""

    kind: str | None = None
    message: str = ""


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """The result is the body; or an error of this kind is what it came to."""

    kind: str | None = None
    message: str = ""


Document = TypeVar("Document", bound=msgspec.Struct)


def frame(header: msgspec.Struct, body_bytes: int = 0) -> bytes:
    """What stands in front of a body of so many bytes."""
    encoded = msgspec.msgpack.encode(header)
    return HEAD.pack(len(encoded), body_bytes) + encoded


def read_frame(
    stream: BinaryIO, kind: type[Document], body_bytes_max: int
) -> tuple[Document, bytes]:
    """The next frame of a blocking stream. Raises `EOFError` at its end."""
    header_bytes, body_bytes = HEAD.unpack(_exactly(stream, HEAD.size))
    if header_bytes > HEADER_BYTES_MAX or body_bytes > body_bytes_max:
        raise EOFError
    header = msgspec.msgpack.decode(_exactly(stream, header_bytes), type=kind)
    return header, _exactly(stream, body_bytes)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
