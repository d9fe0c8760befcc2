"""Starting the synthetic GCS from Python, and steering it.

Invariants
  * A server that was started here ends with its `SyntheticGCS`, and with the process that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexer.testing.synthetic_gcs.faults import Faults
from indexer.testing.synthetic_s3.client import Control, ServerProcess


class SyntheticGCS(ServerProcess, Control):
    """A server in a process of its own, from `start` (or `with`) to `stop`.

    It is steered as `synthetic_s3.Control` says; its faults are its own.
    """

    def __init__(
        self, *, buckets: Mapping[str, str] | None = None, latency_ms: float = 0.0
    ) -> None:
        """`buckets` maps names to `SHAPE:COUNT`, or to "" for an empty bucket."""
        arguments = [f"--bucket={name}={content}" for name, content in (buckets or {}).items()]
        super().__init__(
            "indexer.testing.synthetic_gcs", [*arguments, f"--latency-ms={latency_ms}"]
        )

    def faults(self, bucket: str, **options: Any) -> None:
        """Let the bucket misbehave from now on: `options` are the fields of `Faults`."""
        self._call("PUT", f"buckets/{bucket}/faults", Faults(**options))
