"""Stories in documents: their commands and Python, run in order as they stand, in one folder.

Invariants
  * What a story shows as text is what the block before it wrote to standard output, but for what is
    another one each time: digests, ids, ETags, times, folders.
  * Its Python is one session in a process of its own; each block of commands is a shell.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.documents import ROOT, Block, blocks
from tests.integration.commands import TIMEOUT_S

OTHERS = (
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "VERSION-ID"),
    (r"\b[0-9a-f]{32}\b", "MD5"),
    (r"\b[0-9a-f]{16}\b", "RUN"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"in [\d.]+ s \([\d,]+ a second", "in TIME (SPEED"),
    (r"file:///\S*/(?=yard/)", "file:///FOLDER/"),
)
"""What is another one each time."""

_SESSION = """
import contextlib, io, json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(json.loads(line), "document", "exec"), names)
    print(json.dumps(said.getvalue()), flush=True)
"""


class Story:
    """Where a story is played: a folder, and what its commands and its Python run in."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], session: subprocess.Popen[str]
    ) -> None:
        self.folder = folder
        self.environment = environment
        self._session = session

    @classmethod
    @contextmanager
    def open(cls, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Story]:
        """A folder that has nothing but the command; its variables are those that are given."""
        programs = folder / "bin"
        programs.mkdir()
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m indexer "$@"\n'
        (programs / "indexer").write_text(script)
        (programs / "indexer").chmod(0o755)
        variables = {
            "HOME": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TZ": "UTC",
            **(environment or {}),
        }
        with subprocess.Popen(
            [sys.executable, "-c", _SESSION],
            cwd=folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield cls(folder, variables, process)
            finally:
                assert process.stdin is not None
                process.stdin.close()
        assert process.returncode == 0

    def play(self, text: str) -> list[str]:
        """What each block of a document wrote; what the document shows of it is compared."""
        written: list[str] = []
        for block in blocks(text):
            if block.language == "text":
                assert alike(block.text) == alike(written[-1]), f"line {block.line}"
            else:
                run = self._commands if block.language == "sh" else self._python
                written.append(run(block))
        return written

    def _commands(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euc", block.text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"line {block.line}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def _python(self, block: Block) -> str:
        process = self._session
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(block.text) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()
        if not said:
            assert process.stderr is not None
            raise AssertionError(f"line {block.line}: {process.stderr.read()}")
        return str(json.loads(said))


def alike(text: str) -> str:
    """The text with what is another one each time named."""
    for pattern, name in OTHERS:
        text = re.sub(pattern, name, text)
    return text
