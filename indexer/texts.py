"""Paths, which are bytes, as text and back.

Invariants
  * Every path has one text, which gives the path again: bytes that are no UTF-8 become lone
    surrogates, as Python itself has them in arguments and names of files (PEP 383).
  * What is printable is UTF-8, and may not be read back.
"""

from __future__ import annotations


def path_text(path: bytes) -> str:
    """A path as text."""
    return path.decode("utf-8", "surrogateescape")


def path_bytes(text: str | bytes) -> bytes:
    """The path that was written as text; one that is bytes is as it is."""
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def printable(text: str) -> str:
    r"""Text whose lone surrogates are written as `\xNN`, which every encoder takes."""
    return path_bytes(text).decode("utf-8", "backslashreplace")
