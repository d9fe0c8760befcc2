"""Bucket indexer: references very large object-store prefixes as versioned artifacts.

    version = indexer.snapshot("s3://bucket/prefix/", name="project/artifact")
    for table in indexer.open("project/artifact:latest").entries("train/"): ...
    with indexer.run(project="project", job_type="train") as run:
        run.use_artifact("artifact:latest")

Invariants
  * Importing the package loads nothing heavy and does nothing; public names are found when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.client import Client
    from indexer.errors import IndexerError
    from indexer.library import (
        Artifact,
        Run,
        Version,
        connect,
        open,  # noqa: A004 - meant as `indexer.open`
        run,
        snapshot,
    )

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Client",
    "IndexerError",
    "Run",
    "Version",
    "__version__",
    "connect",
    "open",
    "run",
    "snapshot",
]

_HOMES = {
    "Client": "indexer.client",
    "connect": "indexer.library",
    "IndexerError": "indexer.errors",
    "Version": "indexer.library",
    "open": "indexer.library",
    "snapshot": "indexer.library",
    "Artifact": "indexer.library",
    "Run": "indexer.library",
    "run": "indexer.library",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'indexer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
