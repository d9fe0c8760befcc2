"""What lies in a folder and is no entry: links that are not followed, and special files.

Invariants
  * Each is counted once, however often its folder is read, and by as many threads.
  * Up to a bound counts are exact; beyond it they are said to be more.
"""

from __future__ import annotations

from typing import Final, Literal

from xxhash import xxh3_64_intdigest

from indexer.limits import LEFT_OUT_COUNTED_MAX

Reason = Literal["link", "outside", "dangling", "loop", "special"]

_SENTENCES: Final[dict[Reason, tuple[str, str]]] = {
    "link": (
        "symbolic link was left out.",
        "symbolic links were left out.",
    ),
    "outside": (
        "symbolic link that leads out of the folder was left out.",
        "symbolic links that lead out of the folder were left out.",
    ),
    "dangling": (
        "symbolic link that leads nowhere was left out.",
        "symbolic links that lead nowhere were left out.",
    ),
    "loop": (
        "symbolic link to a folder that it lies in was left out.",
        "symbolic links to folders that they lie in were left out.",
    ),
    "special": (
        "pipe, socket or device was left out.",
        "pipes, sockets or devices were left out.",
    ),
}


class LeftOut:
    """Counts what is left out of one source."""

    def __init__(self, counted_max: int = LEFT_OUT_COUNTED_MAX) -> None:
        self._counted_max = counted_max
        self._seen: dict[Reason, set[int]] = {reason: set() for reason in _SENTENCES}

    def note(self, reason: Reason, path: bytes) -> None:
        """Counts what stands at `path`, unless it was counted before. Any thread may call it."""
        seen = self._seen[reason]
        if len(seen) <= self._counted_max:
            seen.add(xxh3_64_intdigest(path))

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each reason for which something was left out."""
        return tuple(
            self._sentence(len(self._seen[reason]), *words)
            for reason, words in _SENTENCES.items()
            if self._seen[reason]
        )

    def _sentence(self, count: int, one: str, several: str) -> str:
        if count > self._counted_max:
            return f"More than {self._counted_max:,} {several}"
        return f"{count:,} {one if count == 1 else several}"
