"""A listing on a virtual clock: a planner against a server of a given latency, without any I/O.

Invariants
  * The same keys, slots and seed give the same requests in the same order.
  * Every key is listed exactly once, or an assertion fails.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from time import process_time

from indexer.keyspace import Key, greatest_key_below
from indexer.pipeline.plan import PageFacts, Planner, Segment, page_facts

LATENCY_S = 0.08
LATENCY_SIGMA = 0.25
"""A page of S3 takes 80 ms in the median; the logarithm is spread by so much."""

PAGE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated listing took. `planning_s` is real processor time."""

    keys: int
    requests: int
    requests_empty: int
    segments: int
    makespan_s: float
    ideal_s: float
    planning_s: float

    @property
    def requests_per_thousand(self) -> float:
        """Requests for a thousand keys; one where none is wasted."""
        return 1000 * self.requests / max(1, self.keys)

    @property
    def slowdown(self) -> float:
        """Makespan by the time that full pages would take if all slots were always in use."""
        return self.makespan_s / self.ideal_s


def simulate(
    keys: Sequence[bytes],
    *,
    slots: int,
    seed: int = 1,
    planner: Planner | None = None,
    page_rows: int = PAGE_ROWS,
    latency_s: float = LATENCY_S,
) -> Outcome:
    """Lists `keys`, which ascend, with at most `slots` requests under way."""
    chance = random.Random(seed)
    planner = planner or Planner()
    under_way: list[tuple[float, int, Segment, Key | None]] = []
    now_s = planning_s = 0.0
    requests = requests_empty = segments = listed = 0

    def ask(segment: Segment) -> None:
        nonlocal requests
        requests += 1
        answered_s = now_s + latency_s * math.exp(chance.gauss(0, LATENCY_SIGMA))
        heapq.heappush(under_way, (answered_s, requests, segment, segment.range.after))

    for segment in planner.begin(slots):
        segments += 1
        ask(segment)
    while under_way:
        assert len(under_way) <= slots
        now_s, _, segment, after = heapq.heappop(under_way)
        page, more = _page(keys, after, segment, page_rows)
        started_s = process_time()
        facts: PageFacts = page_facts(page, more=more)
        begun = planner.advance(segment, facts, slots - len(under_way) - 1)
        planning_s += process_time() - started_s
        listed += facts.keys
        requests_empty += not facts.keys
        segments += len(begun)
        for each in begun if segment.done else [segment, *begun]:
            ask(each)
    assert listed == len(keys), f"{listed} of {len(keys)} keys were listed"
    ideal_s = latency_s * max(1, math.ceil(len(keys) / page_rows / slots))
    return Outcome(listed, requests, requests_empty, segments, now_s, ideal_s, planning_s)


def _page(
    keys: Sequence[bytes], after: Key | None, segment: Segment, page_rows: int
) -> tuple[Sequence[bytes], bool]:
    """The keys of a page that are within the segment now, and whether the segment goes on."""
    start = 0 if after is None else bisect_right(keys, after)
    end = len(keys)
    if segment.prefix:
        end = bisect_right(keys, greatest_key_below(segment.prefix), start)
    page = keys[start : min(end, start + page_rows)]
    through = segment.range.through
    if through is not None and page and page[-1] >= through:
        return page[: bisect_right(page, through)], False
    return page, start + page_rows < end
