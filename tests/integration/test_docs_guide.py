"""The guide happens as it says, on MinIO."""

from __future__ import annotations

from pathlib import Path

from deploy.s3_server import S3Server
from tests.documents import GUIDE, documents
from tests.integration.stories import Story


def test_the_guide_is_true(minio: S3Server, tmp_path: Path) -> None:
    with Story.open(tmp_path, minio.environment()) as story:
        written = story.play(documents()[GUIDE])
    assert written[-1].endswith("forest 1 False\n")
