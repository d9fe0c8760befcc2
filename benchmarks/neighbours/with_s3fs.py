"""Lists a bucket with s3fs and prints how many objects it holds.

python -m benchmarks.neighbours.with_s3fs BUCKET
"""

from __future__ import annotations

import sys

import s3fs


def main(bucket: str) -> None:
    """Counts what `find` tells, with the details of each object."""
    found = s3fs.S3FileSystem().find(bucket, detail=True)
    print(len(found))


if __name__ == "__main__":
    main(sys.argv[1])
