"""Lists a folder with fsspec's local filesystem and prints how many files it holds.

python -m benchmarks.neighbours.with_fsspec_file FOLDER
"""

from __future__ import annotations

import sys

import fsspec


def main(folder: str) -> None:
    """Counts what `find` tells, with the details of each file."""
    found = fsspec.filesystem("file").find(folder, detail=True)
    print(len(found))


if __name__ == "__main__":
    main(sys.argv[1])
