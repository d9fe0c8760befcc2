"""Compares two listings in Parquet files with pyarrow, by a full outer join on the path.

python -m benchmarks.neighbours.diff_with_pyarrow FOLDER:VERSION
"""

from __future__ import annotations

import json
import sys
import time

import pyarrow.compute as pc
import pyarrow.parquet as pq


def main(place: str) -> None:
    """Finds what was added, removed and changed."""
    folder, _, version = place.rpartition(":")
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    old = pq.read_table(f"{folder}/v0.parquet")
    new = pq.read_table(f"{folder}/{version}.parquet")
    joined = old.join(new, "path", join_type="full outer", right_suffix="_new")
    same = pc.and_(
        pc.equal(joined["size"], joined["size_new"]),
        pc.equal(joined["etag_md5"], joined["etag_md5_new"]),
    )
    changes = joined.filter(pc.invert(pc.fill_null(same, fill_value=False))).sort_by("path")
    taken = {
        "wall_s": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
    }
    print(json.dumps({"objects": 0, "changes": changes.num_rows, **taken}))


if __name__ == "__main__":
    main(sys.argv[1])
