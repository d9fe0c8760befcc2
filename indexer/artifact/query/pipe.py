"""Pipe: how a query's process asks the one that started it, and a version's shards as a stream.

Invariants
  * One question is asked at a time, whichever thread asks.
  * A shard is verified here, before DuckDB has its rows; one pass holds a few of them at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Final

import pyarrow as pa

from indexer.artifact.entries import within
from indexer.artifact.query.columns import RAW_SCHEMA, raw_rows
from indexer.artifact.query.messages import Need, Outcome, Reply, View, frame, read_frame
from indexer.content import decode_shard
from indexer.errors import IndexerError, error_of
from indexer.limits import QUERY_SHARDS_AHEAD_MAX, SHARD_BYTES_MAX, TABLE_BYTES_MAX
from indexer.manifest import SourceRef

_BODY_BYTES_MAX: Final = max(SHARD_BYTES_MAX, TABLE_BYTES_MAX)


class Wire:
    """The pipes to the process that started this one; one question at a time."""

    def __init__(self, incoming: BinaryIO, outgoing: Any) -> None:
        self.incoming = incoming
        self._outgoing = outgoing
        self._turn = threading.Lock()
        self.failure: IndexerError | None = None

    def ask(self, need: Need) -> bytes:
        """What was needed. Raises what the other process raised."""
        with self._turn:
            self._send(frame(need))
            reply, body = read_frame(self.incoming, Reply, _BODY_BYTES_MAX)
        if reply.kind is not None:
            raise error_of(reply.kind, reply.message)
        return body

    def finish(self, outcome: Outcome, body: bytes = b"") -> None:
        """Sends what it all came to."""
        with self._turn:
            self._send(frame(outcome, len(body)))
            self._send(body)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._outgoing.write(rest) :]


class Entries:
    """A version's shards as a stream that DuckDB may read as often as it likes."""

    def __init__(self, number: int, view: View, wire: Wire, readers: ThreadPoolExecutor) -> None:
        self._number = number
        self._view = view
        self._wire = wire
        self._readers = readers
        self.sources = [SourceRef(*source) for source in view.sources]

    def __arrow_c_schema__(self) -> object:
        return RAW_SCHEMA.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(RAW_SCHEMA, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        waiting: deque[Future[pa.Table]] = deque()
        try:
            for number in range(len(self._view.shards)):
                waiting.append(self._readers.submit(self._read, number))
                if len(waiting) == QUERY_SHARDS_AHEAD_MAX:
                    yield from waiting.popleft().result().to_batches()
            while waiting:
                yield from waiting.popleft().result().to_batches()
        except IndexerError as error:
            # DuckDB makes an error of its own of this one.
            self._wire.failure = self._wire.failure or error
            raise
        finally:
            for ahead in waiting:
                ahead.cancel()

    def _read(self, number: int) -> pa.Table:
        data = self._wire.ask(Need(self._number, shard=number))
        table = decode_shard(data, self._view.shards[number])
        return raw_rows(within(table, self._view.prefix), self.sources)
