"""The digest that W&B would give a version: an MD5 over the paths and ETags of its W&B manifest.

Invariants
  * The digest is of the manifest that a W&B client would be served: the header, then `path:etag`
    and a newline for every entry in order of paths. Sizes, URIs and version ids are not in it. A
    file has no ETag; its MD5 stands in place of that, where it was asked for.
  * Left out are empty objects that stand for a folder: their path is empty or ends in `/`.
  * A manifest with one entry that W&B's cannot hold has no digest but a reason. W&B's clients join,
    shorten or refuse paths that are not plainly relative, on POSIX or on Windows.
  * One shard is in memory at a time, as columns.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.page import etag_texts

HEADER: Final = b"wandb-artifact-manifest-v1\n"

_REFUSALS: Final = (
    (r"^$", "it is empty"),
    (r"^/", "it begins with a slash"),
    (r"^\\", "on Windows it begins at a drive's root"),
    (r"(?s)^.:", "on Windows it begins with a drive"),
    (r"//", "it has an empty component"),
    (r"/$", "it ends in a slash, and the object is not empty"),
    (r"(?:^|/)\.(?:/|$)", "it has the component '.'"),
    (r"(?:^|[/\\])\.\.(?:[/\\]|$)", "it has the component '..'"),
)
"""What a path may not be, after the client's `validate_relpath` and its use of `PurePosixPath`."""

_REFUSED: Final = "|".join(f"(?:{pattern})" for pattern, _ in _REFUSALS)


@dataclass(frozen=True, slots=True)
class WandbDigest:
    """A version's W&B digest, 32 hexadecimal digits, or in words why it has none."""

    digest: str | None
    reason: str | None


class WandbDigester:
    """Takes a version's shards in order, and gives its W&B digest (0.3 µs a row)."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(HEADER, usedforsecurity=False)
        self._reason: str | None = None

    def add(self, rows: pa.Table) -> None:
        """Takes the next shard's rows, with the columns of a page."""
        if self._reason is not None:
            return
        rows = _without_folders(rows)
        try:
            paths = pc.cast(rows.column("path"), pa.string())
        except pa.ArrowInvalid:
            self._reason = _reason_of_bytes(rows)
            return
        etags = pc.cast(etag_texts(rows), pa.string())
        if etags.null_count:
            etags = pc.coalesce(etags, _md5s_of_files(rows))
        self._reason = _reason_of_paths(paths) or _reason_of_etags(paths, etags)
        if self._reason is None:
            self._hash(pc.binary_join_element_wise(paths, ":", etags, "\n", ""))

    def finish(self) -> WandbDigest:
        """The digest of all rows that were added."""
        if self._reason is not None:
            return WandbDigest(None, self._reason)
        return WandbDigest(self._md5.hexdigest(), None)

    def _hash(self, lines: pa.ChunkedArray) -> None:
        for chunk in lines.chunks:
            offsets = memoryview(chunk.buffers()[1]).cast("i")
            start, end = offsets[chunk.offset], offsets[chunk.offset + len(chunk)]
            if start < end:
                self._md5.update(memoryview(chunk.buffers()[2])[start:end])


def _md5s_of_files(rows: pa.Table) -> pa.Array:
    """What W&B's client calls the digest of a file: its MD5 in base64. Null for all else."""
    names = rows.schema.names
    if "checksum" not in names or "version_id" in names:
        return pa.nulls(rows.num_rows, pa.string())
    columns = (rows.column(f"checksum{suffix}").to_pylist() for suffix in ("", "_algorithm"))
    return pa.array(
        [
            base64.b64encode(value).decode() if algorithm == "md5" else None
            for value, algorithm in zip(*columns, strict=True)
        ],
        pa.string(),
    )


def _without_folders(rows: pa.Table) -> pa.Table:
    empty = pc.equal(rows.column("size"), 0)
    if not pc.any(empty).as_py():
        return rows
    paths = rows.column("path")
    folders = pc.or_(pc.equal(pc.binary_length(paths), 0), pc.ends_with(paths, b"/"))
    return rows.filter(pc.invert(pc.and_(empty, folders)))


def _reason_of_bytes(rows: pa.Table) -> str:
    for path in rows.column("path").to_pylist():
        try:
            path.decode()
        except UnicodeDecodeError:
            return _words(repr(path), "it is not UTF-8")
    raise AssertionError("every path is UTF-8")


def _reason_of_paths(paths: pa.ChunkedArray) -> str | None:
    refused = pc.match_substring_regex(paths, _REFUSED)
    if not pc.any(refused).as_py():
        return None
    path = paths.filter(refused)[0].as_py()
    why = next(why for pattern, why in _REFUSALS if re.search(_as_python(pattern), path))
    return _words(repr(path), why)


def _as_python(pattern: str) -> str:
    # RE2's `$` is the end of the text alone, Python's also stands before a last newline.
    return pattern.replace("$", r"\Z")


def _reason_of_etags(paths: pa.ChunkedArray, etags: pa.ChunkedArray | pa.Array) -> str | None:
    if not etags.null_count:
        return None
    path = paths.filter(pc.is_null(etags))[0].as_py()
    return (
        f"A W&B manifest cannot hold the object at {path!r}: the store gave it no ETag, and it "
        f"is no file whose MD5 is known."
    )


def _words(path: str, why: str) -> str:
    return f"A W&B manifest cannot hold the path {path}: {why}."
