"""The story that the document on lineage tells happens as it says."""

from __future__ import annotations

from pathlib import Path

from tests.documents import LINEAGE, documents
from tests.integration.stories import Story, alike


def test_the_story_is_true(tmp_path: Path) -> None:
    with Story.open(tmp_path) as story:
        shown = story.play(documents()[LINEAGE])
    (python,) = (text for text in shown if text.startswith("evaluate-1 produces"))
    assert alike(python).splitlines() == [
        "evaluate-1 produces vision/report:v0",
        "evaluate-1 uses vision/images:v0",
        "evaluate-1 uses vision/model:v0",
        "RUN produces vision/images:v0",
        "train-1 produces vision/model:v0",
        "RUN confirms vision/images:v0",
        "train-1 uses vision/images:v0",
        "vision/images:v0 unchanged",
    ]
