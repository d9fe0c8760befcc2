"""Lists a bucket of GCS with gcsfs and prints how many objects it holds.

    python -m benchmarks.neighbours.with_gcsfs BUCKET

What the bucket is, hierarchical or not, is not asked for: a server that stands for GCS knows none.
"""

from __future__ import annotations

import os
import sys

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read when gcsfs is imported

import gcsfs


def main(bucket: str) -> None:
    """Counts what `find` tells, with the details of each object."""
    files = gcsfs.GCSFileSystem(token="anon")  # noqa: S106 - gcsfs's word for none
    found = files.find(bucket, detail=True)
    print(len(found))


if __name__ == "__main__":
    main(sys.argv[1])
