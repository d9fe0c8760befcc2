"""Compares two listings in Parquet files with DuckDB, by a full join on the path.

python -m benchmarks.neighbours.diff_with_duckdb FOLDER:VERSION
"""

from __future__ import annotations

import json
import sys
import time

import duckdb

CHANGES = """
SELECT coalesce(old.path, new.path), old.path IS NULL, new.path IS NULL
FROM read_parquet($old) AS old FULL JOIN read_parquet($new) AS new USING (path)
WHERE old.path IS NULL OR new.path IS NULL
   OR old.size <> new.size OR old.etag_md5 <> new.etag_md5
ORDER BY 1
"""


def main(place: str) -> None:
    """Finds what was added, removed and changed."""
    folder, _, version = place.rpartition(":")
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    files = {"old": f"{folder}/v0.parquet", "new": f"{folder}/{version}.parquet"}
    changes = len(duckdb.connect().execute(CHANGES, files).fetchall())
    taken = {
        "wall_s": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
    }
    print(json.dumps({"objects": 0, "changes": changes, **taken}))


if __name__ == "__main__":
    main(sys.argv[1])
