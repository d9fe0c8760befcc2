"""The library: the command's verbs for scripts and notebooks.

    snapshots.py   what lies at a URI becomes a version; a version is opened
    version.py     what may be asked of it: entries, query, diff, download, verify, …
    diff.py        what changed between two versions
    daemons.py     a daemon, whose verbs are asynchronous
    runs.py        runs as context managers, and artifacts in W&B's words
    settings.py    the settings that all of them take; portals.py what they share

Invariants
  * Every function may be called where an event loop runs (a notebook) and where none does, but for
    `connect`, which is for programs that have one.
  * `indexer/__init__.py` lends what is public here.
"""

from __future__ import annotations

from indexer.library.daemons import connect
from indexer.library.diff import VersionDiff
from indexer.library.runs import Artifact, Run, run
from indexer.library.snapshots import open, snapshot  # noqa: A004 - meant as `indexer.open`
from indexer.library.version import Version

__all__ = ["Artifact", "Run", "Version", "VersionDiff", "connect", "open", "run", "snapshot"]
