"""References the first objects of a source in a W&B artifact and prints how many entries it has.

    python -m benchmarks.neighbours.with_wandb URI OBJECTS_MAX

The artifact is only made, never logged, so that no server of W&B has a part in it.
"""

from __future__ import annotations

import sys

import wandb


def main(uri: str, objects_max: int) -> None:
    """Counts the entries that `add_reference` returns."""
    artifact = wandb.Artifact("objects", type="dataset")
    entries = artifact.add_reference(uri, max_objects=objects_max)
    print(len(entries))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
