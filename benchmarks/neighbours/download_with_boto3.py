"""Downloads a bucket with a loop of boto3's `download_file`.

python -m benchmarks.neighbours.download_with_boto3 BUCKET FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import boto3


def main(bucket: str, folder: str) -> None:
    """Makes a file of each object, one after the other."""
    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", ()):
            target = Path(folder, each["Key"])
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, each["Key"], str(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
