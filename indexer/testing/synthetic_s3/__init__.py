"""A synthetic S3 server of our own, in a process of its own, for tests and benchmarks.

It lists generated buckets of millions of keys with little CPU, takes small edits and plain objects
like any S3, counts what it is asked, and misbehaves in the ways of `Faults` when told to.

    python -m indexer.testing.synthetic_s3 --bucket big=hex:1000000 --latency-ms 200

Invariants
  * It speaks S3's REST protocol with path-style addresses, on the loopback address only. Access
    keys may be checked, signatures never are.
  * A request travels `server → wire → router → {operations | queries → listing} → state`, and
    each of these but the first is free of I/O.

`control.py` documents the calls that load buckets, set faults and read counters from any language.
"""

from __future__ import annotations

from indexer.testing.synthetic_s3.client import Control, SyntheticS3
from indexer.testing.synthetic_s3.control import Counters
from indexer.testing.synthetic_s3.faults import Faults

__all__ = ["Control", "Counters", "Faults", "SyntheticS3"]
