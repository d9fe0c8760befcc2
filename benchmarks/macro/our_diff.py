"""Compares two versions in a data folder, and says what that took.

python -m benchmarks.macro.our_diff FOLDER:VERSION
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.asking import run
from indexer.app import open_app
from indexer.references import ArtifactName, VersionRef

NAME = ArtifactName("bench", "objects")


async def main(place: str) -> None:
    """Compares `v0` with the version, down to the first page of what changed."""
    folder, _, version = place.rpartition(":")
    async with open_app(Path(folder) / "data") as app:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        old, new = [await app.version(VersionRef(NAME, name)) for name in ("v0", version)]
        page = await app.diff(old, new)
        figures = {
            "wall_s": time.perf_counter() - started_s,
            "cpu_s": time.process_time() - started_cpu_s,
            "changes": page.summary.changes,
            "shards": page.summary.shards,
            "shards_read": page.summary.shards_read,
        }
    print(json.dumps({"objects": old.objects, **figures}))


if __name__ == "__main__":
    run(main(sys.argv[1]))
