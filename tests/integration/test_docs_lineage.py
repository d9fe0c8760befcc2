"""The story that the document on lineage tells happens as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.documents import LINEAGE, ROOT, blocks, documents
from tests.integration.commands import TIMEOUT_S

RUN_ID = re.compile(r"\b[0-9a-f]{16}\b")


def test_the_story_is_true(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m indexer "$@"\n'
    (programs / "indexer").write_text(script)
    (programs / "indexer").chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    shown: list[str] = []
    for block in blocks(documents()[LINEAGE]):
        if block.language == "text":
            assert RUN_ID.sub("RUN", block.text) == RUN_ID.sub("RUN", shown[-1])
            continue
        program = ["bash", "-euc"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"line {block.line}: {done.stdout}\n{done.stderr}"
        shown.append(done.stdout)
    (python,) = (text for text in shown if text.startswith("evaluate-1 produces"))
    assert RUN_ID.sub("RUN", python).splitlines() == [
        "evaluate-1 produces vision/report:v0",
        "evaluate-1 uses vision/images:v0",
        "evaluate-1 uses vision/model:v0",
        "RUN produces vision/images:v0",
        "train-1 produces vision/model:v0",
        "RUN confirms vision/images:v0",
        "train-1 uses vision/images:v0",
        "vision/images:v0 unchanged",
    ]
