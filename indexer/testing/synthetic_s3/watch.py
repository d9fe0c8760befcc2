"""What a synthetic server knows and does about one bucket name beside its objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Striking(Protocol):
    """What makes answers faulty, and counts by name how often each fault struck."""

    struck: Counter[str]


AnyInjector = TypeVar("AnyInjector", bound=Striking)


@dataclass(slots=True)
class Watch(Generic[AnyInjector]):
    """The faults of a bucket, and its requests."""

    injector: AnyInjector
    requests: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    max_in_flight: int = 0

    def begin(self, operation: str) -> None:
        """Counts a request that begins."""
        self.requests[operation] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self) -> None:
        """Counts that one has ended."""
        self.in_flight -= 1

    def reset(self) -> None:
        """Counts from zero again; requests in flight stay so."""
        self.requests.clear()
        self.injector.struck.clear()
        self.max_in_flight = self.in_flight
