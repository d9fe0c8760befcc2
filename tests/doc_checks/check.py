"""What a check of documents is: it reads all of them, and yields complaints.

Invariants
  * With each check stand mistakes that it must see: a document, what stands there, what replaces
    it. Where nothing stands, the replacement is added at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from tests.documents import Documents

Complaints: TypeAlias = Iterator[str]
Check: TypeAlias = Callable[[Documents], Complaints]
Checks: TypeAlias = dict[Check, list[tuple[str, str, str]]]


def differences(what: str, said: object, true: object) -> Complaints:
    """A complaint if two values differ."""
    if said != true:
        yield f"{what}: {said!r}, and should be {true!r}"
