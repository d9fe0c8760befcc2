"""Objects that are overwritten, deleted and restored after a version of them was recorded."""

from __future__ import annotations

from typing import Any

RECORDED = {
    **{f"many/{number:03}": b"%d" % number for number in range(40)},
    "changed": b"changed",
    "deleted": b"deleted",
    "odd/#?%2F+ é\t": b"odd",
    "restored": b"restored",
    "same size": b"1234",
}

LOST = ("changed", "deleted", "same size")
"""What can be had no more where no versions are kept."""


def change(client: Any, bucket: str) -> None:
    """Overwrites, deletes and restores some of what was recorded."""
    client.put_object(Bucket=bucket, Key="changed", Body=b"something else")
    client.put_object(Bucket=bucket, Key="same size", Body=b"4321")
    for key in ("deleted", "restored"):
        client.delete_object(Bucket=bucket, Key=key)
    client.put_object(Bucket=bucket, Key="restored", Body=RECORDED["restored"])
    client.put_object(Bucket=bucket, Key="new", Body=b"new")
