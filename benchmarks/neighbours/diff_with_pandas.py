"""Compares two listings in Parquet files with pandas, by an outer merge on the path.

python -m benchmarks.neighbours.diff_with_pandas FOLDER:VERSION
"""

from __future__ import annotations

import json
import sys
import time

import pandas as pd


def main(place: str) -> None:
    """Finds what was added, removed and changed."""
    folder, _, version = place.rpartition(":")
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    old = pd.read_parquet(f"{folder}/v0.parquet")
    new = pd.read_parquet(f"{folder}/{version}.parquet")
    joined = old.merge(new, on="path", how="outer", suffixes=("", "_new"), indicator=True)
    is_same = (joined["size"] == joined["size_new"]) & (
        joined["etag_md5"] == joined["etag_md5_new"]
    )
    changes = joined[~is_same]
    taken = {
        "wall_s": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
    }
    print(json.dumps({"objects": 0, "changes": len(changes), **taken}))


if __name__ == "__main__":
    main(sys.argv[1])
