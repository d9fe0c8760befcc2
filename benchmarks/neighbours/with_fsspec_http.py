"""Lists a web server's folder with fsspec, asks for each file, and prints how many there are.

python -m benchmarks.neighbours.with_fsspec_http URL
"""

from __future__ import annotations

import sys

import fsspec


def main(url: str) -> None:
    """Counts what `info` tells of those that `find` names: size, ETag and modification time."""
    files = fsspec.filesystem("http")
    known = [files.info(found) for found in files.find(url)]
    print(sum(one["size"] is not None for one in known))


if __name__ == "__main__":
    main(sys.argv[1])
