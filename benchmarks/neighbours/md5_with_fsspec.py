"""Hashes the files below a folder with fsspec's local filesystem and hashlib.

python -m benchmarks.neighbours.md5_with_fsspec FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys

import fsspec


def main(folder: str) -> None:
    """Finds the files, and reads one after the other."""
    files = fsspec.filesystem("file")
    found = files.find(folder, detail=True)
    for path in found:
        with files.open(path, "rb") as file:
            hashlib.file_digest(file, "md5").hexdigest()
    size_bytes = sum(one["size"] for one in found.values())
    print(json.dumps({"objects": len(found), "bytes": size_bytes}))


if __name__ == "__main__":
    main(sys.argv[1])
