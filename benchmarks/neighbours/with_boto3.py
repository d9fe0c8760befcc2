"""Lists a bucket with boto3's paginator and prints how many objects it holds.

python -m benchmarks.neighbours.with_boto3 BUCKET
"""

from __future__ import annotations

import sys

import boto3


def main(bucket: str) -> None:
    """Counts what `list_objects_v2` tells."""
    count = 0
    paginator = boto3.client("s3").get_paginator("list_objects_v2")
    for page in paginator.paginate(Bucket=bucket):
        count += len(page.get("Contents", ()))
    print(count)


if __name__ == "__main__":
    main(sys.argv[1])
