"""What the document on queries shows is asked as it stands, on MinIO."""

from __future__ import annotations

from pathlib import Path

from deploy.s3_server import S3Server
from tests.documents import QUERY, documents
from tests.integration.stories import Story

SET_UP = """
```python
import boto3, indexer

s3 = boto3.client("s3")
s3.create_bucket(Bucket="queried")
s3.put_bucket_versioning(Bucket="queried", VersioningConfiguration={"Status": "Enabled"})
for state in ("owl", "fox"):
    s3.put_object(Bucket="queried", Key="field/a.wav", Body=state.encode())
    s3.put_object(
        Bucket="queried", Key="field/labels.csv", Body=f"id,file,label\\n1,a.wav,{state}".encode()
    )
    indexer.snapshot("s3://queried/field/", name="sounds/field")
indexer.snapshot("s3://queried/field/", name="sounds/labels")
```
"""


def test_the_queries_are_answered(minio: S3Server, tmp_path: Path) -> None:
    with Story.open(tmp_path, minio.environment()) as story:
        story.play(SET_UP)
        written = story.play(documents()[QUERY])
    assert len(written) == 7
    assert "csv" in written[0]
    assert "fox,1\n" in written[0]
    assert "labels.csv" in written[2]
    assert "changed" in written[5]
