"""A synthetic GCS of our own, in a process of its own, for tests and benchmarks.

It lists buckets of millions of generated names, keeps generations, counts what it is asked, and
misbehaves in the ways of `Faults` when told to.

    python -m indexer.testing.synthetic_gcs --bucket big=hex:1000000 --latency-ms 50

Invariants
  * It speaks so much of GCS's JSON API as a reader needs, and a test that writes; on the loopback
    address only.
  * The network, and the calls that steer it, are those of `synthetic_s3`; nothing here does I/O.
"""

from __future__ import annotations

from indexer.testing.synthetic_gcs.client import SyntheticGCS
from indexer.testing.synthetic_gcs.faults import Faults

__all__ = ["Faults", "SyntheticGCS"]
