"""Lists a bucket with obstore, as Arrow record batches, and prints how many objects it holds.

python -m benchmarks.neighbours.with_obstore BUCKET
"""

from __future__ import annotations

import os
import sys

from obstore.store import S3Store


def main(bucket: str) -> None:
    """Counts the rows of the batches."""
    store = S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_REGION"],
        client_options={"allow_http": True},
    )
    print(sum(batch.num_rows for batch in store.list(return_arrow=True)))


if __name__ == "__main__":
    main(sys.argv[1])
