"""What all documents are, cursors, and texts of a certain form."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from indexer.errors import InvalidSetting
from indexer.limits import DURATION_S_MAX, REQUEST_ID_CHARACTERS_MAX, SIZE_BYTES_MAX
from indexer.texts import path_bytes

VersionName = Annotated[str, Meta(pattern="^v(0|[1-9][0-9]{0,8})$", examples=["v3"])]
Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
RequestId = Annotated[str, Meta(pattern=f"^[A-Za-z0-9._-]{{1,{REQUEST_ID_CHARACTERS_MAX}}}$")]
Duration = Annotated[int, Meta(gt=0, le=DURATION_S_MAX)]
Count = Annotated[int, Meta(ge=0, le=SIZE_BYTES_MAX)]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A document that a daemon sends."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document that a daemon is sent."""


# --- cursors


def cursor_after(last: bytes | str) -> str:
    """The cursor that continues a list after its item `last`; opaque to who is given it."""
    return path_bytes(last).hex()


def read_cursor(cursor: str | None) -> bytes | None:
    """What a cursor comes after; None at the beginning of a list. Raises `InvalidSetting`."""
    if cursor is None:
        return None
    try:
        return bytes.fromhex(cursor)
    except ValueError:
        raise InvalidSetting(
            f"{cursor[:80]!r} is no cursor: give the 'next' of a page as 'after', or leave it out."
        ) from None
