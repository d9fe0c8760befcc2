"""What a download came to, as a document."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from indexer.wire.artifacts import path_fields
from indexer.wire.base import Answer
from indexer.wire.verification import FindingDocument


class EscapedDocument(Answer, frozen=True, kw_only=True):
    """An entry whose file is not named as it is.

    `path_base64` and `local_base64` stand in place of a `path` and a `local` that are no UTF-8.
    """

    path: str | UnsetType = UNSET
    path_base64: str | UnsetType = UNSET
    local: str | UnsetType = UNSET
    local_base64: str | UnsetType = UNSET

    @classmethod
    def of(cls, path: bytes, local: bytes) -> EscapedDocument:
        """The document of an entry's path, and of its file's below the root."""
        return cls(**path_fields(path), **path_fields(local, "local"))


class DownloadDocument(Answer, frozen=True, kw_only=True):
    """What became of a version's objects."""

    ref: str
    root: str
    objects: int
    bytes: int
    fetched: int
    bytes_fetched: int
    cached: int
    there: int
    folders: int
    others: int
    failed: int
    failures: list[FindingDocument]
    escaped: int
    escaped_first: list[EscapedDocument]
    escaped_file: str | None
    requests: int
    elapsed_s: float
