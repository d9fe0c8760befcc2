"""recorded: reads an original, into memory or elsewhere, or says what became of it.

Invariants
  * What is read is what was recorded; else the error names the object, what was recorded and what
    is there instead, whichever store it is in.
"""

from __future__ import annotations

from indexer.artifact.found import what_is_found
from indexer.artifact.originals import Original, Originals
from indexer.errors import IndexerError, NoSuchObject, ObjectChanged
from indexer.objects import Head
from indexer.protocols import Sink


async def read_as_recorded(
    originals: Originals, original: Original, sink: Sink, *, start: int = 0, end: int | None = None
) -> None:
    """Writes bytes of an original into `sink`. See `protocols.Store.read`.

    Raises `NoSuchObject` and `ObjectChanged` with what was recorded and what is there instead.
    """
    try:
        await originals.read(original, sink, start=start, end=end)
    except (NoSuchObject, ObjectChanged) as error:
        said: Head | IndexerError
        try:
            said = await originals.head(original)
        except IndexerError as raised:
            said = raised
        finding = what_is_found(original, said, originals.uri_of(original))
        raise type(error)(str(error) if finding is None else finding.sentence) from error


class InMemory:
    """A sink that keeps what comes, and not more than was recorded. See `protocols.Sink`."""

    def __init__(self, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self.restart()

    def restart(self) -> None:
        """See `protocols.Sink`."""
        self.pieces: list[bytes] = []
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        """See `protocols.Sink`."""
        self.size_bytes += len(data)
        if self.size_bytes > self._size_bytes_max:
            raise ObjectChanged("the object has more bytes than it had when it was recorded")
        self.pieces.append(data)
