"""Lists a folder with nothing but Python's own library and prints how many files it holds.

python -m benchmarks.neighbours.with_walk FOLDER
"""

from __future__ import annotations

import os
import sys


def main(folder: str) -> None:
    """Keeps what `os.stat` tells of each file that `os.walk` names."""
    known = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)  # noqa: PTH118 - as most would write it for speed
            known[path] = os.stat(path)  # noqa: PTH116
    print(len(known))


if __name__ == "__main__":
    main(sys.argv[1])
