"""Hashes the bytes of the objects of `Objects` with hashlib, from memory, and nothing else.

python -m benchmarks.macro.bare_md5 BUCKET OBJECTS SIZE_BYTES
"""

from __future__ import annotations

import hashlib
import json
import sys
import time

from benchmarks.filled import Objects, body_of


def main(bucket: str, count: int, size_bytes: int) -> None:
    """Prints what hashing took, without what making the bytes did."""
    wall_s = cpu_s = 0.0
    for key in Objects(bucket, count, size_bytes).keys:
        body = body_of(key, size_bytes)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        hashlib.md5(body, usedforsecurity=False).hexdigest()
        wall_s += time.perf_counter() - started_s
        cpu_s += time.process_time() - started_cpu_s
    figures = {"wall_s": wall_s, "cpu_s": cpu_s, "bytes": count * size_bytes}
    print(json.dumps({"objects": count, **figures}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
